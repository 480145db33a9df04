"""What is around an application: its name, and the interpreter that has its libraries. Nothing of it is run."""

import base64
import hashlib
import os
import re
import sys
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aiosystemd.known import NAMES
from aiosystemd.values import NAME

_NEAR: Final = 2
"""Directories above the application in which its virtual environment is looked for."""
_USUAL: Final = (".venv", "venv", "env")
_LARGE: Final = 1 << 20
"""Bytes of a pyproject.toml; more is none."""
_SYSTEM: Final = "/usr/bin/python3"
_DISTRIBUTION: Final = re.compile(r"(?i)(aiohttp|aiosystemd)-([0-9][^-]*?)(?:-[^-]*)*\.(?:dist|egg)-info")


@dataclass(frozen=True, slots=True)
class Interpreter:
    """A Python, and what of aiohttp and aiosystemd is installed for it."""

    python: str
    what: str
    """Such as ``virtual environment of poetry``."""
    versions: Mapping[str, str]
    """By the name of the distribution; those that are missing are left out."""

    def as_json(self) -> dict[str, object]:
        """Return what ``init --json`` prints; a version is null where there is none."""
        versions = {name: self.versions.get(name) for name in ("aiohttp", "aiosystemd")}
        return {"python": self.python, "kind": self.what, **versions}


def name(directory: Path) -> str:
    """Return what a deployment of this directory may be called, after its project or the directory itself."""
    project = _pyproject(directory)
    given = _table(project, "project").get("name") or _table(project, "tool", "poetry").get("name") or directory.name
    found = re.sub(r"[^a-z0-9_-]+", "-", str(given).lower()).lstrip("-_0123456789")[:25].rstrip("-_")
    if not re.fullmatch(NAME, found):
        return "application"
    return f"{found}-site" if found in NAMES or found.startswith("systemd-") else found


def _pyproject(directory: Path) -> Mapping[str, object]:
    file = directory / "pyproject.toml"
    try:
        if not file.is_file() or file.stat().st_size > _LARGE:
            return {}
        return tomllib.loads(file.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}


def _table(of: Mapping[str, object], *names: str) -> Mapping[str, object]:
    for each in names:
        found = of.get(each)
        of = found if isinstance(found, dict) else {}
    return of


def interpreter(directory: Path) -> Interpreter | None:
    """Return the interpreter that the application is most likely run with; None where there is no sign of one."""
    for prefix, what in _prefixes(directory):
        if (prefix / "pyvenv.cfg").is_file() and os.access(prefix / "bin/python", os.X_OK):
            return Interpreter(str(prefix / "bin/python"), what, _versions(_packages(prefix)))
    versions = _versions(_packages(Path("/usr")))
    return Interpreter(_SYSTEM, "the system's", versions) if "aiohttp" in versions else None


def _prefixes(directory: Path) -> Iterator[tuple[Path, str]]:
    near = (directory, *directory.parents)[: _NEAR + 1]
    for folder in near:
        yield from ((folder / each, "virtual environment") for each in _USUAL)
        if folder == directory:
            yield from ((each.parent, "virtual environment") for each in sorted(folder.glob("*/pyvenv.cfg")))
    for folder in near:
        if (folder / "poetry.lock").is_file() or _table(_pyproject(folder), "tool", "poetry"):
            yield from ((each, "virtual environment of poetry") for each in _of_poetry(folder))
    if active := os.environ.get("VIRTUAL_ENV"):
        yield Path(active), "active virtual environment"
    own = Path(sys.prefix)
    if sys.prefix != sys.base_prefix and "aiohttp" in _versions(_packages(own)):
        yield own, "virtual environment of aiosystemd itself"


def _of_poetry(folder: Path) -> Iterator[Path]:
    """Yield the environments that poetry keeps for a project; their names end in a hash of where it is."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    cache = Path(os.environ.get("POETRY_CACHE_DIR") or Path(home, "pypoetry"))
    mark = base64.urlsafe_b64encode(hashlib.sha256(os.fsencode(folder.resolve())).digest()).decode()[:8]
    yield from sorted((cache / "virtualenvs").glob(f"*-{mark}-py3*"), reverse=True)


def _packages(prefix: Path) -> Iterator[Path]:
    yield from prefix.glob("lib/python3*/site-packages")
    configuration = prefix / "pyvenv.cfg"
    if not configuration.is_file():
        yield from (Path("/usr/lib/python3/dist-packages"), *Path("/usr/local/lib").glob("python3*/dist-packages"))
    elif re.search(r"(?im)^include-system-site-packages *= *true", configuration.read_text("utf-8", "replace")):
        yield from _packages(Path("/usr"))


def _versions(directories: Iterator[Path]) -> dict[str, str]:
    found: dict[str, str] = {}
    for directory in directories:
        names = os.listdir(directory) if directory.is_dir() else []  # noqa: PTH208 (names are all that is wanted)
        for match in filter(None, map(_DISTRIBUTION.fullmatch, sorted(names))):
            found.setdefault(match[1].lower(), match[2])
    return found
