"""gunicorn in the place of instances: what is written for it, what it says of that, and what is refused."""

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given

from aiosystemd import load
from aiosystemd.build import build_source
from aiosystemd.compare import Change
from aiosystemd.generate import _steps
from aiosystemd.host import Host
from aiosystemd.migrate import importing
from aiosystemd.plan import plan, render
from aiosystemd.render.python import Module, Unrepresentable
from aiosystemd.verify import verify
from tests.render.hostile import texts
from tests.tools import own_command

TOML = 'name = "shop"\napp = "shop.main:create"\ndirectory = "/srv/shop"\ninstances = 3\nserver.kind = "gunicorn"\n'
USER = f'{TOML}service.user = "shop"\n'


def _files(toml: str) -> dict[str, str]:
    d, _ = load.validate(load.parse("shop.toml", toml))
    return {path.name: file.content.decode() for path, file in render(plan(d, Host(), "shop.toml")).items()}


def _run(directory: Path, *words: str) -> subprocess.CompletedProcess[str]:
    argv = (own_command("aiosystemd"), *words)
    return subprocess.run(argv, cwd=directory, check=False, capture_output=True, text=True)


@given(texts)
def test_text_in_a_python_file_is_a_text(text: str) -> None:
    module = Module(("Made here.",))
    try:
        module.set("a", text, comment=text)
    except Unrepresentable:
        assert "\0" in text
        return
    found: dict[str, object] = {}
    exec(module.render(), found)  # noqa: S102 (what it is about)
    assert found["a"] == text
    assert set(found) == {"a", "__builtins__"}


@pytest.mark.parametrize(
    ("more", "lines"),
    [
        ('loop = "uvloop"', ["worker_class = 'aiohttp.GunicornUVLoopWebWorker'"]),
        ('loop = "asyncio"', ["worker_class = 'aiohttp.GunicornWebWorker'"]),
        ("keepalive = 80.5", ["keepalive = 81"]),
        ('access_log = "text"', ["accesslog = '-'"]),
        ('access_log = "text"\naccess_log_format = "%a"', ["accesslog = '-'", "access_log_format = '%a'"]),
    ],
)
def test_keys_of_the_server_are_gunicorns_settings(more: str, lines: list[str]) -> None:
    table = TOML.replace("server.kind", "[server]\nkind")
    found = _files(f"{table}{more}\n")["shop.conf.py"].splitlines()
    assert set(lines) <= set(found)
    assert {"workers = 3", "graceful_timeout = 40", "timeout = 30"} <= set(found)


def test_workers_have_as_long_as_systemd_leaves_them() -> None:
    files = _files(f"{TOML}[timeouts]\nrequest = 3.5\nwatchdog = 0\n")
    assert {"graceful_timeout = 14", "timeout = 0"} <= set(files["shop.conf.py"].splitlines())
    assert "TimeoutStopSec=23500ms" in files["shop.service"]


def test_one_socket_is_behind_the_proxy() -> None:
    assert "ListenStream=/run/shop/shop.sock" in _files(TOML)["shop.socket"]
    assert _files(TOML)["shop.conf"].count("    server ") == 1
    files = _files(f"{TOML}listen.port = 8001\n")
    assert "ListenStream=127.0.0.1:8001" in files["shop.socket"]
    assert "server 127.0.0.1:8001 " in files["shop.conf"]


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (("apply", "shop.toml", "--yes"), 1),
        (("rollout", "shop.toml"), 1),
        (("doctor", "shop.toml"), 1),
        (("logs", "shop.toml"), 1),
        (("up", "shop.toml"), 1),
    ],
)
def test_what_works_on_instances_says_what_to_do_instead(words: tuple[str, ...], status: int, tmp_path: Path) -> None:
    (tmp_path / "shop.toml").write_text(TOML)
    done = _run(tmp_path, *words)
    assert done.returncode == status
    said = done.stdout + done.stderr
    assert "shop.toml:5:15: " in said
    assert "gunicorn has one service and no instances: only check and generate are for it" in said


def test_next_steps_start_the_socket_and_later_what_has_changed(tmp_path: Path) -> None:
    source = load.parse("shop.toml", TOML)
    built = build_source(tmp_path / "shop.toml", source, Host())
    steps = [action.describe() for action in built.plan.actions]
    assert "systemctl enable --now shop.socket shop.service" in steps
    assert not any("target" in step for step in steps)
    for suffix, units in ((".socket", "shop.socket shop.service"), (".py", "shop.service")):
        changes = tuple(
            Change(Path(path), "update" if path.suffix == suffix else "unchanged", wanted)
            for path, wanted in built.tree.items()
        )
        assert f"systemctl restart {units}" in [action.describe() for action in _steps(built, changes)]


def test_other_managers_are_for_our_own_runtime(tmp_path: Path) -> None:
    (tmp_path / "shop.toml").write_text(USER)
    said = _run(tmp_path, "generate", "shop.toml", "--manager", "runit").stderr
    assert "gunicorn is a manager of processes itself, and here for systemd, not for runit" in said


@pytest.mark.parametrize(
    ("python", "said"),
    [
        (sys.executable, "gunicorn --check-config: passed"),
        ("/nowhere/python", "gunicorn --check-config: not run, /nowhere/python has no gunicorn"),
    ],
)
def test_settings_are_checked_by_the_deployments_own_gunicorn(python: str, said: str) -> None:
    d = load.modelled(load.parse("shop.toml", f'python = "{python}"\n{TOML}'))
    assert said in [str(each) for each in verify(d, Host(), "shop.toml")]


def test_what_was_written_for_gunicorn_is_imported_again(tmp_path: Path) -> None:
    files = _files(f"{USER}[listen]\nbacklog = 999\n")
    paths = [tmp_path / name for name in ("shop.service", "shop.socket", "shop.conf.py")]
    for path in paths:
        path.write_text(files[path.name])
    (again,) = (each for each in importing("unit", paths) if not each.left_out)
    d = load.modelled(load.parse("shop.toml", again.text))
    assert (d.name, d.app, d.directory, d.instances) == ("shop", "shop.main:create", "/srv/shop", 3)
    assert (d.service.user, d.server.keepalive, d.drain, d.stop, d.listen.backlog) == ("shop", 75, 40, 50, 999)
