"""What is to be on a host: by the file, by a number, by an earlier generation, or nothing."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from aiosystemd import rules
from aiosystemd.deploy import earlier, generations, in_force
from aiosystemd.errors import ProblemsError
from aiosystemd.model import Deployment
from tests.deploy.conftest import Files
from tests.deploy.place import APP

HEAD: Final = f'name = "shop"\napp = "app:create"\ndirectory = "{APP}"\n'
TABLE: Final = '# In front of it.\n[proxy]\nserver_names = ["shop.example"]\n'

LAYOUTS: Final = {
    "comment behind the number": (
        f"{HEAD}instances = 2  # each\n\n{TABLE}",
        f"{HEAD}instances = 3  # each\n\n{TABLE}",
    ),
    "odd spacing": (f"# ours\n\n  instances   =2\n{HEAD}", f"# ours\n\n  instances   =3\n{HEAD}"),
    "number of CPUs": (f'{HEAD}instances = "auto"  # as many\n', f"{HEAD}instances = 3  # as many\n"),
    "none": (HEAD, HEAD.replace("\ndirectory", "\ninstances = 3\ndirectory")),
    "none, and a table": (f"{HEAD}\n{TABLE}", HEAD.replace("\ndirectory", "\ninstances = 3\ndirectory") + f"\n{TABLE}"),
    "none, and no end of the line": (
        f'directory = "{APP}"\nname = "shop"\napp = "app:create"',
        f'directory = "{APP}"\nname = "shop"\napp = "app:create"\ninstances = 3\n',
    ),
}


@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["LF", "CRLF"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_scaling_changes_the_number_and_no_other_byte(files: Files, layout: str, end: str) -> None:
    before, after = (text.replace("\n", end).encode() for text in LAYOUTS[layout])
    files.file.write_bytes(before)
    assert files.apply().status == 0
    assert files.scale(3).status == 0
    assert files.file.read_bytes() == after
    assert set(in_force("shop", files.root).instances) == {"1", "2", "3"}
    assert files.is_in_force()
    assert files.rollback().status == 0
    assert files.file.read_bytes() == before


def test_scaling_finds_a_place_for_the_number_behind_an_odd_string(files: Files) -> None:
    odd = HEAD.replace('"app:create"', '"""\\\n  app:create"""')
    files.file.write_text(odd)
    assert files.apply().status == 0
    assert files.scale(3).status == 0
    assert files.file.read_text() == f"{odd}instances = 3\n"


def test_scaling_to_what_is_there_changes_nothing(kept: Files) -> None:
    before = kept.files()
    assert kept.scale(2).status == 0
    assert kept.files() == before


def test_scaling_keeps_the_mode_of_the_file(kept: Files) -> None:
    kept.file.chmod(0o600)
    assert kept.scale(3).status == 0
    assert kept.file.stat().st_mode & 0o777 == 0o600


def test_scaling_puts_no_other_change_in_force(kept: Files) -> None:
    kept.write("proxy.server_names = ['shop.example']")
    before = kept.files()
    with pytest.raises(ProblemsError, match=r"has other changes, that are not in force yet \(aiosystemd apply /.*puts"):
        kept.scale(3)
    assert kept.files() == before


def test_scaling_without_a_file_is_a_problem(kept: Files) -> None:
    kept.file.unlink()
    with pytest.raises(ProblemsError, match=r"shop\.toml: no such file"):
        kept.scale(3)


def test_rolling_back_puts_files_and_the_deployment_file_back(kept: Files) -> None:
    first = kept.files()
    kept.write("proxy.server_names = ['shop.example']", "service.user = 'shop'", instances=3)
    assert kept.apply().status == 0
    second = kept.files()
    assert kept.rollback().status == 0
    assert config(kept.files()) == config(first)
    assert kept.rollback(2).status == 0
    assert config(kept.files()) == config(second)
    assert [(each.generation.number, each.in_force) for each in generations("shop", kept.root)] == [
        *((number, False) for number in (1, 2, 3)),
        (4, True),
    ]


def config(files: dict[str, tuple[int, bytes]]) -> dict[str, tuple[int, bytes]]:
    return {name: each for name, each in files.items() if not name.startswith("var/")}


def test_rolling_back_writes_a_deployment_file_that_is_gone(kept: Files) -> None:
    text = kept.file.read_text()
    kept.write(instances=3)
    assert kept.apply().status == 0
    kept.file.unlink()
    assert kept.rollback().status == 0
    assert kept.file.read_text() == text
    assert kept.file.stat().st_mode & 0o777 == 0o644


def test_rolling_back_to_a_release_that_is_gone_is_a_problem(kept: Files) -> None:
    kept.release("2", "moin")
    kept.link("2")
    assert kept.apply().status == 0
    (kept.root / "srv/shop/1").rename(kept.root / "srv/shop/gone")
    before = kept.files()
    what = r"^/srv/shop/current: the release 1 is not there any more \(go back to another generation\)$"
    with pytest.raises(ProblemsError, match=what):
        kept.rollback()
    assert kept.files() == before


def test_release_is_found_wherever_the_link_leads(kept: Files) -> None:
    """By a name beside it, or by a whole path, which is below the root as well."""
    kept.release("2", "moin")
    kept.link("/srv/shop/2")
    assert kept.apply().status == 0
    assert kept.rollback().status == 0
    assert (kept.root / "srv/shop/current").readlink() == Path("1")
    assert kept.rollback(2).status == 0
    assert (kept.root / "srv/shop/current").readlink() == Path("/srv/shop/2")


def test_generation_that_is_not_there_is_a_problem(kept: Files) -> None:
    with pytest.raises(ProblemsError, match=r"/7\.json: no such generation \(aiosystemd history lists them\)$"):
        earlier("shop", 7, kept.root)
    with pytest.raises(ProblemsError, match="there is no earlier generation"):
        earlier("shop", None, kept.root)


@pytest.mark.parametrize("name", ["nobody", "shop2", "../shop", "", "."])
def test_what_is_not_deployed_is_a_problem(kept: Files, name: str) -> None:
    with pytest.raises(ProblemsError, match=r"is not deployed here \(aiosystemd apply does that\)"):
        in_force(name, kept.root)


def test_deployment_is_known_by_its_file_too(kept: Files) -> None:
    assert in_force(str(kept.file), kept.root) == in_force("shop", kept.root)


def test_removal_needs_no_deployment_file(kept: Files) -> None:
    kept.file.unlink()
    assert kept.remove().status == 0
    assert {name for name in kept.files() if not name.startswith("srv/")} == set()
    with pytest.raises(ProblemsError, match="is not deployed here"):
        kept.remove()


def test_what_an_earlier_version_has_accepted_can_be_gone_back_to_and_removed(
    kept: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    def newer(_: Deployment) -> Iterator[rules.Violation]:
        yield rules.Violation((("name",),), "is not what this version takes")

    kept.write(instances=3)
    assert kept.apply().status == 0
    monkeypatch.setattr(rules, "RULES", [*rules.RULES, newer])
    with pytest.raises(ProblemsError, match="is not what this version takes"):
        kept.apply()
    assert kept.rollback().status == 0
    assert set(in_force("shop", kept.root).instances) == {"1", "2"}
    assert kept.remove().status == 0


def test_history_says_what_was_done(kept: Files) -> None:
    kept.write(instances=3)
    assert kept.apply().status == 0
    first, second = map(str, generations("shop", kept.root))
    assert (first[:6], second[:6]) == ("     1", "*    2")
    assert "2 instances, release 1" in first
    entry = next(iter(generations("shop", kept.root))).as_json()
    assert set(entry) == {"number", "in_force", "at", "command", "file", "instances", "release", "files"}
