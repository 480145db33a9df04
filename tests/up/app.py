"""The application that the tests run: it says who it is, and can be slow, blocked or gone."""

import asyncio
import os
import sys
import time
from pathlib import Path

from aiohttp import web


async def who(request: web.Request) -> web.Response:
    """Answer with the instance's name, the process and the peer's address."""
    body = await request.text()
    return web.json_response(
        {
            "instance": os.environ["AIOSYSTEMD_INSTANCE"],
            "pid": os.getpid(),
            "parent": os.getppid(),
            "session": os.getsid(0),
            "python": sys.executable,
            "directory": str(Path.cwd()),
            "body": body,
            "started_with": _started_with(),
        }
    )


def _started_with() -> dict[str, str]:
    # The runtime has removed some of it from os.environ; this is what execve(2) was given.
    pairs = Path("/proc/self/environ").read_bytes().rstrip(b"\0").split(b"\0")
    return dict(pair.decode().split("=", 1) for pair in pairs)


async def slow(_: web.Request) -> web.Response:
    """Answer when the file ``release`` is there."""
    sys.stdout.write("entered slow\n")
    while not Path("release").exists():  # noqa: ASYNC110, ASYNC240 (a test's signal from another process)
        await asyncio.sleep(0.01)
    return web.Response(text="released")


async def block(_: web.Request) -> web.Response:
    """Block the loop for ever."""
    time.sleep(3600)  # noqa: ASYNC251 (which the watchdog must notice)
    return web.Response()


async def leave(request: web.Request) -> web.Response:
    """End the process at once, with a line that has no end."""
    sys.stdout.write("farewell")
    sys.stdout.flush()
    os._exit(int(request.query.get("status", "7")))


def make() -> web.Application:
    """Return the application."""
    app = web.Application()
    app.router.add_route("*", "/", who)
    app.router.add_get("/slow", slow)
    app.router.add_get("/block", block)
    app.router.add_get("/leave", leave)
    return app
