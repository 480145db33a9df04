"""Users, groups, directories and units: as the host has them."""

import grp
import os
import pwd
from pathlib import Path

import pytest

from aiosystemd.compare import Change
from aiosystemd.doctor import owners
from aiosystemd.errors import Location, Problem, ProblemsError
from tests.doctor.hosts import editor, nothing_installed, seen_by_root, subject, told

_MISSING = "no-such-group"
_GROUP = grp.getgrgid(os.getgid()).gr_name


@pytest.fixture(autouse=True)
def _everything_can_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    seen_by_root(monkeypatch)


def _listening(toml: str = "") -> str:
    return f'{toml}\n[listen]\ngroup = "{_GROUP}"\n'


def test_dynamic_user_is_made_by_systemd(tmp_path: Path) -> None:
    s = subject(tmp_path, _listening())
    assert list(map(told, owners.users(s))) == [("fine", "the user shop is made by systemd", "")]


def test_dynamic_user_must_not_be_one_of_the_hosts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = pwd.getpwuid(os.getuid())
    monkeypatch.setattr(pwd, "getpwnam", lambda _: entry)
    s = subject(tmp_path, _listening())
    what = "the instances would run as shop, a user of this host, not as one that systemd makes for them"
    assert list(map(told, owners.users(s))) == [("error", what, editor(s, 1))]


def test_static_user_that_is_there_is_right(tmp_path: Path) -> None:
    s = subject(tmp_path, _listening('[service]\nuser = "daemon"'))
    assert list(map(told, owners.users(s))) == [("fine", "the user daemon is right", "")]


def test_static_user_that_nothing_would_create(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nothing_installed(tmp_path, monkeypatch)
    s = subject(tmp_path, _listening('[service]\nuser = "nosuch"'))
    what = "the user nosuch does not exist, and there is no systemd-sysusers that would create it"
    assert list(map(told, owners.users(s))) == [("error", what, "useradd --system --user-group nosuch")]


def test_missing_groups_are_made_by_the_commands_that_are_told(tmp_path: Path) -> None:
    toml = f'[service]\ngroups = ["{_MISSING}"]\n[listen]\ngroup = "{_MISSING}"\n'
    mend = f"groupadd --system {_MISSING}"
    assert list(map(told, owners.users(subject(tmp_path, toml)))) == [
        ("error", f"the group {_MISSING} does not exist: no instance would start", mend),
        ("error", f"the group {_MISSING} does not exist: no socket would be opened", mend),
    ]


@pytest.mark.parametrize("writable", [True, False])
def test_directory_that_is_there_must_be_writable(*, writable: bool, tmp_path: Path) -> None:
    files = tmp_path / "files"
    files.mkdir()
    files.chmod(0o777 if writable else 0o755)
    sandbox = f'[sandbox]\nshared_tmp = true\nwritable = ["{files}"]'
    s = subject(tmp_path, _listening(f'[service]\nuser = "daemon"\n{sandbox}'))
    wrong = ("error", f"{files} is not writable for daemon", f"chown daemon {files}")
    right = ("fine", "the user daemon is right", "")
    # Only root can try what daemon may.
    assert list(map(told, owners.users(s))) == [right if writable or os.geteuid() else wrong]


def test_units_of_nobody_else_are_fine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    s = subject(tmp_path)
    monkeypatch.setattr(owners, "compare", lambda *_: ())
    assert list(map(told, owners.units(s))) == [("fine", "no unit or file of somebody else's is in the way", "")]


@pytest.mark.parametrize(
    ("path", "more"),
    [("/etc/systemd/system/shop@.service", " && systemctl daemon-reload"), ("/etc/nginx/conf.d/shop.conf", "")],
)
def test_file_of_somebody_else_is_moved_away(
    path: str, more: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change = Change(Path(path), "foreign", None)
    monkeypatch.setattr(owners, "compare", lambda *_: (change,))
    (finding,) = owners.units(subject(tmp_path))
    assert told(finding) == ("error", "is somebody else's, and ours would go there", f"mv {path} {path}.old{more}")


def test_directory_in_the_place_of_a_unit_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> tuple[Change, ...]:
        raise ProblemsError(Problem(Location("/etc/systemd/system/shop@.service"), "is a directory"))

    monkeypatch.setattr(owners, "compare", refuse)
    s = subject(tmp_path)
    assert list(map(told, owners.units(s))) == [
        ("error", "/etc/systemd/system/shop@.service: is a directory", editor(s, 1))
    ]
