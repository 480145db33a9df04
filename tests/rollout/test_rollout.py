"""Rollouts from their first step to their last, of real instances."""

import os
import signal
import socket
import threading
from pathlib import Path

import pytest

from aiosystemd import rollout
from aiosystemd.errors import ProblemsError
from aiosystemd.host import Host
from aiosystemd.rollout import restart
from aiosystemd.rollout.standing import Outcome
from aiosystemd.rollout.work import Options
from tests.releases import BROKEN, NO_IMPORT, POSTS_FAIL, crashing, on_startup, release
from tests.rollout.conftest import NAMES, Deploy
from tests.runtime.lab import Client, eventually

HELD = "shop@1: process"
ALL_NEW = [("1", "new", "serving"), ("2", "new", "serving"), ("3", "new", "serving")]
ALL_OLD = [("1", "old", "serving"), ("2", "old", "serving"), ("3", "old", "serving")]


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def stands(found: Outcome) -> list[tuple[str, str, str]]:
    return [(each.instance, each.version, each.state) for each in found.standings]


def is_quiet(deploy: Deploy) -> bool:
    """Tell whether every instance has no process but its main one, which can be reloaded again."""
    return all(instance.state == "active" for instance in deploy.systemd.instances.values())


def test_new_code_reaches_every_instance(deploy: Deploy) -> None:
    deploy.release(release("moin"))
    done = deploy()
    assert (done.failure, done.interrupted, done.status, done.next) == ("", False, 0, "")
    assert stands(done) == ALL_NEW
    assert deploy.says("moin")
    assert [each.pid for each in done.standings] == list(deploy.systemd.pids().values())
    where = deploy.directory / "app"
    assert next(iter(done.lines())) == f"shop@1: the new version serves, process {done.standings[0].pid} in {where}"
    assert deploy.systemd.commands == [["reload", f"shop@{name}.service"] for name in NAMES]


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_release_ends_with_the_old_version_everywhere(deploy: Deploy, kind: str) -> None:
    text, reason = BROKEN[kind]
    before = deploy.systemd.pids()
    deploy.release(text)
    done = deploy(Options(pause=1.5))
    assert done.failure.startswith("shop@1: ")
    assert reason in done.failure
    assert (done.status, stands(done)) == (1, ALL_OLD)
    assert deploy.systemd.pids() == before
    assert deploy.says("hello")
    assert done.next == f"mend what failed, then: aiosystemd rollout {deploy.directory}/shop.toml"
    assert reason in deploy.systemd.instances["1"].log().read_text()
    assert is_quiet(deploy)


def test_release_that_answers_with_errors_is_put_back(deploy: Deploy) -> None:
    def post() -> None:
        for _ in range(30):
            with Client(f"{deploy.directory}/1.sock") as client:
                client.send("POST /echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
                client.response()

    deploy.release(POSTS_FAIL)
    deploy.when[HELD] = post
    done = deploy(Options(pause=60))
    assert done.failure == "shop@1: answers 30 of 31 requests with a status of 500 or more"
    assert stands(done) == ALL_OLD


def test_changed_unit_is_an_announced_restart(deploy: Deploy) -> None:
    """While it lasts, nobody waits in its queue: connect(2) fails, and a proxy goes elsewhere."""

    def meanwhile() -> None:
        full.append(Client)
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(0)
            with pytest.raises(BlockingIOError):
                client.connect(f"{deploy.directory}/1.sock")

    full: list[object] = []
    deploy.systemd.unit.write_text("[Service]\n# changed\n")
    deploy.systemd.instances["1"].stale = True
    deploy.when["shop@1: restart: "] = meanwhile
    done = deploy()
    assert stands(done) == ALL_NEW
    assert full
    assert deploy.steps[:2] == [
        "shop: units have changed: systemctl daemon-reload",
        "shop@1: restart: shop@.service has changed; requests go to the other instances",
    ]
    assert f"shop@2: restart: {deploy.systemd.unit} has changed; requests go to the other instances" in deploy.steps
    assert deploy.systemd.commands[0] == ["daemon-reload"]
    assert deploy.says("hello")


def test_sign_is_not_hung_while_a_client_waits_in_the_queue_for_ever(
    deploy: Deploy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The instance lets everybody in who sits there; only where that has no end it is restarted all the same."""
    monkeypatch.setattr(restart, "_taken", lambda *_: False)
    monkeypatch.setattr(restart, "_PATIENCE", 0.1)
    done = deploy(Options(pause=0, method="restart", canary=1))
    assert deploy.steps[0] == "shop@1: restart: asked for; requests wait for its start"
    assert done.status == 0


def test_client_in_the_queue_is_let_in_before_the_sign_hangs(deploy: Deploy, monkeypatch: pytest.MonkeyPatch) -> None:
    def taken(place: socket.socket, address: str) -> bool:
        if not clients:
            clients.append(socket.socket(socket.AF_UNIX))
            clients[0].connect(address)
            clients[0].sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        return original(place, address)

    clients: list[socket.socket] = []
    original = restart._taken
    monkeypatch.setattr(restart, "_taken", taken)
    deploy(Options(pause=0, method="restart", canary=1))
    assert deploy.steps[0] == "shop@1: restart: asked for; requests go to the other instances"
    with clients[0] as client:
        client.settimeout(30)
        assert client.recv(12) == b"HTTP/1.1 200"


def test_instance_without_another_waits_for_nobody(deploy: Deploy) -> None:
    for name in ("2", "3"):
        deploy.systemd.instances[name].stop()
    done = deploy(Options(pause=0, method="restart"))
    assert stands(done) == [("1", "new", "serving"), ("2", "none", "asleep"), ("3", "none", "asleep")]
    assert deploy.steps[0] == "shop@1: restart: asked for; requests wait for its start"
    assert deploy.steps[-2:] == [
        "shop@3: sleeps: its next request starts the new version",
        "shop: renewed 1 of 3 instances",
    ]


def test_instance_that_takes_no_orders_is_restarted(deploy: Deploy) -> None:
    (deploy.directory / "shop" / "1" / "control").unlink()
    done = deploy()
    assert stands(done) == ALL_NEW
    why = "restart: it does not take orders: No such file or directory; requests wait for its start"
    assert [f"shop@1: {why}"] == [step for step in deploy.steps if "restart" in step]


def test_failed_restart_says_what_serves(deploy: Deploy) -> None:
    deploy.release(NO_IMPORT)
    done = deploy(Options(pause=0, method="restart"))
    assert done.failure.startswith("shop@1: did not restart: ")
    assert "RuntimeError: no such luck" in done.failure
    assert stands(done) == [("1", "none", "down"), *ALL_OLD[1:]]
    assert next(iter(done.lines())) == "shop@1: down, activating (auto-restart, exit-code)"
    deploy.release(release("moin"))
    done = deploy()
    assert deploy.steps.count(
        "shop@1: restart: it is activating (auto-restart, exit-code); requests wait for its start"
    )
    assert (stands(done), done.status) == (ALL_NEW, 0)
    assert deploy.says("moin")


def test_crash_after_a_restart_ends_the_rollout(deploy: Deploy) -> None:
    deploy.release(crashing(0.5))
    done = deploy(Options(pause=30, method="restart"))
    assert done.failure.endswith(" has ended: activating (auto-restart, exit-code)")
    assert stands(done) == [("1", "none", "down"), *ALL_OLD[1:]]


def test_needed_file_that_is_missing_ends_the_rollout_before_the_restart(
    deploy: Deploy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rollout, "missing", lambda _: "/etc/shop.env")
    done = deploy(Options(method="restart"))
    assert done.failure == "shop@1: needs a restart (asked for), which would fail: there is no /etc/shop.env"
    assert (stands(done), deploy.systemd.commands) == (ALL_OLD, [])


def test_canary_leaves_the_others(deploy: Deploy) -> None:
    done = deploy(Options(pause=0, canary=1))
    assert (stands(done), done.status) == ([ALL_NEW[0], *ALL_OLD[1:]], 0)
    assert deploy.steps[-1] == "shop: stops here, after 1 of 3 instances"
    assert done.next == f"the others: aiosystemd rollout {deploy.directory}/shop.toml"


def test_sleeping_and_stopped_instances_are_left_and_are_no_canaries(deploy: Deploy) -> None:
    deploy.systemd.instances["1"].stop()
    deploy.systemd.instances["2"].stop()
    deploy.systemd.instances["2"].socket_state = "inactive"
    done = deploy(Options(pause=0, canary=1))
    assert stands(done) == [("1", "none", "asleep"), ("2", "none", "stopped"), ("3", "new", "serving")]
    assert list(done.lines())[:2] == ["shop@1: asleep: its next request starts the new version", "shop@2: stopped"]


def test_state_that_passes_is_waited_for(deploy: Deploy) -> None:
    def settle() -> None:
        instance.state, instance.sub = "active", "running"

    instance = deploy.systemd.instances["1"]
    instance.state, instance.sub = "reloading", "reload"
    deploy.when["shop@1: is reloading (reload): waiting"] = settle
    assert stands(deploy()) == ALL_NEW


def test_instances_that_systemd_does_not_know_are_told(deploy: Deploy) -> None:
    deploy.host = Host(cpus=4)
    with pytest.raises(ProblemsError, match=r"shop@4\.service: systemd cannot load it: not-found"):
        deploy()
    assert deploy.systemd.commands == []


@pytest.mark.parametrize("count", [0, 1])
def test_interruption_in_the_hold_puts_the_old_version_back(deploy: Deploy, count: int) -> None:
    """Whether the first instance or the second one is at hand."""
    deploy.release(release("moin"))
    deploy.when[f"shop@{count + 1}: process"] = interrupt
    done = deploy(Options(pause=0.05))
    assert (done.failure, done.interrupted, done.status) == ("", True, 130)
    assert stands(done) == [*ALL_NEW[:count], *ALL_OLD[count:]]
    assert [deploy.ask(name) for name in NAMES] == [
        f"{'moin' if int(name) <= count else 'hello'} from {name}" for name in NAMES
    ]
    assert done.next == f"the others: aiosystemd rollout {deploy.directory}/shop.toml"
    assert is_quiet(deploy)


HANGS = on_startup("__import__('pathlib').Path('../begun').touch(); await asyncio.sleep(60)")


def test_interruption_of_a_start_ends_it(deploy: Deploy) -> None:
    deploy.release(HANGS)

    def watch() -> None:
        eventually((deploy.directory / "begun").exists)
        interrupt()

    watcher = threading.Thread(target=watch)
    watcher.start()
    done = deploy()
    watcher.join()
    assert (done.status, stands(done)) == (130, ALL_OLD)
    assert is_quiet(deploy)


def test_timeout_ends_a_start(deploy: Deploy) -> None:
    deploy.release(HANGS)
    done = deploy(Options(timeout=0.5))
    assert done.failure == "shop@1: the new process was not ready within 0.5 s"
    assert stands(done) == ALL_OLD
    assert is_quiet(deploy)


def test_timeout_of_a_restart_leaves_it_to_systemd(deploy: Deploy) -> None:
    deploy.release(on_startup("await asyncio.sleep(3)"))
    done = deploy(Options(timeout=1.5, method="restart"))
    assert done.failure == "shop@1: has not restarted within 1.5 s; systemd goes on with it"
    assert stands(done)[0] == ("1", "new", "down")
    eventually(lambda: deploy.systemd.instances["1"].state == "active")


def test_interrupted_restart_comes_to_its_end(deploy: Deploy) -> None:
    deploy.when["shop@1: restart: "] = interrupt
    done = deploy(Options(method="restart"))
    assert (done.status, stands(done)) == (130, [ALL_NEW[0], *ALL_OLD[1:]])
    assert "shop@1: the restart comes to its end first; another Ctrl-C leaves it to systemd" in deploy.steps


def test_second_interruption_leaves_a_restart_to_systemd(deploy: Deploy) -> None:
    def again() -> None:
        eventually(lambda: deploy.systemd.instances["1"].state == "activating")
        interrupt()

    deploy.release(on_startup("await asyncio.sleep(3)"))
    deploy.when["shop@1: restart: "] = interrupt
    deploy.when["the restart comes to its end first"] = again
    done = deploy(Options(method="restart"))
    assert done.status == 130
    assert stands(done)[0][2] == "down"
    eventually(lambda: deploy.systemd.instances["1"].state == "active")


def test_interruption_before_the_first_instance_changes_nothing(deploy: Deploy) -> None:
    deploy.systemd.instances["1"].stale = True
    deploy.when["units have changed"] = interrupt
    done = deploy()
    assert (done.status, stands(done)) == (130, ALL_OLD)


def test_old_process_that_dies_in_the_hold_is_told(deploy: Deploy) -> None:
    deploy.when[HELD] = lambda: os.kill(deploy.systemd.pids()["1"], signal.SIGKILL)
    done = deploy(Options(pause=5))
    # Its end is heard on the link, or seen when it is asked next.
    assert done.failure.startswith("shop@1: the old process ")
    assert stands(done)[1:] == ALL_OLD[1:]


def test_sockets_elsewhere_are_refused(deploy: Deploy) -> None:
    with pytest.raises(ProblemsError, match=r"shop@1\.service: runs, but nothing listens on 127\.0\.0\.1:1"):
        deploy(None, "listen.port = 1")
    assert deploy.systemd.commands == []


def test_somebody_else_is_refused(deploy: Deploy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(ProblemsError, match=r"only root may reload and restart services \(use sudo\)"):
        deploy()
    monkeypatch.setattr(rollout, "SYSTEMD", Path("/nowhere"))
    with pytest.raises(ProblemsError, match="systemd does not run here"):
        deploy()


def test_failure_of_systemctl_is_told(deploy: Deploy) -> None:
    (deploy.directory / "bin" / "systemctl").write_text("#!/bin/sh\necho Failed to connect to bus >&2\nexit 1\n")
    with pytest.raises(ProblemsError, match=r"^systemctl show 'shop@\*\.service': Failed to connect to bus$"):
        deploy()


def test_outcome_as_json_has_a_stable_shape(deploy: Deploy) -> None:
    found = deploy(Options(pause=0, canary=1)).as_json()
    assert set(found) == {"deployment", "failure", "interrupted", "next", "instances"}
    instances = found["instances"]
    assert isinstance(instances, list)
    assert set(instances[0]) == {"instance", "version", "state", "pid", "directory", "condition"}
