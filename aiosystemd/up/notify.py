"""The service manager's end of sd_notify(3)."""

import array
import os
import re
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

_CREDENTIALS: Final = struct.Struct("3i")
"""``struct ucred``, unix(7): process, user, group."""

_MOST_DESCRIPTORS: Final = 253
"""SCM_MAX_FD, unix(7)."""


@dataclass(slots=True)
class Message:
    """One datagram."""

    sender: int = 0
    """Number of the process that sent it, by the kernel's word."""
    fields: dict[str, str] = field(default_factory=dict)
    descriptors: list[int] = field(default_factory=list)
    """The receiver's to close."""

    @property
    def extension(self) -> float:
        """Seconds of ``EXTEND_TIMEOUT_USEC=``; 0 where it is missing or not a number."""
        digits = re.fullmatch(r"[0-9]{1,18}", self.fields.get("EXTEND_TIMEOUT_USEC", ""))
        return int(digits[0]) / 1_000_000 if digits else 0.0


class NotifySocket:
    """A socket whose path a service finds in ``$NOTIFY_SOCKET``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._socket.bind(str(path))

    def fileno(self) -> int:
        """Return the descriptor to wait for."""
        return self._socket.fileno()

    def messages(self) -> Iterator[Message]:
        """Yield what has come, without waiting."""
        space = socket.CMSG_SPACE(_CREDENTIALS.size) + socket.CMSG_SPACE(_MOST_DESCRIPTORS * array.array("i").itemsize)
        flags = socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC
        with suppress(BlockingIOError):
            while True:
                data, ancillary, *_ = self._socket.recvmsg(1 << 16, space, flags)
                yield _message(data, ancillary)

    def close(self) -> None:
        """Take no more messages."""
        self._socket.close()


def _message(data: bytes, ancillary: list[tuple[int, int, bytes]]) -> Message:
    message = Message(fields=dict(_fields(data)))
    for level, kind, content in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS):
            message.sender = _CREDENTIALS.unpack(content)[0]
        elif (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            numbers = array.array("i")
            numbers.frombytes(content[: len(content) - len(content) % numbers.itemsize])
            message.descriptors.extend(numbers)
    return message


def _fields(data: bytes) -> Iterator[tuple[str, str]]:
    for line in data.decode(errors="replace").split("\n"):
        name, equals, value = line.partition("=")
        if equals:
            yield name, value


class Store:
    """Descriptors that a service left with us, ``FileDescriptorStoreMax=1`` (systemd.service(5)): one, by its name."""

    def __init__(self) -> None:
        self._kept: dict[str, int] = {}

    @property
    def names(self) -> list[str]:
        """What the descriptors are called."""
        return list(self._kept)

    @property
    def descriptors(self) -> list[int]:
        """The descriptors, in the order of ``names``."""
        return list(self._kept.values())

    def take(self, message: Message) -> None:
        """Do what ``message`` asks; a descriptor that is not to be kept is closed."""
        name = message.fields.get("FDNAME", "stored")
        if message.fields.get("FDSTOREREMOVE") == "1" and name in self._kept:
            os.close(self._kept.pop(name))
        for descriptor in message.descriptors:
            if message.fields.get("FDSTORE") == "1" and not self._kept:
                self._kept[name] = descriptor
            else:
                os.close(descriptor)

    def clear(self) -> None:
        """Forget everything."""
        while self._kept:
            os.close(self._kept.popitem()[1])
