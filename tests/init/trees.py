"""Directories of applications: ``cases/NAME.txt`` holds the files of one, each below its ``==> PATH <==``."""

import re
from collections.abc import Iterator
from pathlib import Path

from aiosystemd.init.applications import look
from aiosystemd.init.around import Around

CASES = sorted((Path(__file__).parent / "cases").glob("*.txt"))


def files(case: Path) -> Iterator[tuple[str, str]]:
    """Yield path and text of each file of a case."""
    _, *parts = re.split(r"(?m)^==> (.+) <==\n", case.read_text())
    yield from zip(parts[::2], parts[1::2], strict=True)


def unpack(case: Path, directory: Path) -> Path:
    """Write the files of a case into a directory of its name, and return that."""
    for path, text in files(case):
        write(directory / case.stem, path, text)
    return directory / case.stem


def write(directory: Path, path: str, text: str) -> None:
    """Write one file."""
    file = directory / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def around(directory: Path) -> Around:
    """Return what is found there, without an interpreter, which each machine has another one of."""
    return Around(look(directory), directory.name, None)
