"""The only writer: puts changed files in place, each one atomically."""

import contextlib
import errno
import itertools
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

from aiosystemd.compare import Change
from aiosystemd.errors import Location, Problem, ProblemsError

_NEW: Final = ".aiosystemd-new"


def write(changes: tuple[Change, ...]) -> None:
    """Write what differs; a file that would not change is not touched, a foreign one is kept as a copy.

    Each file is on the disk under a name of its own before the first one takes its place, so a full disk changes
    nothing. Raises ProblemsError, with every file replaced so far complete and the others as they were.
    """
    with ready(changes) as put:
        put()


@contextlib.contextmanager
def ready(changes: tuple[Change, ...], *, undoable: bool = False) -> Iterator[Callable[[], None]]:
    """Write what differs under names of its own, and yield what puts it all in place.

    With ``undoable`` what was there before keeps a second name, for ``restore``; ``settle`` takes that name away. It
    needs no space, so that a full disk does not stand in the way back. Raises ProblemsError.
    """
    changes = tuple(change for change in changes if change.kind != "unchanged")
    with contextlib.ExitStack() as stack:
        new: dict[Path, Path] = {}
        for change in changes:
            if change.wanted is not None:
                with _reported(change.path):
                    temporary = _temporary(change.path, change.wanted.content, change.wanted.mode)
                    new[change.path] = stack.enter_context(temporary)
        # After the last one was written: the file system commits them together, not one by one.
        for path, each in new.items():
            with _reported(path):
                _sync(each)
        yield lambda: _put(changes, new, undoable=undoable)


def _put(changes: tuple[Change, ...], new: Mapping[Path, Path], *, undoable: bool) -> None:
    for change in changes:
        with _reported(change.path):
            # First, since by this one ``restore`` finds the copy that is kept.
            if undoable and change.kind != "create":
                os.link(change.path, _before(change.path), follow_symlinks=False)
            if change.refused:
                _keep(change.path)
            if change.wanted is None:
                change.path.unlink()
            else:
                new[change.path].replace(change.path)
    for directory in dict.fromkeys(change.path.parent for change in changes):
        with _reported(directory):
            _sync(directory)


def restore(path: Path) -> bool:
    """Put back what was there before ``path`` was written undoably, and tell whether there was anything.

    Raises ProblemsError.
    """
    before = _before(path)
    with _reported(path):
        if not os.path.lexists(before):
            return False
        for copy in _copies(path):
            if copy.lstat().st_ino == before.lstat().st_ino:
                copy.unlink()
        # rename(2) of two names of one file does nothing: the kill came between the second name and the new file.
        if os.path.lexists(path) and path.lstat().st_ino == before.lstat().st_ino:
            before.unlink()
        else:
            before.replace(path)
        _sync(path.parent)
        return True


def settle(path: Path) -> None:
    """Remove what a run that has ended, or was killed, has left beside ``path``; raises ProblemsError."""
    with _reported(path):
        _before(path).unlink(missing_ok=True)
        if not path.parent.is_dir():
            return
        for each in path.parent.iterdir():
            if each.name.startswith(f".{path.name}.") and each.name.endswith(_NEW):
                each.unlink(missing_ok=True)


def relink(link: Path, target: str) -> None:
    """Let a symbolic link lead elsewhere, at once; raises ProblemsError."""
    new = link.with_name(f".{link.name}{_NEW}")
    with _reported(link):
        new.unlink(missing_ok=True)
        try:
            new.symlink_to(target)
            new.replace(link)
        finally:
            new.unlink(missing_ok=True)
        _sync(link.parent)


def delete(path: Path) -> None:
    """Remove a file, if it is there; raises ProblemsError."""
    with _reported(path):
        path.unlink(missing_ok=True)
        if path.parent.is_dir():
            _sync(path.parent)


def set_aside(directory: Path, aside: Path, first: str) -> None:
    """Take a directory away, all of it at once, for ``clear`` to remove; raises ProblemsError.

    Where that cannot be, its file ``first`` goes first.
    """
    clear(aside)
    with _reported(directory):
        if directory.exists() and not _renamed(directory, aside):
            shutil.copytree(directory, aside)
            (directory / first).unlink(missing_ok=True)
            shutil.rmtree(directory)


def _renamed(directory: Path, new: Path) -> bool:
    try:
        directory.rename(new)
    except OSError as error:
        # overlayfs does not rename a directory of a lower layer, as of an image that a machine was booted from.
        if error.errno != errno.EXDEV:
            raise
        return False
    return True


def clear(directory: Path) -> None:
    """Remove a directory and what is in it, as far as that is possible."""
    shutil.rmtree(directory, ignore_errors=True)


def make_private(directory: Path) -> None:
    """Make a directory that only its owner may look into; raises ProblemsError."""
    with _reported(directory):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)


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
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=_NEW)
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
    for copy in _names_of_copies(path):
        with contextlib.suppress(FileExistsError):
            os.link(path, copy, follow_symlinks=False)
            return


def _copies(path: Path) -> Iterator[Path]:
    return itertools.takewhile(os.path.lexists, _names_of_copies(path))


def _names_of_copies(path: Path) -> Iterator[Path]:
    return (path.with_name(f"{path.name}.aiosystemd-old{number or ''}") for number in itertools.count())


def _before(path: Path) -> Path:
    return path.with_name(f".{path.name}.aiosystemd-before")


@contextlib.contextmanager
def _reported(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        hint = "run it as root, or choose another --output" if isinstance(error, PermissionError) else ""
        raise ProblemsError(Problem(Location(str(path)), f"cannot be written: {error.strerror}", hint)) from None
