"""What an administrator's commands mean, on a real systemd: systemctl start, stop, restart, enable."""

from pathlib import Path

import pytest

from tests.container.conftest import both_releases
from tests.container.machine import Machine
from tests.container.site import INSTANCES, Site


@pytest.fixture
def site(machine: Machine) -> Site:
    """Return the reference deployment, installed and not started."""
    return Site.reference(machine)


def listening(site: Site) -> set[str]:
    return {name for name in INSTANCES if site.state(f"example@{name}.socket") == "active"}


def running(site: Site) -> set[str]:
    return {name for name in INSTANCES if site.state(f"example@{name}.service") == "active"}


def test_what_runs_here_is_what_units_holds(site: Site) -> None:
    reference = Path(__file__).parents[2] / "units"
    files = [path for path in (reference / "etc").rglob("*") if path.is_file()]
    assert files
    for path in files:
        assert site.machine.read(f"/{path.relative_to(reference)}") == path.read_text()


@both_releases
def test_each_instance_starts_with_its_socket(site: Site) -> None:
    for name in INSTANCES:
        site.systemctl("start", f"example@{name}")
        assert listening(site) == running(site) == set(INSTANCES[: int(name)])
        assert site.ask_instance(name).text == "Welcome home!"
    assert site.ask().text == "Welcome home!"


@both_releases
def test_target_starts_all_and_stop_takes_the_site_down(site: Site) -> None:
    site.systemctl("start", "example.target")
    assert listening(site) == running(site) == set(INSTANCES)
    with site.load(clients=8) as load:
        site.systemctl("stop", "example.target")
        site.wait_for(lambda: not running(site) and not listening(site))
    assert load.report().requests
    assert running(site) == listening(site) == set()


def test_stop_of_target_reaches_instances_that_were_started_one_by_one(site: Site) -> None:
    site.systemctl("start", "example@1", "example@2")
    with site.load(clients=8):
        site.systemctl("stop", "example.target")
        site.wait_for(lambda: not running(site) and not listening(site))
    assert site.ask().status == 502


def test_first_request_wakes_a_stopped_instance(site: Site) -> None:
    site.systemctl("start", "example@1")
    site.systemctl("stop", "example@1")
    assert running(site) == set()
    assert listening(site) == {"1"}
    assert site.ask_instance("1").text == "Welcome home!"
    assert running(site) == {"1"}


def test_socket_alone_waits_for_the_first_request(site: Site) -> None:
    site.systemctl("start", "example@3.socket")
    assert (listening(site), running(site)) == ({"3"}, set())
    assert site.ask().text == "Welcome home!"
    assert running(site) == {"3"}


@both_releases
def test_stopping_a_socket_takes_its_instance_out(site: Site) -> None:
    site.systemctl("start", "example.target")
    with site.load(clients=8) as load:
        site.systemctl("stop", "example@2.socket")
        load.wait(2000)
    assert running(site) == listening(site) == set(INSTANCES) - {"2"}
    assert load.report().failures == {}


def test_glob_stops_everything(site: Site) -> None:
    site.systemctl("start", "example@1", "example@2.socket")
    site.systemctl("stop", "example@*")
    assert running(site) == listening(site) == set()


@both_releases
def test_restart_of_the_target_loses_no_request(site: Site) -> None:
    site.systemctl("start", "example.target")
    before = site.pids()
    with site.load(clients=16) as load:
        load.wait(1000)
        site.systemctl("restart", "example.target")
        site.wait_for(lambda: running(site) == set(INSTANCES))
        load.wait(1000)
    assert load.report().failures == {}
    assert not set(before.values()) & set(site.pids().values())


@both_releases
def test_restart_of_a_socket_takes_its_service_with_it(site: Site) -> None:
    site.systemctl("start", "example@1")
    before = site.pids()["1"]
    site.systemctl("restart", "example@1.socket")
    site.wait_for(lambda: site.pids()["1"] not in {before, 0})
    assert site.ask_instance("1").text == "Welcome home!"


def test_following_the_printed_steps_after_a_change_serves_the_change(site: Site) -> None:
    site.systemctl("start", "example.target")
    before = site.pids()
    site.change("sockets in another directory", 'listen.directory = "/run/elsewhere"')
    site.wait_for(lambda: running(site) == set(INSTANCES))
    assert site.ask().text == "Welcome home!"
    assert site.machine.run("ls", "/run/elsewhere").stdout.split() == ["1.sock", "2.sock", "3.sock", "4.sock"]
    assert not set(before.values()) & set(site.pids().values())
    before = site.pids()
    site.change("another environment", 'service.environment = { COLOUR = "blue" }')
    assert not set(before.values()) & set(site.pids().values())
    assert "COLOUR=blue" in site.machine.read(f"/proc/{site.pids()['1']}/environ")
    assert site.ask().text == "Welcome home!"


@both_releases
def test_enabled_target_serves_after_boot(site: Site) -> None:
    site.systemctl("enable", "example.target")
    site.machine.reboot()
    assert running(site) == listening(site) == set(INSTANCES)
    assert site.ask().text == "Welcome home!"


def test_enabled_instance_serves_after_boot(site: Site) -> None:
    site.systemctl("enable", "example@2", "example@4.socket")
    site.machine.reboot()
    assert (running(site), listening(site)) == ({"2"}, {"2", "4"})
    site.systemctl("disable", "example@2", "example@4.socket")
    site.machine.reboot()
    assert running(site) == listening(site) == set()


def test_instance_beyond_the_file_joins_the_target(site: Site) -> None:
    site.systemctl("start", "example.target", "example@7")
    assert site.ask_instance("7").text == "Welcome home!"
    site.systemctl("stop", "example.target")
    site.wait_for(lambda: site.state("example@7.socket") == "inactive")
    assert site.state("example@7.service") == "inactive"


def test_start_and_stop_leave_nothing_to_worry_about_in_the_journal(site: Site) -> None:
    for verb in ("start", "restart", "stop"):
        site.systemctl(verb, "example.target")
    site.wait_for(lambda: not running(site))
    assert site.machine.journal(priority="warning", unit="example@*") == ""
    assert site.machine.journal(priority="warning", unit="nginx.service") == ""
