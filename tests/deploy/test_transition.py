"""From what runs to what is wanted, and back whatever fails on the way."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from aiosystemd.deploy import Result, proxy
from aiosystemd.deploy.store import Store
from aiosystemd.errors import ProblemsError
from tests.deploy.conftest import Shop, interrupt
from tests.releases import APP, NO_IMPORT
from tests.rollout.systemd import Reply
from tests.runtime.lab import ROOT, eventually

UNIT: Final = "etc/systemd/system/shop@.service"


class Case(NamedTuple):
    """A change of the deployment file, and what it comes to."""

    lines: tuple[str, ...] = ()
    instances: int = 2
    commands: tuple[str, ...] = ()
    """What systemctl is told, in order."""
    renewed: tuple[str, ...] = ()
    """Instances that have another process then."""


_RELOAD: Final = "daemon-reload"
_PROXY: Final = "reload nginx.service"

CASES: Final[Mapping[str, Case]] = {
    "nothing that runs": Case(("health.path = '/health'",)),
    "what systemd looks at": Case(("service.restart = 'on-failure'",), commands=(_RELOAD,)),
    "command": Case(
        ("server.keepalive = 80",),
        commands=(_RELOAD, "reload shop@1.service", "reload shop@2.service"),
        renewed=("1", "2"),
    ),
    "environment": Case(
        ("service.environment = {A = 'b'}",),
        commands=(_RELOAD, "restart shop@1.service", "restart shop@2.service"),
        renewed=("1", "2"),
    ),
    "socket": Case(
        ("listen.mode = '0666'",),
        commands=(_RELOAD, "restart shop@1.socket shop@1.service", "restart shop@2.socket shop@2.service"),
        renewed=("1", "2"),
    ),
    "site": Case(("proxy.server_names = ['shop.example']",), commands=(_PROXY,)),
    "environment, and one more": Case(
        ("service.environment = {A = 'b'}",),
        instances=3,
        commands=(
            *(_RELOAD, "start shop@3.socket shop@3.service", "restart shop@1.service", "restart shop@2.service"),
            _PROXY,
        ),
        renewed=("1", "2"),
    ),
    "more instances": Case(
        instances=3,
        commands=(_RELOAD, "start shop@3.socket shop@3.service", _PROXY),
    ),
    "fewer instances": Case(
        instances=1,
        commands=(_RELOAD, _PROXY, "stop shop@2.socket shop@2.service"),
        renewed=("2",),
    ),
    "place of the sockets, and one more": Case(
        ("service.environment = {A = 'b'}", "listen.directory = '/run/elsewhere'"),
        instances=3,
        commands=(
            *(_RELOAD, _PROXY, "start shop@3.socket shop@3.service"),
            *("restart shop@1.socket shop@1.service", "restart shop@2.socket shop@2.service", _PROXY),
        ),
        renewed=("1", "2"),
    ),
}


def acts(call: list[str]) -> bool:
    """Tell whether a call is to change something."""
    return call[0] not in ("show", "nginx", "systemd-analyze")


def told(shop: Shop) -> tuple[str, ...]:
    return tuple(" ".join(command) for command in shop.host.commands())


@pytest.mark.parametrize("name", CASES)
def test_change_does_what_it_needs_and_no_more(applied: Shop, name: str) -> None:
    before, case = applied.host.pids(), CASES[name]
    applied.write(*case.lines, instances=case.instances)
    done = applied.apply()
    assert (done.failure, done.status, list(done.lines())) == ("", 0, ["shop: done"])
    assert told(applied) == case.commands
    now = applied.host.pids()
    assert set(now) == applied.host.listening() == {str(number + 1) for number in range(case.instances)}
    assert {each for each in before if now.get(each) != before[each]} == set(case.renewed)
    assert applied.is_in_force()
    assert applied.host.site == (applied.root / "etc/nginx/conf.d/shop.conf").read_bytes()
    assert {path.name for path in (applied.root / "run").glob("*/*.sock")} == {f"{each}.sock" for each in now}


def test_first_apply_starts_all_and_the_second_changes_nothing(shop: Shop) -> None:
    assert shop.apply().status == 0
    start = "start shop.target shop@1.socket shop@1.service shop@2.socket shop@2.service"
    assert told(shop) == (_RELOAD, "enable shop.target", start, _PROXY)
    before, pids = shop.state(), shop.host.pids()
    assert [before["targets"], before["listening"]] == [{"shop.target"}, {"1", "2"}]
    assert shop.apply().status == 0
    assert (shop.state(), shop.host.pids(), told(shop)) == (before, pids, ())


def test_release_that_a_link_leads_to_is_rolled_out_and_back(applied: Shop) -> None:
    applied.release("2", "moin")
    applied.link("2")
    assert applied.apply().status == 0
    assert [each[0] for each in applied.running().values()] == ["moin from 1", "moin from 2"]
    assert applied.rollback().status == 0
    assert [each[0] for each in applied.running().values()] == ["hello from 1", "hello from 2"]
    assert (applied.root / "srv/shop/current").readlink() == Path("1")
    assert applied.is_in_force()


def test_removal_leaves_what_is_not_ours(applied: Shop) -> None:
    others = {"etc/nginx/conf.d/other.conf", "etc/systemd/system/shop@.service.d/local.conf", f"{UNIT}.orig"}
    for name in others:
        (applied.root / name).parent.mkdir(exist_ok=True)
        (applied.root / name).write_text("# mine\n")
    assert applied.remove().status == 0
    assert {name for name in applied.files() if not name.startswith("srv/")} == {*others, "etc/aiosystemd/shop.toml"}
    assert (applied.host.pids(), applied.host.listening(), applied.host.targets) == ({}, set(), set())
    assert applied.host.site is None
    assert [each.split()[0] for each in told(applied)[1:3]] == ["reload", "stop"]
    assert not list((applied.root / "run/shop").glob("*.sock"))


def test_scaling_writes_the_number_back(applied: Shop) -> None:
    assert applied.scale(3).status == 0
    assert "instances = 3  # as many as there are\n" in applied.file.read_text()
    assert applied.is_in_force()


def test_stopped_deployment_is_left_so(applied: Shop) -> None:
    applied.host._systemctl(["stop", "shop.target"])
    assert applied.scale(3).status == 0
    assert "shop: is stopped, and left so" in applied.steps
    assert (applied.host.pids(), applied.host.listening()) == ({}, set())


# What fails.


class Fault:
    """Lets one call that changes something fail: the one of a number, whether done all the same or not."""

    def __init__(self, shop: Shop, number: int, *, done: bool) -> None:
        self.call: list[str] = []
        self._host, self._left, self._done = shop.host, number, done
        shop.host.interfere = self

    def __call__(self, _: int, call: list[str]) -> Reply | None:
        if not (acts(call) or call[0] == "nginx"):
            return None
        self._left -= 1
        if self._left:
            return None
        self.call, self._host.interfere = call, lambda *_: None
        if self._done and call[0] != "nginx":
            self._host._systemctl(call)
        return (1, "", "No luck.\n")


def attempt(do: Callable[[], Result]) -> str:
    """Return how something failed, "" if it did not."""
    try:
        done = do()
    except ProblemsError as error:
        return str(error)
    assert not done.lost
    assert done.status == bool(done.failure)
    assert next(done.lines()) == (f"failed: {done.failure}" if done.failure else "shop: done")
    return done.failure


def everything_goes_back(shop: Shop, do: Callable[[], Result], *, done: bool = False) -> list[str]:
    """Let each call fail in its turn, the last time none; return those that failed."""
    before = shop.state()
    failed: list[str] = []
    while True:
        fault = Fault(shop, len(failed) + 1, done=done)
        words = attempt(do)
        if not fault.call:
            assert words == ""
            return failed
        failed.append(" ".join(fault.call))
        assert "No luck." in words or (done and not words), failed
        if not words:
            return failed
        assert shop.state() == before, failed


_SIMPLE: Final = ("nothing that runs", "environment", "more instances")
_DONE: Final = ("fewer instances", "place of the sockets, and one more")


@pytest.mark.parametrize(
    ("name", "done"),
    [*((name, False) for name in CASES if name not in _SIMPLE), *((name, True) for name in _DONE)],
)
def test_everything_goes_back_whichever_call_fails(applied: Shop, name: str, *, done: bool) -> None:
    case = CASES[name]
    applied.write(*case.lines, instances=case.instances)
    failed = everything_goes_back(applied, applied.apply, done=done)
    # A start that was done is as good as one that succeeded.
    assert [each for each in failed if not each.startswith("nginx")] == list(
        case.commands[: 1 + next((at for at, each in enumerate(case.commands) if done and each[:5] == "start"), 99)]
    )
    assert applied.is_in_force()


def test_first_apply_goes_back_whichever_call_fails(shop: Shop) -> None:
    failed = everything_goes_back(shop, shop.apply)
    assert [each.split()[0] for each in failed] == ["nginx", _RELOAD, "enable", "start", "nginx", "reload"]
    assert shop.is_in_force()


def test_removal_goes_back_whichever_call_fails(applied: Shop) -> None:
    failed = everything_goes_back(applied, applied.remove)
    assert [each.split()[0] for each in failed].count("stop") == 3
    assert failed[-1] == _RELOAD
    assert applied.host.pids() == {}


def goes_back(shop: Shop, do: Callable[[], Result]) -> Result:
    """See that something fails, and all is as it was."""
    before = shop.state()
    done = do()
    assert (done.status != 0, done.lost) == (True, ())
    assert shop.state() == before
    return done


@pytest.mark.parametrize("lines", [(), ("listen.directory = '/run/elsewhere'",)], ids=["reload", "restart"])
def test_bad_release_goes_back(applied: Shop, lines: tuple[str, ...]) -> None:
    """Also where an instance is down in between, and is to come back to another place than it was to go to."""
    applied.release("2", "", NO_IMPORT)
    applied.link("2")
    applied.write(*lines)
    if lines:  # A start reads what the link leads to, and the old release is there again only when it leads back.
        applied.when["everything goes back"] = lambda: applied.link("1")
    before = applied.state() | {"files": None}
    done = applied.apply()
    assert done.failure.startswith("shop@1: ")
    assert "RuntimeError: no such luck" in done.failure
    assert done.lost == ()
    assert applied.state() | {"files": None} == before


def test_added_instance_that_is_not_healthy_is_taken_back(applied: Shop) -> None:
    sick = APP.replace(
        "return web.Response(text=f", 'assert os.environ["AIOSYSTEMD_INSTANCE"] != "3"\n    return web.Response(text=f'
    )
    applied.release("1", "hello", sick)
    applied.write(instances=3)
    done = goes_back(applied, applied.apply)
    assert done.failure.startswith("shop@3: answers 500 Internal Server Error, not 200: ")


def test_nginx_that_does_not_take_the_site_is_told(applied: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxy, "_PATIENCE", 0.1)
    applied.host.obeys = False
    applied.when["everything goes back"] = lambda: setattr(applied.host, "obeys", True)
    applied.write("proxy.server_names = ['shop.example']")
    done = goes_back(applied, applied.apply)
    assert done.failure == "nginx has not taken the new configuration, and its error log says why"


def test_nginx_that_is_broken_already_stops_it_before_anything_is_changed(applied: Shop) -> None:
    applied.host.refusal = "unknown directive"
    applied.write("proxy.server_names = ['shop.example']", instances=3)
    before = applied.state()
    with pytest.raises(ProblemsError, match=r"^nginx -t: unknown directive \(nginx refuses what it has, before"):
        applied.apply()
    assert (applied.state(), told(applied)) == (before, ())


def test_nginx_that_does_not_run_reads_the_site_later(shop: Shop) -> None:
    shop.host.stop_nginx()
    assert shop.apply().status == 0
    assert "shop: nginx does not run: it reads the site when it starts" in shop.steps


def test_proxy_that_is_new_while_the_sockets_move_goes_away_again(applied: Shop) -> None:
    applied.write("proxy.kind = 'none'")
    assert applied.apply().status == 0
    applied.write("proxy.kind = 'nginx'", "listen.directory = '/run/elsewhere'")
    Fault(applied, 6, done=False)
    assert "No luck." in goes_back(applied, applied.apply).failure
    assert applied.host.site is None


def test_unit_that_systemd_cannot_load_goes_back(applied: Shop) -> None:
    applied.host.loads["shop@1.service"] = "bad-setting"
    applied.when["everything goes back"] = applied.host.loads.clear
    applied.write("service.restart = 'on-failure'")
    done = goes_back(applied, applied.apply)
    assert done.failure == "shop@1.service: systemd cannot load it: bad-setting"


def test_unit_that_systemd_complains_of_goes_back(applied: Shop) -> None:
    applied.host.complaint = f"{applied.root}/{UNIT}:9: Unknown key name 'Spam' in section 'Service', ignoring.\n"
    applied.write("service.restart = 'on-failure'")
    done = goes_back(applied, applied.apply)
    assert done.failure.startswith("systemd-analyze verify: ")
    assert "Unknown key name 'Spam'" in done.failure


def test_drop_in_that_systemd_complains_of_is_told(applied: Shop) -> None:
    applied.host.complaint = "/etc/systemd/system/shop@.service.d/a.conf:2: Unknown key name 'Spam', ignoring.\n"
    applied.write("service.restart = 'on-failure'")
    assert applied.apply().status == 0
    assert any("a.conf:2: Unknown key name 'Spam'" in step for step in applied.steps)


def test_users_are_made_and_a_failure_there_goes_back(applied: Shop) -> None:
    def no_luck(_: int, call: list[str]) -> Reply | None:
        return (1, "", "Failed to add user.\n") if call[0] == "systemd-sysusers" else None

    applied.write("service.user = 'shop'")
    applied.host.interfere = no_luck
    assert goes_back(applied, applied.apply).failure == "systemd-sysusers shop.conf: Failed to add user."
    applied.host.interfere = lambda *_: None
    assert applied.apply().status == 0
    assert ["systemd-sysusers", "shop.conf"] in applied.host.calls


def test_systemd_that_fails_for_good_is_told_and_the_next_run_finishes(applied: Shop) -> None:
    """What could not be put back, the message says; the files are."""
    before = applied.files()
    applied.write("service.environment = {A = 'b'}", instances=3)
    wanted = applied.file.read_bytes()

    def no_luck(_: int, call: list[str]) -> Reply | None:
        begun.extend(call[:1] if call[0] == "restart" else ())
        return (1, "", "No luck.\n") if begun else None

    begun: list[str] = []
    applied.host.interfere = no_luck
    done = applied.apply()
    assert (done.status, "files" in done.restored) == (1, True)
    assert {each.partition(":")[0] for each in done.lost} >= {"units", "instances", "added instances"}
    assert [each for each in done.lines() if each.startswith("not restored: units: ")]
    assert applied.files() == before | {"etc/aiosystemd/shop.toml": (0o100644, wanted)}
    applied.host.interfere = lambda *_: None
    assert applied.apply().status == 0
    assert applied.is_in_force()
    assert set(applied.host.pids()) == {"1", "2", "3"}


# Who else is there.


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
