"""``systemctl reload`` on a real systemd: new code without a gap, or the old code as if nothing had happened."""

import socket
import subprocess

import pytest

from tests.container.conftest import both_releases
from tests.container.machine import Machine
from tests.container.releases import (
    APP,
    UNITS,
    about,
    answer,
    assert_stopped_in_order,
    complete,
    first,
    parent,
    processes,
    stop,
    switch,
    upload,
)
from tests.container.site import INSTANCES, Site

CLIENTS = 16
REQUESTS = 10_000
PID_OF_INIT = 1
WATCHDOG = 5
"""Seconds."""


@pytest.fixture
def site(machine: Machine) -> Site:
    """Return the first release, all instances started."""
    return first(machine)


def reload(site: Site, name: str) -> subprocess.CompletedProcess[str]:
    return site.systemctl("reload", f"release@{name}", check=False)


def waiting(site: Site, name: str, query: str = "") -> socket.socket:
    """Return a connection to an instance with a request at work, which ends when `let_go` is called."""
    connection = site.connect(f"/wait{query}", "Connection: close", instance=name)
    with connection.makefile("rb") as stream:
        assert b"waiting\n" in iter(stream.readline, b"")
    return connection


def let_go(site: Site) -> None:
    site.machine.write("/srv/release/go", "")


def test_reload_takes_code_interpreter_and_directory_afresh_and_keeps_what_systemd_gave(site: Site) -> None:
    before = about(site, "1")
    switch(site.machine, 2)
    assert reload(site, "1").returncode == 0
    after = about(site, "1")
    assert [before[key] for key in ("code", "interpreter", "directory", "key")] == ["1", "1", "1", "secret"]
    assert [after[key] for key in ("code", "interpreter", "directory", "key")] == ["2", "2", "2", "secret"]
    assert environment(after) == environment(before)
    assert site.pids()["1"] == after["pid"] != before["pid"]
    assert parent(site, site.pids()["1"]) == PID_OF_INIT
    assert [about(site, name)["code"] for name in INSTANCES] == ["2", "1", "1", "1"]


def environment(found: dict[str, object]) -> dict[str, str]:
    """Return the environment without what concerns the process itself and systemd only."""
    variables = found["variables"]
    assert isinstance(variables, dict)
    return {name: value for name, value in variables.items() if name not in {"SYSTEMD_EXEC_PID", "FDSTORE"}}


@both_releases
def test_twelve_reloads_in_a_row_lose_no_request(site: Site) -> None:
    before = site.pids()
    seen = set(before.values())
    with site.load(clients=CLIENTS) as load:
        load.wait(REQUESTS // 2)
        for _ in range(3):
            for name in INSTANCES:
                assert reload(site, name).returncode == 0
                main = site.pids()[name]
                assert main not in seen
                assert parent(site, main) == PID_OF_INIT
                seen.add(main)
        load.wait(REQUESTS // 2)
    found = load.report()
    assert found.failures == {}
    assert found.requests >= REQUESTS
    assert found.posts >= REQUESTS // 3
    for name, unit in zip(INSTANCES, UNITS, strict=True):
        site.wait_for(lambda name=name: processes(site, name) == {site.pids()[name]})  # type: ignore[misc]
        assert site.machine.show(unit, "NRestarts", "ReloadResult") == {"NRestarts": "0", "ReloadResult": "success"}


def test_stop_after_a_reload_is_graceful(site: Site) -> None:
    assert reload(site, "1").returncode == 0
    connection = waiting(site, "1")
    stop(site, "1")
    let_go(site)
    assert answer(connection).endswith(b"release 1\n\r\n0\r\n\r\n")
    assert_stopped_in_order(site, "1")


def in_start(line: str) -> str:
    """Return the application with a line in its start."""
    begin = "async def create() -> web.Application:\n"
    assert begin in APP
    return APP.replace(begin, f"{begin}    {line}\n")


SILENT = "the new process did nothing for 4 s"
BROKEN = {
    "import error": ("import nonesuch\n", "No module named 'nonesuch'"),
    "syntax error": ("def\n", "invalid syntax"),
    "exception": ("raise RuntimeError('no such luck')\n", "no such luck"),
    "exit": ("import sys; sys.exit(3)\n", "the new process"),
    "sudden exit": ("import os; os._exit(0)\n", "the new process"),
    "killed": ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)\n", "the new process"),
    "hangs with a helper": ("import subprocess; subprocess.run(['sleep', '3600'])\n", SILENT),
    "start raises": (in_start("raise RuntimeError('no database')"), "no database"),
    "start never ends": (in_start("await asyncio.sleep(3600)"), SILENT),
    "start blocks": (in_start("time.sleep(3600)"), SILENT),
    "start exits": (in_start("os._exit(3)"), "the new process"),
}


def test_reload_of_broken_code_fails_with_the_reason_and_changes_nothing(machine: Machine) -> None:
    site = first(machine, "timeouts.start = 4")
    before = site.pids()
    with site.load(clients=CLIENTS, pause=0.01) as load:
        for number, (kind, (code, reason)) in enumerate(BROKEN.items(), 2):
            switch(site.machine, number, code)
            assert_refused(site, kind, reason, before["1"])
        site.machine.run("ln", "-s", "--force", "--no-dereference", "releases/none", "/srv/release/current")
        assert_refused(site, "no such release", "No such file or directory", before["1"])
        load.wait(100)
    assert load.report().failures == {}
    assert site.pids() == before
    switch(site.machine, 99)
    assert reload(site, "1").returncode == 0
    assert about(site, "1")["code"] == "99"


def assert_refused(site: Site, kind: str, reason: str, main: int) -> None:
    unit = "release@1.service"
    said = len(site.machine.journal(unit=unit))
    assert reload(site, "1").returncode != 0, kind
    assert reason in site.systemctl("status", "--lines=20", unit, check=False).stdout, kind
    assert reason in site.machine.journal(unit=unit)[said:], kind
    assert site.machine.show(unit, "ActiveState", "MainPID") == {"ActiveState": "active", "MainPID": str(main)}, kind
    assert about(site, "1")["code"] == "1", kind
    # A process that was killed is there until its parent has noticed.
    site.wait_for(lambda: processes(site, "1") == {main})


SLOW = in_start("while not GO.exists(): await asyncio.sleep(0.02)")
"""A release whose start waits for `let_go`."""


def begin_reload(site: Site, name: str) -> "subprocess.Popen[str]":
    """Start a reload, and return when the new process is on its way."""
    before = processes(site, name)
    process = site.machine.start("systemctl", "reload", f"release@{name}")

    def started() -> bool:
        found = processes(site, name) - before
        control = int(site.machine.show(f"release@{name}.service", "ControlPID")["ControlPID"])
        return control > 0 and any(parent(site, pid) == PID_OF_INIT for pid in found - {control})

    site.wait_for(started)
    return process


@both_releases
def test_overlapping_reloads_succeed_and_the_latest_release_serves(site: Site) -> None:
    with site.load(clients=CLIENTS, pause=0.01) as load:
        switch(site.machine, 2, SLOW)
        first_one = begin_reload(site, "1")
        switch(site.machine, 3)
        site.systemctl("reload", "--no-block", "release@1")
        others = [site.machine.start("systemctl", "reload", f"release@{name}") for name in ("1", "1", "2")]
        let_go(site)
        for process in (first_one, *others):
            assert process.communicate() == ("", "")
            assert process.returncode == 0
        site.wait_for(lambda: site.state("release@1.service") == "active")
        load.wait(100)
    assert load.report().failures == {}
    assert [about(site, name)["code"] for name in INSTANCES] == ["3", "3", "1", "1"]
    site.wait_for(lambda: processes(site, "1") == {site.pids()["1"]})


@both_releases
def test_stop_in_the_middle_of_a_reload_is_graceful(site: Site) -> None:
    connection = upload(site, "1")
    switch(site.machine, 2, SLOW)
    process = begin_reload(site, "1")
    stop(site, "1")
    process.communicate()
    assert process.returncode != 0
    complete(connection)
    assert_stopped_in_order(site, "1")


@both_releases
def test_stop_right_after_a_reload_waits_for_the_old_process(site: Site) -> None:
    old = upload(site, "1")
    switch(site.machine, 2)
    assert reload(site, "1").returncode == 0
    new = upload(site, "1")
    stop(site, "1")
    complete(new)
    complete(old)
    assert_stopped_in_order(site, "1")


def pinged(site: Site, name: str) -> float:
    """Return the time of the last ping, in seconds."""
    shown = site.machine.show(f"release@{name}.service", "WatchdogTimestampMonotonic")
    return int(shown["WatchdogTimestampMonotonic"]) / 1e6


def test_watchdog_watches_the_new_process_and_not_the_old(machine: Machine) -> None:
    site = first(machine, f"timeouts.watchdog = {WATCHDOG}")
    old = waiting(site, "1")  # keeps it alive, and its loop turns
    switch(site.machine, 2)
    assert reload(site, "1").returncode == 0
    main, begin = site.pids()["1"], pinged(site, "1")
    site.wait_for(lambda: pinged(site, "1") > begin + 1.5 * WATCHDOG)
    assert site.pids()["1"] == main
    new = waiting(site, "1", "?block")
    assert processes(site, "1") > {main}
    let_go(site)
    assert answer(old).endswith(b"release 1\n\r\n0\r\n\r\n")
    site.wait_for(lambda: site.pids()["1"] not in {main, 0})
    new.close()
    assert "Watchdog timeout" in site.machine.journal(unit="release@1.service")


def test_old_process_that_hangs_ends_and_does_not_disturb_the_new(machine: Machine) -> None:
    site = first(
        machine, f"timeouts.watchdog = {WATCHDOG}", "timeouts.request = 1", "timeouts.drain = 6", "timeouts.stop = 11"
    )
    old = waiting(site, "1", "?block")
    switch(site.machine, 2)
    assert reload(site, "1").returncode == 0
    let_go(site)
    main = site.pids()["1"]
    assert processes(site, "1") > {main}
    with site.load(clients=CLIENTS, pause=0.1) as load:
        site.wait_for(lambda: processes(site, "1") == {main})
        load.wait(100)
    old.close()
    assert load.report().failures == {}
    assert site.pids()["1"] == main
    assert "in wait" in site.machine.journal(unit="release@1.service"), "the blocked stack is not in the journal"
    assert reload(site, "1").returncode == 0


def test_new_process_that_is_killed_for_its_memory_changes_nothing(machine: Machine) -> None:
    site = first(machine, 'service.memory_max = "160MiB"')  # room for two processes of the first release
    kills = site.machine.limit_memory("release@1.service")
    before = site.pids()
    switch(site.machine, 2, in_start("app = b'x' * (300 << 20)"))
    assert reload(site, "1").returncode != 0
    assert kills() == 1
    assert site.pids() == before
    assert about(site, "1")["code"] == "1"
    switch(site.machine, 3)
    assert reload(site, "1").returncode == 0
    assert about(site, "1")["code"] == "3"
