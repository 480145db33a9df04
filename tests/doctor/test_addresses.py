"""Ports that really are listened on, by the test itself, and holders that only a booted systemd would have."""

import errno
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from aiosystemd.doctor import addresses
from aiosystemd.doctor.addresses import Endpoint, endpoint
from aiosystemd.host import Host
from tests.doctor.hosts import editor, nothing_installed, says, stand_in, subject, told

ANY = "0.0.0.0"  # noqa: S104 (compared)
_LISTENS = 'LISTEN 0 128 {} 0.0.0.0:* users:(("{}",pid={},fd=3))'


@pytest.fixture
def taken() -> Iterator[socket.socket]:
    listener = socket.create_server(("127.0.0.1", 0))
    yield listener
    listener.close()


def _proc(directory: Path, monkeypatch: pytest.MonkeyPatch, pid: int, cgroup: str) -> None:
    """Let a directory stand for /proc."""
    (directory / f"proc/{pid}").mkdir(parents=True)
    (directory / f"proc/{pid}/cgroup").write_text(cgroup)
    monkeypatch.setattr(addresses, "Path", lambda path: Path(f"{directory}{path}"))


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("8080", ANY, 8080),
        ("*:81", ANY, 81),
        ("localhost", "127.0.0.1", 80),
        ("localhost:82", "127.0.0.1", 82),
        ("192.0.2.1", "192.0.2.1", 80),
        ("[::1]", "::1", 80),
        ("[::1]:83", "::1", 83),
    ],
)
def test_addresses_are_read_as_nginx_reads_them(text: str, host: str, port: int) -> None:
    assert endpoint(text) == Endpoint(host, port)


def test_port_that_another_process_listens_on(
    taken: socket.socket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _proc(tmp_path, monkeypatch, os.getpid(), "0::/user.slice/user-0.slice/session-1.scope\n")
    port = taken.getsockname()[1]
    s = subject(tmp_path, f'proxy.kind = "none"\nlisten.port = {port}\ninstances = 1\n')
    program = Path("/proc/self/comm").read_text().strip()
    (finding,) = addresses.ports(s)
    what = f"127.0.0.1:{port} is taken by {program}, process {os.getpid()}"
    assert told(finding) == ("error", what, f"kill {os.getpid()}")
    assert str(finding.at) == f"{s.source.file}:4:15"


def test_port_of_nobody_is_fine(tmp_path: Path) -> None:
    with socket.socket() as kept:  # from everybody else, yet nobody listens
        kept.bind(("127.0.0.1", 0))
        port = kept.getsockname()[1]
        s = subject(tmp_path, f'proxy.kind = "none"\nlisten.port = {port}\ninstances = 1\n')
        assert list(map(told, addresses.ports(s))) == [("fine", f"127.0.0.1:{port} can be listened on", "")]


def test_deployment_without_a_port_has_nothing_to_be_looked_at(tmp_path: Path) -> None:
    assert not list(addresses.ports(subject(tmp_path, 'proxy.kind = "none"\n')))


@pytest.mark.parametrize(
    ("enabled", "mend"),
    [("enabled", "systemctl disable --now other.service"), ("static", "systemctl stop other.service")],
)
def test_port_of_a_service_is_freed_by_stopping_that(
    enabled: str, mend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    s = subject(tmp_path, 'proxy.listen = ["127.0.0.1:9"]\n')
    stand_in(tmp_path, monkeypatch, "ss", says(_LISTENS.format("*:9", "apache2", 4321)))
    stand_in(tmp_path, monkeypatch, "systemctl", f'test "$*" = "is-enabled other.service" && echo {enabled}')
    _proc(tmp_path, monkeypatch, 4321, "1:name=systemd:/\n0::/system.slice/other.service\n")
    what = "127.0.0.1:9 is taken by apache2, process 4321 of other.service"
    assert list(map(told, addresses.ports(s))) == [("error", what, mend)]


def test_port_of_a_socket_unit_is_freed_by_stopping_the_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    s = subject(tmp_path, 'proxy.listen = ["[::1]:9"]\n')
    sockets = "/run/x.sock x.socket x.service\n[::]:90 y.socket y.service\n[::]:9 other.socket other.service"
    stand_in(tmp_path, monkeypatch, "ss", says(_LISTENS.format("[::]:9", "systemd", 1)))
    script = f'case "$1" in list-sockets) {says(sockets)};; *) echo enabled;; esac'
    stand_in(tmp_path, monkeypatch, "systemctl", script)
    (finding,) = (each for each in addresses.ports(s) if "taken" in each.what)
    what = "[::1]:9 is taken by systemd, process 1 of other.socket"
    assert told(finding) == ("error", what, "systemctl disable --now other.socket")


def test_listener_whose_unit_is_not_known_is_ended_by_its_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    s = subject(tmp_path, 'proxy.listen = ["127.0.0.1:9"]\n')
    stand_in(tmp_path, monkeypatch, "systemctl", says("/run/x.sock x.socket x.service"))
    _proc(tmp_path, monkeypatch, 1, "0::/init.scope\n")
    for pid in (1, 4321):  # the second one has ended meanwhile
        stand_in(tmp_path, monkeypatch, "ss", says(_LISTENS.format("127.0.0.1%lo:9", "other", pid)))
        what = f"127.0.0.1:9 is taken by other, process {pid}"
        assert list(map(told, addresses.ports(s))) == [("error", what, f"kill {pid}")]


def test_own_listeners_are_no_hindrance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    s = subject(tmp_path, 'proxy.listen = ["127.0.0.1:9"]\nlisten.port = 10\ninstances = 1\n')
    ours = (_LISTENS.format("127.0.0.1:9", "nginx", 4322), _LISTENS.format("127.0.0.1:10", "python3", 4321))
    stand_in(tmp_path, monkeypatch, "ss", says("\n".join(ours)))
    _proc(tmp_path, monkeypatch, 4321, "0::/system.slice/system-shop.slice/shop@1.service\n")
    assert list(map(told, addresses.ports(s))) == [("fine", "127.0.0.1:9, 127.0.0.1:10 can be listened on", "")]


def test_holder_that_only_root_can_see(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    s = subject(tmp_path, 'proxy.listen = ["127.0.0.1:9"]\n')
    stand_in(tmp_path, monkeypatch, "ss", says("LISTEN 0 128 0.0.0.0:9 0.0.0.0:*"))
    what = "who listens on 0.0.0.0:9: only root can see it"
    assert list(map(told, addresses.ports(s))) == [("unseen", what, "")]


def test_without_ss_nothing_is_claimed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    s = subject(tmp_path, 'proxy.listen = ["127.0.0.1:9"]\n')
    nothing_installed(tmp_path, monkeypatch)
    assert list(map(told, addresses.ports(s))) == [("unseen", "who listens on the ports: ss(8) is not installed", "")]


def test_address_of_another_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    s = subject(tmp_path, 'proxy.listen = ["192.0.2.1:9"]\n')
    stand_in(tmp_path, monkeypatch, "ss", ":")
    what = f"192.0.2.1 is no address of this machine: {os.strerror(errno.EADDRNOTAVAIL)}"
    assert list(map(told, addresses.ports(s))) == [("error", what, "ip address add 192.0.2.1/32 dev lo")]


class _Refused(socket.socket):
    number = errno.EAFNOSUPPORT

    def bind(self, _address: object) -> None:
        raise OSError(self.number, os.strerror(self.number))


def test_kernel_without_ipv6_is_mended_in_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    s = subject(tmp_path, 'proxy.listen = ["[::1]:9"]\n', Host(ipv6=False))
    stand_in(tmp_path, monkeypatch, "ss", ":")
    monkeypatch.setattr(socket, "socket", _Refused)
    what = f"::1 is no address of this machine: {os.strerror(errno.EAFNOSUPPORT)}"
    assert list(map(told, addresses.ports(s))) == [("error", what, editor(s, 3))]
    monkeypatch.setattr(_Refused, "number", errno.EACCES)  # it exists, which is what was asked
    assert list(map(told, addresses.ports(s))) == [("fine", "[::1]:9 can be listened on", "")]


def test_ipv6_that_is_not_asked_for_is_not_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(tmp_path, monkeypatch, "ss", ":")
    tls = 'proxy.tls = { certificate = "/c", key = "/k", listen = ["127.0.0.1:9"] }\n'
    s = subject(tmp_path, tls, Host(ipv6=False))
    what = "0.0.0.0:80, 127.0.0.1:9 can be listened on"
    assert list(map(told, addresses.ports(s))) == [("fine", what, "")]
