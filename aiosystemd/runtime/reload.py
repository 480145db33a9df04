"""``aiosystemd-serve --reload``, in ``ExecReload=``: ask the running process for a successor and wait for the outcome.

systemd starts this with the interpreter, working directory and environment that a start would have now; the new
process gets them. It is the old process that starts it, so that it has the credentials too, which systemd gives to
``ExecStart=`` alone.
"""

import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from aiosystemd import contract
from aiosystemd.runtime.errors import StartError, Stopped
from aiosystemd.runtime.packets import LARGEST, Message, parse, send

STOP = 1.0
"""Seconds between the moments at which two processes learn of a stop, at most."""


def reload() -> None:
    """Return when the new process serves and is the main process.

    Raises:
        StartError: when the old process goes on instead.

    """
    directory = os.environ.get("RUNTIME_DIRECTORY")
    if not directory:
        raise StartError("--reload is for ExecReload= in a systemd service with RuntimeDirectory=")
    try:
        order = _order()
    except FileNotFoundError:
        raise StartError("not reloaded: the working directory is gone") from None
    with _connected(Path(directory) / contract.CONTROL) as sock:
        reply = _outcome(sock, order)
    if "ok" not in reply:
        raise StartError(f"not reloaded: {reply.get('error', 'the running process has ended')}")


def _outcome(sock: socket.socket, order: Message) -> Message:
    """Return what the running process says in the end.

    systemd makes the status of this process the result of the unit when it stops that in the middle. So a stop ends
    it with 0; ``systemctl reload`` fails then by itself, since its job is cancelled.
    """
    reply: Message = {}
    try:
        with _explained():
            send(sock, order)
            reply = parse(sock.recv(LARGEST)) or {}
        if not reply or "stopping" in reply:
            # A stop signals both processes.
            time.sleep(STOP)
    except Stopped:
        sock.settimeout(STOP)
        with suppress(TimeoutError):
            reply = reply or parse(sock.recv(LARGEST)) or {"stopping": True}
        if "stopping" in reply:
            raise
        return reply or {"error": "the command was told to end"}
    return reply


@contextmanager
def _connected(control: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
        with _explained():
            sock.connect(str(control))
        yield sock


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StartError(f"not reloaded: the running process takes no orders: {error.strerror}") from None


def _order() -> Message:
    words = list(sys.orig_argv)
    # The first one is ours: a factory may have an argument of the same name.
    del words[words.index("--reload")]
    return {
        "do": "reload",
        # As it was given: an interpreter below a link that names the current release is the current one's.
        "executable": sys.executable,
        "argv": words,
        "directory": str(Path.cwd()),
        "environment": dict(os.environ),
    }
