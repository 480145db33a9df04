"""Import of an application as a start would do it. It runs in the deployment's interpreter, from its standard input."""

import difflib
import faulthandler
import importlib
import json
import os
import sys
import traceback

MARK = "aiosystemd-doctor: "
"""What the line with the answer begins with; the application may print as well."""


def go(text: str) -> None:
    """Import what the JSON document ``text`` names, and print what is wrong with it, or nothing."""
    wanted = json.loads(text)
    print(f"{MARK}{json.dumps(None)}", flush=True)  # noqa: T201 (from here on, what happens is the application's doing)
    # A thread of its own, which works while the interpreter's lock is held; the stack shows what the import waits for.
    faulthandler.dump_traceback_later(wanted["limit"], exit=True)
    answer = json.dumps(_wrong(wanted["app"], wanted["directory"]))
    print(f"\n{MARK}{answer}", flush=True)  # noqa: T201
    os._exit(0)  # threads that the import has started must not keep it


def _wrong(app: str, directory: str) -> str:
    if directory:
        try:
            os.chdir(directory)
        except OSError as error:
            return f"cannot enter {directory}: {error.strerror}"
        sys.path.insert(0, directory)
    name, _, attribute = app.partition(":")
    try:
        found: object = importlib.import_module(name)
    except BaseException as error:  # noqa: BLE001 (whatever it is, it is the answer)
        return f'importing "{name}" failed: {type(error).__name__}: {error}{_place(error)}'
    for part in attribute.split("."):
        if not hasattr(found, part):
            close = difflib.get_close_matches(part, dir(found), n=1)
            return f'"{name}" has no attribute "{part}"' + (f' (did you mean "{close[0]}"?)' if close else "")
        found = getattr(found, part)
    application = importlib.import_module("aiohttp.web").Application
    if isinstance(found, application) or callable(found):  # a factory is not called: that may open databases
        return ""
    return f'"{app}" is a {type(found).__name__}, not an aiohttp.web.Application or a function that returns one'


def _place(error: BaseException) -> str:
    """Return the innermost file that the application itself may have written, as ``(FILE:LINE)``."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if os.path.isabs(frame.filename)]  # noqa: PTH117
    library = os.path.dirname(os.__file__)  # noqa: PTH120
    own = [frame for frame in frames if "-packages/" not in frame.filename and not frame.filename.startswith(library)]
    chosen = own or frames
    return f" ({chosen[-1].filename}:{chosen[-1].lineno})" if chosen else ""
