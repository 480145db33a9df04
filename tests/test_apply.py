"""Writing: whole files or none, nothing of others', nothing left behind."""

import errno
import os
import re
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pytest

from aiosystemd import apply
from aiosystemd.compare import compare, digest
from aiosystemd.errors import Problem, ProblemsError
from aiosystemd.export import MARK
from aiosystemd.plan import Rendered, Tree
from tests.tools import lacking, require
from tests.unprivileged import open_to_others, unprivileged

UNITS = PurePosixPath("/etc/systemd/system")
HEAD = f"# {MARK} from shop.toml; edits are lost.\n".encode()


def tree(content: bytes = b"", *names: str, mode: int = 0o644) -> Tree:
    return {UNITS / name: Rendered(mode, HEAD + content) for name in names or ("shop@.service", "shop@.socket")}


def write(wanted: Tree, root: Path) -> None:
    apply.write(compare(wanted, root))


def written(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def refusal(wanted: Tree, root: Path) -> Problem:
    with pytest.raises(ProblemsError) as caught:
        write(wanted, root)
    (problem,) = caught.value.problems
    return problem


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a root that others may look into."""
    open_to_others(tmp_path)
    return tmp_path / "root"


@pytest.fixture
def units(root: Path) -> Path:
    """Return the directory of the units, which is there."""
    directory = root / UNITS.relative_to("/")
    directory.mkdir(parents=True)
    return directory


def test_the_first_run_writes_everything(root: Path) -> None:
    write(tree(), root)
    assert written(root) == {f"etc/systemd/system/shop@.{kind}": HEAD for kind in ("service", "socket")}


def test_a_second_run_touches_nothing(root: Path) -> None:
    def state() -> dict[str, tuple[int, ...]]:
        every = {str(path): path.stat() for path in (root, *root.rglob("*"))}
        return {path: (found.st_ino, found.st_mtime_ns, found.st_ctime_ns) for path, found in every.items()}

    write(tree(), root)
    before = state()
    write(tree(), root)
    assert state() == before


def test_only_what_differs_is_replaced(root: Path, units: Path) -> None:
    write(tree(), root)
    before = {path.name: path.stat().st_ino for path in units.iterdir()}
    write({**tree(), **tree(b"Nice=5\n", "shop@.service")}, root)
    after = {path.name: path.stat().st_ino for path in units.iterdir()}
    assert {name for name in after if after[name] != before[name]} == {"shop@.service"}
    assert (units / "shop@.service").read_bytes() == HEAD + b"Nice=5\n"


def test_a_reader_sees_the_old_file_or_the_new_one(root: Path, units: Path) -> None:
    contents = [HEAD + bytes([letter]) * 100_000 for letter in b"abcdefghij"]
    name = "shop@.service"
    write({UNITS / name: Rendered(0o644, contents[0])}, root)
    seen: set[bytes] = set()
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            seen.add((units / name).read_bytes())

    reader = threading.Thread(target=read)
    reader.start()
    for content in contents * 5:
        write({UNITS / name: Rendered(0o644, content)}, root)
    stop.set()
    reader.join()
    assert len(seen) > 1
    assert seen <= set(contents)


def test_a_file_that_is_open_stays_what_it_was(root: Path, units: Path) -> None:
    write(tree(), root)
    with (units / "shop@.service").open("rb") as opened:
        write(tree(b"new\n"), root)
        assert opened.read() == HEAD


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077, 0o777])
def test_modes_do_not_depend_on_the_umask(mask: int, root: Path) -> None:
    def masked() -> None:
        before = os.umask(mask)
        try:
            write({**tree(), **tree(b"", "secret", mode=0o600)}, root)
        finally:
            os.umask(before)

    root.parent.chmod(0o777)
    unprivileged(masked)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (root, *root.rglob("*"))}
    directories = dict.fromkeys(("root", "etc", "systemd", "system"), 0o755)
    assert modes == {**directories, "shop@.service": 0o644, "shop@.socket": 0o644, "secret": 0o600}


def test_a_mode_is_repaired(root: Path, units: Path) -> None:
    write(tree(), root)
    (units / "shop@.service").chmod(0o666)
    write(tree(), root)
    assert stat.S_IMODE((units / "shop@.service").stat().st_mode) == 0o644


def test_modes_of_directories_that_were_there_are_kept(root: Path, units: Path) -> None:
    units.chmod(0o750)
    write(tree(), root)
    assert stat.S_IMODE(units.stat().st_mode) == 0o750


def test_a_foreign_file_is_kept_as_a_copy(root: Path, units: Path) -> None:
    file = units / "shop@.service"
    for number, content in enumerate((b"first", b"second", b"third")):
        file.write_bytes(content)
        file.chmod(0o640)
        write(tree(), root)
        assert file.read_bytes() == HEAD
        copy = units / f"shop@.service.aiosystemd-old{number or ''}"
        assert (copy.read_bytes(), stat.S_IMODE(copy.stat().st_mode)) == (content, 0o640)


def test_a_masked_unit_is_kept_as_a_link(root: Path, units: Path) -> None:
    (units / "shop@.service").symlink_to("/dev/null")
    write(tree(), root)
    assert (units / "shop@.service.aiosystemd-old").readlink() == Path("/dev/null")
    assert (units / "shop@.service").read_bytes() == HEAD


def test_nothing_is_written_through_a_link(root: Path, units: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_bytes(b"precious")
    (units / "shop@.service").symlink_to(other)
    (units / "shop@.service.aiosystemd-old").symlink_to(tmp_path / "nothing")
    write(tree(), root)
    assert other.read_bytes() == b"precious"
    assert not (tmp_path / "nothing").exists()
    assert (units / "shop@.service.aiosystemd-old1").readlink() == other


def test_anything_in_the_way_can_be_kept(root: Path, units: Path) -> None:
    os.mkfifo(units / "shop@.service")
    write(tree(), root)
    assert (units / "shop@.service.aiosystemd-old").is_fifo()


def test_a_directory_in_the_way_stops_before_anything_is_written(root: Path, units: Path) -> None:
    (units / "shop@.socket").mkdir()
    assert refusal(tree(), root).at.file == str(units / "shop@.socket")
    assert written(root) == {}


def test_a_file_in_place_of_a_directory_is_a_problem(root: Path) -> None:
    root.mkdir()
    (root / "etc").touch()
    assert refusal(tree(), root).what in {"cannot be written: Not a directory", "cannot be written: File exists"}


def test_what_nobody_may_write_is_a_problem(root: Path, units: Path) -> None:
    if os.geteuid() != 0:
        units.chmod(0o555)
    problem = unprivileged(lambda: refusal(tree(), root))
    assert problem.at.file == str(units / "shop@.service")
    assert problem.what == "cannot be written: Permission denied"
    assert problem.hint == "run it as root, or choose another --output"
    assert written(root) == {}


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[Path]:
    """Yield a file system with room for 32 KiB."""
    directory = tmp_path / "tiny"
    directory.mkdir()
    if os.geteuid() != 0:
        lacking("mounting a small file system needs root")
    command = (require("mount"), "-t", "tmpfs", "-o", "size=32k", "tmpfs", directory)
    if subprocess.run(command, check=False).returncode:
        lacking("no file system can be mounted here")
    yield directory
    subprocess.run((require("umount"), directory), check=True)


def test_a_full_disk_leaves_the_old_files(tiny: Path) -> None:
    write(tree(b"old\n"), tiny)
    before = written(tiny)
    problem = refusal({**tree(b"new\n", "shop@.service"), **tree(b"x" * 100_000, "shop@.socket")}, tiny)
    assert problem.what == "cannot be written: No space left on device"
    assert problem.at.file == str(tiny / "etc/systemd/system/shop@.socket")
    assert written(tiny) == before


def test_nothing_is_replaced_before_everything_is_on_the_disk(
    root: Path, units: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tree(b"old\n"), root)
    before = written(root)
    synced = iter([None])

    def fsync(_: int) -> None:
        if next(synced, "failure") is not None:
            raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fsync)
    problem = refusal(tree(b"new\n"), root)
    assert (problem.at.file, problem.what) == (str(units / "shop@.socket"), "cannot be written: Input/output error")
    assert written(root) == before


def test_a_failure_leaves_the_files_before_it_whole(root: Path, units: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tree(b"old\n"), root)
    rename = Path.replace

    def replace(self: Path, target: Path) -> Path:
        if target.suffix == ".socket":
            raise OSError(errno.EIO, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "replace", replace)
    assert refusal(tree(b"new\n"), root).at.file == str(units / "shop@.socket")
    assert written(units) == {"shop@.service": HEAD + b"new\n", "shop@.socket": HEAD + b"old\n"}


def test_files_and_the_names_of_all_are_synced(root: Path, units: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    fsync = os.fsync

    def recorded(descriptor: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", recorded)
    write(tree(), root)
    *files, directory = synced
    assert directory == str(units)
    assert [re.sub(r"^\.|\.[^.]+\.aiosystemd-new$", "", Path(file).name) for file in files] == [
        "shop@.service",
        "shop@.socket",
    ]


_BUSY = """
import os, sys
from pathlib import Path
from aiosystemd import apply
content = b"x" * (1 << 26)
fsync = os.fsync
def announced(descriptor):
    print("writing", flush=True)
    sys.stdin.read(1)
    fsync(descriptor)
os.fsync = announced
try:
    apply.replace(Path(sys.argv[1]), content, 0o644)
except KeyboardInterrupt:
    sys.exit(130)
"""


@pytest.mark.parametrize(("number", "left"), [(signal.SIGINT, 0), (signal.SIGKILL, 1)])
def test_an_interruption_leaves_nothing_that_anyone_reads(number: signal.Signals, left: int, units: Path) -> None:
    target = units / "shop.conf"
    target.write_bytes(b"old")
    # A shell that starts tests in the background has them ignore SIGINT.
    command = (require("env"), "--default-signal=INT", sys.executable, "-c", _BUSY, target)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.readline() == b"writing\n"
        process.send_signal(number)
        process.wait(60)
    assert target.read_bytes() == b"old"
    others = [path.name for path in units.iterdir() if path != target]
    assert len(others) == left
    for name in others:
        # systemd reads *.service and the like, nginx conf.d/*.conf and sites-enabled/*; a shell's * has no dot files.
        assert name.startswith(".shop.conf.")
        assert name.endswith(".aiosystemd-new")


def test_writers_at_once_give_a_complete_tree(root: Path) -> None:
    wanted = [tree(f"{letter}\n".encode() * 5000, *(f"shop-{n}.conf" for n in range(20))) for letter in "ab"]
    errors: list[BaseException] = []

    def repeatedly(one: Tree) -> None:
        try:
            for _ in range(5):
                write(one, root)
        except BaseException as error:  # noqa: BLE001 (shown below)
            errors.append(error)

    threads = [threading.Thread(target=repeatedly, args=(one,)) for one in wanted for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    found = written(root)
    assert len(found) == 20
    assert set(found.values()) <= {rendered.content for one in wanted for rendered in one.values()}


def replaced(root: Path, wanted: Tree) -> None:
    """Write undoably, as a run does that may fail later."""
    with apply.ready(compare(wanted, root), undoable=True) as put:
        put()


def test_what_was_there_comes_back(root: Path, units: Path) -> None:
    write(tree(b"old\n"), root)
    before = written(root)
    inodes = {path.name: path.stat().st_ino for path in units.iterdir()}
    replaced(root, tree(b"new\n"))
    assert (units / "shop@.service").read_bytes() == HEAD + b"new\n"
    assert [apply.restore(path) for path in (units / "shop@.service", units / "shop@.socket")] == [True, True]
    assert written(root) == before
    # The very files, with whatever belongs to them: owner, access control lists, times.
    assert {path.name: path.stat().st_ino for path in units.iterdir()} == inodes


def test_what_was_removed_comes_back(root: Path, units: Path) -> None:
    write(tree(), root)
    owned = {path: frozenset({digest(each.content)}) for path, each in tree().items()}
    with apply.ready(compare({}, root, owned), undoable=True) as put:
        put()
    assert sorted(path.name for path in units.iterdir()) == [
        ".shop@.service.aiosystemd-before",
        ".shop@.socket.aiosystemd-before",
    ]
    assert apply.restore(units / "shop@.service")
    assert (units / "shop@.service").read_bytes() == HEAD


def test_what_is_new_has_nothing_to_come_back(root: Path, units: Path) -> None:
    replaced(root, tree())
    assert not apply.restore(units / "shop@.service")
    assert (units / "shop@.service").read_bytes() == HEAD


@pytest.mark.parametrize("link", [False, True])
def test_the_copy_of_a_foreign_file_goes_when_it_comes_back(link: bool, root: Path, units: Path) -> None:  # noqa: FBT001
    unit = units / "shop@.service"
    if link:
        unit.symlink_to("/dev/null")
    else:
        unit.write_bytes(b"foreign")
    (units / "shop@.service.aiosystemd-old").write_bytes(b"an older one")
    replaced(root, tree(b"", "shop@.service"))
    assert (units / "shop@.service.aiosystemd-old1").exists()
    assert apply.restore(unit)
    assert sorted(path.name for path in units.iterdir()) == ["shop@.service", "shop@.service.aiosystemd-old"]
    assert unit.is_symlink() == link
    assert link or unit.read_bytes() == b"foreign"


def test_a_second_name_alone_is_no_reason_to_change_anything(root: Path, units: Path) -> None:
    """As after a kill between the second name and the new file."""
    write(tree(), root)
    unit = units / "shop@.service"
    os.link(unit, units / ".shop@.service.aiosystemd-before")
    assert apply.restore(unit)
    assert written(units) == {"shop@.service": HEAD, "shop@.socket": HEAD}


def test_settling_leaves_nothing_but_what_is_in_place(root: Path, units: Path) -> None:
    write(tree(b"old\n"), root)
    replaced(root, tree(b"new\n"))
    (units / ".shop@.service.abc.aiosystemd-new").touch()
    (units / ".shop2@.service.abc.aiosystemd-new").touch()
    for name in ("shop@.service", "shop@.socket", "nowhere/shop.target"):
        apply.settle(units / name)
    assert written(units) == {
        "shop@.service": HEAD + b"new\n",
        "shop@.socket": HEAD + b"new\n",
        ".shop2@.service.abc.aiosystemd-new": b"",
    }


def test_a_link_leads_elsewhere_at_once(tmp_path: Path) -> None:
    link = tmp_path / "current"
    link.symlink_to("first")
    (tmp_path / ".current.aiosystemd-new").symlink_to("left by a run that was killed")
    apply.relink(link, "second")
    assert link.readlink() == Path("second")
    assert [path.name for path in tmp_path.iterdir()] == ["current"]


def test_a_link_that_cannot_be_led_elsewhere_stays(root: Path) -> None:
    (root / "current").mkdir(parents=True)
    with pytest.raises(ProblemsError, match="current: cannot be written: Is a directory"):
        apply.relink(root / "current", "second")
    assert [path.name for path in root.iterdir()] == ["current"]


def test_what_is_not_there_is_deleted_too(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for name in ("file", "file", "no/directory"):
        apply.delete(tmp_path / name)
    assert list(tmp_path.iterdir()) == []
