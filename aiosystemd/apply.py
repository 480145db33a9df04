"""The only writer: puts changed files in place, each one atomically."""

import contextlib
import itertools
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from aiosystemd.compare import Change
from aiosystemd.errors import Location, Problem, ProblemsError


def write(changes: tuple[Change, ...]) -> None:
    """Write what differs; a file that would not change is not touched, a foreign one is kept as a copy.

    Raises ProblemsError, with every file written so far complete and the others as they were.
    """
    for change in changes:
        if change.kind == "unchanged":
            continue
        try:
            if change.kind == "foreign":
                _keep(change.path)
            replace(change.path, change.wanted.content, change.wanted.mode)
        except OSError as error:
            raise ProblemsError(_problem(change.path, error)) from None


def replace(path: Path, content: bytes, mode: int) -> None:
    """Make ``path`` hold ``content``: whole or not at all, even when the power fails (rename(2), fsync(2))."""
    _make_directory(path.parent)
    with _temporary(path) as (descriptor, temporary):
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
            os.fchmod(stream.fileno(), mode)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    _sync_directory(path.parent)


def _make_directory(path: Path) -> None:
    # 0755 whatever the umask: the tree is copied over the host's with its modes, that of /etc among them.
    missing = [each for each in (path, *path.parents) if not each.exists()]
    for each in reversed(missing):
        with contextlib.suppress(FileExistsError):
            each.mkdir()
            each.chmod(0o755)


@contextlib.contextmanager
def _temporary(path: Path) -> Iterator[tuple[int, Path]]:
    # The same directory, or rename(2) could cross file systems; a leading dot and no .conf, or nginx would read it.
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".aiosystemd-new")
    try:
        yield descriptor, Path(name)
    finally:
        Path(name).unlink(missing_ok=True)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _keep(path: Path) -> None:
    """Give a foreign file a second name, one that neither systemd nor nginx reads, and that is free."""
    for number in itertools.count():
        with contextlib.suppress(FileExistsError):
            os.link(path, path.with_name(f"{path.name}.aiosystemd-old{number or ''}"), follow_symlinks=False)
            return


def _problem(path: Path, error: OSError) -> Problem:
    hint = "run it as root, or choose another --output" if isinstance(error, PermissionError) else ""
    return Problem(Location(str(path)), f"cannot be written: {error.strerror}", hint)
