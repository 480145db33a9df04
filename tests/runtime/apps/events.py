"""A stream that ends when the server drains."""

import os
from pathlib import Path

from aiohttp import web

from aiosystemd.runtime import DRAINING


async def events(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    (Path(os.environ["LAB"]) / "begun").touch()
    await request.config_dict[DRAINING].wait()
    await response.write(b"done")
    await response.write_eof()
    return response


below = web.Application()
below.add_routes([web.get("/events", events)])
app = web.Application()
app.add_subapp("/below", below)
