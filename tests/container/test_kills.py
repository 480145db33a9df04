"""Processes that are killed under load: nothing fails but requests that were inside one of them."""

import socket
from contextlib import ExitStack

import pytest

from tests.container.machine import Machine
from tests.container.site import INSTANCES, Site, Traffic

CLIENTS = 64
MEMORY_MAX = "96MiB"
WATCHDOG = 5
"""Seconds; longer than what the other tests do to a process."""


@pytest.fixture
def site(machine: Machine) -> Site:
    """Return an application that can be told to block and to grow, all instances started."""
    site = Site.shape(machine, "fragile")
    site.change("room for the application and little more", f'service.memory_max = "{MEMORY_MAX}"')
    site.change("soon", f"timeouts.watchdog = {WATCHDOG}")
    site.systemctl("start", "fragile.target")
    return site


def wait_until_stuck(site: Site, load: Traffic) -> None:
    """Wait until every client has one request on its way, and none makes progress."""
    done = [-1]

    def stuck() -> bool:
        done.append(load.report().requests)
        held = [site.connections(name) for name in INSTANCES]
        return done[-1] == done[-2] and sum(held_one.accepted + held_one.queued for held_one in held) >= CLIENTS

    site.wait_for(stuck)


def test_of_all_killed_at_once_only_requests_inside_fail(site: Site) -> None:
    units = [f"fragile@{name}.service" for name in INSTANCES]
    with ExitStack() as stack:
        load = stack.enter_context(site.load(clients=CLIENTS))
        load.wait(2000)
        before = site.pids()
        # Stopped first, so that what is inside them when they are killed can be counted.
        site.machine.kill("STOP", *before.values())
        wait_until_stuck(site, load)
        inside = CLIENTS - sum(site.connections(name).queued for name in INSTANCES)
        queued = [
            (name, stack.enter_context(site.connect("/", "Connection: close", instance=name))) for name in INSTANCES * 4
        ]
        site.machine.kill("KILL", *before.values())
        answers = [(name, connection.makefile("rb").read()) for name, connection in queued]
        site.wait_for(lambda: not set(site.pids().values()) & {0, *before.values()})
        load.wait(5000)
    found = load.report()
    # nginx asks every other instance once for a GET, but on an idle connection, which has died too, if it has one. A
    # POST that it began to send may have had its effect.
    assert set(found.failures) <= {"POST status 502", "GET status 502"}
    assert 0 < sum(found.failures.values()) <= inside <= CLIENTS
    assert all(answer.endswith(f"hello from {name}".encode()) for name, answer in answers)
    assert all(site.state(unit) == "active" for unit in units)


def block(site: Site, name: str, path: str = "/block") -> socket.socket:
    """Block the loop of an instance; return the connection that it will end on."""
    connection = site.connect(path, instance=name)
    with connection.makefile("rb") as stream:
        assert b"blocked\n" in iter(stream.readline, b"")
    return connection


def test_blocked_loop_costs_only_posts_inside_and_nobody_else_waits(site: Site) -> None:
    with site.load(clients=CLIENTS) as load:
        load.wait(2000)
        before = site.pids()["2"]
        with block(site, "2") as connection:
            load.wait(1000)
            held = site.connections("2")
            assert load.report().slow == 0  # the others serve everybody who is not stuck in there
            assert connection.recv(1) == b""  # the watchdog's end of the process
        site.wait_for(lambda: site.pids()["2"] not in {before, 0})
        load.wait(2000)
    found = load.report()
    assert set(found.failures) <= {"POST status 502"}
    assert sum(found.failures.values()) < held.accepted  # one of those is the request that blocks


def test_oom_kill_of_an_instance_costs_only_posts_inside(site: Site) -> None:
    before = site.pids()
    kills = site.machine.limit_memory("fragile@2.service")
    with site.load(clients=CLIENTS) as load:
        load.wait(2000)
        with block(site, "2", "/block?mib=200") as connection:
            load.wait(1000)
            held = site.connections("2")
            site.machine.write("/srv/fragile/go", "")
            assert connection.recv(1) == b""  # killed before it had so much
        site.wait_for(lambda: site.pids()["2"] not in {before["2"], 0})
        load.wait(2000)
    found = load.report()
    assert kills() == 1
    assert set(found.failures) <= {"POST status 502"}
    assert sum(found.failures.values()) < held.accepted
    assert {**site.pids(), "2": 0} == {**before, "2": 0}
    assert site.ask_instance("2").text == "hello from 2"


def test_oom_kill_of_a_helper_costs_the_instance_nothing(site: Site) -> None:
    before = site.pids()
    kills = site.machine.limit_memory("fragile@2.service")
    with site.load(clients=CLIENTS) as load:
        load.wait(1000)
        assert site.ask_instance("2", "/helper?mib=200").text == "-9"
        load.wait(1000)
    assert load.report().failures == {}
    assert kills() == 1
    assert site.pids() == before
