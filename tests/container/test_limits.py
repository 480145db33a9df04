"""Things that run full or jump: the accept queue, the disk, the clock; and starts that never succeed; under load."""

from contextlib import ExitStack
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime

import pytest

from tests.container.machine import Machine
from tests.container.site import INSTANCES, SHAPES, Site

CLIENTS = 16
BACKLOG = 32
WATCHDOG = 3
ATTEMPTS = 10
FAKETIME = "/usr/$LIB/faketime/libfaketime.so.1"  # ld.so(8) knows the directory of this architecture
UNITS = [f"fragile@{name}.service" for name in INSTANCES]


@pytest.fixture
def site(machine: Machine) -> Site:
    """Return an application that can be told to block and to write, installed."""
    return Site.shape(machine, "fragile")


def test_full_queue_sends_clients_elsewhere_and_keeps_those_in_it(site: Site) -> None:
    site.change("so short that a test can fill it", f"listen.backlog = {BACKLOG}")
    site.systemctl("start", "fragile.target")
    blocked = site.pids()["1"]
    site.machine.kill("STOP", blocked)
    # unix_recvq_full() in the kernel: one more than asked for.
    with ExitStack() as stack:
        waiting = [
            stack.enter_context(site.connect("/", "Connection: close", instance="1")) for _ in range(BACKLOG + 1)
        ]
        load = stack.enter_context(site.load(clients=CLIENTS))
        load.wait(2000)
        assert load.report().slow == 0
        assert site.connections("1").queued == BACKLOG + 1
        site.machine.kill("CONT", blocked)
        answers = [connection.makefile("rb").read() for connection in waiting]
        load.wait(2000)
    assert load.report().failures == {}
    assert {answer.partition(b"\r\n\r\n")[2] for answer in answers} == {b"hello from 1"}
    assert site.pids()["1"] == blocked
    refused = "/1.sock failed (11: Resource temporarily unavailable)"
    assert refused in site.machine.read("/var/log/nginx/error.log")


def test_full_disk_costs_only_what_writes(site: Site) -> None:
    state = "/var/lib/private/fragile"
    site.machine.run("mkdir", "--parents", state)
    site.machine.run("mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", state)
    site.systemctl("start", "fragile.target")
    with site.load(clients=CLIENTS) as load:
        assert site.ask_instance("1", "/write?bytes=1").text == "written"
        assert site.ask_instance("1", "/write?bytes=100000").text == "No space left on device"
        load.wait(1000)
        site.systemctl("reload", *UNITS)
        site.systemctl("restart", *UNITS)
        load.wait(1000)
        assert site.ask_instance("2", "/write?bytes=1").text == "No space left on device"
    assert load.report().failures == {}


def clock(site: Site, name: str) -> datetime:
    return parsedate_to_datetime(site.ask_instance(name).headers["date"])


def test_jumps_of_the_clock_are_not_noticed(site: Site) -> None:
    """The wall clock of the instances alone: no namespace has one, and the machine's is this host's."""
    site.machine.write("/srv/fragile/clock", "+0\n")
    site.change(
        "another clock, which can be set",
        f'service.environment = {{ LD_PRELOAD = "{FAKETIME}", FAKETIME_DONT_FAKE_MONOTONIC = "1",'
        ' FAKETIME_NO_CACHE = "1", FAKETIME_TIMESTAMP_FILE = "/srv/fragile/clock" }',
    )
    site.change("soon", f"timeouts.watchdog = {WATCHDOG}")
    site.systemctl("start", "fragile.target")
    with site.load(clients=CLIENTS) as load:
        for jump in ("+1d", "-1d"):
            before, pids = clock(site, "1"), site.pids()
            site.machine.write("/srv/fragile/jump", f"{jump}\n")
            site.machine.run("mv", "/srv/fragile/jump", "/srv/fragile/clock")
            assert abs(clock(site, "1") - before) > timedelta(hours=23)
            wait_for_pings(site, 1.5 * WATCHDOG)
            assert site.pids() == pids
            site.systemctl("reload", *UNITS)
        site.systemctl("restart", *UNITS)
        load.wait(1000)
    assert load.report().failures == {}


def wait_for_pings(site: Site, seconds: float) -> None:
    """Wait until each instance has pinged its watchdog so much later than it did last."""

    def pinged() -> list[int]:
        shown = (site.machine.show(unit, "WatchdogTimestampMonotonic") for unit in UNITS)
        return [int(properties["WatchdogTimestampMonotonic"]) for properties in shown]

    before = pinged()
    site.wait_for(lambda: all(now > then + seconds * 1e6 for now, then in zip(pinged(), before, strict=True)))


EXITS = """
import os, signal, sys
match os.environ["AIOSYSTEMD_INSTANCE"]:
    case "1": sys.exit(0)
    case "2": os._exit(0)
    case "3": sys.exit(3)
    case _: os.kill(os.getpid(), signal.SIGKILL)
"""


def test_application_that_exits_at_start_is_served_as_soon_as_it_is_mended(site: Site) -> None:
    """All instances, each in its own way, twice as often as systemd would allow by default (5)."""
    mended = (SHAPES / "fragile" / "app.py").read_text()
    sockets = [f"fragile@{name}.socket" for name in INSTANCES]
    site.write_app(EXITS)
    site.systemctl("start", "--no-block", "fragile.target")

    def restarts(unit: str) -> int:
        return int(site.machine.show(unit, "NRestarts")["NRestarts"])

    with site.load(clients=4, pause=0.05):
        site.wait_for(lambda: all(restarts(unit) > ATTEMPTS for unit in UNITS))
        assert {site.state(unit) for unit in sockets} == {"active"}
        site.write_app(mended)
        site.wait_for(lambda: {site.state(unit) for unit in UNITS} == {"active"})
    with site.load(clients=CLIENTS) as load:
        load.wait(2000)
    assert load.report().failures == {}
    assert [site.ask_instance(name).text for name in INSTANCES] == [f"hello from {name}" for name in INSTANCES]
