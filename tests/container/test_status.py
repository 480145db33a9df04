"""``aiosystemd status`` and ``aiosystemd logs`` on a real systemd, with its real journal."""

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import pytest

from tests.container.conftest import both_releases
from tests.container.machine import Machine
from tests.container.releases import APP, complete, first, switch, upload
from tests.container.site import INSTANCES, Site

SITE: Final = "/etc/nginx/conf.d/release.conf"
DROP_IN: Final = "/etc/systemd/system/release@2.service.d/own.conf"
BAD: Final = "/etc/aiosystemd/bad.toml"
DOWN: Final = 3
FAILS: Final = APP.replace(
    'return web.Response(text=f"release {HERE.name}")', 'raise ValueError("no luck\\x1b[2J today")'
)
"""A release in which each request for "/" fails."""
NOBODY: Final = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")

Row = dict[str, Any]


def run(site: Site, *argv: str, status: int = 0) -> str:
    done = site.machine.run(*argv, check=False)
    assert "Traceback" not in done.stderr
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout


def deployed(site: Site, status: int = 0) -> Row:
    document = json.loads(run(site, "aiosystemd", "status", site.name, "--json", status=status))
    (found,) = document["deployments"]
    return found  # type: ignore[no-any-return]


def rows(site: Site, status: int = 0) -> dict[str, Row]:
    return {each["instance"]: each for each in deployed(site, status)["instances"]}


def states(site: Site, status: int = 0) -> dict[str, str]:
    return {name: each["state"] for name, each in rows(site, status).items()}


def logs(site: Site, *options: str, name: str = "") -> list[Row]:
    site.machine.run("journalctl", "--sync")
    out = run(site, "aiosystemd", "logs", name or site.name, "--json", *options)
    return [json.loads(line) for line in out.splitlines()]


def speak(site: Site, unit: str) -> None:
    """Let a unit write a line into the journal."""
    site.machine.run("systemd-run", "--quiet", "--service-type=oneshot", f"--unit={unit}", "echo", f"from {unit}")


@pytest.fixture(scope="module")
def running(installed: tuple[Path, Path]) -> Iterator[Site]:
    with Machine(*installed) as machine:
        yield first(machine)


@pytest.fixture
def site(running: Site) -> Site:
    """Return a deployment of which all instances run the first release."""
    machine = running.machine
    machine.run("rm", "-rf", str(Path(DROP_IN).parent), BAD)
    machine.run("ln", "-sfn", "releases/1", "/srv/release/current")
    running.systemctl("daemon-reload")
    running.systemctl("start", "release.target")
    running.systemctl("restart", *(f"release@{name}.service" for name in INSTANCES))
    return running


@both_releases
def test_each_state_is_told_and_what_is_down_is_in_the_exit_status(site: Site) -> None:
    machine = site.machine
    assert states(site) == dict.fromkeys(INSTANCES, "running")
    site.systemctl("stop", "release@1.service")
    assert states(site)["1"] == "asleep"
    site.systemctl("stop", "release@4.socket", "release@4.service")
    assert states(site, DOWN)["4"] == "stopped"
    machine.write(DROP_IN, "[Service]\nRestart=no\n")
    site.systemctl("daemon-reload")
    pid = rows(site, DOWN)["2"]["pid"]
    machine.kill("KILL", pid)
    site.wait_for(lambda: site.state("release@2.service") == "failed")
    with upload(site, "3") as connection:
        site.systemctl("stop", "--no-block", "release@3.socket", "release@3.service")
        site.wait_for(lambda: site.state("release@3.service") == "deactivating")
        assert states(site, DOWN) == {"1": "asleep", "2": "failed", "3": "draining", "4": "stopped"}
        complete(connection)
    failed = rows(site, DOWN)["2"]
    assert (failed["fine"], failed["pid"], failed["service"]) == (False, None, "failed (failed, signal)")
    text = run(site, "aiosystemd", "status", "release", status=DOWN)
    assert "release@2: failed: service failed (failed, signal)" in text
    assert f"drop-ins: {DROP_IN}" in text


def test_crash_loop_counts_as_down_and_its_last_error_is_shown(site: Site) -> None:
    switch(site.machine, 5, "raise RuntimeError('no such luck')\n")
    site.systemctl("restart", "--no-block", "release@1.service")
    site.wait_for(lambda: int(site.machine.show("release@1.service", "NRestarts")["NRestarts"]) > 1)
    row = rows(site, DOWN)["1"]
    assert row["state"] == "restarting"
    assert row["restarts"] > 1
    site.wait_for(lambda: "no such luck" in str(rows(site, DOWN)["1"]["last_error"]))


def test_release_that_runs_is_told_apart_from_the_one_that_is_next(site: Site) -> None:
    assert {(row["release"], row["next_release"]) for row in rows(site).values()} == {("1", "1")}
    switch(site.machine, 2)
    site.systemctl("reload", "release@1")
    found = rows(site)
    assert {name: row["release"] for name, row in found.items()} == {"1": "2", "2": "1", "3": "1", "4": "1"}
    assert {row["next_release"] for row in found.values()} == {"2"}
    assert found["1"]["directory"] == "/srv/release/releases/2"
    assert "1 (not 2)" in run(site, "aiosystemd", "status")


def test_reload_that_failed_is_told(site: Site) -> None:
    switch(site.machine, 5, "raise RuntimeError('no such luck')\n")
    site.systemctl("reload", "release@1", check=False)
    row = rows(site)["1"]
    assert row["state"] == "running"
    assert "no such luck" in row["reload_error"]
    assert "release@1: the last reload failed: " in run(site, "aiosystemd", "status", "release")


def test_connections_that_wait_for_a_stopped_process_are_counted(site: Site) -> None:
    machine, pid = site.machine, rows(site)["2"]["pid"]
    machine.kill("STOP", pid)
    try:
        with ExitStack() as stack:
            for _ in range(7):
                stack.enter_context(site.machine.connect(unix=site.socket_path("2")))
            found = rows(site)
            assert {name: row["queued_connections"] for name, row in found.items()} == {"1": 0, "2": 7, "3": 0, "4": 0}
            assert "gives no answer" in found["2"]["no_answer"]
            assert found["1"]["no_answer"] is None
    finally:
        machine.kill("CONT", pid)


def test_requests_errors_connections_and_the_last_error_are_counted(site: Site) -> None:
    switch(site.machine, 3, FAILS)
    site.systemctl("restart", "release@1.service")
    for _ in range(3):
        assert site.ask_instance("1").status == 500
    with upload(site, "2") as connection:
        found = rows(site)
        complete(connection)
    assert (found["1"]["requests_total"], found["1"]["errors_total"]) == (3, 3)
    assert found["2"]["connections"] == 1
    assert found["1"]["last_error"]["text"].startswith("ValueError: no luck")
    assert found["2"]["last_error"] is None
    text = run(site, "aiosystemd", "status", "release")
    assert r"ValueError: no luck\x1b[2J today" in text
    assert "\x1b" not in text


def test_requests_per_second_and_processor_time_are_those_of_the_moment(site: Site) -> None:
    with site.load(clients=4) as load:
        load.wait(200)
        busy = rows(site)
        load.wait(100)
    assert sum(row["requests_per_second"] for row in busy.values()) > 1
    assert sum(row["cpu_percent"] for row in busy.values()) > 1
    assert {row["errors_per_second"] for row in busy.values()} == {0.0}
    idle = rows(site)
    assert {row["requests_per_second"] for row in idle.values()} == {0.0}


def test_edited_file_is_drift(site: Site) -> None:
    before = site.machine.read(SITE)
    assert SITE not in deployed(site)["drift"]
    site.machine.write(SITE, f"{before}# mine\n")
    assert "differs" in deployed(site)["drift"][SITE]
    assert f"drift: {SITE} differs" in run(site, "aiosystemd", "status", "release")
    site.machine.write(SITE, before)


def test_wrong_file_is_one_line_and_the_others_are_shown(site: Site) -> None:
    site.machine.write(BAD, 'name = "bad"\napp = "a:b"\ninstance = 3\nnonsense = 1\n')
    text = run(site, "aiosystemd", "status", status=DOWN)
    assert f"{BAD}:3:1: " in text.splitlines()[0]
    assert "(and 1 more: aiosystemd check" in text.splitlines()[0]
    assert "release: 4 running" in text
    document = json.loads(run(site, "aiosystemd", "status", "--json", status=DOWN))
    assert [(each["name"], each["fine"]) for each in document["deployments"]] == [("bad", False), ("release", True)]


def test_missing_file_is_a_mistake_of_the_user(site: Site) -> None:
    done = site.machine.run("aiosystemd", "status", "nothing", check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("/etc/aiosystemd/nothing.toml: no such file")


def test_without_root_what_is_hidden_is_said(site: Site) -> None:
    text = run(site, *NOBODY, "aiosystemd", "status")
    assert "release: 4 running" in text
    assert "for root to see: sudo aiosystemd status release" in text
    assert "the journal tells no errors: " in text
    done = site.machine.run(*NOBODY, "aiosystemd", "logs", "release", check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "systemd-journal or adm" in done.stderr


def test_instances_that_die_while_they_are_looked_at_do_no_harm(site: Site) -> None:
    site.machine.write("/run/at-work", "")
    kill = "while test -e /run/at-work; do systemctl kill --signal=KILL 'release@*.service'; sleep 0.05; done"
    killer = site.machine.start("sh", "-c", kill)
    try:
        for _ in range(6):
            done = site.machine.run("aiosystemd", "status", "release", "--json", check=False)
            assert done.stderr == ""
            assert done.returncode in (0, DOWN)
            assert len(json.loads(done.stdout)["deployments"][0]["instances"]) == 4
    finally:
        site.machine.run("rm", "/run/at-work")
        killer.communicate()


def test_watch_shows_what_changes_and_ends_with_ctrl_c(site: Site) -> None:
    watch = ("env", "--default-signal=INT", "sh", "-c", 'echo $$; exec "$@"', "sh")
    process = site.machine.start(*watch, "aiosystemd", "status", "release", "--watch", "--interval", "0.5")
    assert process.stdout
    pid = int(process.stdout.readline())
    while "4 running" not in process.stdout.readline():
        assert process.poll() is None
    site.systemctl("daemon-reload")
    site.systemctl("stop", "release@4.service")
    while "3 running, 1 asleep" not in process.stdout.readline():
        assert process.poll() is None
    site.machine.kill("INT", pid)
    _, errors = process.communicate()
    assert (process.returncode, errors) == (0, "")


def test_many_instances_cost_little_more_than_few(site: Site) -> None:
    def seconds() -> float:
        begin = time.monotonic()
        run(site, "aiosystemd", "status", "release", status=0)
        return time.monotonic() - begin

    few = min(seconds() for _ in range(3))
    file = "/etc/aiosystemd/release.toml"
    before = site.machine.read(file)
    sockets = [f"release@{number}.socket" for number in range(5, 101)]
    try:
        site.machine.write(file, f"instances = 100\n{before}")
        site.systemctl("start", *sockets)
        assert "4 running, 96 asleep" in run(site, "aiosystemd", "status", "release")
        # One program for each of 200 units takes ten times as long.
        assert min(seconds() for _ in range(3)) < 3 * few
    finally:
        site.machine.write(file, before)
        site.systemctl("stop", *sockets)


@both_releases
def test_logs_of_instances_are_interleaved_with_systemds_own(site: Site) -> None:
    begin = site.machine.run("date", "+%Y-%m-%d %H:%M:%S.%N").stdout.strip()[:-3]
    switch(site.machine, 3, FAILS)
    site.systemctl("restart", "release@1.service", "release@2.service")
    for name in ("1", "2", "1"):
        assert site.ask_instance(name).status == 500
    found = logs(site, "--since", begin)
    failures = [row for row in found if "no luck" in row["message"]]
    assert [row["instance"] for row in failures] == ["1", "2", "1"]
    assert {row["level"] for row in failures} == {"err"}
    # The traceback came line by line, and is one message.
    assert failures[0]["message"].startswith("Error handling request")
    assert failures[0]["message"].endswith("ValueError: no luck\x1b[2J today")
    assert any(row["identifier"] == "systemd" and row["unit"] == "release@2.service" for row in found)
    assert {row["instance"] for row in found} == {"1", "2"}
    assert {row["instance"] for row in logs(site, "--since", begin, "--instance", "2")} == {"2"}
    assert logs(site, "--since", begin, "--level", "err") == failures
    assert logs(site, "--since", "+1 hour") == []
    assert len(run(site, "aiosystemd", "logs", "release", "-n", "1").splitlines()) == 1
    text = run(site, "aiosystemd", "logs", "release", "--since", begin, "--level", "err")
    assert text.splitlines()[1].startswith("    Traceback")
    assert r"    ValueError: no luck\x1b[2J today" in text.splitlines()
    assert "\x1b" not in text


def test_logs_of_sockets_are_told_too(site: Site) -> None:
    site.systemctl("restart", "release@3.socket")
    assert "release@3.socket" in {row["unit"] for row in logs(site, "--instance", "3")}


def test_names_that_begin_alike_are_kept_apart(site: Site) -> None:
    for unit in ("web@1", "web2@1", "web@2", "xweb@1"):
        speak(site, unit)
    said = {name: {row["message"] for row in logs(site, name=name) if row["pid"] != 1} for name in ("web", "web2")}
    assert said == {"web": {"from web@1", "from web@2"}, "web2": {"from web2@1"}}


def test_follow_goes_on_with_what_comes_and_ends_quietly(site: Site) -> None:
    follow = ("env", "--default-signal=INT", "sh", "-c", 'echo $$; exec "$@"', "sh", "aiosystemd", "logs", "new", "-f")
    speak(site, "new@6")
    process = site.machine.start(*follow)
    assert process.stdout
    pid = int(process.stdout.readline())
    # And then an instance of which the journal knew nothing.
    for unit in ("new@6", "new@7"):
        while f"from {unit}" not in process.stdout.readline():
            assert process.poll() is None
        speak(site, "new@7")
    site.machine.kill("INT", pid)
    _, errors = process.communicate()
    assert (process.returncode, errors) == (130, "")


def test_pipe_that_is_closed_ends_quietly(site: Site) -> None:
    piped = (
        "aiosystemd logs release --since yesterday | head -n 1; aiosystemd logs release --since yesterday >/dev/full"
    )
    done = site.machine.run("bash", "-c", piped, check=False)
    assert len(done.stdout.splitlines()) == 1
    assert done.stderr == "aiosystemd: No space left on device\n"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--since", "nonsense"), 'Failed to parse "nonsense"'),
        (("--level", "nonsense"), '--level: "nonsense" is no priority'),
    ],
)
def test_mistakes_are_explained(site: Site, options: tuple[str, ...], said: str) -> None:
    done = site.machine.run("aiosystemd", "logs", "release", *options, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert said in done.stderr
