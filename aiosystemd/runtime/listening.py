"""The sockets to serve: inherited from systemd, or bound here."""

import errno
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from aiosystemd.runtime.errors import StartError
from aiosystemd.runtime.notify import daemon
from aiosystemd.runtime.options import Options

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 8080


def inherited() -> dict[int, str]:
    """Return the descriptors that systemd passed, with their names, sd_listen_fds(3).

    They become close-on-exec and leave the environment: a child process that finds them there would think that
    they are its own.

    Raises:
        StartError: when there are some and systemd-python is missing.

    """
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return {}
    descriptors = daemon().listen_fds_with_names(True)  # noqa: FBT003  (positional only in C)
    # It has left the process's environment, but not Python's copy.
    for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
        os.environ.pop(name, None)
    return descriptors


def listener(fd: int, name: str) -> socket.socket:
    """Return the inherited descriptor as a socket that can be served.

    Raises:
        StartError: when it is not a listening unix or TCP stream socket.

    """
    whose = f"the descriptor {fd} that was passed ({name})"
    try:
        is_socket = stat.S_ISSOCK(os.fstat(fd).st_mode)
    except OSError as error:
        raise StartError(f"{whose} cannot be used: {error.strerror}") from None
    if not is_socket:
        raise StartError(f"{whose} is not a socket")
    os.set_inheritable(fd, False)  # noqa: FBT003 (positional only); a child would hold the address
    sock = socket.socket(fileno=fd)
    if reason := _unfit(sock):
        sock.close()
        raise StartError(f"{whose} is {reason}")
    return sock


def _unfit(sock: socket.socket) -> str:
    if sock.family not in (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6):
        return "neither a unix nor a TCP socket"
    if sock.type != socket.SOCK_STREAM:
        return "not a stream socket: use ListenStream= in the socket unit"
    if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        return "a connection, not a listening socket: use Accept=no in the socket unit"
    return ""


def describe(sock: socket.socket) -> str:
    """Return the address of a listening socket as a person writes it."""
    address = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        return os.fsdecode(address).replace("\0", "@", 1)
    host, port = address[:2]
    return f"[{host}]:{port}" if sock.family == socket.AF_INET6 else f"{host}:{port}"


@dataclass(frozen=True, slots=True)
class Own:
    """Sockets that this process bound itself."""

    sockets: list[socket.socket] = field(default_factory=list)
    paths: dict[Path, tuple[int, int]] = field(default_factory=dict)
    """Device and inode of each path: what someone else put there since is not ours to remove."""

    def close(self) -> None:
        """Give everything back, after a failed start or a stop."""
        self.remove_paths()
        for sock in self.sockets:
            sock.close()

    def remove_paths(self) -> None:
        """Remove the unix sockets from the file system, so that nobody connects to a closed shop."""
        for path, identity in self.paths.items():
            with suppress(OSError):
                if _identity(path) == identity:
                    path.unlink()


def bind(own: Own, options: Options) -> None:
    """Bind the addresses that the command line names, into ``own``.

    Raises:
        StartError: when one of them cannot be used; ``own`` has the others.

    """
    for path in options.paths:
        _make_room(path)
        with _explained(str(path)), _umask(~options.mode & 0o777):
            _new(own, socket.AF_UNIX).bind(str(path))
            own.paths[path] = _identity(path)
    if options.host is not None or options.port is not None:
        _bind_tcp(own, options.host or DEFAULT_HOST, DEFAULT_PORT if options.port is None else options.port)


def _bind_tcp(own: Own, host: str, port: int) -> None:
    with _explained(f"{host}:{port}"):
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, _, _, _, address in dict.fromkeys(found):
            sock = _new(own, family)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                # Else [::] takes the IPv4 port too, and the next address of the same name cannot be bound.
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind(address)


def _new(own: Own, family: int) -> socket.socket:
    own.sockets.append(socket.socket(family))
    return own.sockets[-1]


def _make_room(path: Path) -> None:
    """Remove the socket that a dead process left at ``path``; refuse to touch anything else."""
    try:
        found = path.lstat()
    except OSError:
        return  # Nothing there, or bind() explains it better.
    if not stat.S_ISSOCK(found.st_mode):
        raise StartError(f"cannot listen on {path}: it exists and is not a socket")
    if _is_served(path):
        raise StartError(f"cannot listen on {path}: already served by another process")
    with _explained(str(path)):
        path.unlink(missing_ok=True)


def _is_served(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe, _explained(str(path)):
        probe.setblocking(False)  # noqa: FBT003
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return False
        except BlockingIOError:  # unix(7): a full queue, so somebody listens
            return True
        return True


@contextmanager
def _explained(address: str) -> Iterator[None]:
    try:
        yield
    except UnicodeError as error:  # a host name that no name server could be asked for
        raise StartError(f"cannot listen on {address}: {error}") from None
    except OSError as error:
        reason = "already served by another process" if error.errno == errno.EADDRINUSE else error.strerror or error
        raise StartError(f"cannot listen on {address}: {reason}") from None


@contextmanager
def _umask(mask: int) -> Iterator[None]:
    # unix(7): bind() gives the socket mode 0777 less the umask. A chmod() afterwards would leave a moment in which
    # the socket is open to the wrong people.
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def _identity(path: Path) -> tuple[int, int]:
    found = path.lstat()
    return found.st_dev, found.st_ino
