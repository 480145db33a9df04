"""Takes large bodies, streamed and whole, and says what arrived."""

import hashlib

from aiohttp import web


async def streamed(request: web.Request) -> web.Response:
    digest = hashlib.sha256()
    async for chunk in request.content.iter_chunked(1 << 16):
        digest.update(chunk)
    return web.Response(text=digest.hexdigest())


async def whole(request: web.Request) -> web.Response:
    return web.Response(text=hashlib.sha256(await request.read()).hexdigest())


application = web.Application()
application.add_routes([web.post("/streamed", streamed), web.post("/whole", whole)])
