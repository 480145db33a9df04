"""Tracebacks of the user's code, without the machinery that called it."""

import sys
import traceback
from pathlib import Path
from types import TracebackType

_MACHINERY = ("aiosystemd.runtime", "importlib", "asyncio", "aiohttp", "aiosignal")


def raised_in_user_code(error: BaseException) -> bool:
    """Whether a frame of the user's own code is on the way to ``error``."""
    return _user_part(error.__traceback__) is not None


def shown(error: BaseException) -> str:
    """Return the traceback of ``error`` from the first frame of the user's code on, ending in a line break."""
    part = _user_part(error.__traceback__) or error.__traceback__
    return "".join(traceback.format_exception(type(error), error, part))


def summary(error: BaseException) -> str:
    """Return ``Type: text`` on one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _user_part(part: TracebackType | None) -> TracebackType | None:
    machinery = _machinery()
    while part is not None and part.tb_frame.f_code.co_filename.startswith(machinery):
        part = part.tb_next
    return part


def _machinery() -> tuple[str, ...]:
    """Return how the file names of frames begin that only lead to the user's code."""
    loaded = (sys.modules[name] for name in _MACHINERY if name in sys.modules)
    folders = tuple(f"{Path(module.__file__).parent}/" for module in loaded if module.__file__)
    # contextlib calls the clean-up contexts of aiohttp >= 3.14.
    return (*folders, "<frozen ", str(Path(traceback.__file__).with_name("contextlib.py")))
