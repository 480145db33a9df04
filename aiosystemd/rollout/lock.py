"""One rollout of a deployment at a time."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ValidationError

from aiosystemd import scope
from aiosystemd.errors import Location, Problem, ProblemsError

_LARGEST: Final = 4096
"""Bytes of a lock file that are read."""


class Holder(BaseModel):
    """Who holds a lock, or held it: what its file says."""

    pid: int
    command: str
    since: str

    def __str__(self) -> str:
        return f"{self.command} (process {self.pid}, since {self.since})"


@contextmanager
def locked(name: str, command: str, directory: Path | None = None) -> Iterator[Holder | None]:
    """Hold the lock of the deployment ``name``, and yield who had it last but did not come to its end.

    The lock is the kernel's (flock(2)), which drops it when its holder dies, however that happens; the file's text is
    for people. It lies in ``directory``, by default where all on a host that runs look for it. Raises ProblemsError
    when somebody else holds it, or there can be none.
    """
    path = (directory or Path(scope.current().locks)) / f"{name}.lock"
    try:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    except OSError as error:
        hint = "use sudo" if isinstance(error, PermissionError) else ""
        raise ProblemsError(Problem(Location(str(path)), f"cannot be locked: {error.strerror}", hint)) from None
    try:
        before = _take(descriptor, path)
        now = datetime.now(UTC).astimezone().isoformat(" ", "seconds")
        _write(descriptor, Holder(pid=os.getpid(), command=command, since=now).model_dump_json())
        try:
            yield before
        except ProblemsError:  # It has refused, before anything was changed.
            _write(descriptor, before.model_dump_json() if before else "")
            raise
        # Not removed: somebody may have it open, and would hold a lock that the next one does not see.
        _write(descriptor, "")
    finally:
        os.close(descriptor)


def _take(descriptor: int, path: Path) -> Holder | None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = _read(descriptor) or "somebody else"
        what = f"is held by {holder}"
        raise ProblemsError(Problem(Location(str(path)), what, "wait for its end")) from None
    return _read(descriptor)


def _read(descriptor: int) -> Holder | None:
    try:
        return Holder.model_validate_json(os.pread(descriptor, _LARGEST, 0))
    except ValidationError:
        return None


def _write(descriptor: int, text: str) -> None:
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, text.encode(), 0)
