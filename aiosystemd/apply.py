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

    Each file is on the disk under a name of its own before the first one takes its place, so a full disk changes
    nothing. Raises ProblemsError, with every file replaced so far complete and the others as they were.
    """
    with contextlib.ExitStack() as stack:
        ready = []
        for change in changes:
            if change.kind != "unchanged":
                with _reported(change.path):
                    new = _temporary(change.path, change.wanted.content, change.wanted.mode)
                    ready.append((change, stack.enter_context(new)))
        # After the last one was written: the file system commits them together, not one by one.
        for change, temporary in ready:
            with _reported(change.path):
                _sync(temporary)
        for change, temporary in ready:
            with _reported(change.path):
                if change.kind == "foreign":
                    _keep(change.path)
                temporary.replace(change.path)
    for directory in dict.fromkeys(change.path.parent for change, _ in ready):
        with _reported(directory):
            _sync(directory)


def replace(path: Path, content: bytes, mode: int) -> None:
    """Make ``path`` hold ``content``: whole or not at all, even when the power fails (rename(2), fsync(2))."""
    with _temporary(path, content, mode) as temporary:
        _sync(temporary)
        temporary.replace(path)
    _sync(path.parent)


@contextlib.contextmanager
def _temporary(path: Path, content: bytes, mode: int) -> Iterator[Path]:
    """Write a file beside ``path``, and remove it afterwards unless it has been moved there."""
    _make_directory(path.parent)
    # The same directory, or rename(2) could cross file systems; a leading dot and no .conf, or nginx would read it.
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".aiosystemd-new")
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
            os.fchmod(stream.fileno(), mode)
        yield Path(name)
    finally:
        Path(name).unlink(missing_ok=True)


def _make_directory(path: Path) -> None:
    # 0755 whatever the umask: the tree is copied over the host's with its modes, that of /etc among them.
    missing = list(itertools.takewhile(lambda each: not each.exists(), (path, *path.parents)))
    for each in reversed(missing):
        with contextlib.suppress(FileExistsError):
            each.mkdir()
            each.chmod(0o755)


def _sync(path: Path) -> None:
    """Wait until a file, or a directory's names, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
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


@contextlib.contextmanager
def _reported(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        hint = "run it as root, or choose another --output" if isinstance(error, PermissionError) else ""
        raise ProblemsError(Problem(Location(str(path)), f"cannot be written: {error.strerror}", hint)) from None
