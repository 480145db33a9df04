"""What is kept of a deployment: readable by nobody else, whole or not at all, and not for ever."""

import stat
from pathlib import Path

import pytest

from aiosystemd.deploy import generations, in_force
from aiosystemd.deploy.store import Store
from aiosystemd.deploy.store import kept as names_kept
from aiosystemd.errors import ProblemsError
from tests.deploy.conftest import Files
from tests.unprivileged import open_to_others, unprivileged


@pytest.fixture
def state(kept: Files) -> Path:
    """Return the directory of what is kept of the deployment in force."""
    return kept.root / "var/lib/aiosystemd/shop"


def test_what_is_kept_is_nobody_elses(state: Path) -> None:
    """The deployment file may hold what others should not read."""
    assert stat.S_IMODE(state.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in state.rglob("*.json")} == {0o600}


def test_the_last_ten_generations_are_kept(kept: Files, state: Path) -> None:
    for count in range(3, 15):
        assert kept.scale(count).status == 0
    assert [each.generation.number for each in generations("shop", kept.root)] == list(range(4, 14))
    assert len(list(state.rglob("*"))) == 12
    assert kept.rollback(4).status == 0
    assert len(in_force("shop", kept.root).instances) == 5


def test_what_is_in_the_way_of_the_generations_is_no_generation(kept: Files, state: Path) -> None:
    (state / "generations/notes.txt").write_text("mine\n")
    (state / "generations/old.json").write_text("mine\n")
    assert kept.scale(3).status == 0
    assert [each.generation.number for each in generations("shop", kept.root)] == [1, 2]


@pytest.mark.parametrize("file", ["manifest.json", "generations/1.json"])
@pytest.mark.parametrize("text", ["", "{}", "[]", "\0", '{"format": 2}', '{"generation": "1"}'])
def test_what_we_have_not_written_is_a_problem(kept: Files, state: Path, file: str, text: str) -> None:
    (state / file).write_text(text)
    before = kept.files()
    with pytest.raises(ProblemsError) as caught:
        kept.apply()
    (problem,) = caught.value.problems
    assert (problem.at.file, problem.what) == (str(state / file), "is not what aiosystemd has written")
    assert problem.hint == f"move {state} away; then apply --adopt begins anew"
    assert kept.files() == before


def test_the_hint_helps(kept: Files, state: Path) -> None:
    """Nothing on the host changes but what is kept."""
    before = kept.files()
    (state / "manifest.json").write_text("")
    state.rename(state.with_name("away"))
    assert kept.apply(adopt=True).status == 0
    assert {name for name, each in kept.files().items() if before.get(name) != each and "away" not in name} <= {
        "var/lib/aiosystemd/shop/generations/1.json"
    }
    assert kept.remove().status == 0
    assert not list(kept.root.rglob("shop*.service"))


def test_what_may_not_be_read_is_a_problem(kept: Files) -> None:
    open_to_others(kept.root)
    hint = r"Permission denied \(use sudo\)$"
    for do in (kept.apply, kept.diff):
        with pytest.raises(ProblemsError, match=hint):
            unprivileged(lambda do=do: str(do()))  # type: ignore[misc]


def test_names_of_what_is_kept(state: Path) -> None:
    (state.parent / "other").mkdir()
    assert names_kept(state.parent) == ("shop",)
    assert names_kept(state / "nothing") == ()


def test_nothing_is_kept_before_the_first_apply(files: Files) -> None:
    store = Store("shop", files.root / "var/lib/aiosystemd")
    assert (store.manifest, store.current, store.pending, store.numbers(), store.owned()) == (None, None, None, (), {})
