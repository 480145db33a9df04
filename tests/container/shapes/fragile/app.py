"""Answers with what it was sent, and can be told to block, to grow, and to fill the disk."""

import asyncio
import os
import sys
import time
from pathlib import Path

from aiohttp import WSMsgType, web

GO = Path("/srv/fragile/go")
MIB = 1 << 20


async def hello(_: web.Request) -> web.Response:
    return web.Response(text=f"hello from {os.environ['AIOSYSTEMD_INSTANCE']}")


async def echo(request: web.Request) -> web.Response:
    return web.Response(body=await request.read())


async def block(request: web.Request) -> web.StreamResponse:
    """Say so, block the loop until a file appears, grow by ``mib``."""
    response = web.StreamResponse()
    await response.prepare(request)
    await response.write(b"blocked\n")
    await asyncio.sleep(0.1)  # uvloop sends it at the end of the loop's turn
    while not GO.exists():  # noqa: ASYNC240
        time.sleep(0.02)  # noqa: ASYNC251 (on purpose)
    if mib := int(request.query.get("mib", "0")):
        await response.write(b"x" * mib * MIB)
    return response


async def helper(request: web.Request) -> web.Response:
    """Let another process grow by ``mib``; answer with its exit status."""
    grow = f"x = b'x' * {request.query['mib']} * {MIB}"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", grow)
    return web.Response(text=str(await process.wait()))


async def write(request: web.Request) -> web.Response:
    path = Path(os.environ["STATE_DIRECTORY"], "file")
    try:
        with path.open("ab") as file:  # noqa: ASYNC230
            file.write(b"x" * int(request.query["bytes"]))
    except OSError as error:
        return web.Response(text=str(error.strerror))
    return web.Response(text="written")


async def socket(request: web.Request) -> web.WebSocketResponse:
    response = web.WebSocketResponse()
    await response.prepare(request)
    async for message in response:
        if message.type is WSMsgType.TEXT:
            await response.send_str(message.data)
    return response


async def create() -> web.Application:
    app = web.Application()
    app.add_routes(
        [
            web.get("/", hello),
            web.post("/echo", echo),
            web.get("/block", block),
            web.get("/helper", helper),
            web.get("/write", write),
            web.get("/ws", socket),
        ]
    )
    return app
