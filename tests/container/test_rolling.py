"""What happens beside a rollout costs no request: websockets, slow clients, nginx's own reload, a stop, a reboot."""

import json
import re
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from tests.container.machine import Machine
from tests.container.releases import (
    HALF,
    about,
    assert_stopped_in_order,
    complete,
    first,
    processes,
    stop,
    switch,
    upload,
)
from tests.container.site import INSTANCES, Site

SCRIPT = Path(__file__).with_name("websockets.py")
WEBSOCKETS = 1000
SERVICE_RESTART = 1012
CLIENTS = 8
HELD = "has started and gets the requests"
DONE = "the new version serves"


@pytest.fixture
def site(machine: Machine) -> Site:
    """Return the first release, all instances started, and the second ready to be rolled out."""
    site = first(machine)
    switch(machine, 2)
    return site


def rollout(site: Site, *options: str) -> "subprocess.Popen[str]":
    return site.machine.start("aiosystemd", "rollout", "release", *options)


def read_until(process: "subprocess.Popen[str]", text: str) -> None:
    assert process.stdout
    assert any(text in line for line in process.stdout), process.communicate()


def assert_done(site: Site, process: "subprocess.Popen[str]") -> None:
    _, errors = process.communicate()
    assert (process.returncode, errors) == (0, "")
    assert_all_on(site, "2")


def assert_all_on(site: Site, release: str) -> None:
    assert [about(site, name)["code"] for name in INSTANCES] == [release] * len(INSTANCES)


def allow_many_connections(machine: Machine) -> None:
    path = "/etc/nginx/nginx.conf"
    text = re.sub(r"worker_connections \d+;", "worker_connections 8192;", machine.read(path))
    machine.write(path, f"worker_rlimit_nofile 20000;\n{text}")
    machine.systemctl("restart", "nginx")


def test_idle_websockets_all_get_a_close_frame_and_not_at_once(site: Site) -> None:
    allow_many_connections(site.machine)
    site.machine.write("/root/websockets.py", SCRIPT.read_text())
    websockets = site.machine.start("python3", "/root/websockets.py", str(WEBSOCKETS), site.host, "/ws")
    read_until(websockets, "open")
    with site.load(clients=CLIENTS, pause=0.01) as load:
        load.wait(100)
        assert_done(site, rollout(site, "--pause", "0"))
        output, errors = websockets.communicate()
    assert errors == ""
    assert load.report().failures == {}
    ends = json.loads(output)
    assert Counter(code for _, code in ends) == {SERVICE_RESTART: WEBSOCKETS}
    # Those of one instance, a quarter, within five seconds; all instances at once would still be 20.
    assert max(Counter(int(seconds * 10) for seconds, _ in ends).values()) < WEBSOCKETS / 8
    for name in INSTANCES:
        site.wait_for(lambda name=name: processes(site, name) == {site.pids()[name]})  # type: ignore[misc]


def test_slow_uploads_through_a_rollout_are_answered(site: Site) -> None:
    direct = [upload(site, name) for name in INSTANCES]
    head = f"Content-Length: {2 * len(HALF)}"
    proxied = site.connect("/echo", head, "Connection: close", method="POST")
    with site.load(clients=CLIENTS, pause=0.01) as load:
        process = rollout(site, "--pause", "0")
        sent = 0
        while process.poll() is None:
            proxied.sendall(HALF[sent : sent + 1000])
            sent += len(HALF[sent : sent + 1000])
            load.wait(20)
        assert_done(site, process)
        proxied.sendall(HALF[sent:])
        for connection in (*direct, proxied):
            complete(connection)
    assert sent > 0
    assert load.report().failures == {}


def test_nginx_may_reload_and_restart_meanwhile(site: Site) -> None:
    process = rollout(site, "--pause", "1")
    with site.load(clients=CLIENTS, close=True) as load:
        read_until(process, HELD)
        site.systemctl("reload", "nginx")
        read_until(process, DONE)
        load.wait(500)
        assert load.report().failures == {}
        read_until(process, HELD)
        site.systemctl("restart", "nginx")
        assert_done(site, process)
    # While nginx is away itself; no answer of its own about an instance.
    assert set(load.report().failures) <= {
        "GET connection refused",
        "POST connection refused",
        "GET reset",
        "POST reset",
    }


def test_stop_of_an_instance_in_the_middle_of_its_turn(site: Site) -> None:
    old = upload(site, "1")
    process = rollout(site, "--pause", "60")
    read_until(process, HELD)
    new = upload(site, "1")
    stop(site, "1")
    output, errors = process.communicate()
    assert process.returncode == 1
    assert "failed: release@1: " in errors
    assert "Traceback" not in errors
    complete(old)
    complete(new)
    assert_stopped_in_order(site, "1")
    assert "release@2: the old version serves" in output


def test_reboot_in_the_middle_of_a_rollout(site: Site) -> None:
    site.systemctl("enable", "release.target")
    process = rollout(site, "--pause", "60")
    read_until(process, HELD)
    site.machine.reboot()
    process.communicate()
    assert_all_on(site, "2")
    last = site.machine.run("journalctl", "--boot=-1", "--output=cat", "--unit=release@*").stdout
    assert "Stopped release@1.service" in last
    assert "SIGKILL" not in last
    switch(site.machine, 3)
    with site.load(clients=CLIENTS) as load:
        load.wait(100)
        done = site.machine.run("aiosystemd", "rollout", "release", "--pause", "0")
        load.wait(100)
    assert done.stderr == ""
    assert load.report().failures == {}
    assert_all_on(site, "3")
