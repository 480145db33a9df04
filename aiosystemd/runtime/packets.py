"""JSON objects, one to a packet, on unix sockets of type SOCK_SEQPACKET."""

import asyncio
import json
import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress

LARGEST = 1 << 20
"""Bytes of a packet; the kernel's own limit, ``net.core.wmem_default``, is 208 KiB."""

Message = Mapping[str, object]


class Link:
    """One end of a connection; it is lost when the other end is closed or sends nonsense."""

    def __init__(self, sock: socket.socket) -> None:
        """Take over ``sock``."""
        sock.setblocking(False)  # noqa: FBT003 (positional only)
        self._socket = sock

    async def receive(self) -> Message | None:
        """Return the next message, None once the link is lost."""
        try:
            return parse(await asyncio.get_running_loop().sock_recv(self._socket, LARGEST))
        except (OSError, ValueError):
            return None

    def send(self, message: Message, fds: Sequence[int] = ()) -> None:
        """Send ``message`` with copies of descriptors; without effect on a lost link, which `receive` tells."""
        with suppress(OSError):
            send(self._socket, message, fds)

    def close(self) -> None:
        """Give the link up; the other end notices."""
        self._socket.close()


def send(sock: socket.socket, message: Message, fds: Sequence[int] = ()) -> None:
    """Send one packet; raises OSError."""
    socket.send_fds(sock, [json.dumps(message).encode()], list(fds))


def parse(packet: bytes) -> Message | None:
    """Return the message in ``packet``, None for the empty packet that means the end.

    Raises ValueError for anything but a JSON object.
    """
    if not packet:
        return None
    try:
        message = json.loads(packet)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(message, dict):
        raise ValueError("not a JSON object")  # noqa: TRY004 (of the peer, not of the caller)
    return message
