"""How many connections wait in the queues of listening sockets, as the kernel tells over sock_diag(7).

What ss(8) asks too, which need not be installed; anybody may ask.
"""

import socket
import struct
import sys
from collections.abc import Iterator
from ipaddress import ip_address
from typing import Final

_NETLINK_SOCK_DIAG: Final = 4
_SOCK_DIAG_BY_FAMILY: Final = 20
_DUMP: Final = 0x301
"""netlink(7): NLM_F_REQUEST and NLM_F_DUMP."""
_ERROR, _DONE = 2, 3
"""netlink(7): types of the last message."""
_HEADER: Final = struct.Struct("=IHHII")
"""netlink(7), nlmsghdr: length, type, flags, sequence, port."""

_LISTENING: Final = 1 << 10
"""TCP_LISTEN of <netinet/tcp.h> as a mask, also for unix sockets."""

_UNIX_REQUEST: Final = struct.Struct("=BBHIIIQ")
"""unix_diag_req: family, protocol, padding, states, inode, what to show, cookie."""
_SHOW_NAME, _SHOW_QUEUE = 1, 0x10
_NAME, _QUEUE = 0, 4
"""Attributes of the answer to these."""
_UNIX_ANSWER: Final = 16
"""Bytes of unix_diag_msg, before its attributes."""

_INET_REQUEST: Final = struct.Struct("=BBBxI48x")
"""inet_diag_req_v2: family, protocol, extensions, states, any address."""
_INET_PORT: Final = struct.Struct(">H")
_INET_QUEUE: Final = struct.Struct("=I")
"""inet_diag_msg: sport at 4, src at 8, rqueue at 56."""

_ENOUGH: Final = 1 << 16
"""Bytes of one read; the kernel fills at most half of it."""


def waiting() -> dict[str, int]:
    """Return how many connections wait, by the path of the listening unix socket or its ``ADDRESS:PORT``.

    Without what the kernel does not tell; addresses are spelt as by ``ipaddress``, IPv6 in brackets.
    """
    unix = _UNIX_REQUEST.pack(socket.AF_UNIX, 0, 0, _LISTENING, 0, _SHOW_NAME | _SHOW_QUEUE, (1 << 64) - 1)
    found = dict(item for answer in _ask(unix) for item in _unix(answer))
    for family in (socket.AF_INET, socket.AF_INET6):
        request = _INET_REQUEST.pack(family, socket.IPPROTO_TCP, 0, _LISTENING)
        found.update(_inet(family, answer) for answer in _ask(request))
    return found


def _ask(request: bytes) -> list[bytes]:
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, _NETLINK_SOCK_DIAG) as kernel:
            kernel.settimeout(1)
            kernel.sendall(_HEADER.pack(_HEADER.size + len(request), _SOCK_DIAG_BY_FAMILY, _DUMP, 1, 0) + request)
            return list(_answers(kernel))
    except OSError:
        return []  # A kernel without this kind of socket, or without its sock_diag module.


def _answers(kernel: socket.socket) -> Iterator[bytes]:
    while packet := kernel.recv(_ENOUGH):
        while packet:
            length, kind, *_ = _HEADER.unpack_from(packet)
            if kind in (_ERROR, _DONE):
                return
            yield packet[_HEADER.size : length]
            packet = packet[_aligned(length) :]


def _unix(answer: bytes) -> Iterator[tuple[str, int]]:
    attributes = dict(_attributes(answer[_UNIX_ANSWER:]))
    if _NAME in attributes and _QUEUE in attributes:
        # unix(7): pathname sockets may end with a null byte, which is no part of the name.
        path = attributes[_NAME].rstrip(b"\0").decode(errors="surrogateescape")
        yield path, int.from_bytes(attributes[_QUEUE][:4], sys.byteorder)


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    while data:
        length, kind = struct.unpack_from("=HH", data)
        yield kind, data[4:length]
        data = data[_aligned(length) :]


def _inet(family: int, answer: bytes) -> tuple[str, int]:
    (port,) = _INET_PORT.unpack_from(answer, 4)
    (count,) = _INET_QUEUE.unpack_from(answer, 56)
    address = ip_address(answer[8 : 8 + (4 if family == socket.AF_INET else 16)])
    return f"{f'[{address}]' if family == socket.AF_INET6 else address}:{port}", count


def _aligned(length: int) -> int:
    # netlink(7): messages and attributes begin at multiples of four.
    return max(length + 3 & ~3, 4)
