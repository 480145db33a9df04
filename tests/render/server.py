"""nginx configuration read back: by crossplane, and by an nginx that runs it."""

import re
import socket
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import crossplane

from aiosystemd.render.nginx import Directive, block, directive, raw, render
from tests.tools import require


@dataclass(frozen=True, slots=True)
class Read:
    """A directive as crossplane read it."""

    name: str
    args: tuple[str, ...]
    block: tuple["Read", ...] | None


def parse(directory: Path, text: str) -> tuple[Read, ...]:
    """Return the directives of ``text`` as crossplane reads them."""
    file = directory / "parsed.conf"
    file.write_text(text, newline="")
    payload = crossplane.parse(str(file), strict=False)
    assert payload["errors"] == []
    return tuple(map(_read, payload["config"][0]["parsed"]))


def _read(item: dict[str, object]) -> Read:
    args, body = item["args"], item.get("block")
    assert isinstance(args, list)
    block = tuple(map(_read, body)) if isinstance(body, list) else None
    return Read(str(item["directive"]), tuple(map(_unescape, args)), block)


def _unescape(argument: str) -> str:
    # crossplane takes the quotes off, but leaves every escape except those of quotes.
    named = {"n": "\n", "r": "\r", "t": "\t"}
    return re.sub(r"\\(.)", lambda found: named.get(found[1], found[1]), argument)


@dataclass(frozen=True, slots=True)
class Answer:
    """A response, undecoded but for UTF-8."""

    status: str
    headers: dict[str, str]
    body: str


@dataclass(frozen=True, slots=True)
class Server:
    """A running nginx."""

    socket: Path

    def get(self, path: str, *, host: str = "localhost") -> Answer:
        """Ask for ``path``, which is quoted as URLs need."""
        request = f"GET {quote(path, errors='strict')} HTTP/1.0\r\nHost: {host}\r\n\r\n"
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(20)
            connection.connect(str(self.socket))
            connection.sendall(request.encode())
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
        head, _, body = answer.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        pairs = (line.partition(": ") for line in lines)
        return Answer(first.split(" ")[1], {name: value for name, _, value in pairs}, body.decode())


@contextmanager
def scratch() -> Iterator[Path]:
    """Yield a directory whose name is short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix="nginx ") as directory:
        yield Path(directory)


def check(directory: Path, http: Iterable[Directive]) -> subprocess.CompletedProcess[str]:
    """Return what ``nginx -t`` says of ``http``; silence is agreement."""
    return subprocess.run(
        (*_nginx(directory, http), "-t", "-q"), capture_output=True, text=True, check=False, timeout=60
    )


@contextmanager
def running(
    directory: Path, body: Iterable[Directive], *, http: Iterable[Directive] = (), expected: str = r"(?!)"
) -> Iterator[Server]:
    """Run an nginx with the directives ``http`` and one server of ``body``; of ``expected`` alone it may complain."""
    listen = directory / "server.sock"
    everything = (*http, block("server", body=(directive("listen", f"unix:{listen}"), *body)))
    said = check(directory, everything)
    assert (said.stdout + said.stderr, said.returncode) == ("", 0), said.stderr
    with subprocess.Popen(_nginx(directory, everything), stderr=subprocess.PIPE, text=True) as nginx:
        assert nginx.stderr
        try:
            # It speaks for the first time when its sockets are bound.
            assert "[notice]" in nginx.stderr.readline()
            yield Server(listen)
        finally:
            nginx.terminate()
            complaints = re.findall(r".*\[(?:warn|error|crit|alert|emerg)\].*", nginx.stderr.read())
    complaints = [line for line in complaints if not re.search(expected, line)]
    assert complaints == [], complaints


def _nginx(directory: Path, http: Iterable[Directive]) -> tuple[str, ...]:
    configuration = directory / "nginx.conf"
    temporary = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    main = (
        directive("daemon", raw("off")),
        directive("master_process", raw("off")),
        directive("pid", f"{directory}/nginx.pid"),
        directive("error_log", raw("stderr"), raw("notice")),
        block("events", body=()),
        block(
            "http",
            body=(
                directive("access_log", raw("off")),
                *(directive(f"{name}_temp_path", f"{directory}/{name}") for name in temporary),
                *http,
            ),
        ),
    )
    configuration.write_text(render(main), newline="")
    return (require("nginx"), "-p", str(directory), "-e", "stderr", "-c", str(configuration))
