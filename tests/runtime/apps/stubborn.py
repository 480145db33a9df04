"""Applications that get a cancellation or a signal wrong, as real ones do."""

import asyncio
import os
import time
from contextlib import suppress
from pathlib import Path

from aiohttp import web

LAB = Path(os.environ["LAB"])

if os.environ.get("SWALLOW"):
    (LAB / "importing").touch()
    # An optional import that somebody guarded with too much.
    with suppress(BaseException):
        while not (LAB / "go_on").exists():
            time.sleep(0.01)


async def hello(_: web.Request) -> web.Response:
    return web.Response(text="hello")


async def slow(_: web.Request) -> web.Response:
    (LAB / "begun").touch()
    while not (LAB / "release").exists():  # noqa: ASYNC110 (a file of the test)
        await asyncio.sleep(0.01)
    return web.Response(text="slow")


async def cancels_a_task(_: web.Application) -> None:
    """Let the cancellation of a task of its own out, as ``task.cancel(); await task`` does."""
    task = asyncio.create_task(asyncio.sleep(3600))
    await asyncio.sleep(0)
    task.cancel()
    (LAB / "cancelled").touch()
    await task


app = web.Application()
app.add_routes([web.get("/", hello), web.get("/slow", slow)])
app.on_shutdown.append(cancels_a_task)
app.on_cleanup.append(cancels_a_task)
