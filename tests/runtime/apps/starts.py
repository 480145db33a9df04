"""Applications that start in every way."""

import asyncio
import atexit
import os
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

from aiohttp import web
from systemd.daemon import notify

LAB = Path(os.environ["LAB"])


async def hello(_: web.Request) -> web.Response:
    return web.Response(text="hello")


def plain() -> web.Application:
    made = web.Application()
    made.add_routes([web.get("/", hello)])
    return made


async def coroutine() -> web.Application:
    """Be a factory that must run in the serving loop."""
    made = plain()
    running = asyncio.get_running_loop()

    async def same_loop(_: web.Application) -> None:
        assert asyncio.get_running_loop() is running

    made.on_startup.append(same_loop)
    return made


def with_arguments(argv: list[str]) -> web.Application:
    (LAB / "argv").write_text(repr(argv))
    return plain()


async def coroutine_with_arguments(argv: list[str]) -> web.Application:
    return with_arguments(argv)


def optional_arguments(argv: list[str] | None = None) -> web.Application:
    return with_arguments(argv or ["none"])


def reads_arguments(argv: list[str]) -> web.Application:
    """Refuse its arguments as argparse does."""
    if argv == ["--help"]:
        sys.exit(0)
    sys.exit(3)


async def context(_: web.Application) -> AsyncIterator[None]:
    notify("STATUS=context")
    (LAB / "opened").touch()
    yield
    (LAB / "closed").touch()


async def hold(_: web.Application) -> None:
    notify("STATUS=hold")
    (LAB / "holding").touch()
    while not (LAB / "release").exists():  # noqa: ASYNC110  (of another process)
        await asyncio.sleep(0.005)


async def last(_: web.Application) -> None:
    notify("STATUS=last")


async def fail(_: web.Application) -> None:
    raise OSError("no\ndatabase")


def steps() -> web.Application:
    made = plain()
    made.cleanup_ctx.extend([context, context])
    made.on_startup.extend([hold, last])
    return made


def fails() -> web.Application:
    made = plain()
    made.cleanup_ctx.append(context)
    made.on_startup.append(fail)
    return made


def blocks() -> web.Application:
    (LAB / "holding").touch()
    time.sleep(60)
    return plain()


async def use_thread(_: web.Application) -> None:
    asyncio.get_running_loop().run_in_executor(None, time.sleep, 60)


def leaves_thread() -> web.Application:
    made = plain()
    made.on_startup.append(use_thread)
    return made


@atexit.register
def wait_at_exit() -> None:
    while (LAB / "exiting").exists() and not (LAB / "release").exists():
        time.sleep(0.005)


def slow_exit() -> web.Application:
    atexit.register((LAB / "exiting").touch)
    return plain()


def sees_environment() -> web.Application:
    names = ["LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "WATCHDOG_USEC", "WATCHDOG_PID"]
    (LAB / "environment").write_text(repr([name for name in names if name in os.environ]))
    return plain()


app = plain()
outer = web.Application()
outer.add_subapp("/inner", inner := plain())
