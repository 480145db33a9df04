"""``aiosystemd drill`` on a real systemd, behind a real nginx: it proves what it says, and sees what is wrong."""

import json
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.container.machine import Machine
from tests.container.site import INSTANCES, SHAPES, Site

APP: Final = (SHAPES / "echo" / "app.py").read_text()
LOCK: Final = "/run/aiosystemd/echo.lock"
BUSY_AT_FIRST: Final = APP.replace(
    "    return web.Response(body=",
    "    if time.monotonic() < BEGIN + 1:\n        raise web.HTTPServiceUnavailable\n    return web.Response(body=",
).replace("import time\n", "import time\n\nBEGIN = time.monotonic()\n")


@pytest.fixture(scope="module")
def running(installed: tuple[Path, Path]) -> Iterator[Site]:
    with Machine(*installed) as machine:
        site = Site.shape(machine, "echo")
        # In its last table, [proxy]: a drain does not wait long for idle connections then.
        path = "/etc/aiosystemd/echo.toml"
        machine.write(path, f"{machine.read(path)}keepalive = 1\n")
        site._install()
        yield site


@pytest.fixture
def site(running: Site) -> Site:
    """Return a site that serves, on all instances."""
    running.write_app(APP)
    running.systemctl("start", "echo.target")
    running.wait_for(lambda: all(running.state(f"echo@{name}") == "active" for name in INSTANCES))
    return running


def drill(site: Site, *options: str) -> subprocess.CompletedProcess[str]:
    done = site.machine.run("aiosystemd", "drill", "echo", "--seconds", "2", *options, check=False)
    assert "Traceback" not in done.stderr
    return done


def test_every_instance_is_reloaded_and_restarted_and_nothing_fails(site: Site) -> None:
    before = site.pids()
    done = drill(site, "--post", "/echo")
    assert (done.returncode, done.stderr) == (0, "")
    assert not set(before.values()) & set(site.pids().values())
    for name in INSTANCES:
        assert re.search(rf"^echo@{name}: process \d+ has started and gets the requests", done.stdout, re.MULTILINE)
        assert f"echo@{name}: restart: asked for; requests go to the other instances\n" in done.stdout
    head, *rows = done.stdout.splitlines()[-4:]
    assert head.split() == ["phase", "requests", "failures", "p50", "p99", "max", "p99", "/", "steady"]
    for row, name in zip(rows, ("steady", "reload", "restart"), strict=True):
        phase, requests, failures, *_ = row.split()
        assert (phase, failures) == (name, "0")
        assert int(requests) > 50


def test_answers_of_the_undisturbed_site_are_what_is_expected(site: Site) -> None:
    """A POST to the health path is a 405 here, before as after."""
    done = drill(site, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    assert [(each["name"], each["failed"], each["failures"]) for each in found["phases"]] == [
        ("steady", 0, {}),
        ("reload", 0, {}),
        ("restart", 0, {}),
    ]
    for each in found["phases"]:
        assert 0 < each["p50"] <= each["p99"] <= each["max"]
    assert {each["version"] for each in found["instances"]} == {"new"}


def test_failing_requests_are_counted_with_their_reasons(site: Site) -> None:
    site.write_app(BUSY_AT_FIRST)
    site.systemctl("restart", *(f"echo@{name}" for name in INSTANCES))
    site.wait_for(lambda: site.ask("/echo", b"x").status == 200)
    done = drill(site, "--post", "/echo", "--seconds", "3")
    if "with nothing going on" in done.stderr:  # One was busy still.
        done = drill(site, "--post", "/echo")
    assert done.returncode == 1
    assert re.search(r"^reload: \d+ times POST 503$", done.stdout, re.MULTILINE)
    assert re.search(r"^restart: \d+ times POST 503$", done.stdout, re.MULTILINE)
    assert "times GET" not in done.stdout


def test_release_that_does_not_start_ends_the_drill(site: Site) -> None:
    before = site.pids()
    site.write_app("raise RuntimeError('no such luck')\n")
    done = drill(site)
    assert done.returncode == 1
    assert "RuntimeError: no such luck" in done.stderr
    assert site.pids() == before
    assert [line.split()[0] for line in done.stdout.splitlines()[-2:]] == ["steady", "reload"]


def test_site_that_does_not_answer_is_left_alone(site: Site) -> None:
    site.systemctl("stop", "echo.target")
    site.wait_for(lambda: site.state("echo@4.socket") == "inactive")
    done = drill(site)
    assert done.returncode == 1
    assert re.match(r"GET through the proxy: gives 502 \(\d+ times\), with nothing going on\n", done.stderr)
    assert set(site.pids().values()) == {0}
    site.systemctl("stop", "nginx")
    try:
        assert "gives connection refused (" in drill(site).stderr
    finally:
        site.systemctl("start", "nginx")


@pytest.mark.parametrize("line", ["steady: ", "gets the requests", "restart: asked for"])
def test_interruption_leaves_every_instance_at_work(site: Site, line: str) -> None:
    before = site.pids()
    argv = ("env", "--default-signal=INT", "aiosystemd", "drill", "echo", "--seconds", "2")
    with site.machine.start(*argv) as process:
        assert process.stdout
        assert any(line in each for each in process.stdout)
        pid = json.loads(site.machine.read(LOCK))["pid"]
        site.machine.run("sh", "-c", f"kill -s {signal.SIGINT.name.removeprefix('SIG')} {pid}")
        output, errors = process.communicate(timeout=90)
    assert (process.returncode, errors) == (130, "interrupted\n")
    assert all(site.ask_instance(name).text == f"hello from {name}" for name in INSTANCES)
    # Nothing is begun after it.
    assert "restart: asked for" not in output
    assert (site.pids()["4"] == before["4"]) == (line != "restart: asked for")


def test_without_a_proxy_there_is_nothing_to_prove(site: Site) -> None:
    site.machine.write("/etc/aiosystemd/bare.toml", 'name = "bare"\napp = "app:create"\nproxy.kind = "none"\n')
    done = site.machine.run("aiosystemd", "drill", "bare", check=False)
    assert done.returncode == 1
    assert 'bare.toml: proxy.kind is "none": there is no proxy that could go to another instance' in done.stderr
