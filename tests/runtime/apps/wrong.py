"""What is no application."""

import asyncio

from aiohttp import web

app = web.Application()
number = 7
nothing = None


class Namespace:
    app = app


def returns_list() -> list[int]:
    return []


async def returns_nothing() -> None:
    await asyncio.sleep(0)


def raises() -> web.Application:
    raise ValueError("two\nlines")


async def raises_later() -> web.Application:
    await asyncio.sleep(0)
    raise ValueError("later")


def wants_two(one: list[str], two: int) -> web.Application:
    raise NotImplementedError


def wants_keyword(*, name: str) -> web.Application:
    raise NotImplementedError
