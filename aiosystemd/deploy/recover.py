"""Going back on the disk: after a failure, or after a run that was killed."""

import os
from collections.abc import Iterable
from pathlib import Path

from aiosystemd import apply
from aiosystemd.compare import digest
from aiosystemd.deploy.store import Generation, Release, Store, place


def recover(store: Store, root: Path) -> Generation | None:
    """Put the files back as they were before a run that was killed, and return what it was about to put in place.

    It is forgotten when another one is in force: until then something may run as it was to. Raises ProblemsError.
    """
    if pending := store.pending:
        # Not what is in force: somebody who has led it elsewhere before that run wants it there in the next one.
        go_back(store, pending, root, pending.led)
    return pending


def settle(store: Store, root: Path, also: Iterable[Path] = ()) -> None:
    """Remove what earlier runs have left beside our files, and beside ``also``; raises ProblemsError."""
    for path in dict.fromkeys((*store.every_file(root), *store.removed.every_file(root), *also)):
        apply.settle(path)
    store.settle()


def go_back(store: Store, pending: Generation, root: Path, release: Release | None) -> None:
    """Put the files back as they were before ``pending``, and its link to ``release``; raises ProblemsError."""
    current = store.current
    texts = {pending.file: pending.source, **{name: each.text for name, each in pending.files.items()}}
    for name in dict.fromkeys((*(current.files if current else ()), *texts)):
        path = place(name, root)
        if not apply.restore(path) and name in pending.created and _is(path, texts[name]):
            apply.delete(path)
    if release and release != pending.release:
        relink(release, root, expected=pending.release)
    for name in pending.written:
        apply.settle(place(name, root))


def find_release(directory: str | None, root: Path) -> Release | None:
    """Return the last symbolic link on the way to the application's directory, None without one."""
    path = root / directory.lstrip("/") if directory else root
    for each in (path, *path.parents):
        if each.is_relative_to(root) and each != root and each.is_symlink():
            return Release(link=f"/{each.relative_to(root)}", target=str(each.readlink()))
    return None


def relink(release: Release, root: Path, expected: Release | None) -> bool:
    """Let the link lead where ``release`` says, if it leads where ``expected`` says; tell whether it does now.

    Raises ProblemsError.
    """
    if expected is None or release.link != expected.link:
        return False
    link = root / release.link.lstrip("/")
    if find_release(release.link, root) != expected:
        return False
    apply.relink(link, release.target)
    return True


def _is(path: Path, text: str) -> bool:
    return os.path.lexists(path) and not path.is_symlink() and digest(path.read_bytes()) == digest(text.encode())
