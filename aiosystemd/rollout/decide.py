"""Reload or restart: what has changed since an instance was started, and whether a new process alone gets it."""

import os
import re
from collections.abc import Iterable, Iterator
from glob import glob
from pathlib import Path
from typing import Final

from aiosystemd import scope
from aiosystemd.rollout.instance import Instance, Unit

_TICK: Final = 0.01
"""Seconds by which the kernel's time stamps may lag: a file's is that of the last timer interrupt, of which the
slowest kernels have 100 a second."""

_MOST_LINKS: Final = 40
"""path_resolution(7): a path that leads through more symbolic links leads nowhere."""

_CREDENTIAL: Final = re.compile(r"^\s*LoadCredential(?:Encrypted)?\s*=\s*[^:\s]+:(/\S+)", re.MULTILINE)
"""systemctl prints the property itself as "[unprintable]"."""


def why_restart(instance: Instance, *, stale: bool) -> str:
    """Return why a reload is not enough, ``""`` if it is; ``stale`` says that its unit was not as on disk just now."""
    service = instance.service
    if not instance.runs:
        return f"it is {instance.condition}"
    if stale:
        return f"{_template(service.name)} has changed"
    if changed := next(_changed(_read(instance), service.started), None):
        return f"{changed} has changed"
    if not instance.reloads:
        return "its unit has no ExecReload="
    if instance.memory_max and instance.memory and 2 * instance.memory > instance.memory_max:
        used, limit = (f"{size / (1 << 20):.0f} MiB" for size in (instance.memory, instance.memory_max))
        return f"it uses {used}, and two processes do not fit into its MemoryMax= of {limit}"
    return ""


def missing(instance: Instance) -> str:
    """Return a file without which systemd would not start the instance, ``""`` if all are there."""
    needed = [path for path, required in instance.environment_files if required]
    return next((str(path) for path in needed if not _files(path)), "")


def unread(unit: Unit) -> bool:
    """Tell whether systemd has to read a unit again, daemon-reload.

    It says so itself, but not of the first drop-in in a new directory (measured: systemd 252).
    """
    files = (file for directory in _drop_in_directories(unit.name) for file in directory.glob("*.conf"))
    # An empty file, or a link to /dev/null, is there to hide another one.
    names = {file.name for file in files if file.is_file() and file.stat().st_size}
    return unit.stale or not names <= {file.name for file in unit.files}


def _drop_in_directories(unit: str) -> Iterator[Path]:
    # systemd.unit(5): those of the template and of the instance.
    yield from (
        directory / f"{name}.d" for directory in map(Path, scope.current().drop_ins) for name in (_template(unit), unit)
    )


def outdated(unit: Unit) -> bool:
    """Tell whether a unit runs with other settings than its files have now."""
    return unit.stale or any(_changed(unit.files, unit.started))


def _template(unit: str) -> str:
    return re.sub(r"@.*\.", "@.", unit)


def _read(instance: Instance) -> Iterator[Path]:
    yield from instance.service.files
    for path, _ in instance.environment_files:
        yield from _files(path)
    for path in _credentials(instance):
        # systemd.exec(5): of a directory, all files in it.
        yield from (path, *path.rglob("*"))


def _files(path: Path) -> list[Path]:
    # systemd.exec(5): EnvironmentFile= may be a pattern.
    return [path] if path.exists() else [Path(found) for found in glob(str(path))]  # noqa: PTH207 (absolute pattern)


def _credentials(instance: Instance) -> Iterator[Path]:
    for file in instance.service.files:
        try:
            text = file.read_text(encoding="utf-8", errors="surrogateescape")
        except OSError:
            continue
        for path in _CREDENTIAL.findall(text):
            yield Path(re.sub("%[%i]", lambda match: instance.name if match[0] == "%i" else "%", path))


def _changed(paths: Iterable[Path], since: float) -> Iterator[Path]:
    for path in paths:
        if any(time > since - _TICK for time in _times(path)):
            yield path


def _times(path: Path) -> Iterator[float]:
    """Yield when the file, and each symbolic link on the way to it, became what it is.

    inode(7), ctime: also of a file that keeps its old mtime when it is installed, and of one that is renamed.
    """
    for _ in range(_MOST_LINKS):
        link = next((each for each in (*reversed(path.parents), path) if each.is_symlink()), None)
        if link is None:
            break
        yield link.lstat().st_ctime
        path = Path(os.path.normpath(link.parent / link.readlink())) / path.relative_to(link)
    try:
        yield path.stat().st_ctime
    except OSError:
        return
