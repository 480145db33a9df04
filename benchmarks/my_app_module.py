"""The application of aiohttp's deployment page, with an echo for requests whose answers differ."""

from aiohttp import web


async def index(_: web.Request) -> web.Response:
    return web.Response(text="Welcome home!")


async def echo(request: web.Request) -> web.Response:
    return web.Response(body=await request.read())


my_web_app = web.Application()
my_web_app.router.add_get("/", index)
my_web_app.router.add_post("/echo", echo)
