"""The reference set-up with HAProxy in nginx's place: Debian's own, confined as Debian confines it."""

import re
import subprocess
from collections.abc import Iterator

import pytest

from tests.container.conftest import both_releases
from tests.container.machine import Machine
from tests.container.site import INSTANCES, Report, Site

FILE = "/etc/aiosystemd/echo.toml"
CONFIGURATION = "/etc/haproxy/conf.d/echo.cfg"
DROP_IN = "/etc/systemd/system/haproxy.service.d/echo.conf"
HAPROXY = '\n[proxy]\nkind = "haproxy"\ndefault_server = true\nstreams = ["/ws/"]\n'
CLIENTS = 16
ENOUGH = 2000
"""Requests that are under way while something happens, at least."""

STATISTICS = """
import socket
with socket.socket(socket.AF_UNIX) as connection:
    connection.connect("/run/haproxy/admin.sock")
    connection.sendall(b"show stat\\n")
    print(connection.makefile().read())
"""


class Deployment:
    """The echo application behind HAProxy, which ``apply`` puts in place."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        machine.run("systemctl", "disable", "--now", "nginx")
        machine.run("systemctl", "enable", "--now", "haproxy")
        self.site = Site.files(machine, "echo")
        machine.write(FILE, machine.read(FILE).partition("\n[proxy]")[0] + HAPROXY)

    def __call__(self, command: str, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        yes = () if command in ("diff", "doctor", "drill") else ("--yes",)
        pause = ("--pause", "0") if command in ("apply", "rollback") else ()
        done = self.machine.run("aiosystemd", command, *arguments, *yes, *pause, check=False)
        assert "Traceback" not in done.stderr
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done

    def add(self, more: str) -> None:
        self.machine.write(FILE, self.machine.read(FILE) + more)

    def started(self) -> str:
        """Return which start of HAProxy runs."""
        return self.machine.show("haproxy.service", "InvocationID")["InvocationID"]

    def healthy(self) -> list[str]:
        """Return the instances that HAProxy has found well."""
        table = self.machine.run("python3", "-c", STATISTICS).stdout
        return re.findall(r"^echo,(\d),.*,UP,.*L7OK", table, re.MULTILINE)


def nothing_failed(report: Report, requests: int = ENOUGH) -> None:
    assert report.failures == {}
    assert report.requests >= requests


@pytest.fixture(scope="module")
def applied(shared_machine: Machine) -> Deployment:
    deployment = Deployment(shared_machine)
    deployment("apply", "echo")
    return deployment


@pytest.fixture
def deployment(applied: Deployment) -> Iterator[Deployment]:
    """Return the deployment, which is put back as it was."""
    before = applied.machine.read(FILE)
    yield applied
    applied.machine.write(FILE, before)
    applied("apply", "echo")


@both_releases
def test_debians_haproxy_reaches_the_sockets_from_where_it_is_confined(deployment: Deployment) -> None:
    machine = deployment.machine
    assert "chroot /var/lib/haproxy" in machine.read("/etc/haproxy/haproxy.cfg")
    assert {deployment.site.ask().status for _ in range(8)} == {200}
    assert deployment("diff", "echo").stdout == "echo: nothing to do\n"
    assert machine.run("stat", "-c", "%G %a", "/run/echo/1.sock").stdout == "haproxy 660\n"
    machine.run("haproxy", "-c", "-f", "/etc/haproxy/haproxy.cfg", "-f", "/etc/haproxy/conf.d")
    deployment.site.wait_for(lambda: deployment.healthy() == [*INSTANCES])


@both_releases
def test_restart_of_all_instances_at_once_loses_no_request(deployment: Deployment) -> None:
    with deployment.site.load(clients=CLIENTS) as traffic:
        traffic.wait(200)
        for _ in range(3):
            deployment.site.systemctl("restart", "echo.target")
            traffic.wait(ENOUGH // 3)
    nothing_failed(traffic.report())


@both_releases
def test_restart_one_by_one_loses_no_request(deployment: Deployment) -> None:
    with deployment.site.load(clients=CLIENTS) as traffic:
        for name in INSTANCES:
            traffic.wait(ENOUGH // 4)
            deployment.site.systemctl("restart", f"echo@{name}")
        traffic.wait(200)
    nothing_failed(traffic.report())


@both_releases
def test_rollouts_lose_no_request_and_nobody_waits(deployment: Deployment) -> None:
    with deployment.site.load(clients=CLIENTS) as traffic:
        for how in ((), ("--restart",)):
            traffic.wait(200)
            deployment.machine.run("aiosystemd", "rollout", "echo", "--pause", "0", *how)
        traffic.wait(200)
    report = traffic.report()
    nothing_failed(report)
    assert report.slow == 0


@both_releases
def test_reload_of_haproxy_loses_no_request(deployment: Deployment) -> None:
    started = deployment.started()
    with deployment.site.load(clients=CLIENTS) as traffic:
        for _ in range(5):
            traffic.wait(ENOUGH // 5)
            deployment.machine.run("systemctl", "reload", "haproxy")
        traffic.wait(200)
    nothing_failed(traffic.report())
    assert deployment.started() == started


def test_scaling_reloads_haproxy_and_loses_no_request(deployment: Deployment) -> None:
    started = deployment.started()
    with deployment.site.load(clients=CLIENTS) as traffic:
        for count in ("8", "2", "4"):
            traffic.wait(200)
            deployment("scale", "echo", count)
        traffic.wait(200)
    nothing_failed(traffic.report(), 800)
    assert deployment.started() == started


def test_sockets_in_another_directory_cost_one_restart_of_haproxy(deployment: Deployment) -> None:
    deployment.add('[listen]\ndirectory = "/run/else: 100% where"\n')
    told = deployment("diff", "echo", check=False).stdout
    assert f"{DROP_IN}: proxy restart" in told
    done = deployment("apply", "echo")
    assert done.stdout.count("systemctl restart haproxy.service") == 1
    assert {deployment.site.ask().status for _ in range(8)} == {200}
    assert deployment.machine.run("ls", "/run/else: 100% where").stdout.split() == [f"{n}.sock" for n in INSTANCES]
    deployment("rollback", "echo")
    assert {deployment.site.ask().status for _ in range(8)} == {200}
    assert "else" not in deployment.machine.read(DROP_IN)


def test_ports_in_place_of_sockets_need_no_mount(deployment: Deployment) -> None:
    deployment.add("[listen]\nport = 9001\n")
    deployment("apply", "echo")
    assert {deployment.site.ask().status for _ in range(8)} == {200}
    assert "BindReadOnlyPaths" not in deployment.machine.read(DROP_IN)
    with deployment.site.load(clients=CLIENTS) as traffic:
        traffic.wait(200)
        deployment.machine.run("aiosystemd", "rollout", "echo", "--restart", "--pause", "0")
        traffic.wait(200)
    nothing_failed(traffic.report(), 400)


def test_instance_that_is_not_healthy_gets_no_requests(deployment: Deployment) -> None:
    code = deployment.machine.read("/srv/echo/app.py")
    ill = code.replace(
        'return web.Response(text=f"hello',
        "if os.path.exists('/srv/ill') and os.environ['AIOSYSTEMD_INSTANCE'] == '3':\n"
        '        return web.Response(status=500)\n    return web.Response(text=f"hello',
    )
    try:
        deployment.site.write_app(ill)
        deployment.site.systemctl("restart", "echo.target")
        deployment.machine.write("/srv/ill", "")
        deployment.site.wait_for(lambda: deployment.healthy() == ["1", "2", "4"])
        assert {deployment.site.ask().status for _ in range(24)} == {200}
        deployment.machine.run("rm", "/srv/ill")
        deployment.site.wait_for(lambda: deployment.healthy() == [*INSTANCES])
        deployment.site.wait_for(lambda: "hello from 3" in {deployment.site.ask().text for _ in range(8)})
    finally:
        deployment.machine.run("rm", "-f", "/srv/ill")
        deployment.site.write_app(code)
        deployment.site.systemctl("restart", "echo.target")


def test_change_that_breaks_the_application_goes_back(deployment: Deployment) -> None:
    site, before = deployment.machine.read(CONFIGURATION), deployment.site.pids()
    deployment.machine.write(
        FILE, deployment.machine.read(FILE).replace("app:create", "app:nothing") + "gzip = false\n"
    )
    with deployment.site.load(clients=CLIENTS) as traffic:
        traffic.wait(100)
        done = deployment("apply", "echo", check=False)
        traffic.wait(100)
    assert (done.returncode, "failed: echo@1: " in done.stderr) == (1, True)
    nothing_failed(traffic.report(), 200)
    assert (deployment.machine.read(CONFIGURATION), deployment.site.pids()) == (site, before)


def test_configuration_that_haproxy_refuses_already_stops_everything(deployment: Deployment) -> None:
    other = "/etc/haproxy/conf.d/other.cfg"
    deployment.machine.write(other, "frontend broken\n    bind :81\n    no_such_keyword\n")
    deployment.add("gzip = false\n")
    try:
        done = deployment("apply", "echo", check=False)
    finally:
        deployment.machine.run("rm", other)
    assert done.returncode == 1
    assert "unknown keyword 'no_such_keyword'" in done.stderr
    assert "haproxy refuses what it has, before anything is changed" in done.stderr
    assert "compression" in deployment.machine.read(CONFIGURATION)


def test_doctor_finds_what_stands_in_haproxys_way(deployment: Deployment) -> None:
    machine, defaults = deployment.machine, "/etc/default/haproxy"
    assert "\n0 errors, 0 warnings\n" in deployment("doctor", "echo").stdout
    before = machine.read(defaults)
    machine.write(defaults, f'{before}\nEXTRAOPTS="-de -m 16"\n')
    machine.write("/etc/haproxy/conf.d/other.cfg", "frontend other\n    mode http\n    bind *:80\n")
    machine.run("mv", "/bin/kill", "/bin/no-kill")
    deployment.add('[listen]\ngroup = "games"\n')
    try:
        told = deployment("doctor", "echo", check=False)
    finally:
        machine.write(defaults, before)
        machine.run("mv", "/bin/no-kill", "/bin/kill")
        machine.run("rm", "/etc/haproxy/conf.d/other.cfg")
    found = told.stdout + told.stderr
    assert "sets EXTRAOPTS, so that HAProxy is not told to read /etc/haproxy/conf.d" in found
    assert "cannot be reloaded: its ExecReload= starts /bin/kill" in found
    assert "haproxy runs as haproxy, who is not in the group games of the sockets" in found
    assert "other.cfg listens on 80 too" in found


def test_drill_through_haproxy(deployment: Deployment) -> None:
    done = deployment("drill", "echo", "--post", "/echo", "--seconds", "2")
    assert re.search(r"^restart +\d+ +0 ", done.stdout, re.MULTILINE), done.stdout


@both_releases
def test_remove_leaves_haproxy_serving_others(deployment: Deployment) -> None:
    machine = deployment.machine
    machine.write(
        "/etc/haproxy/conf.d/other.cfg",
        "frontend other\n    mode http\n    timeout client 5s\n    bind :81\n    http-request return status 200\n",
    )
    machine.run("systemctl", "reload", "haproxy")
    try:
        deployment("remove", "echo")
        assert (
            machine.run("find", "/etc/haproxy", "/etc/systemd", "/usr/lib/tmpfiles.d", "-name", "*echo*").stdout == ""
        )
        assert machine.run("ls", "/etc/haproxy/conf.d").stdout == "other.cfg\n"
        machine.run("systemctl", "reload", "haproxy")
        ask = "import urllib.request as r; print(r.urlopen('http://127.0.0.1:81/').status)"
        assert machine.run("python3", "-c", ask).stdout == "200\n"
    finally:
        machine.run("rm", "/etc/haproxy/conf.d/other.cfg")


def test_boot_brings_everything_up(deployment: Deployment) -> None:
    deployment.machine.reboot()
    deployment.site.wait_for(lambda: deployment.site.state("haproxy.service") == "active")
    assert {deployment.site.ask().status for _ in range(8)} == {200}
