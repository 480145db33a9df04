"""An application whose files the proxy serves."""

from aiohttp import web


async def index(_: web.Request) -> web.Response:
    return web.Response(text="from the application")


application = web.Application()
application.router.add_get("/{path:.*}", index)
