"""An application whose next version may be broken: what its code is says the file ``$LAB/code``."""

import asyncio
import json
import os
import sys
import time
from pathlib import Path

from aiohttp import web
from shop import make as make_shop  # type: ignore[import-not-found]

LAB = Path(os.environ["LAB"])
CODE = (LAB / "code").read_text() if (LAB / "code").exists() else "one"

if CODE == "breaks at import":
    raise RuntimeError("cannot be imported")
if CODE == "exits at import":
    sys.exit(7)
if CODE == "blocks at import":
    (LAB / "holding").touch()
    time.sleep(3600)

STARTED_WITH = dict(os.environ)
PREFIX = os.path.realpath(sys.prefix)


async def who(_: web.Request) -> web.Response:
    """Tell which process answers, and where it runs."""
    return web.Response(
        text=json.dumps(
            {
                "pid": os.getpid(),
                "code": CODE,
                "arguments": ARGUMENTS,
                "directory": str(Path.cwd()),
                "prefix": PREFIX,
                "environment": STARTED_WITH,
            }
        )
    )


async def hold(request: web.Request) -> web.Response:
    """Answer when the test says so, with the process that does."""
    name = request.match_info["name"]
    (LAB / f"{name}_begun").touch()
    while not (LAB / f"{name}_release").exists():  # noqa: ASYNC110 (a file of the test)
        await asyncio.sleep(0.005)
    return web.Response(text=str(os.getpid()))


async def echo(request: web.Request) -> web.Response:
    (LAB / "upload_begun").touch()
    return web.Response(text=f"{os.getpid()} {len(await request.read())}")


async def unavailable(_: web.Request) -> web.Response:
    raise web.HTTPServiceUnavailable


async def starting(_: web.Application) -> None:
    if CODE == "fails in a hook":
        raise OSError("no database")
    if CODE == "hangs in a hook":
        (LAB / "holding").touch()
        while not (LAB / "go_on").exists():  # noqa: ASYNC110 (a file of the test)
            await asyncio.sleep(0.005)


ARGUMENTS: list[str] = []


def make(argv: list[str] | None = None) -> web.Application:
    if CODE == "fails in the factory":
        raise ValueError("no settings")
    ARGUMENTS.extend(argv or [])
    made: web.Application = make_shop()
    made.add_routes(
        [
            web.get("/who", who),
            web.get("/hold/{name}", hold),
            web.post("/upload", echo),
            web.get("/unavailable", unavailable),
        ]
    )
    made.on_startup.append(starting)
    return made
