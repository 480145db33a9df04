"""A strict load client: it compares every answer, never retries, and counts each failure with its reason.

    python3 load.py [--clients N] [--size BYTES] [--count N] [--unix PATH] [--host NAME] [--port N] [--expect TEXT]

Half of the requests are GETs, half are POSTs to an echo of a body of random bytes (with ``--post ''`` none are), on
kept-alive connections (with ``--close`` each on one of its own). It ends after ``--count`` requests, at SIGTERM or when
its standard input is closed, and prints one JSON object (see `Report`); a line on standard input makes it print one of
what happened so far.
Only the standard library is used, so that any machine with Python 3.11 can run it.
"""

import argparse
import asyncio
import functools
import json
import os
import random
import signal
import ssl
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Final


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """What is asked, and what must be answered."""

    unix: str = ""
    port: int = 80
    host: str = "localhost"
    get: str = "/"
    post: str = "/echo"
    """Path of the echo; with "" every request is a GET."""
    expect: bytes | None = None
    """Body that each GET must be answered with; None: any."""
    size: int = 2000
    """Bytes in the body of a POST."""
    close: bool = False
    """Whether the client closes the connection after each answer."""
    tls: bool = False
    """Whether it speaks TLS; any certificate will do."""
    timeout: float = 60.0
    """Seconds for one request, connecting included."""


@dataclass(slots=True)
class Report:
    """What happened; times in milliseconds, reasons as ``METHOD reason``."""

    requests: int = 0
    posts: int = 0
    failed: int = 0
    seconds: float = 0.0
    reasons: Counter[str] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list, repr=False)

    def quantile(self, share: float) -> float:
        ordered = sorted(self.latencies)
        return round(ordered[min(len(ordered) - 1, int(len(ordered) * share))], 1) if ordered else 0.0

    def json(self) -> str:
        """Return the report as one line; in the place of the latencies stand their quantiles."""
        quantiles = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999, "max": 1.0}
        fields = asdict(self) | {name: self.quantile(share) for name, share in quantiles.items()}
        fields["reasons"] = dict(self.reasons)  # asdict() counts the pairs of a Counter
        del fields["latencies"]
        fields["slow"] = sum(1 for latency in self.latencies if latency > 1000)
        return json.dumps(fields)


class WrongAnswerError(Exception):
    """An answer that is not the expected one."""


class Client:
    """One connection at a time, kept alive as long as the server lets it."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def get(self) -> None:
        target = self._target
        body = await self._request(f"GET {target.get} HTTP/1.1\r\nHost: {target.host}\r\n\r\n".encode())
        if target.expect is not None and body != target.expect:
            raise WrongAnswerError("wrong body")

    async def post(self) -> None:
        target = self._target
        sent = random.randbytes(target.size)  # noqa: S311 - a checked body, not a secret
        head = f"POST {target.post} HTTP/1.1\r\nHost: {target.host}\r\nContent-Length: {len(sent)}\r\n\r\n"
        if await self._request(head.encode() + sent) != sent:
            raise WrongAnswerError("wrong body")

    def close(self) -> None:
        if self._streams:
            self._streams[1].close()
            self._streams = None

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._target.unix:
            return await asyncio.open_unix_connection(self._target.unix)
        context = _any_certificate() if self._target.tls else None
        return await asyncio.open_connection("127.0.0.1", self._target.port, ssl=context)

    async def _request(self, request: bytes) -> bytes:
        if not self._streams:
            self._streams = await self._connect()
        reader, writer = self._streams
        writer.write(request)
        await writer.drain()
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        status, *lines = head.rstrip().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines)
        body = await _body(reader, headers)
        if self._target.close or headers.get("connection") == "close":
            self.close()
        if (code := status.split(" ")[1]) != "200":
            raise WrongAnswerError(f"status {code}")
        return body


@functools.cache
def _any_certificate() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


async def _body(reader: asyncio.StreamReader, headers: dict[str, str]) -> bytes:
    if headers.get("transfer-encoding") != "chunked":
        return await reader.readexactly(int(headers["content-length"]))
    body = b""
    while size := int(await reader.readline(), 16):
        body += (await reader.readexactly(size + 2))[:-2]
    await reader.readline()
    return body


_REASONS: Final[tuple[tuple[type[Exception], str], ...]] = (
    (TimeoutError, "timeout"),
    (ConnectionRefusedError, "connection refused"),
    (FileNotFoundError, "connection refused"),
    (BlockingIOError, "queue full"),
    (ConnectionResetError, "reset"),
    (BrokenPipeError, "reset"),
    (asyncio.IncompleteReadError, "closed early"),
)


def _reason(error: Exception) -> str:
    if isinstance(error, WrongAnswerError):
        return str(error)
    return next((reason for kind, reason in _REASONS if isinstance(error, kind)), repr(error))


class Load:
    """Clients that each send one request after the other until `stop` is called or ``count`` are sent."""

    def __init__(self, target: Target, *, clients: int = 16, count: int | None = None, pause: float = 0.0) -> None:
        self.report = Report()
        self._target = target
        self._clients = clients
        self._count = count
        self._pause = pause
        self._begun = 0
        self._stopped = asyncio.Event()

    def stop(self) -> None:
        """Let the requests that are on their way end, and send no more."""
        self._stopped.set()

    async def run(self) -> Report:
        begin = time.perf_counter()
        await asyncio.gather(*(self._client(number) for number in range(self._clients)))
        self.report.seconds = round(time.perf_counter() - begin, 3)
        return self.report

    async def _client(self, number: int) -> None:
        client = Client(self._target)
        while self._another():
            number += 1
            if not await self._one(client, "POST" if number % 2 and self._target.post else "GET"):
                client.close()
                await self._rest(max(self._pause, 0.01))  # a dead server is not to be asked in a tight loop
            elif self._pause:
                await self._rest(self._pause)
        client.close()

    def _another(self) -> bool:
        if self._stopped.is_set() or self._begun == self._count:
            return False
        self._begun += 1
        return True

    async def _one(self, client: Client, method: str) -> bool:
        begin = time.perf_counter()
        try:
            async with asyncio.timeout(self._target.timeout):
                await (client.post() if method == "POST" else client.get())
        except Exception as error:  # noqa: BLE001 - whatever went wrong, it is a failed request
            self.report.failed += 1
            self.report.reasons[f"{method} {_reason(error)}"] += 1
            return False
        finally:
            self.report.requests += 1
            self.report.posts += method == "POST"
            self.report.latencies.append((time.perf_counter() - begin) * 1000)
        return True

    async def _rest(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stopped.wait()
        except TimeoutError:
            return


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="send requests, compare every answer")
    add = parser.add_argument
    add("--clients", type=int, default=16)
    add("--count", type=int, help="stop after so many requests (default: until told)")
    add("--pause", type=float, default=0.0, help="seconds that a client waits between requests")
    for name, kind in (("unix", str), ("port", int), ("host", str), ("get", str), ("post", str), ("size", int)):
        add(f"--{name}", type=kind, default=getattr(Target(), name))
    add("--close", action="store_true", help="a connection of its own for each request")
    add("--tls", action="store_true", help="TLS, with whatever certificate the server has")
    add("--timeout", type=float, default=Target().timeout)
    add("--expect", type=os.fsencode)
    return parser.parse_args()


def _print(report: Report) -> None:
    sys.stdout.write(report.json() + "\n")
    sys.stdout.flush()


def _stop_when_told(load: Load) -> None:
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, load.stop)

    def read() -> None:
        if lines := os.read(sys.stdin.fileno(), 1024).count(b"\n"):
            for _ in range(lines):
                _print(load.report)
        else:
            loop.remove_reader(sys.stdin.fileno())
            load.stop()

    loop.add_reader(sys.stdin.fileno(), read)


async def _main() -> None:
    arguments = vars(_arguments())
    clients, count, pause = (arguments.pop(name) for name in ("clients", "count", "pause"))
    load = Load(Target(**arguments), clients=clients, count=count, pause=pause)
    if count is None:
        _stop_when_told(load)
    _print(await load.run())


if __name__ == "__main__":
    asyncio.run(_main())
