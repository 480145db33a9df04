"""The files for the other managers, run by the real programs behind the real nginx, as the pages say."""

import json
import subprocess
import sys
import time

import pytest

from tests.managers.conftest import ARGUMENTS, GREETING, INSTANCES
from tests.managers.machine import ASK, PATIENCE, Machine
from tests.managers.managers import SUPERVISORS, Manager, name

NUMBERS = [str(number) for number in range(1, INSTANCES + 1)]


def socket_of(number: str) -> str:
    return f"/run/shop/{number}.sock"


def restart(machine: Machine, manager: Manager, number: str) -> None:
    """Start a process anew, and return when the new one answers."""
    before = machine.who(socket_of(number))["pid"]
    machine.run(*(word.format(number) for word in manager.restart))
    assert machine.who(socket_of(number))["pid"] != before


def test_every_process_gets_what_was_given(machine: Machine) -> None:
    for number in NUMBERS:
        told = machine.who(socket_of(number))
        assert (told["user"], told["arguments"]) == ("shop", list(ARGUMENTS))
        assert told["directory"] == "/srv/shop"
        given = {"AIOSYSTEMD_INSTANCE": number, "HOME": "/var/lib/shop", "GREETING": GREETING}
        assert {name: told["environment"][name] for name in given} == given


def test_sockets_are_for_the_proxy_and_nobody_else(machine: Machine) -> None:
    for number in NUMBERS:
        said = machine.run("stat", "--format", "%a %G", socket_of(number))
        assert said == "660 www-data\n"


def test_site_asks_every_process(machine: Machine) -> None:
    pids = {machine.who(socket_of(number))["pid"] for number in NUMBERS}
    assert {json.loads(machine.ask("127.0.0.1:80"))["pid"] for _ in range(12)} == pids


@pytest.mark.parametrize("manager", SUPERVISORS, indirect=True, ids=name)
def test_restart_one_by_one_loses_nothing(machine: Machine, manager: Manager) -> None:
    with machine.load() as traffic:
        traffic.goes_on()
        for number in NUMBERS:
            restart(machine, manager, number)
        traffic.goes_on()
    assert (traffic.report["failed"], traffic.report["reasons"]) == (0, {})


@pytest.mark.parametrize("manager", SUPERVISORS, indirect=True, ids=name)
@pytest.mark.usefixtures("manager")
def test_killed_process_is_started_again(machine: Machine) -> None:
    before = machine.who(socket_of("1"))["pid"]
    machine.run("kill", "-KILL", str(before))
    end = time.monotonic() + PATIENCE
    while machine.who(socket_of("1"))["pid"] == before:
        assert time.monotonic() < end
    others = {machine.who(socket_of(number))["pid"] for number in NUMBERS[1:]}
    assert before not in others


def test_request_in_flight_is_answered_before_the_end(machine: Machine, manager: Manager) -> None:
    asked = machine.popen(sys.executable, str(ASK), socket_of("1"), "/slow", stdout=subprocess.PIPE)
    machine.wait_for("/var/lib/shop/entered")
    machine.run(*(word.format("1") for word in manager.stop))
    said, _ = asked.communicate(timeout=PATIENCE)
    assert said == "answered"
