"""What is read beside an application: its name, its virtual environment, and what it must not be kept from."""

import base64
import hashlib
import os
import sys
from pathlib import Path

import pytest

from aiosystemd.errors import ProblemsError
from aiosystemd.init import sources, surroundings
from aiosystemd.init.applications import look
from tests.init.trees import write

APP = "from aiohttp import web\napp = web.Application()\n"


@pytest.mark.parametrize(
    ("directory", "project", "name"),
    [
        ("Shop_2", "", "shop_2"),
        ("My Café!", "", "my-caf"),
        ("2048", "", "application"),
        ("nginx", "", "nginx-site"),
        ("x" * 60, "", "x" * 25),
        ("a", '[project]\nname = "Corner.Shop"', "corner-shop"),
        ("a", '[tool.poetry]\nname = "poem"', "poem"),
        ("a", "[tool]\npoetry = 1\nproject", "a"),
    ],
)
def test_the_name_is_that_of_the_project(directory: str, project: str, name: str, tmp_path: Path) -> None:
    write(tmp_path / directory, "pyproject.toml", project)
    assert surroundings.name(tmp_path / directory) == name


def _environment(directory: Path, *distributions: str, configuration: str = "home = /usr/bin\n") -> str:
    write(directory, "pyvenv.cfg", configuration)
    for each in distributions:
        (directory / "lib/python3.11/site-packages" / each).mkdir(parents=True)
    (directory / "bin").mkdir()
    (directory / "bin/python").symlink_to(sys.executable)
    return str(directory / "bin/python")


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Return an application's directory, with nothing of this machine around it."""
    monkeypatch.delenv("VIRTUAL_ENV", raising=False)
    monkeypatch.setenv("POETRY_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(sys, "prefix", sys.base_prefix)
    (tmp_path / "parent/shop").mkdir(parents=True)
    return tmp_path / "parent/shop"


@pytest.mark.parametrize("place", [".venv", "venv", "env", "odd-name", "../venv"])
def test_an_environment_in_or_near_the_directory_is_found(place: str, alone: Path) -> None:
    python = _environment(alone / place, "aiohttp-3.11.16.dist-info", "aiohttp_sse-2.2.0.dist-info")
    found = surroundings.interpreter(alone)
    assert found
    assert (os.path.normpath(found.python), dict(found.versions)) == (os.path.normpath(python), {"aiohttp": "3.11.16"})
    assert found.as_json()["aiosystemd"] is None


def test_an_environment_of_poetry_is_found(alone: Path, tmp_path: Path) -> None:
    write(alone, "poetry.lock", "")
    mark = base64.urlsafe_b64encode(hashlib.sha256(str(alone.resolve()).encode()).digest()).decode()[:8]
    _environment(tmp_path / "cache/virtualenvs/shop-AAAAAAAA-py3.11")
    python = _environment(tmp_path / f"cache/virtualenvs/shop-{mark}-py3.11", "aiosystemd-0.1.0.dist-info")
    found = surroundings.interpreter(alone)
    assert found
    assert (found.python, found.what, dict(found.versions)) == (
        python,
        "virtual environment of poetry",
        {"aiosystemd": "0.1.0"},
    )


def test_the_active_environment_is_taken_where_none_is_near(alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = _environment(alone.parent.parent / "elsewhere/active", "aiohttp-3.12.0-py3.11.egg-info")
    monkeypatch.setenv("VIRTUAL_ENV", str(alone.parent.parent / "elsewhere/active"))
    found = surroundings.interpreter(alone)
    assert found
    assert (found.python, found.what, found.versions["aiohttp"]) == (python, "active virtual environment", "3.12.0")


def test_the_systems_interpreter_is_taken_if_it_has_aiohttp(alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(alone, "venv/pyvenv.cfg", "include-system-site-packages = true\n")
    monkeypatch.setattr(surroundings, "_packages", lambda _: iter([alone]))
    assert surroundings.interpreter(alone) is None
    write(alone, "aiohttp-3.12.0.egg-info", "")
    found = surroundings.interpreter(alone)
    assert found
    assert (found.python, found.what) == ("/usr/bin/python3", "the system's")


def test_what_cannot_be_read_is_told_and_keeps_nothing_else(tmp_path: Path) -> None:
    write(tmp_path, "app.py", APP)
    write(tmp_path, "large.py", "#" * (1 << 20) + "\n")
    (tmp_path / "nul.py").write_bytes(b"x = 1\0")
    (tmp_path / "latin.py").write_bytes(b"x = 'caf\xe9'\n")
    (tmp_path / "nowhere.py").symlink_to("nowhere-else")
    (tmp_path / "directory.py").mkdir()
    os.mkfifo(tmp_path / "pipe.py")
    (tmp_path / "loop").symlink_to(tmp_path)
    write(tmp_path, "a/b/c/d/e/f/g/h/i/j/k/l/m/deep.py", APP)
    found = look(tmp_path)
    assert [each.app for each in found.applications] == ["app:app"]
    told = [str(each).removeprefix(f"{tmp_path}/") for each in found.told]
    assert [each.partition(":")[0] for each in told] == ["large.py", "latin.py", "nul.py"]
    assert told[0] == "large.py: warning: is larger than 1048576 bytes, and not looked at"


def test_more_modules_than_anybody_has_are_not_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "MAX_FILES", 3)
    for number in range(4):
        write(tmp_path, f"m{number}.py", APP)
    found = look(tmp_path)
    assert [each.app for each in found.applications] == ["m0:app", "m1:app", "m2:app"]
    assert found.told[0].what == "has more than 3 modules: the others are not looked at"


@pytest.mark.parametrize("name", ["missing", "file"])
def test_what_is_no_directory_is_an_error(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ProblemsError, match=f"{name}: cannot be read: (No such file|Not a directory)"):
        look(tmp_path / name)


@pytest.mark.parametrize(
    ("files", "app", "root"),
    [
        ({"backend/app.py": APP, "backend/db.py": ""}, "app:app", "backend"),
        ({"backend/app.py": APP, "run.py": "from backend.app import app"}, "backend.app:app", "."),
        ({"src/shop/__init__.py": APP}, "shop:app", "src"),
        ({"shop/__init__.py": "", "shop/web/__init__.py": "", "shop/web/app.py": APP}, "shop.web.app:app", "."),
    ],
)
def test_it_is_imported_as_its_own_code_does(files: dict[str, str], app: str, root: str, tmp_path: Path) -> None:
    for path, text in files.items():
        write(tmp_path, path, text)
    (found,) = look(tmp_path).applications
    assert (found.app, found.root) == (app, tmp_path / root)


def test_inside_a_package_the_directory_above_is_what_it_is_imported_from(tmp_path: Path) -> None:
    write(tmp_path, "shop/__init__.py", "")
    write(tmp_path, "shop/app.py", APP)
    (found,) = look(tmp_path / "shop").applications
    assert (found.app, found.root) == ("shop.app:app", tmp_path)
