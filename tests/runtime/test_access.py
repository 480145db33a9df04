"""Where requests and errors are written."""

import os
import shutil
import socket
import struct
import subprocess

import pytest

from tests.runtime.lab import Client, Lab, MakeServer
from tests.tools import lacking, own_command, require


def test_access_log_is_off_by_default(make_server: MakeServer) -> None:
    server = make_server().ready()
    server.ask("/")
    server.signal()
    assert server.exit() == 0
    assert server.errors == ""


def test_text_log_has_aiohttps_format_and_the_client(make_server: MakeServer) -> None:
    server = make_server("--access-log", "text", "--forwarded-from", "unix").ready()
    server.ask("/client?x=1", "X-Forwarded-For: 192.0.2.7", "User-Agent: me")
    server.signal()
    assert server.exit() == 0
    address, rest = server.errors.split(" ", 1)
    assert address == "192.0.2.7"
    assert rest.partition("] ")[2].startswith('"GET /client?x=1 HTTP/1.1" 200 ')
    assert rest.endswith('"-" "me"\n')


def test_text_log_format_is_ours_to_choose(make_server: MakeServer) -> None:
    server = make_server("--access-log", "text", "--access-log-format", "%s %{X-A}i").ready()
    server.ask("/", "X-A: b")
    server.signal()
    assert server.exit() == 0
    assert server.errors == "200 b\n"


def journal_fields(datagram: bytes) -> dict[str, str]:
    """Parse one entry of the native journal protocol, https://systemd.io/JOURNAL_NATIVE_PROTOCOL/."""
    fields = {}
    while datagram:
        line, _, datagram = datagram.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if not equals:
            (size,) = struct.unpack("<Q", datagram[:8])
            value, datagram = datagram[8 : 8 + size], datagram[8 + size + 1 :]
        fields[name.decode()] = value.decode()
    return fields


# Puts a directory of ours where libsystemd looks for the journal's socket, for this process alone.
_OWN_JOURNAL = 'mount -t tmpfs none /run && mkdir -p /run/systemd/journal && mount --bind "$0" /run/systemd/journal'


def test_journal_entry_has_a_field_for_each_part(lab: Lab) -> None:
    unshare = require("unshare")
    if os.geteuid() != 0:
        lacking("a mount namespace of its own needs root")
    journal = lab.path / "journal"
    journal.mkdir()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log:
        log.bind(str(journal / "socket"))
        log.settimeout(30)
        path = lab.path / "own.sock"
        options = ["--path", str(path), "--access-log", "journal", "--forwarded-from", "unix", "shop:app"]
        script = f'{_OWN_JOURNAL} && exec "$@"'
        launcher = [unshare, "--mount", "sh", "-c", script, str(journal)]
        server = lab.run(*options, launcher=launcher, managed=False, environment={"AIOSYSTEMD_INSTANCE": "3"})
        server.said("serving on")
        with Client(str(path)) as client:
            client.get("/client?x=%0A1", "X-Forwarded-For: 192.0.2.7", "User-Agent: a\tb\xe9")
            assert client.response()
        fields = journal_fields(log.recv(65536))
    assert fields.pop("HTTP_DURATION_USEC").isdigit()
    assert fields.pop("HTTP_BYTES").isdigit()
    expected = {
        "MESSAGE": "GET /client?x=%0A1 200",
        "PRIORITY": "6",
        "AIOSYSTEMD_INSTANCE": "3",
        "HTTP_METHOD": "GET",
        "HTTP_PATH": "/client?x=%0A1",
        "HTTP_STATUS": "200",
        "REMOTE_ADDR": "192.0.2.7",
        "HTTP_USER_AGENT": "a\tb\xe9",
    }
    assert expected.items() <= fields.items()
    assert set(fields) - set(expected) <= {"SYSLOG_IDENTIFIER"}


def test_error_has_its_priority_in_the_journal(lab: Lab) -> None:
    """JOURNAL_STREAM names the device and inode of stderr, systemd.exec(5)."""
    shell = shutil.which("sh")
    assert shell
    log = lab.path / "log"
    log.touch()
    found = log.stat()
    server = lab.run(
        "shop:app",
        listeners=[lab.unix()],
        launcher=[shell, "-c", f'exec 2>"{log}" "$@"', "sh"],
        environment={"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"},
    ).ready()
    assert server.ask("/fail").status == 500
    server.signal()
    assert server.exit() == 0
    lines = log.read_text().splitlines()
    assert any("RuntimeError: handler failed" in line for line in lines)
    assert all(line.startswith("<3>") for line in lines)


def test_error_elsewhere_has_no_priority(lab: Lab) -> None:
    server = lab.run("shop:app", listeners=[lab.unix()], environment={"JOURNAL_STREAM": "1:2"}).ready()
    assert server.ask("/fail").status == 500
    server.signal()
    assert server.exit() == 0
    assert "RuntimeError: handler failed" in server.errors
    assert "<3>" not in server.errors


@pytest.mark.parametrize("app", ["logs:early", "logs:late"])
def test_applications_own_logging_is_left_alone(lab: Lab, app: str) -> None:
    server = lab.run("--access-log", "text", app, listeners=[lab.unix()]).ready()
    assert server.ask("/").status == 200
    assert server.ask("/fail").status == 500
    server.signal()
    assert server.exit() == 0
    assert server.errors.count("GET / HTTP/1.1") == 1
    assert "mine Error handling request" in server.errors


def test_program_is_installed_by_name() -> None:
    program = own_command("aiosystemd-serve")
    assert "MODULE:ATTRIBUTE" in subprocess.run([program, "--help"], check=True, capture_output=True, text=True).stdout
