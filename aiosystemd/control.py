"""The socket on which an instance takes orders, seen from the tool.

The instance's own user could answer in its place, so nothing that comes is trusted: each reply is one packet of
bounded size, of a known shape, and its words are for people only.
"""

import socket
from typing import Annotated, Final, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from aiosystemd import contract, scope

_LARGEST: Final = 1 << 16
"""Bytes of a reply."""

_PATIENCE: Final = 5.0
"""Seconds in which an instance takes an order; it does nothing for it that takes time."""

_Count = Annotated[int, Field(ge=0, lt=1 << 63)]
_Words = Annotated[str, Field(max_length=4096)]
_M = TypeVar("_M", bound=BaseModel)


class ControlError(Exception):
    """An instance did not take an order; the text says why, in words that follow its name."""


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, allow_inf_nan=False)


class Counts(_Message):
    """What a process has served so far."""

    pid: _Count
    requests: _Count = 0
    errors: _Count = 0
    """Responses with a status of 500 or more."""
    connections: _Count = 0


class Status(Counts):
    """An instance, as it sees itself."""

    state: Literal["serving", "draining", "closed"]
    directory: _Words
    """Its working directory, without symbolic links."""
    successor: Counts | None = None
    """The new process of a reload that is held."""
    reload_error: _Words = ""
    """Why the last reload failed, if it did."""


class Event(_Message):
    """What became of the new process of a reload that is held; also any answer to an order."""

    event: Literal["", "ready", "failed"] = ""
    pid: _Count = 0
    why: _Words = ""
    ok: bool = False
    error: _Words = ""


class Control:
    """A connection to an instance; a context."""

    def __init__(self, name: str, instance: str, patience: float = _PATIENCE) -> None:
        """Connect; raises ControlError."""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.settimeout(patience)
        self._waiting: list[Event] = []
        try:
            self._socket.connect(str(scope.current().run / name / instance / contract.CONTROL))
        except OSError as error:
            self._socket.close()
            raise ControlError(f"does not take orders: {error.strerror or error}") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Take back whatever lasts as long as the connection."""
        self._socket.close()

    def fileno(self) -> int:
        """Return the descriptor: readable when there is an event."""
        return self._socket.fileno()

    def status(self) -> Status:
        """Ask how it is; raises ControlError."""
        self._send("status")
        return self._receive(Status)

    def order(self, what: Literal["hold", "commit", "revert", "close", "accept"], why: str = "") -> None:
        """Give an order and wait until it is taken; raises ControlError."""
        self._send(what, why)
        while not (answer := self._receive(Event)).ok:
            if not answer.event:
                raise ControlError(f"refuses to {what}: {answer.error or 'without a reason'}")
            self._waiting.append(answer)

    def event(self) -> Event:
        """Return the next event, and wait for it; raises ControlError, also when the connection has ended."""
        return self._waiting.pop(0) if self._waiting else self._receive(Event)

    def _send(self, what: str, why: str = "") -> None:
        order = _Order(do=what, why=why[:1000])
        try:
            self._socket.sendall(order.model_dump_json(exclude_defaults=True).encode())
        except OSError as error:
            raise ControlError(f"does not take orders: {error.strerror or error}") from None

    def _receive(self, kind: type[_M]) -> _M:
        try:
            packet = self._socket.recv(_LARGEST)
        except ConnectionError:
            packet = b""
        except OSError as error:
            raise ControlError(f"gives no answer: {error.strerror or error}") from None
        if not packet:
            raise ControlError("has ended")
        try:
            return kind.model_validate_json(packet)
        except ValidationError:
            raise ControlError("gives an answer that makes no sense") from None


class _Order(_Message):
    do: str
    why: str = ""
