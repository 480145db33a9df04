"""Answers with what it was sent, tells who answers, and can be told to misbehave."""

import asyncio
import os
import socket
import time
from pathlib import Path

from aiohttp import web


async def hello(request: web.Request) -> web.Response:
    await asyncio.sleep(float(request.query.get("sleep", "0")))
    return web.Response(text=f"hello from {os.environ['AIOSYSTEMD_INSTANCE']}")


async def echo(request: web.Request) -> web.Response:
    return web.Response(body=await request.read())


async def client(request: web.Request) -> web.Response:
    return web.json_response({"remote": request.remote, "scheme": request.scheme, "host": request.host})


async def block(_: web.Request) -> web.Response:
    time.sleep(3600)  # noqa: ASYNC251 (this is what the watchdog is for)
    return web.Response()


async def write(request: web.Request) -> web.Response:
    try:
        Path(request.query["path"]).write_text("written")  # noqa: ASYNC240
    except OSError as error:
        return web.Response(text=type(error).__name__)
    return web.Response(text="written")


async def connect(request: web.Request) -> web.Response:
    try:
        with socket.create_connection((request.query["host"], int(request.query["port"])), timeout=1):
            return web.Response(text="connected")
    except OSError as error:
        return web.Response(text=type(error).__name__)


async def create() -> web.Application:
    app = web.Application()
    app.add_routes(
        [
            web.get("/", hello),
            web.post("/echo", echo),
            web.get("/client", client),
            web.get("/block", block),
            web.get("/write", write),
            web.get("/connect", connect),
        ]
    )
    return app
