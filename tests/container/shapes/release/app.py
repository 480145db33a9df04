"""A release: tells which one it is, of code and of interpreter, and what systemd gave it."""

import asyncio
import os
import time
from importlib import import_module
from pathlib import Path

from aiohttp import web

HERE = Path(__file__).resolve().parent
GO = Path("/srv/release/go")
INTERPRETER: str = import_module("of_this_environment").RELEASE


async def hello(_: web.Request) -> web.Response:
    return web.Response(text=f"release {HERE.name}")


async def about(_: web.Request) -> web.Response:
    """Tell all that a process of its own could have lost."""
    return web.json_response(
        {
            "code": HERE.name,
            "interpreter": INTERPRETER,
            "directory": Path.cwd().name,
            "key": Path(os.environ["CREDENTIALS_DIRECTORY"], "key").read_text(),  # noqa: ASYNC240
            "variables": dict(os.environ),
            "pid": os.getpid(),
        }
    )


async def echo(request: web.Request) -> web.Response:
    return web.Response(body=await request.read())


async def wait(request: web.Request) -> web.StreamResponse:
    """Say so, and answer once a file is there, or block."""
    response = web.StreamResponse()
    await response.prepare(request)
    await response.write(b"waiting\n")
    while not GO.exists():  # noqa: ASYNC110, ASYNC240
        await asyncio.sleep(0.02)
    if "block" in request.query:
        time.sleep(3600)  # noqa: ASYNC251 (this is what deadlines are for)
    await response.write(f"release {HERE.name}\n".encode())
    return response


async def socket(request: web.Request) -> web.WebSocketResponse:
    response = web.WebSocketResponse()
    await response.prepare(request)
    async for message in response:
        await response.send_str(message.data)
    return response


async def create() -> web.Application:
    app = web.Application()
    app.add_routes(
        [
            web.get("/", hello),
            web.get("/about", about),
            web.post("/echo", echo),
            web.get("/wait", wait),
            web.get("/ws", socket),
        ]
    )
    return app
