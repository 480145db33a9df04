"""What another process manager than systemd is written, and what is said of the rest."""

import json
import subprocess
from pathlib import Path, PurePosixPath

import pytest

from aiosystemd import load
from aiosystemd.build import build_source
from aiosystemd.errors import ProblemsError
from aiosystemd.host import Host, Manager
from aiosystemd.plan import plan
from aiosystemd.render.text import Unrepresentable
from aiosystemd.scope import of_user
from aiosystemd.verify import verify
from tests.tools import own_command

OTHERS = [manager for manager in Manager if manager is not Manager.SYSTEMD]
HEAD = 'name = "shop"\napp = "shop:app"\ninstances = 2\n'
USER = f'{HEAD}[service]\nuser = "shop"\n'


def _said(toml: str, manager: Manager) -> set[str]:
    """Return errors and warnings, each with the line that it points at."""
    source = load.parse("shop.toml", toml)
    try:
        problems = build_source(Path("shop.toml"), source, Host(manager=manager)).warnings
    except ProblemsError as error:
        problems = error.problems
    return {f"{each.severity} {each.at.line}: {each.what}" for each in problems}


@pytest.mark.parametrize("manager", OTHERS)
def test_application_never_runs_as_root_for_want_of_a_user(manager: Manager) -> None:
    what = f"{manager} cannot make users up, and without one the application would run as root"
    assert f"error 1: {what}" in _said(HEAD, manager)
    assert any(each.startswith("error 5") for each in _said(f"{HEAD}[service]\ndynamic_user = true\n", manager))


@pytest.mark.parametrize("manager", OTHERS)
def test_what_is_lost_is_told_once_for_each_key(manager: Manager) -> None:
    lost = 'memory_max = "1G"\ncpu_quota = 50\ntasks_max = 9\ndirectives = { Nice = 5 }\n'
    said = _said(f"{USER}{lost}[timeouts]\nwatchdog = 20\n", manager)
    keys = ("memory_max", "cpu_quota", "tasks_max", "directives")
    assert said == {
        f"warning 1: {manager} has no sandbox: the application may do whatever its user may",
        *(f"warning {line}: {manager} does not put service.{key} in force" for line, key in enumerate(keys, 6)),
        f"warning 11: {manager} has no watchdog: a blocked event loop stays blocked",
    }


def test_limits_that_some_managers_have_are_told_of_the_others() -> None:
    toml = f'{USER}groups = ["video"]\nopen_files = 99\n'
    count = {manager: len(_said(toml, manager)) - 1 for manager in OTHERS}
    assert count == {Manager.SUPERVISORD: 2, Manager.CIRCUS: 1, Manager.RUNIT: 0, Manager.PROCFILE: 2}


@pytest.mark.parametrize("manager", OTHERS)
def test_secrets_that_would_not_arrive_are_errors(manager: Manager) -> None:
    said = _said(f'{USER}environment_files = ["/etc/shop.env"]\ncredentials = {{ key = "/etc/key" }}\n', manager)
    assert f"error 7: {manager} passes no credentials: the application would start without key" in said
    files = "reads no files of variables: the application would start without those of /etc/shop.env"
    assert f"error 6: {manager} {files}" in said


def test_supervisord_has_no_port_for_each_process() -> None:
    toml = f"{USER}[listen]\nport = 8001\n"
    assert any(each.startswith("error 7: supervisord numbers") for each in _said(toml, Manager.SUPERVISORD))
    for manager, address in ((Manager.CIRCUS, "port = 8002"), (Manager.PROCFILE, "--host=127.0.0.1 --port=8002")):
        assert address in _files(toml, manager)
    assert "--host=::1 --port=8001" in _files(f'{toml}address = "::1"\n', Manager.RUNIT)
    assert "family = AF_INET6" in _files(f'{toml}address = "::1"\n', Manager.CIRCUS)


def _files(toml: str, manager: Manager) -> str:
    d, _ = load.validate(load.parse("shop.toml", toml))
    return "\n".join(file.content.render() for file in plan(d, Host(manager=manager), "shop.toml").files)


def test_systemd_loses_nothing() -> None:
    assert _said(f'{USER}memory_max = "1G"\ncredentials = {{ key = "/etc/key" }}\n', Manager.SYSTEMD) == set()


def test_users_systemd_and_another_manager_are_one_too_many() -> None:
    d = load.parse("shop.toml", HEAD)
    home = PurePosixPath("/home/ada")
    scope = of_user("ada", home=home, config=home / ".config", state=home / ".state", run=PurePosixPath("/run/user/9"))
    here = Host(manager=Manager.RUNIT, scope=scope)
    with pytest.raises(ProblemsError, match="--user is for systemd, not for runit"):
        build_source(Path("shop.toml"), d, here)


@pytest.mark.parametrize(
    ("manager", "steps"),
    [
        (Manager.SUPERVISORD, ["supervisorctl update"]),
        (Manager.CIRCUS, ["circusctl reloadconfig"]),
        (Manager.RUNIT, ["ln -s /etc/sv/shop-1 /etc/service/", "ln -s /etc/sv/shop-2 /etc/service/"]),
        (Manager.PROCFILE, ["runuser --user shop -- honcho --procfile /srv/shop/Procfile start"]),
    ],
)
def test_next_steps_are_the_managers_own(manager: Manager, steps: list[str]) -> None:
    d, _ = load.validate(load.parse("shop.toml", USER))
    said = [action.describe() for action in plan(d, Host(manager=manager), "shop.toml").actions]
    assert said == [
        "systemd-sysusers shop.conf",
        "systemd-tmpfiles --create shop.conf",
        *steps,
        "nginx -t",
        "systemctl reload nginx",
    ]


@pytest.mark.parametrize("manager", OTHERS)
def test_what_a_format_cannot_hold_is_refused_by_name(manager: Manager) -> None:
    d, _ = load.validate(load.parse("shop.toml", f'{HEAD}arguments = ["a\\nb"]\nservice.user = "shop"\n'))
    if manager is Manager.RUNIT:
        assert "'a\nb'" in _files(f'{HEAD}arguments = ["a\\nb"]\nservice.user = "shop"\n', manager)
        return
    with pytest.raises(Unrepresentable, match=r"control character|line end"):
        [file.content.render() for file in plan(d, Host(manager=manager), "shop.toml").files]


def test_scripts_are_read_by_a_shell_and_the_rest_by_nobody() -> None:
    d, _ = load.validate(load.parse("shop.toml", USER))
    verdicts = {manager: next(iter(verify(d, Host(manager=manager), "shop.toml"))) for manager in OTHERS}
    assert str(verdicts[Manager.RUNIT]) == "sh -n: passed"
    assert str(verdicts[Manager.CIRCUS]) == "circus: not run, it has no check of its own"
    assert {each.ran for manager, each in verdicts.items() if manager is not Manager.RUNIT} == {False}


def test_second_run_changes_nothing_and_scripts_are_known_as_ours(tmp_path: Path) -> None:
    (tmp_path / "shop.toml").write_text(USER)
    argv = ("generate", "shop.toml", "--manager", "runit", "--output", "tree")
    first = _run(tmp_path, *argv)
    assert "created   tree/etc/sv/shop-1/run" in first
    assert (tmp_path / "tree/etc/sv/shop-1/run").stat().st_mode & 0o777 == 0o755
    assert "created" not in _run(tmp_path, *argv)
    (tmp_path / "shop.toml").write_text(USER.replace("shop:app", "shop:other"))
    assert "updated   tree/etc/sv/shop-2/run" in _run(tmp_path, *argv)
    checked = json.loads(_run(tmp_path, "check", "shop.toml", "--manager", "runit", "--json"))
    assert [each["name"] for each in checked[0]["checkers"]] == ["sh -n", "nginx -t"]


def _run(directory: Path, *words: str) -> str:
    argv = (own_command("aiosystemd"), *words)
    return subprocess.run(argv, cwd=directory, check=True, capture_output=True, text=True).stdout
