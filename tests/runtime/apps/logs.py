"""Applications that configure logging, before and after the server looks."""

import logging

from aiohttp import web
from shop import make  # type: ignore[import-not-found]


def configure() -> None:
    logging.basicConfig(format="mine %(message)s", level=logging.INFO)


async def starting(_: web.Application) -> None:
    configure()


def early() -> web.Application:
    configure()
    made: web.Application = make()
    return made


def late() -> web.Application:
    made: web.Application = make()
    made.on_startup.append(starting)
    return made
