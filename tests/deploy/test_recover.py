"""After a run that was killed: what lies about is put back, and what others have done since is not."""

from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from aiosystemd.deploy import files as module
from aiosystemd.deploy import in_force
from aiosystemd.deploy.recover import find_release
from aiosystemd.deploy.store import Release
from tests.deploy.conftest import Files

SITE: Final = "etc/nginx/conf.d/shop.conf"


class Killed(BaseException):
    """The end of a process, which cleans nothing up."""


def kill(files: Files, monkeypatch: pytest.MonkeyPatch, do: Callable[[], object]) -> None:
    """Do something, up to the last moment at which there is a way back."""

    def commit(_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(module.Files, "commit", commit)
        with pytest.raises(Killed):
            do()
    assert files.diff().interrupted


def test_next_run_says_so_and_finishes(kept: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    kept.write("proxy.server_names = ['shop.example']", "service.user = 'shop'")
    kill(kept, monkeypatch, kept.apply)
    assert kept.apply().status == 0
    assert kept.steps == ["shop: an earlier run was killed: what it has written is taken back first"]
    assert kept.is_in_force()


def test_first_apply_that_was_killed_can_be_removed(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    before = files.files()
    kill(files, monkeypatch, files.apply)
    assert set(in_force("shop", files.root).instances) == {"1", "2"}
    assert files.remove().status == 0
    assert files.files() == before


def test_something_else_may_be_wanted_then(kept: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    before = kept.files()
    kill(kept, monkeypatch, lambda: kept.scale(3))
    assert "instances = 3" in kept.file.read_text()
    kept.write(instances=2)
    assert kept.apply().status == 0
    after = kept.files()
    assert {name for name in {*before, *after} if before.get(name) != after.get(name)} == {
        "var/lib/aiosystemd/shop/manifest.json",
        "var/lib/aiosystemd/shop/generations/2.json",
    }


def test_what_somebody_has_edited_since_is_not_taken_for_ours(kept: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of the killed run that was not there before, and is not what that run has written."""
    kept.write("service.user = 'shop'")
    kill(kept, monkeypatch, kept.apply)
    users = kept.root / "usr/lib/sysusers.d/shop.conf"
    users.write_text("# mine\n")
    kept.write()
    assert kept.apply().status == 0
    assert users.read_text() == "# mine\n"


def test_link_that_a_killed_rollback_has_led_elsewhere_is_led_back(
    kept: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept.release("2", "moin")
    kept.link("2")
    assert kept.apply().status == 0
    kill(kept, monkeypatch, kept.rollback)
    link = kept.root / "srv/shop/current"
    assert link.readlink() == Path("1")
    assert kept.apply().status == 0
    assert link.readlink() == Path("2")
    assert in_force("shop", kept.root).release == Release(link="/srv/shop/current", target="2")


def test_link_that_somebody_has_led_elsewhere_since_stays(kept: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("2", "3"):
        kept.release(name, "moin")
    kept.link("2")
    assert kept.apply().status == 0
    kill(kept, monkeypatch, kept.rollback)
    kept.link("3")
    assert kept.apply().status == 0
    assert (kept.root / "srv/shop/current").readlink() == Path("3")


def test_release_is_the_last_link_on_the_way(tmp_path: Path) -> None:
    (tmp_path / "srv/real/app").mkdir(parents=True)
    (tmp_path / "srv/link").symlink_to("real")
    found = Release(link="/srv/link", target="real")
    assert find_release("/srv/link/app", tmp_path) == found
    assert find_release("/srv/link", tmp_path) == found
    assert find_release("/srv/real/app", tmp_path) is None
    assert find_release(None, tmp_path) is None
    assert find_release("/nowhere/at/all", tmp_path) is None
