"""Serve ``MODULE:ATTRIBUTE`` on the first inherited socket with plain ``web.run_app``, for comparison.

stock.py MODULE:ATTRIBUTE asyncio|uvloop
"""

import asyncio
import importlib
import os
import socket
import sys

from aiohttp import web

module, _, attribute = sys.argv[1].partition(":")
sys.path.insert(0, os.getcwd())  # noqa: PTH109
loop: asyncio.AbstractEventLoop
if sys.argv[2] == "uvloop":
    import uvloop

    loop = uvloop.new_event_loop()
else:
    loop = asyncio.new_event_loop()
app = getattr(importlib.import_module(module), attribute)
# As long as the documentation's default is 60 s, a lost upload hangs for a minute; the loss is the same after 1 s.
web.run_app(app, sock=socket.socket(fileno=3), loop=loop, print=None, access_log=None, shutdown_timeout=1)
