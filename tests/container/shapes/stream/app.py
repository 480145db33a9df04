"""Server-sent events, each of which must arrive before the next one is made."""

import asyncio

from aiohttp import web

FURTHER = asyncio.Event()


async def events(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    await response.write(b"data: first\n\n")
    await FURTHER.wait()
    await response.write(b"data: second\n\n")
    return response


async def further(_: web.Request) -> web.Response:
    FURTHER.set()
    return web.Response()


application = web.Application()
application.add_routes([web.get("/events", events), web.post("/further", further)])
