"""haproxy.cfg: each value reaches a real HAProxy as it is, or is refused."""

import http.client
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from aiosystemd.render.haproxy import Unrepresentable, line, logged, raw, render, section

HOSTILE = [
    "plain", "a b", "a  b", "'", "''", "a'b", '"', "\\", "\\\\", "\\n", "\\x41", "\\'", "#", "a#b", "$HOME", "${HOME}",
    '"$HOME"', "%[src]", "%%", "%", "%ci", "{ }", "if TRUE", "unless", "-i", "--", "[a]", "(b)", ",", ";", "é",
    "\u2028", "'; bind :1 #", "".join(map(chr, range(0x21, 0x7F))),
]  # fmt: skip


@pytest.mark.parametrize("value", ["a\nb", "a\rb", "a\0b", "\t", "\x7f", "\x1b", "\ud800"])
def test_what_no_word_can_hold_is_refused(value: str) -> None:
    with pytest.raises(Unrepresentable, match=r"cannot be written in haproxy\.cfg"):
        render((section("backend", "b", body=(line("server", value),)),))


@pytest.mark.parametrize("words", [["a" * 2048], ["é" * 1024], ["a"] * 64])
def test_a_line_that_haproxy_would_cut_is_refused(words: list[str]) -> None:
    with pytest.raises(Unrepresentable, match="longer than a line"):
        render((section("backend", "b", body=(line("acl", *words),)),))


def test_every_hostile_value_arrives_as_it_is(tmp_path: Path) -> None:
    with serving(tmp_path, HOSTILE) as path:
        for index, value in enumerate(HOSTILE):
            assert answer(path, f"/{index}").encode("latin-1") == value.encode(), value


@contextmanager
def serving(directory: Path, values: list[str]) -> Iterator[str]:
    """Yield the socket of a HAProxy that answers ``/N`` with the Nth value in a header."""
    path = f"{directory}/s"
    timeouts = [line(f"timeout {side} 5s") for side in ("client", "server", "connect")]
    answers = [
        line("http-request return status 200 hdr", raw("X-Value"), logged(value), raw(f"if {{ path /{index} }}"))
        for index, value in enumerate(values)
    ]
    body = (line("mode http"), *timeouts, line("bind", f"unix@{path}"), *answers)
    file = directory / "haproxy.cfg"
    file.write_text(render((section("frontend", "f", body=body),), header=("a header",)))
    with subprocess.Popen(["haproxy", "-db", "-f", file], stderr=subprocess.PIPE, text=True) as process:
        try:
            while not Path(path).is_socket():
                assert process.poll() is None, process.stderr and process.stderr.read()
                time.sleep(0.01)
            yield path
        finally:
            process.terminate()


def answer(path: str, target: str) -> str:
    """Return the header of one answer."""
    connection = http.client.HTTPConnection("localhost")
    connection.sock = socket.socket(socket.AF_UNIX)
    try:
        connection.sock.connect(path)
        connection.request("GET", target)
        return connection.getresponse().headers["X-Value"] or ""
    finally:
        connection.close()
