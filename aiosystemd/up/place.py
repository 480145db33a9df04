"""A deployment moved to a temporary directory of this machine: what it needs from a host, found here or left out."""

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from aiosystemd.build import Build
from aiosystemd.errors import Location, Problem, ProblemsError
from aiosystemd.export import instance_names
from aiosystemd.host import Host
from aiosystemd.model import Deployment, Maintenance
from aiosystemd.rules import SUN_PATH

ADDRESS = "127.0.0.1"
"""Where ``up`` serves: on this machine, for this machine only."""


_PROTOCOL = {"LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PID", "NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC", "FDSTORE"}
"""What a service manager told this program, and nobody else: sd_listen_fds(3), sd_notify(3)."""


@dataclass(slots=True)
class Place:
    """Where a deployment runs."""

    root: Path
    """The temporary directory: sockets, state, nginx's files."""
    working: Path
    """The application's directory."""
    deployment: Deployment
    """The deployment, with paths and addresses of this machine."""
    environment: dict[str, str]
    """What every instance finds."""
    names: tuple[str, ...]
    """The instances."""
    port: int
    notes: list[str] = field(default_factory=list)
    """What is not as on a host, and why."""


@contextlib.contextmanager
def place(built: Build, host: Host, port: int, nginx: str | None) -> Iterator[Place]:
    """Make a place for a deployment, behind the program ``nginx`` or without one; it goes with the context.

    Raises ProblemsError when there is no room for it.
    """
    with _temporary_directory() as root:
        d = built.deployment
        here = _Here(d, built.file.absolute().parent)
        moved = _move(d, root, here, port, proxied=nginx is not None)
        names = instance_names(d, host)
        _check_length(f"{root}/{names[-1]}.notify")
        environment = dict(_environment(d, root, here))
        yield Place(root, here.working, moved, environment, names, port, [*_left_out(d, root, nginx), *here.notes])


@contextlib.contextmanager
def _temporary_directory() -> Iterator[Path]:
    try:
        # An application may leave there what cannot be removed; that is no reason to fail after all has ended.
        directory = tempfile.TemporaryDirectory(prefix="aiosystemd-", ignore_cleanup_errors=True)
    except OSError as error:
        at = Location(os.environ.get("TMPDIR") or error.filename or "TMPDIR")
        what = f"no temporary directory can be made: {error.strerror}"
        raise ProblemsError(Problem(at, what, "set TMPDIR to a directory that you may write")) from None
    with directory as root:
        yield Path(root)


def _check_length(longest: str) -> None:
    if (length := len(os.fsencode(longest))) > SUN_PATH:
        what = f"the path of a socket in it would be {length} bytes long; unix(7) allows {SUN_PATH}"
        raise ProblemsError(Problem(Location(tempfile.gettempdir()), what, "set TMPDIR to a shorter directory"))


class _Here:
    """Where the paths of a deployment are on this machine, which may have the application elsewhere."""

    def __init__(self, d: Deployment, folder: Path) -> None:
        self.notes: list[str] = []
        self._directory = d.directory
        is_here = d.directory is not None and Path(d.directory).is_dir()
        self.working = Path(d.directory) if d.directory and is_here else folder
        if d.directory and not is_here:
            self.notes.append(f"{d.directory} is not here: the application is taken from {folder}")

    def path(self, path: str) -> str:
        """Return where ``path`` is: what is not here but belongs to the application's directory has moved with it."""
        if self._directory and not Path(path).exists() and PurePosixPath(path).is_relative_to(self._directory):
            return str(self.working / PurePosixPath(path).relative_to(self._directory))
        return path

    def python(self, d: Deployment) -> str:
        """Return the interpreter: the one that was asked for, or the one that runs this program."""
        if "python" not in d.model_fields_set:
            return sys.executable
        python = self.path(d.python)
        if os.access(python, os.X_OK):
            return python
        self.notes.append(f"{d.python} is not here: {sys.executable} runs the application")
        return sys.executable


def _move(d: Deployment, root: Path, here: _Here, port: int, *, proxied: bool) -> Deployment:
    if proxied:
        sockets: dict[str, object] = {"directory": str(root)} if d.listen.port is None else {"address": ADDRESS}
        static = {prefix: here.path(directory) for prefix, directory in d.proxy.static.items()}
        internal = {prefix: here.path(directory) for prefix, directory in d.proxy.internal.items()}
        files = {"static": static, "internal": internal, "maintenance": _maintenance(d, here)}
        listen = (f"{ADDRESS}:{port}",)
        # One that joins the site of another has a site of its own here.
        alone = {"site": None, "prefix": None, "default_server": True}
        proxy: dict[str, object] = {"listen": listen, "tls": None, **files, **alone}
    else:
        sockets = {"port": port, "address": ADDRESS, "tls": None}
        proxy = {"kind": "none"}
    return d.model_copy(
        update={
            "python": here.python(d),
            "listen": d.listen.model_copy(update=sockets),
            "proxy": d.proxy.model_copy(update=proxy),
            "health": d.health_check,
        }
    )


def _maintenance(d: Deployment, here: _Here) -> Maintenance | None:
    if (found := d.proxy.maintenance) is None:
        return None
    return found.model_copy(update={"page": here.path(found.page), "switch": here.path(found.switch)})


def _environment(d: Deployment, root: Path, here: _Here) -> Iterator[tuple[str, str]]:
    yield from ((name, value) for name, value in os.environ.items() if name not in _PROTOCOL)
    # systemd.exec(5) passes a pipe too, and there too Python keeps its output back; nobody wants that in a terminal.
    yield "PYTHONUNBUFFERED", os.environ.get("PYTHONUNBUFFERED", "1")
    yield from d.service.environment.items()
    state = root / "state"
    state.mkdir(mode=0o700)
    yield "STATE_DIRECTORY", str(state)
    if d.service.credentials:
        yield "CREDENTIALS_DIRECTORY", str(_credentials(d, root, here))


def _credentials(d: Deployment, root: Path, here: _Here) -> Path:
    directory = root / "credentials"
    directory.mkdir(mode=0o700)
    for name, file in d.service.credentials.items():
        path = here.path(file)
        if os.access(path, os.R_OK):
            (directory / name).symlink_to(path)
        else:
            here.notes.append(f"the credential {name} is missing: {file} is not here or may not be read")
    return directory


def _left_out(d: Deployment, root: Path, nginx: str | None) -> Iterator[str]:
    yield f"files are in {root}, with $STATE_DIRECTORY, and go when this ends"
    if d.service.environment_files:
        yield f"not read: {', '.join(d.service.environment_files)} (systemd reads environment_files in its own syntax)"
    if nginx and d.proxy.tls:
        yield "without TLS: the certificate is the host's"
    if d.listen.tls:
        yield "without TLS: the certificate is the host's"
    if d.proxy.site is not None:
        yield f"without the site of {d.proxy.site}: everything is below {d.proxy.prefix}"
    if not nginx:
        why = "nginx is not installed" if d.proxy.kind == "nginx" else f'proxy.kind is "{d.proxy.kind}"'
        yield f"{why}: the instances are served directly"
