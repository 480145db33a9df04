"""The view as lines of text."""

from pathlib import Path

import pytest

from aiosystemd.errors import Location, Problem
from aiosystemd.status.errors import Error
from aiosystemd.status.rows import Releases, row
from aiosystemd.status.table import age, lines, size
from aiosystemd.status.view import DOWN, Deployed, View
from tests.status.instances import figures, instance

FILE = Path("/etc/aiosystemd/web.toml")
LINK = Releases("/srv/current", "/srv/releases/8")
BUSY = row(
    instance(memory=43_201_000, memory_max=512 << 20, restarts=2),
    figures(10.0, 5.0, requests=100),
    figures(12.0, 6.0, requests=130, errors=4, connections=3, directory="/srv/releases/7", reload_error="no\nluck"),
    releases=LINK,
    queue=0,
    error=Error(8400.0, "a\x1b[2Jb"),
)
ASLEEP = row(
    instance("inactive dead", "active listening", pid=0, changed=0.0), None, None, releases=LINK, queue=0, error=None
)
FAILED = row(instance("failed failed", "failed failed", pid=0), None, None, releases=LINK, queue=None, error=None)
HELD = row(
    instance("reloading reload"),
    None,
    figures(successor={"pid": 77}, silent=""),
    releases=Releases(None, None),
    queue=1,
    error=None,
)


def shown(*deployed: Deployed) -> list[str]:
    return [line.text for line in lines(View(8530.0, deployed))]


def test_table_has_a_line_for_each_instance_and_sentences_below() -> None:
    web = Deployed("web", FILE, (), (BUSY, ASLEEP, FAILED), 1.1, {}, (), ("drift: x is missing",))
    assert shown(web) == [
        "web: 1 running, 1 asleep, 1 failed, exposure 1.1, /etc/aiosystemd/web.toml",
        "INSTANCE  STATE    SOCKET     PID     SINCE  RELEASE    RESTARTS      MEMORY  CPU  CONN  QUEUE  REQ/S  5XX",
        "1         running  running     76   2h 5min  7 (not 8)         2  41.2M/512M  50%     3      0   15.0    4",
        "1         asleep   listening    -         -  -                 0           -    -     -      0      -    -",
        "1         failed   failed       -  1h 48min  -                 0           -    -     -      -      -    -",
        r"  web@1: the last reload failed: no\nluck",
        r"  web@1: error 2min 10s ago: a\x1b[2Jb",
        "  web@1: failed: service failed (failed), socket failed (failed)",
        "  drift: x is missing",
    ]


def test_columns_in_which_nothing_stands_are_left_out() -> None:
    assert shown(Deployed("web", FILE, (), (ASLEEP,)))[1] == "INSTANCE  STATE   SOCKET     RESTARTS  QUEUE"


def test_reload_that_is_held_is_told() -> None:
    assert "  web@1: a reload is held: its new process 77 gets the requests until it is decided" in shown(
        Deployed("web", FILE, (), (HELD,))
    )


def test_wrong_file_is_one_line() -> None:
    problem = Problem(Location("bad.toml", 3, 1), "unknown key")
    found = shown(Deployed("bad", Path("bad.toml"), (problem, problem)), Deployed("web", FILE, (), ()))
    assert found[:3] == [
        "bad.toml:3:1: unknown key (and 1 more: aiosystemd check bad.toml)",
        "",
        "web: no instances, /etc/aiosystemd/web.toml",
    ]
    assert shown(Deployed("bad", Path("bad.toml"), (problem,))) == ["bad.toml:3:1: unknown key"]


def test_moods_are_those_of_the_states() -> None:
    found = list(lines(View(0.0, (Deployed("web", FILE, (), (BUSY, ASLEEP, FAILED)),))))
    assert [line.mood for line in found[:5]] == ["head", "head", "good", "idle", "bad"]


def test_exit_status_is_systemctls_when_something_is_down() -> None:
    fine, down = Deployed("a", FILE, (), (BUSY, ASLEEP)), Deployed("b", FILE, (), (BUSY, FAILED))
    wrong = Deployed("c", FILE, (Problem(Location("c"), "wrong"),))
    assert [View(0.0, each).status for each in ((), (fine,), (fine, down), (fine, wrong))] == [0, 0, DOWN, DOWN]


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0B"),
        (1023, "1023B"),
        (1024, "1K"),
        (1536, "1.5K"),
        (512 << 20, "512M"),
        (3 << 40, "3T"),
        (5 << 50, "5120T"),
    ],
)
def test_sizes_are_short(number: int, text: str) -> None:
    assert size(number) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-3, "0s"),
        (0, "0s"),
        (59.9, "59s"),
        (60, "1min"),
        (3725, "1h 2min"),
        (86_400, "1d"),
        (90_061, "1d 1h"),
        (86_460, "1d"),
    ],
)
def test_ages_have_two_units(seconds: float, text: str) -> None:
    assert age(seconds) == text
