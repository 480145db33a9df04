"""A factory whose start-up opens a database and whose clean-up closes it."""

import sqlite3
from collections.abc import AsyncIterator

from aiohttp import web

DATABASE = web.AppKey("DATABASE", sqlite3.Connection)


async def insert(request: web.Request) -> web.Response:
    with request.app[DATABASE] as connection:
        connection.execute("INSERT INTO rows VALUES (?)", [await request.text()])
    return web.Response()


async def count(request: web.Request) -> web.Response:
    [number] = request.app[DATABASE].execute("SELECT count(*) FROM rows").fetchone()
    return web.Response(text=str(number))


def create(argv: list[str]) -> web.Application:
    async def database(app: web.Application) -> AsyncIterator[None]:
        app[DATABASE] = connection = sqlite3.connect(argv[0], timeout=10)
        connection.execute("CREATE TABLE IF NOT EXISTS rows (text)")
        yield
        connection.close()
        print("database closed", flush=True)  # noqa: T201

    app = web.Application()
    app.cleanup_ctx.append(database)
    app.add_routes([web.post("/", insert), web.get("/", count)])
    return app
