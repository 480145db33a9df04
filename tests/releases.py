"""The echo application of the container tests, in good and in bad releases."""

from pathlib import Path
from typing import Final

APP: Final = (Path(__file__).parent / "container" / "shapes" / "echo" / "app.py").read_text()


def release(word: str) -> str:
    """Return the application as another version, which says ``word`` instead of hello."""
    return APP.replace("hello from", f"{word} from")


def on_startup(line: str) -> str:
    """Return the application with a start-up hook."""
    hook = f"async def hook(_: web.Application) -> None:\n    {line}\n\n\n"
    return APP.replace("async def create", f"{hook}async def create").replace(
        "    return app\n", "    app.on_startup.append(hook)\n    return app\n"
    )


def crashing(seconds: float) -> str:
    """Return the application with an end of its own, some time after its start."""
    return on_startup(f"asyncio.get_running_loop().call_later({seconds}, os._exit, 3)")


_ERROR: Final = 'raise web.HTTPInternalServerError(text="oh")'

POSTS_FAIL: Final = APP.replace("return web.Response(body=await request.read())", _ERROR)
"""Its health is fine."""

NO_IMPORT: Final = "raise RuntimeError('no such luck')\n"

BROKEN: Final = {
    "import": (NO_IMPORT, "RuntimeError: no such luck"),
    "start-up": (on_startup("raise RuntimeError('no database')"), "RuntimeError: no database"),
    "no application": ("create = 7\n", "create"),
    "exit in the start": (on_startup("os._exit(3)"), "the new process has ended"),
    "health": (APP.replace("return web.Response(text=f", f"{_ERROR}\n    return web.Response(text=f"), "500"),
    "another status": (APP.replace('get("/", hello)', 'get("/x", hello)'), "404"),
    "crash": (crashing(0.6), "the new process has ended"),
}
"""Releases that no rollout may let through in 1.5 seconds, each with what is said of it."""
