"""What writing would mean on this disk, found without touching it."""

import os
from pathlib import Path, PurePosixPath

import pytest

from aiosystemd.compare import Change, compare, digest, foreign
from aiosystemd.errors import Problem, ProblemsError
from aiosystemd.export import MARK
from aiosystemd.plan import Rendered
from tests.unprivileged import open_to_others, unprivileged

UNIT = PurePosixPath("/etc/systemd/system/shop@.service")
CONTENT = f"# {MARK} from shop.toml; edits are lost.\n\n[Service]\n".encode()
TREE = {UNIT: Rendered(0o644, CONTENT)}


def there(root: Path, content: bytes = CONTENT, mode: int = 0o644, path: PurePosixPath = UNIT) -> Path:
    file = root / path.relative_to("/")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    file.chmod(mode)
    return file


def kind(root: Path) -> str:
    (change,) = compare(TREE, root)
    assert change.path == root / "etc/systemd/system/shop@.service"
    assert change.wanted == TREE[UNIT]
    return change.kind


def refusal(root: Path) -> Problem:
    with pytest.raises(ProblemsError) as caught:
        compare(TREE, root)
    (problem,) = caught.value.problems
    return problem


def test_what_is_missing_is_created(tmp_path: Path) -> None:
    assert kind(tmp_path) == "create"
    assert kind(tmp_path / "not/there") == "create"
    assert list(tmp_path.iterdir()) == []


def test_what_is_the_same_is_unchanged(tmp_path: Path) -> None:
    there(tmp_path)
    assert kind(tmp_path) == "unchanged"


@pytest.mark.parametrize("content", [CONTENT + b"Nice=5\n", f"# {MARK} 0.0.1".encode(), CONTENT + b"\xff"])
def test_what_we_made_and_differs_is_updated(content: bytes, tmp_path: Path) -> None:
    there(tmp_path, content)
    assert kind(tmp_path) == "update"


def test_a_mode_that_differs_is_an_update(tmp_path: Path) -> None:
    there(tmp_path, mode=0o600)
    assert kind(tmp_path) == "update"


@pytest.mark.parametrize("content", [b"", b"[Service]\n", b"\n" + CONTENT, b"[Unit]\n# " + MARK.encode(), b"\xff\xfe"])
def test_what_does_not_begin_with_our_header_is_foreign(content: bytes, tmp_path: Path) -> None:
    there(tmp_path, content)
    assert kind(tmp_path) == "foreign"


@pytest.mark.parametrize("target", ["/dev/null", "nowhere", "other"])
def test_a_link_is_foreign(target: str, tmp_path: Path) -> None:
    there(tmp_path, path=UNIT.with_name("other"))
    (tmp_path / "etc/systemd/system/shop@.service").symlink_to(target)
    assert kind(tmp_path) == "foreign"


def test_a_fifo_is_foreign(tmp_path: Path) -> None:
    file = there(tmp_path)
    file.unlink()
    os.mkfifo(file)
    assert kind(tmp_path) == "foreign"


def test_a_directory_in_the_way_is_refused(tmp_path: Path) -> None:
    (tmp_path / "etc/systemd/system/shop@.service").mkdir(parents=True)
    assert refusal(tmp_path).what == "cannot be compared: a directory is in the way"


def test_a_file_where_a_directory_belongs_is_refused_when_it_is_written(tmp_path: Path) -> None:
    (tmp_path / "etc").touch()
    assert kind(tmp_path) == "create"


@pytest.mark.parametrize("directory", ["usr/lib", "usr/local/lib", "lib"])
def test_a_unit_of_the_distribution_is_not_replaced_unseen(directory: str, tmp_path: Path) -> None:
    vendor = there(tmp_path, b"[Unit]\n", path=PurePosixPath("/", directory, "systemd/system/shop@.service"))
    problem = refusal(tmp_path)
    assert problem.at.file == str(vendor)
    assert problem.what == f"would be replaced by {tmp_path}/etc/systemd/system/shop@.service"


def test_a_unit_of_our_own_may_lie_in_the_packages_directory(tmp_path: Path) -> None:
    there(tmp_path, path=PurePosixPath("/usr/lib/systemd/system/shop@.service"))
    assert kind(tmp_path) == "create"


def test_every_file_that_cannot_be_compared_is_named(tmp_path: Path) -> None:
    paths = [UNIT, UNIT.with_suffix(".socket"), UNIT.with_suffix(".target")]
    for path in paths[:2]:
        there(tmp_path, mode=0, path=path)
    open_to_others(tmp_path)

    def compared() -> tuple[Change, ...]:
        return compare(dict.fromkeys(paths, TREE[UNIT]), tmp_path)

    with pytest.raises(ProblemsError) as caught:
        unprivileged(compared)
    assert [problem.what for problem in caught.value.problems] == ["cannot be compared: Permission denied"] * 2


def test_a_vendor_directory_that_is_closed_is_a_problem(tmp_path: Path) -> None:
    vendor = there(tmp_path, path=PurePosixPath("/usr/lib/systemd/system/shop@.service"), mode=0)
    open_to_others(tmp_path)
    assert unprivileged(lambda: refusal(tmp_path)).what == "cannot be compared: Permission denied"
    vendor.parent.chmod(0)
    assert unprivileged(lambda: refusal(tmp_path)).what == "cannot be compared: Permission denied"
    vendor.parent.chmod(0o755)


def test_only_what_is_foreign_is_a_problem() -> None:
    wanted = TREE[UNIT]
    changes = (
        Change(Path("create"), "create", wanted),
        Change(Path("update"), "update", wanted),
        Change(Path("unchanged"), "unchanged", wanted),
        Change(Path("foreign"), "foreign", wanted),
    )
    (problem,) = foreign(changes)
    assert problem.at.file == "foreign"
    assert "--force" in problem.hint
    assert [change.done for change in changes] == ["created", "updated", "unchanged", "replaced"]


OWNED = {UNIT: frozenset({digest(CONTENT)})}


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (None, "create"),
        (CONTENT, "unchanged"),
        (CONTENT + b"Nice=5\n", "edited"),
        (CONTENT.replace(b"shop.toml", b"shop2.toml"), "edited"),
    ],
)
def test_what_is_ours_by_its_hash(found: bytes | None, expected: str, tmp_path: Path) -> None:
    if found is not None:
        there(tmp_path, found)
    (change,) = compare(TREE, tmp_path, OWNED)
    assert (change.kind, change.name, change.found) == (expected, UNIT, found)
    assert change.refused == (expected == "edited")


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (CONTENT, "update"),
        (CONTENT + b"Nice=6\n", "unchanged"),
        (CONTENT + b"Nice=5\n", "edited"),
    ],
)
def test_what_is_ours_and_is_to_change(found: bytes, expected: str, tmp_path: Path) -> None:
    there(tmp_path, found)
    (change,) = compare({UNIT: Rendered(0o644, CONTENT + b"Nice=6\n")}, tmp_path, OWNED)
    assert change.kind == expected


def test_our_header_makes_nothing_ours_where_hashes_decide(tmp_path: Path) -> None:
    there(tmp_path, CONTENT + b"Nice=5\n")
    (change,) = compare(TREE, tmp_path, {})
    assert (change.kind, change.refused) == ("foreign", True)


def test_what_is_as_wanted_is_taken_over_whoever_wrote_it(tmp_path: Path) -> None:
    there(tmp_path)
    assert [change.kind for change in compare(TREE, tmp_path, {})] == ["unchanged"]


@pytest.mark.parametrize(("found", "expected"), [(CONTENT, ["remove"]), (CONTENT + b"\n", ["edited"]), (None, [])])
def test_what_is_not_wanted_any_more(found: bytes | None, expected: list[str], tmp_path: Path) -> None:
    if found is not None:
        there(tmp_path, found)
    changes = compare({}, tmp_path, OWNED)
    assert [change.kind for change in changes] == expected
    assert {(change.wanted, change.content) for change in changes} <= {(None, None)}
    assert {change.done for change in changes} <= {"removed"}


def test_a_vendors_unit_does_not_keep_ours_from_being_removed(tmp_path: Path) -> None:
    there(tmp_path)
    there(tmp_path, b"[Unit]\n", path=PurePosixPath("/usr/lib/systemd/system/shop@.service"))
    assert [change.kind for change in compare({}, tmp_path, OWNED)] == ["remove"]


def test_several_contents_may_be_ours(tmp_path: Path) -> None:
    there(tmp_path, CONTENT + b"Nice=5\n")
    owned = {UNIT: OWNED[UNIT] | {digest(CONTENT + b"Nice=5\n")}}
    assert [change.kind for change in compare(TREE, tmp_path, owned)] == ["update"]
