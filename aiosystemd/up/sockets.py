"""The sockets that systemd would open and keep."""

import socket
from collections.abc import Iterator
from pathlib import Path

from aiosystemd.errors import Location, Problem, ProblemsError
from aiosystemd.model import Deployment
from aiosystemd.up.place import ADDRESS, Place


def listeners(here: Place) -> Iterator[socket.socket]:
    """Yield a listening socket for each instance, as a socket unit would make it.

    Raises ProblemsError when an address is taken.
    """
    d = here.deployment
    for number, name in enumerate(here.names):
        listener = _unix(d, here.root / f"{name}.sock") if d.listen.port is None else _tcp(d, d.listen.port + number)
        listener.listen(d.listen.backlog)
        yield listener


def check_port(here: Place) -> None:
    """Raise ProblemsError when nginx could not listen on the port."""
    _bound(here.port, "--port").close()


def _unix(d: Deployment, path: Path) -> socket.socket:
    bound = socket.socket(socket.AF_UNIX)
    bound.bind(str(path))
    path.chmod(int(d.listen.mode, 8))
    return bound


def _tcp(d: Deployment, port: int) -> socket.socket:
    return _bound(port, "--port" if d.proxy.kind == "none" else "listen.port")


def _bound(port: int, option: str) -> socket.socket:
    bound = socket.socket(socket.AF_INET)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((ADDRESS, port))
    except (OSError, OverflowError) as error:
        bound.close()
        what = error.strerror if isinstance(error, OSError) else "there is no such port"
        problem = Problem(Location(f"{ADDRESS}:{port}"), f"cannot be listened on: {what}", f"choose another {option}")
        raise ProblemsError(problem) from None
    return bound
