"""Files that systemd passes to the instances, which must be there, and secrets, which must not be anyone's."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from aiosystemd.doctor.finding import Finding, command
from aiosystemd.doctor.subject import Subject, fine
from aiosystemd.positions import Path as KeyPath


def environment_files(s: Subject) -> Iterator[Finding]:
    """Look whether systemd can read the environment files that are not optional."""
    files = s.deployment.service.environment_files
    found = [
        finding
        for index, file in enumerate(files)
        if not file.startswith("-")
        for finding in _unreadable(s, ("service", "environment_files", index), file)
    ]
    yield from found
    if files and not found:
        yield fine("the environment files can be read")


def credentials(s: Subject) -> Iterator[Finding]:
    """Look whether the credentials are there, and for systemd alone."""
    given = s.deployment.service.credentials
    found = list(_of_credentials(s))
    yield from found
    if given and not found:
        yield fine("the credentials can be read, and not by everyone")


def _of_credentials(s: Subject) -> Iterator[Finding]:
    for name, file in s.deployment.service.credentials.items():
        key = ("service", "credentials", name)
        if unreadable := list(_unreadable(s, key, file)):
            yield from unreadable
        elif Path(file).stat().st_mode & stat.S_IROTH:
            yield s.warning(key, f"{file} can be read by everyone on this host", command("chmod", "o-rwx", file))


def _unreadable(s: Subject, key: KeyPath, file: str) -> Iterator[Finding]:
    try:
        # Opened, not read: a secret is none of ours. systemd reads it as root.
        with Path(file).open("rb") as stream:
            if stat.S_ISDIR(os.fstat(stream.fileno()).st_mode):
                raise IsADirectoryError
    except FileNotFoundError:
        what = f"{file} does not exist: no instance would start"
        yield s.error(key, what, command("install", "--mode=600", "/dev/stdin", file))
    except PermissionError:
        if s.root:
            yield s.error(key, f"{file} cannot be read by root", command("ls", "-lZ", file))
    except OSError as error:
        yield s.error(key, f"{file} cannot be read: {error.strerror or 'it is a directory'}")
