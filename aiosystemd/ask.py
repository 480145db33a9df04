"""One HTTP request, asked without waiting."""

import contextlib
import errno
import http.client
import io
import math
import socket
import ssl
import time
from collections.abc import Mapping
from typing import cast

from aiosystemd.loop import Loop
from aiosystemd.model import Health
from aiosystemd.render.text import quoted

Address = str | tuple[str, int]
"""Path of a unix socket, or host and port."""

_ENOUGH = 1 << 16
"""Bytes of an answer; more is not read, only the first line is shown."""
_SHOWN = 80
"""Characters of that line."""
_CONNECT = 1.0
"""Seconds; the address is of this machine, so it takes none unless the queue is full."""


def family(address: Address) -> socket.AddressFamily:
    """Return the kind of socket that reaches ``address``."""
    if isinstance(address, str):
        return socket.AF_UNIX
    return socket.AF_INET6 if ":" in address[0] else socket.AF_INET


def listens(address: Address) -> bool:
    """Tell whether anybody listens there."""
    with socket.socket(family(address)) as sock:
        sock.settimeout(_CONNECT)
        # connect(2), unix(7): EAGAIN is a full queue.
        return sock.connect_ex(address) in (0, errno.EAGAIN)


class Question:
    """The health check, asked of one address."""

    def __init__(self, loop: Loop, address: Address, host: str, health: Health, *, tls: bool = False) -> None:
        self._loop = loop
        self._health = health
        self._received = b""
        self._tls = _Tls() if tls else None
        self.deadline = time.monotonic() + health.timeout
        self.good = False
        self.answer = ""
        """What came, in words that follow a name; empty as long as nothing did."""
        self._socket = socket.socket(family(address))
        try:
            self._ask(address, host)
        except OSError as error:
            self._end(f"gives no answer: {error.strerror or error}")

    def late(self) -> None:
        """Give the answer up."""
        self._end(self._parsed() or f"gives no answer within {self._health.timeout:g} s")

    def close(self) -> None:
        """Stop waiting for the answer."""
        self.deadline = math.inf
        self._loop.forget(self._socket.fileno())
        self._socket.close()

    def _ask(self, address: Address, host: str) -> None:
        self._socket.settimeout(_CONNECT)
        self._socket.connect(address)
        headers = {"Host": host, "User-Agent": "aiosystemd", "Accept": "*/*", "Connection": "close"}
        request = _request(self._health.path, headers)
        self._socket.sendall(self._tls.begin(request) if self._tls else request)
        self._socket.settimeout(0)
        self._loop.watch(self._socket.fileno(), self._read)

    def _read(self) -> None:
        try:
            part = self._socket.recv(_ENOUGH)
            self._received += self._decrypted(part) if self._tls else part
        except OSError as error:
            self._end(f"gives no answer: {error.strerror or error}")
            return
        if not part or len(self._received) >= _ENOUGH:
            self._end(self._parsed() or "gives no answer: the connection was closed")

    def _decrypted(self, part: bytes) -> bytes:
        if not self._tls or not part:
            return b""
        said = self._tls.receive(part)
        self._socket.sendall(self._tls.to_send())
        return said

    def _end(self, answer: str) -> None:
        self.answer = answer
        self.close()

    def _parsed(self) -> str:
        # It needs only makefile() of its socket, and that may be shorter than its headers promise.
        response = http.client.HTTPResponse(cast("socket.socket", _Received(self._received)), method="GET")
        try:
            response.begin()
        except (http.client.HTTPException, OSError):
            return ""
        body = b""
        with contextlib.suppress(http.client.HTTPException, OSError):
            body = response.read1(_ENOUGH)
        self.good = response.status == self._health.status
        wanted = "" if self.good else f", not {self._health.status}"
        line = _first_line(body)
        return f"answers {response.status} {_printable(response.reason)}{wanted}" + (f": {line}" if line else "")


class _Tls:
    """TLS without a socket, so that nobody waits for it; the certificate is taken as it is."""

    def __init__(self) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._object = unverified().wrap_bio(self._incoming, self._outgoing)
        self._request = b""

    def begin(self, request: bytes) -> bytes:
        """Return the first bytes to send; ``request`` goes behind the handshake."""
        self._request = request
        self.receive(b"")
        return self.to_send()

    def receive(self, part: bytes) -> bytes:
        """Take what came and return what it says."""
        self._incoming.write(part)
        said = b""
        with contextlib.suppress(ssl.SSLWantReadError, ssl.SSLZeroReturnError):
            self._object.do_handshake()
            if self._request:
                self._object.write(self._request)
                self._request = b""
            while more := self._object.read(_ENOUGH):
                said += more
        return said

    def to_send(self) -> bytes:
        return self._outgoing.read()


def unverified() -> ssl.SSLContext:
    """Return how this host speaks TLS with itself; whether others trust its certificate is another question."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class _Received:
    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, _: str) -> io.BytesIO:
        return io.BytesIO(self._data)


def _request(path: str, headers: Mapping[str, str]) -> bytes:
    lines = (f"GET {quoted(path)} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()))
    return "".join(f"{line}\r\n" for line in (*lines, "")).encode()


def _first_line(body: bytes) -> str:
    text = _printable(next(iter(body.decode(errors="replace").splitlines()), "").strip())
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"


def _printable(text: str) -> str:
    # An escape sequence of the application must not reach the terminal in a line of ours.
    return "".join(char if char.isprintable() else "�" for char in text)
