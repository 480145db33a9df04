"""The machines and the load client do what the other tests rely on."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.container.conftest import both_releases
from tests.container.machine import Machine

_LOAD = Path(__file__).parents[1] / "load.py"
_ECHO = "location = /echo { proxy_pass http://127.0.0.1:8080; }"
# nginx answers with the request's body only if it has read it, which it does in order to proxy it.
_SITE = """
server { listen 127.0.0.1:80 default_server; location = / { return 200 hello; } LOCATION }
server { listen 127.0.0.1:8080; client_max_body_size 1m; location / { echo_read_request_body; echo_request_body; } }
"""


@pytest.fixture
def plain(debian: Path) -> Iterator[Machine]:
    with Machine(debian) as machine:
        yield machine


def _serve(machine: Machine) -> None:
    machine.write("/etc/nginx/sites-enabled/default", _SITE.replace("LOCATION", _ECHO))
    machine.systemctl("restart", "nginx")
    machine.copy(_LOAD, "/root/load.py")


@both_releases
def test_machine_is_running(plain: Machine) -> None:
    assert plain.systemctl("is-system-running") == "running"
    assert plain.read("/proc/1/comm") == "systemd\n"


def test_default_page_of_nginx_is_served(plain: Machine) -> None:
    response = plain.http()
    assert response.status == 200
    assert b"nginx" in response.body


def test_commands_of_the_wheel_are_installed(machine: Machine) -> None:
    assert "aiosystemd" in machine.run("pip", "list", "--format=freeze").stdout
    machine.run("test", "-x", "/usr/local/bin/aiosystemd")
    machine.run("test", "-x", "/usr/local/bin/aiosystemd-serve")


def test_absolute_link_stays_in_the_machine(plain: Machine) -> None:
    plain.run("ln", "-s", "/etc/elsewhere", "/etc/link")
    plain.write("/etc/link", "text")
    assert plain.run("cat", "/etc/elsewhere").stdout == "text"
    assert not Path("/etc/elsewhere").exists()


def test_reboot_keeps_files_and_enablement(plain: Machine) -> None:
    started = plain.show("init.scope", "ActiveEnterTimestampMonotonic")
    plain.write("/etc/kept", "yes")
    plain.systemctl("disable", "nginx")
    plain.reboot()
    assert plain.read("/etc/kept") == "yes"
    assert plain.show("nginx.service", "ActiveState") == {"ActiveState": "inactive"}
    assert started != plain.show("init.scope", "ActiveEnterTimestampMonotonic")


def test_two_machines_do_not_meet(debian: Path) -> None:
    with Machine(debian) as first, Machine(debian) as second:
        first.systemctl("stop", "nginx")
        with pytest.raises(ConnectionRefusedError):
            first.http()
        assert second.http().status == 200


@both_releases
def test_ip_filters_are_in_force(plain: Machine) -> None:
    connect = "import socket; socket.create_connection(('127.0.0.1', 80), 1)"
    run = ("systemd-run", "--quiet", "--wait", "--pipe")
    plain.run(*run, "python3", "-c", connect)
    done = plain.run(*run, "--property=IPAddressDeny=any", "python3", "-c", connect, check=False)
    assert "TimeoutError" in done.stderr


def test_nothing_is_left_behind(debian: Path) -> None:
    mounts = Path("/proc/self/mountinfo").read_text()
    machine = Machine(debian)
    with pytest.raises(KeyboardInterrupt), machine:
        raise KeyboardInterrupt
    directory = machine._directory
    assert not directory.exists()
    assert Path("/proc/self/mountinfo").read_text() == mounts
    # A cgroup can only be removed when no process is left in it.
    assert not [cgroup for cgroup in machine._cgroups if cgroup.exists()]


def test_load_counts_nothing_wrong_when_nothing_is(plain: Machine) -> None:
    _serve(plain)
    done = plain.run("python3", "/root/load.py", "--count", "2000", "--expect", "hello")
    report = json.loads(done.stdout)
    assert (report["requests"], report["failed"], report["reasons"]) == (2000, 0, {})


def test_load_counts_failures_while_nginx_is_stopped(plain: Machine) -> None:
    _serve(plain)
    load = plain.start("python3", "/root/load.py", "--clients", "4", "--expect", "hello")
    plain.run("sh", "-c", "sleep 0.3; systemctl stop nginx; sleep 0.3; systemctl start nginx; sleep 0.3")
    output, _ = load.communicate()
    report = json.loads(output)
    assert report["requests"] > report["failed"] > 0
    assert report["reasons"]["GET connection refused"] > 0
    assert report["reasons"]["POST connection refused"] > 0


@pytest.mark.parametrize(
    ("site", "reason"),
    [
        (_SITE.replace("200 hello", "200 hullo").replace("LOCATION", _ECHO), "GET wrong body"),
        (_SITE.replace("LOCATION", "location = /echo { return 200 x; }"), "POST wrong body"),
        (_SITE.replace("LOCATION", "location = /echo { return 502; }"), "POST status 502"),
    ],
)
def test_load_finds_wrong_answers(plain: Machine, site: str, reason: str) -> None:
    _serve(plain)
    plain.write("/etc/nginx/sites-enabled/default", site)
    plain.systemctl("restart", "nginx")
    done = plain.run("python3", "/root/load.py", "--count", "20", "--clients", "2", "--expect", "hello")
    assert json.loads(done.stdout)["reasons"] == {reason: 10}
