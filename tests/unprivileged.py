"""Code run as nobody, when the tests run as root."""

import os
import pickle
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

NOBODY = 65534


def open_to_others(directory: Path) -> None:
    """Let others look into ``directory`` and what it lies in: pytest keeps its temporary directories to itself."""
    for place in (directory, *directory.parents):
        if place == Path(tempfile.gettempdir()):
            return
        place.chmod(0o755)


def unprivileged(function: Callable[[], T]) -> T:
    """Return what ``function`` returns, or raise what it raises, when run without privileges.

    In a process of its own, forked: the interpreter may lie where nobody else may start it.
    """
    if os.geteuid() != 0:
        return function()
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        _answer(function, writing)
    os.close(writing)
    with os.fdopen(reading, "rb") as stream:
        answer = stream.read()
    assert os.waitpid(child, 0)[1] == 0
    result, error = pickle.loads(answer)  # noqa: S301 (our own)
    if error is not None:
        raise error
    return result  # type: ignore[no-any-return]


def _answer(function: Callable[[], T], pipe: int) -> None:
    status = 1
    try:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
        os.write(pipe, _pickled(function))
        status = 0
    finally:
        os._exit(status)


def _pickled(function: Callable[[], T]) -> bytes:
    try:
        return pickle.dumps((function(), None))
    except Exception as error:  # noqa: BLE001 (the caller raises it again)
        return pickle.dumps((None, error))
