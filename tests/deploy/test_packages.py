"""What the maintainer scripts of a package need: new code without a changed file, and the administrator's policy."""

from pathlib import Path

import pytest

from aiosystemd.deploy import policy
from aiosystemd.errors import ProblemsError
from tests.deploy.cases import READ, told
from tests.deploy.conftest import Shop
from tests.releases import NO_IMPORT

ROLLED = ("reload shop@1.service", "reload shop@2.service")


def hello(shop: Shop) -> list[str]:
    return [each[0] for each in shop.running().values()]


def test_new_code_is_rolled_out_although_no_file_has_changed(applied: Shop) -> None:
    applied.release("1", "moin")
    assert applied.apply().status == 0
    assert told(applied) == ()
    assert applied.apply(renew=True).status == 0
    assert told(applied) == ROLLED
    assert hello(applied) == ["moin from 1", "moin from 2"]


def test_new_code_that_fails_leaves_every_process_as_it_is(applied: Shop) -> None:
    before = applied.host.pids()
    applied.release("1", "", NO_IMPORT)
    done = applied.apply(renew=True)
    assert (done.status, "no such luck" in done.failure) == (1, True)
    assert applied.host.pids() == before
    assert hello(applied) == ["hello from 1", "hello from 2"]


def test_first_apply_has_nothing_to_renew(shop: Shop) -> None:
    assert shop.apply(renew=True).status == 0
    assert not {*ROLLED} & {*told(shop)}


def test_stopped_deployment_is_not_started_by_new_code(applied: Shop) -> None:
    applied.host._systemctl(["stop", "shop.target"])
    assert applied.apply(renew=True).status == 0
    assert applied.host.pids() == {}


@pytest.fixture
def says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the program that is asked."""
    path = tmp_path / "policy-rc.d"
    monkeypatch.setattr(policy, "_POLICY", path)
    return path


def write(says: Path, status: int) -> None:
    says.write_text(f'#!/bin/sh\necho "$@" >>"$0.asked"\necho no answer >&2\nexit {status}\n')
    says.chmod(0o755)


def asked(says: Path) -> list[str]:
    return says.with_name("policy-rc.d.asked").read_text().splitlines()


def test_policy_that_forbids_gets_files_that_are_read_and_enabled(shop: Shop, says: Path) -> None:
    write(says, 101)
    shop.by_policy = True
    assert shop.apply().status == 0
    assert [each for each in told(shop) if "is-enabled" not in each] == [f"--root={shop.root} enable shop.target", READ]
    assert (shop.host.pids(), shop.host.site, shop.diff().anything) == ({}, None, False)
    shop.write("service.environment = {A = 'b'}")
    assert shop.apply(renew=True).status == 0
    assert shop.host.pids() == {}
    assert asked(says) == ["shop.target restart"] * 2


def test_policy_that_forbids_keeps_a_removal_from_stopping_what_runs(applied: Shop, says: Path) -> None:
    write(says, 101)
    applied.by_policy = True
    before = applied.host.pids()
    assert applied.remove().status == 0
    assert applied.host.pids() == before
    assert not (applied.root / "etc/systemd/system/shop@.service").exists()
    assert asked(says) == ["shop.target stop"]


@pytest.mark.parametrize("status", [0, 104])
def test_policy_that_allows_changes_nothing(shop: Shop, says: Path, status: int) -> None:
    write(says, status)
    shop.by_policy = True
    assert shop.apply().status == 0
    assert set(shop.host.pids()) == {"1", "2"}


def test_policy_without_an_answer_stops_it_before_anything_is_changed(shop: Shop, says: Path) -> None:
    write(says, 1)
    before, shop.by_policy = shop.files(), True
    with pytest.raises(ProblemsError, match=r"status 1 for shop.target restart: no answer"):
        shop.apply()
    assert shop.files() == before


def test_administrators_run_does_not_ask(shop: Shop, says: Path) -> None:
    write(says, 101)
    assert shop.apply().status == 0
    assert set(shop.host.pids()) == {"1", "2"}
    assert not says.with_name("policy-rc.d.asked").exists()
