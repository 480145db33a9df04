"""From what runs to what is wanted, and back whatever fails on the way."""

from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from aiosystemd.deploy import Result, proxy
from aiosystemd.errors import ProblemsError
from tests.deploy.cases import CASES, PROXY, READ, Fault, told
from tests.deploy.conftest import Shop
from tests.releases import APP, NO_IMPORT, on_startup
from tests.rollout.systemd import Reply

UNIT: Final = "etc/systemd/system/shop@.service"


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
    assert told(shop) == (READ, "enable shop.target", start, PROXY)
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


# What fails in these fails in others too.
_SIMPLE: Final = (
    *("nothing that runs", "what systemd looks at", "site", "environment", "socket"),
    *("more instances", "environment, and one more"),
)
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
    assert [each.split()[0] for each in failed] == ["nginx", READ, "enable", "start", "nginx", "reload"]
    assert shop.is_in_force()


def test_removal_goes_back_whichever_call_fails(applied: Shop) -> None:
    failed = everything_goes_back(applied, applied.remove)
    assert [each.split()[0] for each in failed].count("stop") == 3
    assert failed[-1] == READ
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


def test_added_instance_that_hangs_in_its_start_is_taken_back(applied: Shop) -> None:
    applied.release("1", "hello", on_startup("await asyncio.sleep(60)"))
    applied.write(instances=3)
    applied.timeout = 1.0
    assert goes_back(applied, applied.apply).failure == "the instances have not started within 1 s"


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
