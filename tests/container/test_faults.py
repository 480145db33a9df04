"""Crashes, hangs and broken releases, under load, on a real systemd behind a real nginx."""

import re
from pathlib import Path

import pytest

from tests.container.conftest import both_releases
from tests.container.machine import Machine
from tests.container.site import INSTANCES, Site

REQUESTS = 10_000
CLIENTS = 16
PROXY_KEEPALIVE = 5.0
"""Seconds, the default of ``proxy.keepalive``."""

APP = (Path(__file__).parent / "shapes" / "echo" / "app.py").read_text()


@pytest.fixture
def site(machine: Machine) -> Site:
    """Return an application that echoes, all instances started."""
    site = Site.shape(machine, "echo")
    site.systemctl("start", "echo.target")
    return site


def test_every_instance_answers_through_nginx(site: Site) -> None:
    seen: set[str] = set()

    def all_seen() -> bool:
        seen.add(site.ask().text)
        return len(seen) == len(INSTANCES)

    with site.load(clients=CLIENTS):
        # Busy instances make nginx choose all of them in turn.
        site.wait_for(all_seen)
    assert seen == {f"hello from {name}" for name in INSTANCES}
    assert {site.ask_instance(name).text for name in INSTANCES} == seen


@both_releases
def test_restart_of_all_at_once_loses_no_request(site: Site) -> None:
    before = site.pids()
    with site.load(clients=CLIENTS) as load:
        load.wait(REQUESTS // 2)
        site.systemctl("restart", *(f"echo@{name}" for name in INSTANCES))
        load.wait(REQUESTS // 2)
    found = load.report()
    assert found.failures == {}
    assert found.requests >= REQUESTS
    assert found.posts >= REQUESTS // 3
    assert not set(before.values()) & set(site.pids().values())


@both_releases
def test_rolling_restart_loses_no_request_and_nobody_waits_for_the_drain(site: Site) -> None:
    """New connections are served while the proxy's idle ones run out: the wait is the start of a process, not T."""
    with site.load(clients=CLIENTS, pause=0.01) as load:
        load.wait(500)
        for name in INSTANCES:
            site.systemctl("restart", f"echo@{name}")
        load.wait(500)
    assert load.report().failures == {}
    assert load.report().slowest < PROXY_KEEPALIVE / 2


def test_upload_in_progress_survives_restart(site: Site) -> None:
    body = bytes(range(256)) * 4000
    units = [f"echo@{name}" for name in INSTANCES]
    # On the instances' own sockets: nginx would hold an unfinished body back.
    uploads = {
        name: site.connect("/echo", f"Content-Length: {len(body)}", "Connection: close", instance=name, method="POST")
        for name in INSTANCES
    }
    for connection in uploads.values():
        connection.sendall(body[: len(body) // 2])
    site.systemctl("restart", "--no-block", *units)
    site.wait_for(lambda: all(site.state(f"{unit}.service") == "deactivating" for unit in units))
    for connection in uploads.values():
        with connection, connection.makefile("rwb") as stream:
            stream.write(body[len(body) // 2 :])
            stream.flush()
            answer = stream.read()
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert answer.endswith(body)


def test_killed_instances_come_back_and_only_their_own_requests_fail(site: Site) -> None:
    with site.load(clients=CLIENTS) as load:
        load.wait(1000)
        before = site.pids()
        site.systemctl("kill", "--signal=KILL", *(f"echo@{name}.service" for name in INSTANCES))
        site.wait_for(lambda: not set(site.pids().values()) & {0, *before.values()})
        load.wait(1000)
    # A request inside a killed process is lost, and each client had at most one there; those in the queues waited.
    assert set(load.report().failures) <= {"POST status 502", "GET status 502"}
    assert sum(load.report().failures.values()) <= CLIENTS
    assert all(site.state(f"echo@{name}.socket") == "active" for name in INSTANCES)


def test_watchdog_restarts_an_instance_whose_loop_blocks(site: Site) -> None:
    before = site.pids()["2"]
    with site.connect("/block", instance="2") as connection:
        assert connection.recv(1) == b""  # the end of the process, without an answer
    site.wait_for(lambda: site.pids()["2"] not in {before, 0} and site.state("echo@2.service") == "active")
    journal = site.machine.journal(unit="echo@2.service")
    assert "Watchdog timeout" in journal
    assert re.search(r'File "/srv/echo/app.py", line \d+ in block', journal), "the blocked stack is not in the journal"
    assert site.ask_instance("2").text == "hello from 2"


def test_broken_start_fails_and_says_why(site: Site) -> None:
    site.write_app("raise RuntimeError('no such luck')\n")
    assert site.systemctl("restart", "echo@1", check=False).returncode != 0
    assert "RuntimeError: no such luck" in site.systemctl("status", "echo@1", check=False).stdout
    assert "RuntimeError: no such luck" in site.machine.journal(unit="echo@1.service", priority="err")


def restarts(site: Site, unit: str) -> int:
    return int(site.machine.show(unit, "NRestarts")["NRestarts"])


def assert_only_waiting_posts_failed(failures: dict[str, int]) -> None:
    """Of those who waited when the start failed twice, GETs were repeated elsewhere; one client holds the place."""
    timeouts = sum(count for reason, count in failures.items() if reason.endswith("504"))
    assert timeouts <= 1, failures
    assert set(failures) <= {"POST status 502", "POST status 504", "GET status 504"}
    assert sum(failures.values()) <= CLIENTS


@both_releases
def test_crash_loop_keeps_its_socket_and_recovers_when_mended(site: Site) -> None:
    with site.load(clients=CLIENTS, pause=0.005) as load:
        load.wait(500)
        site.write_app("raise RuntimeError('broken')\n")
        site.systemctl("restart", "echo@1", check=False)
        # Twice what systemd's own default would give up at.
        site.wait_for(lambda: restarts(site, "echo@1.service") >= 10)
        assert site.state("echo@1.socket") == "active"
        before = load.report()
        load.wait(1000)
        assert load.report().slow - before.slow <= 1  # the others serve everybody
        site.write_app(APP)
        site.wait_for(lambda: site.state("echo@1.service") == "active")
        load.wait(500)
    assert site.ask_instance("1").text == "hello from 1"
    assert_only_waiting_posts_failed(load.report().failures)


def test_start_that_is_killed_sends_clients_elsewhere(site: Site) -> None:
    """A start that dies without a word, by a signal, hangs the closed sign at the next one."""
    site.write_app("import os, signal, time\ntime.sleep(0.2)\nos.kill(os.getpid(), signal.SIGSEGV)\n")
    with site.load(clients=CLIENTS, pause=0.005) as load:
        site.systemctl("restart", "echo@1", check=False)
        site.wait_for(lambda: restarts(site, "echo@1.service") >= 3)
        before = load.report()
        load.wait(2000)
        assert load.report().slow - before.slow <= 1
        assert site.state("echo@1.socket") == "active"
        site.write_app(APP)
        site.wait_for(lambda: site.state("echo@1.service") == "active")
    assert_only_waiting_posts_failed(load.report().failures)
