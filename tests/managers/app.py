"""The application that the managers run: it says who it is and what it was given, and can be slow."""

import asyncio
import os
import pwd
import sys
from pathlib import Path

from aiohttp import web

GIVEN: list[str] = []


async def who(_: web.Request) -> web.Response:
    """Answer with what the process was given."""
    told = {
        "pid": os.getpid(),
        "user": pwd.getpwuid(os.getuid()).pw_name,
        "directory": str(Path.cwd()),
        "arguments": GIVEN,
        "environment": dict(os.environ),
    }
    return web.json_response(told)


async def echo(request: web.Request) -> web.Response:
    """Answer with what was sent."""
    return web.Response(body=await request.read())


async def slow(_: web.Request) -> web.Response:
    """Answer after the signal to stop has come."""
    Path(os.environ["STATE_DIRECTORY"], "entered").touch()  # noqa: ASYNC240 (a sign for a test)
    await asyncio.sleep(2)
    return web.Response(text="answered")


def make(arguments: list[str]) -> web.Application:
    """Return the application."""
    GIVEN.extend(arguments)
    sys.stdout.write("made\n")
    app = web.Application()
    app.add_routes([web.get("/", who), web.post("/echo", echo), web.get("/slow", slow)])
    return app
