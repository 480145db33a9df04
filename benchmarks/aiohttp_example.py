#!/usr/bin/python3
"""The program that supervisord starts on aiohttp's deployment page, with the benchmark's application in it."""

import argparse

from aiohttp import web
from my_app_module import my_web_app

parser = argparse.ArgumentParser(description="aiohttp server example")
parser.add_argument("--path")
parser.add_argument("--port", type=int)  # the page leaves it a string, which run_app() refuses
parser.add_argument("--uvloop", action="store_true")  # ours, for a fair comparison


if __name__ == "__main__":
    args = parser.parse_args()
    if args.uvloop:
        import uvloop

        uvloop.install()
    web.run_app(my_web_app, path=args.path, port=args.port)
