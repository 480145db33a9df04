"""The application, as command lines name it: MODULE:ATTRIBUTE, or a script in which it must be somewhere."""

import re
from pathlib import PurePosixPath
from typing import Final

from pydantic import TypeAdapter

from aiosystemd import values
from aiosystemd.errors import Location
from aiosystemd.migrate.found import Draft, Setting
from aiosystemd.migrate.roles import fits

OPTION: Final = "--app"
"""Where an application was named that stands in no file."""
_APP: Final = TypeAdapter[str](values.App)
_PROGRAM: Final = TypeAdapter[str](values.Program)
_CALL: Final = re.compile(r"(?P<app>[^(]*)\((?P<arguments>.*)\)\s*", re.DOTALL)


def target(draft: Draft, setting: Setting, text: str, *, attribute: str = "app") -> None:
    """Name the application by ``text``, of which ``attribute`` is the default after the colon."""
    call = _CALL.fullmatch(text)
    name = (call["app"] if call else text).strip()
    app = name if ":" in name else f"{name}:{attribute}"
    if not fits(_APP, app):
        draft.drop(setting, "not MODULE:ATTRIBUTE: set app")
    elif call and call["arguments"].strip():
        draft.warn(setting, f"a factory is called without arguments here: make one that calls {text}")
        draft.change(setting, ("app",), app, f"without ({call['arguments']})")
    elif call:
        draft.change(setting, ("app",), app, "a factory is called by itself")
    else:
        draft.keep(setting, ("app",), app)


def take_named(draft: Draft) -> None:
    """Take the application that was named beside the files, for a command that names none."""
    if draft.app:
        draft.keep(Setting(Location(OPTION), "app", draft.app), ("app",), draft.app)


def guess(draft: Draft, setting: Setting) -> None:
    """Name the application of a script or module that starts its own server; which one it is stands in its code."""
    directory = draft.values.get(("directory",), "DIR")
    says = f"a guess: what the application is called stands in the code; aiosystemd init {directory} reads it"
    app = f"{setting.value}:app"
    if fits(_APP, app):
        draft.change(setting, ("app",), app, says)
    else:
        draft.drop(setting, "no module that Python could import")
        draft.leave(f"{setting.value} is no module that Python could import: use --app MODULE:ATTRIBUTE")


def interpreter(draft: Draft, setting: Setting, program: str) -> None:
    """Keep the interpreter, or take the one beside a script of its environment, such as ``venv/bin/gunicorn``."""
    path = PurePosixPath(program)
    base = draft.values.get(("directory",))
    if "/" in program and not path.is_absolute() and isinstance(base, str):
        path = PurePosixPath(base, path)
    if not path.is_absolute() or path.is_relative_to("/usr"):
        return  # the default
    if not re.fullmatch(r"(python|pypy)[0-9.]*", path.name):
        path = path.with_name("python")
    if fits(_PROGRAM, str(path)):
        shown = Setting(setting.at, f"{setting.name} (program)", program)
        draft.keep(shown, ("python",), str(path), "" if path.name == PurePosixPath(program).name else "beside it")
