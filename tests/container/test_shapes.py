"""One deployment per shape of a real application, generated, started and used through nginx."""

import hashlib
import json
import secrets
from io import BufferedRWPair

import pytest

from tests.container.conftest import both_releases
from tests.container.machine import Machine
from tests.container.site import INSTANCES, Site


@pytest.fixture
def site(request: pytest.FixtureRequest, machine: Machine) -> Site:
    """Return the shape that the test is named for, started."""
    site = Site.shape(machine, request.function.__name__.split("_")[1])
    site.systemctl("start", f"{site.name}.target")
    return site


@both_releases
def test_websocket_is_passed_on_and_closed_cleanly_by_a_restart(site: Site) -> None:
    key = "dGhlIHNhbXBsZSBub25jZQ=="
    head = ("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {key}")
    with site.connect("/ws", *head) as connection, connection.makefile("rwb") as stream:
        assert stream.readline() == b"HTTP/1.1 101 Switching Protocols\r\n"
        while stream.readline() != b"\r\n":
            pass
        stream.write(_frame(1, b"me"))
        stream.flush()
        assert _payload(stream, stream.read(2)) == b"me, too"
        site.systemctl("restart", "--no-block", "websocket.target")
        head_of_close = stream.read(2)
        assert head_of_close[0] == 0x88
        assert _payload(stream, head_of_close)[:2] == (1012).to_bytes(2)
        stream.write(_frame(8, (1012).to_bytes(2)))
        stream.flush()
        # aiohttp says its own good-bye once more when the handler returns.
        assert stream.read() in {b"", b"\x88\x02" + (1000).to_bytes(2)}


def _frame(opcode: int, payload: bytes) -> bytes:
    return bytes([0x80 | opcode, 0x80 | len(payload), 0, 0, 0, 0]) + payload  # a mask of zeros changes nothing


def _payload(stream: "BufferedRWPair", head: bytes) -> bytes:
    return stream.read(head[1])


def test_static_files_are_served_by_the_proxy_and_nothing_beside_them(site: Site) -> None:
    assert site.ask("/files/a.txt").text == "a plain file\n"
    assert site.ask("/more/b%20c.txt").text == "a file with spaces\n"
    assert site.ask("/").text == "from the application"
    # No double path, no traversal, and what only begins like a prefix is the application's.
    assert site.ask("/files/none.txt").status == 404
    for path in ("/files../secret.txt", "/files/../secret.txt", "/files/%2e%2e/secret.txt", "/filesx"):
        assert "not to be served" not in site.ask(path).text
    assert site.ask("/files").text == "from the application"


def test_stream_arrives_while_it_is_made(site: Site) -> None:
    with site.connect("/events") as connection, connection.makefile("rb") as stream:
        while stream.readline() != b"\r\n":
            pass
        assert stream.readline() == b"d\r\n"  # the chunk's length: nothing held it back
        assert stream.readline() == b"data: first\n"
        assert site.ask("/further", b"").status == 200
        assert b"data: second\n" in iter(stream.readline, b"")


@pytest.mark.parametrize("path", ["/streamed", "/whole"])
def test_upload_of_100_mib_arrives_whole(site: Site, path: str) -> None:
    body = secrets.token_bytes(1 << 20) * 100
    assert site.ask(path, body).text == hashlib.sha256(body).hexdigest()
    assert site.ask(path, body + b"x").status == 413


def test_database_is_opened_in_its_writable_directory_and_closed_at_the_end(site: Site) -> None:
    assert site.machine.run("stat", "--format=%U:%a", "/srv/database/data").stdout == "dbuser:750\n"
    for number in range(20):
        assert site.ask("/", f"row {number}".encode()).status == 200
    assert site.ask().text == "20"
    site.systemctl("restart", *(f"database@{name}" for name in INSTANCES))
    assert site.ask().text == "20"
    assert "database closed" in site.machine.journal(unit="database@1.service")


def test_echo_learns_the_client_from_the_proxy_and_from_nobody_else(site: Site) -> None:
    lies = {"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "https", "X-Forwarded-Host": "evil.example"}
    through = json.loads(site.ask("/client", headers={**lies, "Host": "echo.test"}).text)
    assert through == {"remote": "127.0.0.1", "scheme": "http", "host": "echo.test"}
    assert site.machine.run("stat", "--format=%U:%G:%a", site.socket_path("1")).stdout == "root:www-data:660\n"
