"""Telling the service manager about each completed step of an application's start."""

from collections.abc import AsyncIterator, Callable

from aiohttp import web


def report_steps(app: web.Application, done: Callable[[], None]) -> None:
    """Call ``done`` after each start-up hook and each clean-up context of ``app``, which must not be frozen yet."""

    async def after_hook(_: web.Application) -> None:
        done()

    async def after_context(_: web.Application) -> AsyncIterator[None]:
        done()
        yield

    # Both are lists until the application is frozen. The first start-up hook is aiohttp's own, which runs the contexts.
    app.on_startup[:] = [step for hook in app.on_startup for step in (hook, after_hook)]
    app.cleanup_ctx[:] = [step for context in app.cleanup_ctx for step in (context, after_context)]
