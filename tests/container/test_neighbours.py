"""Deployments beside one another: names that begin alike, one port for all, one server name for two."""

import shlex
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.container.conftest import both_releases
from tests.container.machine import Machine
from tests.container.site import INSTANCES, Site
from tests.releases import release

COUNTS = {"web": 4, "web2": 4, "web-2": 2, "api": 2}
OTHERS = ("web2", "web-2", "api")


def application(name: str, word: str = "") -> str:
    """Return an application that says its name, or another word."""
    text = release(word or name)
    return text.replace('t("/', 't("/api/') if name == "api" else text


def deployment(name: str) -> str:
    proxy = 'site = "web"\nprefix = "/api"\n' if name == "api" else f'server_names = ["{name}.test"]\n'
    return f"""
name = "{name}"
app = "app:create"
directory = "/srv/{name}"
instances = {COUNTS[name]}
timeouts.request = 10

[proxy]
keepalive = 1
{proxy}"""


def generate(machine: Machine) -> str:
    return machine.run("aiosystemd", "generate", "/etc/aiosystemd", "--output", "/").stdout


@pytest.fixture(scope="module")
def host(shared_machine: Machine) -> Machine:
    """Return a host with four deployments, which all tests of this module leave running."""
    machine = shared_machine
    for name in COUNTS:
        machine.write(f"/srv/{name}/app.py", application(name))
        machine.write(f"/etc/aiosystemd/{name}.toml", deployment(name))
    machine.run("aiosystemd", "check", "/etc/aiosystemd")
    for line in generate(machine).splitlines():
        if line.startswith("next:"):
            machine.run(*shlex.split(line.removeprefix("next:").partition(" # ")[0]))
    return machine


def sites(machine: Machine) -> dict[str, Site]:
    return {name: Site(machine, name, f"{name}.test".replace("api.", "web.")) for name in COUNTS}


def answers(machine: Machine) -> dict[str, str]:
    """Return who answers for each, without its instance."""
    found = {name: site.ask("/api/" if name == "api" else "/").text for name, site in sites(machine).items()}
    return {name: text.partition(" from ")[0] for name, text in found.items()}


def lives(machine: Machine, name: str) -> dict[str, str]:
    """Return what changes when a unit of a deployment is started anew, by unit."""
    numbers = INSTANCES[: COUNTS[name]]
    units = (f"{name}@{number}.{kind}" for number in numbers for kind in ("service", "socket"))
    return {unit: str(machine.show(unit, "ActiveState", "InvocationID", "MainPID", "NRestarts")) for unit in units}


@contextmanager
def others_untouched(machine: Machine) -> Iterator[None]:
    """Let nothing happen to the other deployments, one of which is under load."""
    before = {name: lives(machine, name) for name in OTHERS}
    with sites(machine)["web2"].load(clients=8, pause=0.01) as traffic:
        traffic.wait(200)
        yield
        traffic.wait(200)
    assert traffic.report().failures == {}
    assert {name: lives(machine, name) for name in OTHERS} == before


@both_releases
def test_each_answers_for_itself_on_one_port(host: Machine) -> None:
    assert answers(host) == {name: name for name in COUNTS}
    assert sites(host)["web"].ask("/apis").status == 404
    assert sites(host)["web2"].ask("/api/").status == 404
    assert sites(host)["api"].ask("/api/echo", body=b"x" * 5000).text == "x" * 5000


def test_second_run_changes_nothing(host: Machine) -> None:
    lines = generate(host).splitlines()
    assert {line.split()[0] for line in lines} == {"unchanged"}


@pytest.mark.parametrize("option", [(), ("--restart",)], ids=["reload", "restart"])
def test_rollout_touches_nothing_of_others(host: Machine, option: tuple[str, ...]) -> None:
    web = sites(host)["web"]
    before = web.pids()
    web.write_app(application("web", "new"))
    with others_untouched(host):
        host.run("aiosystemd", "rollout", "web", "--pause", "0", *option)
    assert not set(before.values()) & set(web.pids().values())
    assert answers(host) == {name: name for name in COUNTS} | {"web": "new"}
    web.write_app(application("web"))
    host.run("aiosystemd", "rollout", "web", "--pause", "0")


def test_new_sockets_of_one_are_no_new_sockets_of_others(host: Machine) -> None:
    before = lives(host, "web")
    with others_untouched(host):
        host.systemctl("restart", "web@*.socket")
    after = lives(host, "web")
    assert all(after[unit] != before[unit] for unit in before if unit.endswith(".socket"))
    host.systemctl("start", "web.target")
    assert answers(host) == {name: name for name in COUNTS}


def test_stop_of_a_site_stops_nothing_of_others(host: Machine) -> None:
    with others_untouched(host):
        host.systemctl("stop", "web.target")
        sites(host)["web"].wait_for(lambda: set(sites(host)["web"].pids().values()) == {0})
    assert sites(host)["web"].ask().status == 502
    assert sites(host)["api"].ask("/api/").status == 200
    host.systemctl("start", "web.target")
    assert answers(host) == {name: name for name in COUNTS}
