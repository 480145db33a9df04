"""What is made of one instance: its state, its release, its figures per second."""

import json
from dataclasses import replace
from typing import Any

import pytest

from aiosystemd.rollout.instance import Instance
from aiosystemd.status.errors import Error
from aiosystemd.status.figures import Figures
from aiosystemd.status.rows import Releases, Row, row
from tests.status.instances import figures, instance


def seen(
    found: Instance, before: Figures | None = None, now: Figures | None = None, releases: Releases | None = None
) -> Row:
    return row(found, before, now, releases=releases or Releases(None, None), queue=0, error=Error(5.0, "oh"))


@pytest.mark.parametrize(
    ("service", "socket", "changes", "status", "state", "fine"),
    [
        ("active running", "active running", {}, "serving", "running", True),
        ("active running", "active running", {}, "closed", "closed", True),
        ("active running", "active running", {}, "", "running", True),
        ("active running", "failed failed", {}, "serving", "running", False),
        ("active exited", "active running", {"pid": 0}, "", "exited", False),
        ("reloading reload", "active running", {}, "serving", "reloading", True),
        ("deactivating stop-sigterm", "inactive dead", {}, "draining", "draining", True),
        ("deactivating stop-sigterm", "active running", {}, "", "stopping", True),
        ("activating start", "active running", {}, "", "starting", True),
        ("activating start", "active running", {"restarts": 1}, "", "restarting", False),
        ("activating auto-restart", "active running", {"pid": 0}, "", "restarting", False),
        ("inactive dead", "active listening", {"pid": 0}, "", "asleep", True),
        ("inactive dead", "inactive dead", {"pid": 0}, "", "stopped", False),
        ("inactive dead", "failed failed", {"pid": 0}, "", "stopped", False),
        ("failed failed", "active listening", {"pid": 0}, "", "failed", False),
        ("maintenance dead", "active listening", {"pid": 0}, "", "maintenance", False),
    ],
)
def test_state_is_one_word(  # noqa: PLR0913, PLR0917 (a table)
    service: str,
    socket: str,
    changes: dict[str, Any],
    status: str,
    state: str,
    fine: bool,  # noqa: FBT001
) -> None:
    found = seen(instance(service, socket, **changes), None, figures(state=status) if status else None)
    assert (found.state, found.fine, found.mood == "bad") == (state, fine, not fine)


@pytest.mark.parametrize("load", ["not-found", "masked", "bad-setting"])
def test_unit_that_systemd_cannot_load_is_down(load: str) -> None:
    found = instance("inactive dead", "inactive dead", pid=0)
    found = replace(found, service=replace(found.service, load=load), socket=replace(found.socket, load=load))
    assert (seen(found).state, seen(found).socket, seen(found).fine) == (load, load, False)


@pytest.mark.parametrize(
    ("directory", "target", "runs", "release", "following"),
    [
        ("/srv/current", "/srv/releases/7", "/srv/releases/7", "7", "7"),
        ("/srv/current", "/srv/releases/8", "/srv/releases/7", "7", "8"),
        ("/srv/current/app", "/srv/releases/8/app", "/srv/releases/7/app", "7", "8"),
        ("/srv/web", "/srv/web", "/srv/web", None, None),
        ("/srv/new", "/srv/new", "/srv/old", "old", "new"),
        ("/srv/current", None, "/srv/releases/7", "7", None),
        (None, None, "/", None, None),
        (None, None, "/srv", "srv", None),
        ("/srv/current", "/", "/", None, None),
    ],
)
def test_release_is_what_the_link_leads_to(
    directory: str | None, target: str | None, runs: str, release: str | None, following: str | None
) -> None:
    found = seen(instance(), None, figures(directory=runs), Releases(directory, target))
    assert (found.directory, found.release, found.next_release) == (runs, release, following)
    assert found.behind == (release != following)


def test_figures_per_second_are_the_difference_of_two_looks() -> None:
    found = seen(instance(), figures(10.0, 5.0, requests=100, errors=1), figures(12.0, 6.0, requests=130, errors=4))
    assert (found.requests_rate, found.errors_rate, found.cpu) == (15.0, 1.5, 50.0)
    assert (found.requests, found.errors) == (130, 4)


def test_new_process_counts_from_zero() -> None:
    before = figures(10.0, requests=100)
    assert seen(instance(), before, figures(12.0, pid=77, requests=30)).requests_rate == 15.0


def test_both_processes_of_a_reload_count() -> None:
    before = figures(10.0, requests=100)
    now = figures(12.0, requests=110, successor={"pid": 77, "requests": 20})
    found = seen(instance(), before, now)
    assert (found.requests_rate, found.held) == (15.0, 77)


@pytest.mark.parametrize(
    ("before", "now"),
    [
        (None, figures(12.0, 1.0, requests=1)),
        (figures(12.0, 1.0, requests=1), None),
        (figures(10.0, None, "is silent"), figures(12.0, None, "is silent")),
        (figures(12.0, 1.0, requests=1), figures(12.0, 1.0, requests=1)),
    ],
)
def test_without_two_looks_there_are_no_figures_per_second(before: Figures | None, now: Figures | None) -> None:
    found = seen(instance(), before, now)
    assert (found.requests_rate, found.errors_rate, found.cpu) == (None, None, None)


def test_counters_that_went_back_are_no_negative_rate() -> None:
    found = seen(instance(), figures(10.0, 5.0, requests=100, errors=9), figures(12.0, 1.0, requests=1, errors=1))
    assert (found.requests_rate, found.errors_rate, found.cpu) == (0.0, 0.0, 0.0)


def test_since_is_that_of_the_process_or_of_the_state() -> None:
    assert seen(instance()).since == 1000.0
    assert seen(instance("inactive dead", "active listening", pid=0)).since == 2000.0
    assert seen(instance("inactive dead", "active listening", pid=0, changed=0.0)).since is None


def test_json_has_units_in_its_keys() -> None:
    found = seen(instance(memory=5, memory_max=10), None, figures(requests=1, reload_error="no luck")).as_json()
    assert json.loads(json.dumps(found)) == {
        "instance": "1",
        "state": "running",
        "fine": True,
        "service": "active (running)",
        "socket": "active (running)",
        "pid": 76,
        "since": "1970-01-01T00:16:40+00:00",
        "directory": "/srv/web",
        "release": "web",
        "next_release": None,
        "restarts": 0,
        "memory_bytes": 5,
        "memory_max_bytes": 10,
        "cpu_percent": None,
        "connections": 0,
        "queued_connections": 0,
        "requests_total": 1,
        "errors_total": 0,
        "requests_per_second": None,
        "errors_per_second": None,
        "last_error": {"at": "1970-01-01T00:00:05+00:00", "text": "oh"},
        "held_reload_pid": None,
        "reload_error": "no luck",
        "no_answer": None,
    }
