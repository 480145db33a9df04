"""An application whose every handler can be held and watched from outside through files in ``$LAB``."""

import asyncio
import json
import os
import time
from pathlib import Path
from typing import NoReturn

from aiohttp import WSCloseCode, web

LAB = Path(os.environ["LAB"])
WEBSOCKETS: web.AppKey[set[web.WebSocketResponse]] = web.AppKey("WEBSOCKETS", set)


async def wait_for(name: str) -> None:
    while not (LAB / name).exists():  # noqa: ASYNC110  (of another process)
        await asyncio.sleep(0.005)


async def hello(_: web.Request) -> web.Response:
    return web.Response(text="hello")


async def hold(request: web.Request) -> web.Response:
    """Answer when the test says so."""
    (LAB / "begun").touch()
    await wait_for("release")
    if request.query.get("raise"):
        raise web.HTTPConflict(text="held")
    return web.Response(text="held")


async def echo(request: web.Request) -> web.Response:
    (LAB / "begun").touch()
    return web.Response(body=await request.read())


async def fail(_: web.Request) -> NoReturn:
    raise RuntimeError("handler failed")


async def block(_: web.Request) -> web.Response:
    """Block the loop for a second, and tell the manager when."""
    from systemd.daemon import notify  # noqa: PLC0415

    notify("STATUS=blocked")
    time.sleep(1)  # noqa: ASYNC251
    notify("STATUS=unblocked")
    return web.Response()


async def client(request: web.Request) -> web.Response:
    """Say what the request seems to be."""
    seen = {"remote": request.remote, "scheme": request.scheme, "host": request.host, "url": str(request.url)}
    return web.Response(text=json.dumps(seen), content_type="application/json")


async def stream(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    if buffering := request.query.get("buffering"):
        response.headers["X-Accel-Buffering"] = buffering
    await response.prepare(request)
    await response.write(b"one")
    (LAB / "begun").touch()
    if request.query.get("hold"):
        await wait_for("release")
    await response.write(b"two")
    await response.write_eof()
    return response


async def file(_: web.Request) -> web.FileResponse:
    return web.FileResponse(__file__)


async def websocket(request: web.Request) -> web.WebSocketResponse:
    """Record what the peer's Close frame said."""
    response = web.WebSocketResponse()
    await response.prepare(request)
    request.app[WEBSOCKETS].add(response)
    async for message in response:
        await response.send_str(message.data)
    request.app[WEBSOCKETS].discard(response)
    (LAB / "close_code").write_text(str(response.close_code))
    return response


async def deaf(request: web.Request) -> web.WebSocketResponse:
    """Never look at what the peer of a websocket sends."""
    response = web.WebSocketResponse()
    await response.prepare(request)
    while True:
        await response.send_str("tick")
        await asyncio.sleep(0.02)


async def shutting_down(_: web.Application) -> None:
    with (LAB / "shutdown").open("a") as record:
        record.write("x")
    if os.environ.get("HOLD_SHUTDOWN"):
        await wait_for("release_shutdown")
    if os.environ.get("FAIL_SHUTDOWN"):
        raise RuntimeError("shutdown failed")


async def cleaning_up(_: web.Application) -> None:
    with (LAB / "cleanup").open("a") as record:
        record.write("x")
    if os.environ.get("FAIL_CLEANUP"):
        raise RuntimeError("clean-up failed")


async def close_websockets(app: web.Application) -> None:
    """End websockets as aiohttp's documentation says."""
    websockets: set[web.WebSocketResponse] = app[WEBSOCKETS]
    for response in list(websockets):
        await response.close(code=WSCloseCode.GOING_AWAY)


ROUTES = [
    web.get("/", hello),
    web.get("/hold", hold),
    web.post("/echo", echo),
    web.get("/fail", fail),
    web.get("/block", block),
    web.get("/client", client),
    web.get("/stream", stream),
    web.get("/file", file),
    web.get("/deaf", deaf),
    web.get("/websocket", websocket),
]


def make() -> web.Application:
    shop = web.Application()
    shop[WEBSOCKETS] = set()
    shop.add_routes(ROUTES)
    shop.on_shutdown.append(shutting_down)
    shop.on_cleanup.append(cleaning_up)
    below = web.Application()
    below.add_routes(ROUTES)
    shop.add_subapp("/below", below)
    return shop


app = make()

documented = make()
documented.on_shutdown.append(close_websockets)
