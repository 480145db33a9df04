"""Reload or restart: the question is what has changed, by any way that a file can change."""

import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path, PurePosixPath

import pytest

from aiosystemd import scope
from aiosystemd.rollout.decide import missing, outdated, unread, why_restart
from aiosystemd.rollout.instance import Instance, Unit


def unit(name: str, *files: Path, started: float = 0.0) -> Unit:
    return Unit(name, "loaded", "active", "running", "success", files, stale=False, started=started)


@pytest.fixture
def instance(tmp_path: Path) -> Instance:
    """Return an instance that was started after everything it reads was written."""
    for name in ("unit", "drop-in", "variables", "secret"):
        (tmp_path / name).write_text(name)
    (tmp_path / "drop-in").write_text(f"[Service]\nLoadCredential=key:{tmp_path}/secret\nLoadCredential=id:%i\n")
    service = unit("shop@1.service", tmp_path / "unit", tmp_path / "drop-in", started=time.time() + 0.02)
    # Whatever comes next, comes after the start, and the clock of the file system ticks.
    time.sleep(0.05)
    return Instance(
        "1",
        service,
        unit("shop@1.socket"),
        pid=1,
        restarts=0,
        reloads=True,
        environment_files=((tmp_path / "variables", True), (tmp_path / "absent", False)),
        memory_max=None,
        memory=None,
    )


def test_reload_is_enough_when_nothing_has_changed(instance: Instance) -> None:
    assert why_restart(instance, stale=False) == ""
    assert missing(instance) == ""


def rewrite(path: Path) -> None:
    path.write_text("new")


def rename(path: Path) -> None:
    """Put a file in place as dpkg does, whose date is from long ago."""
    new = path.with_suffix(".new")
    new.write_text("new")
    os.utime(new, (0, 0))
    new.rename(path)


def link(path: Path) -> None:
    path.with_suffix(".other").write_text("new")
    path.unlink()
    path.symlink_to(f"{path.name}.other")


def chmod(path: Path) -> None:
    path.chmod(0o600)


@pytest.mark.parametrize("name", ["unit", "drop-in", "variables", "secret", "absent"])
@pytest.mark.parametrize("change", [rewrite, rename, link, chmod])
def test_whatever_is_read_and_changed_needs_a_restart(
    instance: Instance, tmp_path: Path, name: str, change: Callable[[Path], None]
) -> None:
    path = tmp_path / name
    if name == "absent":
        path.write_text("now it is there")
    if name == "drop-in" and change is link:
        path.with_suffix(".keep").write_text(path.read_text())
    change(path)
    assert why_restart(instance, stale=False) == f"{path} has changed"


def test_link_on_the_way_that_leads_elsewhere_is_a_change(instance: Instance, tmp_path: Path) -> None:
    """The new release lay there when the instance was started; the link that names the current one did not."""
    for release in ("1", "2"):
        (tmp_path / "releases" / release).mkdir(parents=True)
        (tmp_path / "releases" / release / "variables").write_text(release)
    (tmp_path / "current").symlink_to("releases/1")
    started = time.time() + 0.02
    time.sleep(0.05)
    service = replace(instance.service, started=started)
    variables = tmp_path / "current" / "variables"
    there = replace(instance, service=service, environment_files=((variables, True),))
    assert why_restart(there, stale=False) == ""
    (tmp_path / "current").unlink()
    (tmp_path / "current").symlink_to("releases/2")
    assert why_restart(there, stale=False) == f"{variables} has changed"


def test_link_to_itself_is_no_obstacle(instance: Instance, tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    there = replace(instance, environment_files=((tmp_path / "loop", False),))
    assert "loop has changed" in why_restart(there, stale=False)


def test_pattern_of_environment_files_means_each_of_them(instance: Instance, tmp_path: Path) -> None:
    pattern = tmp_path / "conf.d" / "*.env"
    there = replace(instance, environment_files=((pattern, True),))
    assert missing(there) == str(pattern)
    pattern.parent.mkdir()
    (pattern.parent / "a.env").write_text("A=1")
    assert missing(there) == ""
    assert why_restart(there, stale=False) == f"{tmp_path}/conf.d/a.env has changed"


def test_directory_of_credentials_means_each_file_in_it(instance: Instance, tmp_path: Path) -> None:
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "key").write_text("one")
    (tmp_path / "unit").write_text(f"[Service]\n LoadCredentialEncrypted = all:{tmp_path}/secrets\n")
    started = time.time() + 0.02
    time.sleep(0.05)
    there = replace(instance, service=replace(instance.service, started=started))
    assert why_restart(there, stale=False) == ""
    (tmp_path / "secrets" / "key").write_text("two")
    assert why_restart(there, stale=False) == f"{tmp_path}/secrets/key has changed"


def test_specifiers_of_a_credentials_path_are_those_of_the_instance(instance: Instance, tmp_path: Path) -> None:
    (tmp_path / "unit").write_text(f"[Service]\nLoadCredential=key:{tmp_path}/%%%i%%i\n")
    started = time.time() + 0.02
    time.sleep(0.05)
    there = replace(instance, service=replace(instance.service, started=started))
    (tmp_path / "%1%i").write_text("key")
    assert why_restart(there, stale=False) == f"{tmp_path}/%1%i has changed"


def test_file_that_is_needed_and_gone_is_missing(instance: Instance, tmp_path: Path) -> None:
    (tmp_path / "variables").unlink()
    assert missing(instance) == f"{tmp_path}/variables"


def test_unit_that_systemd_had_read_before_it_changed_needs_a_restart(instance: Instance) -> None:
    assert why_restart(instance, stale=True) == "shop@.service has changed"


def test_process_that_does_not_run_needs_a_restart(instance: Instance) -> None:
    service = replace(instance.service, state="activating", sub="auto-restart", result="exit-code")
    there = replace(instance, service=service, pid=0)
    assert why_restart(there, stale=False) == "it is activating (auto-restart, exit-code)"


def test_unit_without_a_reload_needs_a_restart(instance: Instance) -> None:
    assert why_restart(replace(instance, reloads=False), stale=False) == "its unit has no ExecReload="


@pytest.mark.parametrize(("used", "limit", "fits"), [(100, 200, True), (101, 200, False), (101, None, True)])
def test_two_processes_must_fit_into_the_memory(
    instance: Instance, used: int, limit: int | None, *, fits: bool
) -> None:
    there = replace(instance, memory=used << 20, memory_max=limit and limit << 20)
    why = "it uses 101 MiB, and two processes do not fit into its MemoryMax= of 200 MiB"
    assert why_restart(there, stale=False) == ("" if fits else why)
    assert why_restart(replace(there, memory=None), stale=False) == ""


@pytest.mark.parametrize(
    ("name", "new"), [("shop@.service.d", "a"), ("shop@1.service.d", "a"), ("shop@2.service.d", "")]
)
def test_drop_in_that_systemd_has_not_read_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, new: str
) -> None:
    monkeypatch.setattr(scope, "_current", replace(scope.SYSTEM, drop_ins=(PurePosixPath(tmp_path),)))
    (tmp_path / "shop@.service.d").mkdir()
    (tmp_path / "shop@.service.d" / "known.conf").write_text("")
    service = unit("shop@1.service", tmp_path / "shop@.service", tmp_path / "shop@.service.d" / "known.conf")
    assert not unread(service)
    assert unread(replace(service, stale=True))
    (tmp_path / name).mkdir(exist_ok=True)
    (tmp_path / name / "a.conf").symlink_to("/dev/null")
    (tmp_path / name / "b.conf").touch()
    assert not unread(service)
    (tmp_path / name / "c.conf").write_text("[Service]")
    assert unread(service) == bool(new)


def test_socket_is_outdated_when_its_unit_has_changed_since_it_was_opened(tmp_path: Path) -> None:
    (tmp_path / "unit").write_text("")
    now = time.time()
    assert not outdated(unit("shop@1.socket", tmp_path / "unit", started=now + 1))
    assert outdated(unit("shop@1.socket", tmp_path / "unit", started=now - 1))
    assert outdated(replace(unit("shop@1.socket", started=now), stale=True))
