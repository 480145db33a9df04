"""Light traffic at a site, every answer of which is looked at."""

import http.client
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

from aiosystemd.ask import unverified
from aiosystemd.model import Deployment, Proxy
from aiosystemd.render.text import quoted

CLIENTS: Final = 4
PAUSE: Final = 0.02
"""Seconds for which each client waits between two requests."""

_AFTER_A_FAILURE: Final = 0.2
"""Seconds, instead: who is refused at once is not to ask in a tight loop."""

_BODY: Final = b"aiosystemd drill\n"


@dataclass(frozen=True, slots=True)
class Target:
    """Where to ask, and for what."""

    address: tuple[str, int]
    name: str
    """What the server is called there."""
    host: str
    """The same with its port, as in ``Host:``."""
    tls: bool
    paths: Mapping[str, str]
    """By method."""
    timeout: float
    """Seconds for each step of a request."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One request."""

    phase: str
    """What was going on when it began."""
    method: str
    answer: str
    """Its status, or why there was none."""
    seconds: float


def target(d: Deployment, post: str, proxy: Proxy) -> Target:
    """Return how to reach ``d`` from its own host, through the site that ``proxy`` describes."""
    tls = proxy.tls
    host, port = _reach((tls or proxy).listen[0])
    name = proxy.server_names[0].replace("*", "drill") if proxy.server_names else socket.gethostname()
    usual = 443 if tls else 80
    shown = name if port == usual else f"{name}:{port}"
    path = d.health_check.path
    return Target((host, port), name, shown, bool(tls), {"GET": path, "POST": post or path}, d.timeouts.request)


def _reach(listen: str) -> tuple[str, int]:
    host, _, port = listen.rpartition(":")
    anywhere = {"": "127.0.0.1", "*": "127.0.0.1", "0.0.0.0": "127.0.0.1", "[::]": "::1"}  # noqa: S104 (to connect to)
    return anywhere.get(host, host.strip("[]")), int(port)


class Traffic:
    """Clients at work, each with one request after the other on connections of their own; a context."""

    def __init__(self, target: Target) -> None:
        self.phase = "steady"
        """What the requests that begin now belong to."""
        self.samples: list[Sample] = []
        self._target = target
        self._stop = threading.Event()
        self._context = unverified() if target.tls else None
        self._clients = [threading.Thread(target=self._ask, args=(n,), daemon=True) for n in range(CLIENTS)]

    def __enter__(self) -> Self:
        for client in self._clients:
            client.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        for client in self._clients:
            client.join()

    def _ask(self, number: int) -> None:
        methods = tuple(self._target.paths)
        while not self._stop.is_set():
            number += 1
            sample = self._one(methods[number % len(methods)])
            self.samples.append(sample)
            self._stop.wait(PAUSE if sample.answer.isdecimal() else _AFTER_A_FAILURE)

    def _one(self, method: str) -> Sample:
        phase, begin = self.phase, time.perf_counter()
        try:
            answer = self._answer(method)
        except (OSError, http.client.HTTPException) as error:
            answer = _why(error)
        return Sample(phase, method, answer, time.perf_counter() - begin)

    def _answer(self, method: str) -> str:
        target = self._target
        connection = http.client.HTTPConnection(target.name)
        try:
            # Its own connect() would look the name up; we ask this host, by that name.
            connection.sock = socket.create_connection(target.address, target.timeout)
            if self._context:
                connection.sock = self._context.wrap_socket(connection.sock, server_hostname=target.name)
            headers = {"Host": target.host, "User-Agent": "aiosystemd", "Connection": "close"}
            connection.request(method, quoted(target.paths[method]), _BODY if method == "POST" else None, headers)
            response = connection.getresponse()
            response.read()
            return str(response.status)
        finally:
            connection.close()


def _why(error: Exception) -> str:
    match error:
        case TimeoutError():
            return "no answer in time"
        case ConnectionRefusedError():
            return "connection refused"
        case ConnectionError() | http.client.IncompleteRead():
            return "connection lost"
        case ssl.SSLError():
            return f"TLS: {error.reason or error}"
        case OSError():
            return error.strerror or str(error)
        case _:
            return f"broken answer ({type(error).__name__})"
