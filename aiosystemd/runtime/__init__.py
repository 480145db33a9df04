"""``aiosystemd-serve``: one aiohttp application on the sockets that systemd passes.

An application may import one name from here, `DRAINING`; importing it loads nothing beyond aiohttp itself.
"""

from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio

    from aiohttp import web

    DRAINING: web.AppKey[asyncio.Event]
    """Key of an event in the root application, set when the server was asked to stop.

    A handler that streams for ever waits for ``request.config_dict[DRAINING]`` and returns; its client reconnects
    to another instance. Not present when the application runs under another server.
    """

__all__ = ["DRAINING"]


# On access, not at import: `python -m aiosystemd.runtime` imports this package before it has taken its sockets, and
# an environment without aiohttp must end in one clear line, which only the program itself can print.
def __getattr__(name: str) -> object:
    if name == "DRAINING":
        return _draining_key()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


@cache
def _draining_key() -> "web.AppKey[asyncio.Event]":
    import asyncio  # noqa: PLC0415

    from aiohttp import web  # noqa: PLC0415

    return web.AppKey("DRAINING", asyncio.Event)
