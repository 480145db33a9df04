"""One rollout at a time, whatever became of the last one."""

import signal
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path, PurePosixPath

import pytest

from aiosystemd import scope
from aiosystemd.errors import ProblemsError
from aiosystemd.rollout.lock import locked

HOLD = """
import sys, pathlib
from dataclasses import replace
from aiosystemd import scope
from aiosystemd.rollout import lock
scope.use(replace(scope.SYSTEM, run=pathlib.PurePosixPath(sys.argv[1]).parent))
with lock.locked("shop", "aiosystemd rollout shop"):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(scope, "_current", replace(scope.SYSTEM, run=PurePosixPath(tmp_path)))
    return tmp_path / "aiosystemd"


def holder(directory: Path) -> subprocess.Popen[str]:
    argv = (sys.executable, "-c", HOLD, directory)
    process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stdout.readline() == "held\n"
    return process


def test_second_is_refused_with_the_name_of_the_first(directory: Path) -> None:
    with holder(directory) as first:
        with pytest.raises(ProblemsError) as caught, locked("shop", "mine"):
            pass
        first.communicate()
    assert f"shop.lock: is held by aiosystemd rollout shop (process {first.pid}, since 2" in str(caught.value)
    with locked("shop", "mine") as before:
        assert before is None


def test_other_deployment_is_not_locked() -> None:
    with locked("shop", "mine"), locked("blog", "mine") as before:
        assert before is None


def test_lock_of_a_killed_holder_is_free_and_its_name_known(directory: Path) -> None:
    with holder(directory) as first:
        first.send_signal(signal.SIGKILL)
    with locked("shop", "mine") as before:
        assert str(before).startswith(f"aiosystemd rollout shop (process {first.pid}, since ")
    with locked("shop", "mine") as before:
        assert before is None


def test_lock_that_was_left_by_an_error_is_free_and_its_name_known() -> None:
    with pytest.raises(KeyError), locked("shop", "first"):
        raise KeyError
    with locked("shop", "second") as before:
        assert str(before).startswith("first (process ")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": "x"}', "\0" * 9000, '{"pid": 1}'])
def test_text_of_a_lock_may_be_anything(directory: Path, text: str) -> None:
    directory.mkdir()
    (directory / "shop.lock").write_text(text)
    with locked("shop", "mine") as before:
        assert before is None


def test_directory_is_made_and_readable(directory: Path) -> None:
    with locked("shop", "mine"):
        pass
    assert stat.S_IMODE(directory.stat().st_mode) == 0o755


def test_link_is_not_followed(directory: Path) -> None:
    directory.mkdir()
    (directory / "shop.lock").symlink_to("elsewhere")
    with pytest.raises(ProblemsError, match="cannot be locked: Too many levels"), locked("shop", "mine"):
        pass
    assert not (directory / "elsewhere").exists()


def test_refusal_is_an_end_that_leaves_the_lock_as_it_was(directory: Path) -> None:
    def refuse() -> None:
        with locked("shop", "mine"):
            raise ProblemsError

    with pytest.raises(ProblemsError):
        refuse()
    with locked("shop", "mine") as before:
        assert before is None
    with holder(directory) as first:
        first.kill()
    with pytest.raises(ProblemsError):
        refuse()
    with locked("shop", "mine") as before:
        assert before
        assert before.pid == first.pid
