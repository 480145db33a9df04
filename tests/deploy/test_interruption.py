"""Ctrl-C and SIGKILL at any time, and others at work at the same time."""

import os
import signal
import subprocess
import sys

import pytest

from aiosystemd.deploy.store import Store
from aiosystemd.errors import ProblemsError
from tests.deploy.cases import CASES, Case, Fault, acts
from tests.deploy.conftest import Shop, interrupt
from tests.rollout.systemd import Reply
from tests.runtime.lab import ROOT, eventually


def test_somebody_else_is_told_to_use_sudo(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    before = shop.files()
    with pytest.raises(ProblemsError, match=r"^aiosystemd: only root may reload and restart services \(use sudo\)$"):
        shop.apply()
    assert shop.files() == before


def test_second_run_at_the_same_time_is_refused_and_names_the_first(applied: Shop) -> None:
    def second() -> None:
        done = command(applied, "scale", "shop", "4", "--yes")
        said.append((done.returncode, done.stderr))

    said: list[tuple[int, str]] = []
    applied.when["shop@3: serves"] = second
    assert applied.scale(3).status == 0
    ((status, words),) = said
    assert status == 1
    assert "shop.lock: is held by aiosystemd" in words
    assert f"(process {os.getpid()}, since " in words
    assert set(applied.host.pids()) == {"1", "2", "3"}


def command(shop: Shop, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the program in a process of its own."""
    program = (sys.executable, "-m", "tests.deploy.command", str(shop.host.directory))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        (*program, *arguments, "--root", str(shop.root)), env=environment, capture_output=True, text=True, check=False
    )


# Ctrl-C, and worse.


@pytest.mark.parametrize("name", ["command", "fewer instances", "place of the sockets, and one more"])
def test_interruption_at_any_time_puts_everything_back(applied: Shop, name: str) -> None:
    """While each call is at work in its turn; after the last moment at which it could, it comes to its end."""

    def press(_: int, call: list[str]) -> None:
        calls.append(" ".join(call)) if acts(call) else None
        if len(calls) == at and not pressed:
            pressed.append(calls[-1])
            interrupt()

    case = CASES[name]
    applied.write(*case.lines, instances=case.instances)
    before, at = applied.state(), 0
    while True:
        at += 1
        calls: list[str] = []
        pressed: list[str] = []
        applied.host.interfere = press
        done = applied.apply()
        applied.host.interfere = lambda *_: None
        if not done.interrupted:
            break
        assert (done.status, done.failure, done.lost, next(done.lines())) == (130, "", (), "interrupted")
        assert applied.state() == before, pressed
    # Nothing is left to wait for after the last one.
    assert pressed in ([], [case.commands[-1]])
    assert applied.is_in_force()


def test_second_interruption_ends_the_way_back_too(applied: Shop) -> None:
    applied.write("service.environment = {A = 'b'}", instances=3)
    applied.when["shop@1: process"] = interrupt
    applied.when["everything goes back"] = lambda: applied.when.update({"shop@1: restart": interrupt})
    done = applied.apply()
    assert done.status == 130
    assert "instances: interrupted" in done.lost
    assert "files" in done.restored
    eventually(lambda: all(each.state == "active" for each in applied.host.instances.values() if each.pid))
    assert applied.apply().status == 0
    assert applied.is_in_force()


class Killing:
    """Kills the program at one of its calls that change something, which systemd goes on with or not."""

    def __init__(self, shop: Shop, number: int) -> None:
        self.call: list[str] = []
        self._left = self._number = number
        self._shop = shop

    def __call__(self, caller: int, call: list[str]) -> Reply | None:
        self._left -= acts(call)
        if self._left or self.call:
            return None
        os.kill(caller, signal.SIGKILL)
        self.call = call
        return (1, "", "") if self._number % 2 else None

    def apply(self) -> list[str]:
        """Apply, and return the call at which that was killed."""
        self._shop.host.interfere = self
        done = command(self._shop, "apply", str(self._shop.file), "--yes", "--pause=0")
        self._shop.host.interfere = lambda *_: None
        assert (done.returncode, done.stderr) == ((-signal.SIGKILL, "") if self.call else (0, ""))
        return self.call


def test_run_after_one_that_was_killed_finishes_the_job(applied: Shop) -> None:
    """Killed while each call is at work in its turn, on the way there and on the way back."""
    number, killed = 0, [[""]]
    while any(killed):
        number += 1
        killed = []
        for case in (CASES["environment, and one more"], Case()):
            applied.write(*case.lines, instances=case.instances)
            killed.append(Killing(applied, number).apply())
            assert not killed[-1] or applied.apply().status == 0, killed
            assert applied.is_in_force(), killed
            assert set(applied.host.pids()) == applied.host.listening() == {str(n + 1) for n in range(case.instances)}
            assert applied.host.site == (applied.root / "etc/nginx/conf.d/shop.conf").read_bytes()
    assert number > len(CASES["environment, and one more"].commands)


@pytest.mark.parametrize("fault", ["refused", "failed"])
def test_killed_run_is_not_forgotten_by_one_that_comes_to_nothing(applied: Shop, fault: str) -> None:
    """What the killed one has renewed, the next one that succeeds renews again, whatever was in between."""
    before = applied.running()
    applied.write("server.keepalive = 80")
    assert Killing(applied, 3).apply() == ["reload", "shop@2.service"]
    assert "--keepalive=80" in applied.running()["1"][2]
    if fault == "refused":
        applied.host.refusal = "unknown directive"
        with pytest.raises(ProblemsError, match="unknown directive"):
            applied.apply()
        applied.host.refusal = ""
    else:
        Fault(applied, 2, done=False)
        assert "No luck." in applied.apply().failure
    applied.write()
    assert applied.diff().interrupted
    assert applied.apply().status == 0
    assert (applied.running(), applied.is_in_force()) == (before, True)
    assert [each.number for each in Store("shop", applied.root / "var/lib/aiosystemd").history()][1:] != [2]
