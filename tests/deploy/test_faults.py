"""Every system call that changes a file fails, or the process is killed there: as before or as wanted, not between."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from stat import S_IMODE

import pytest

from tests.deploy.faults import Call, Done, Fault, Runs, fresh
from tests.tools import require

FILE = 'name = "shop"\napp = "a:b"  # ours\ninstances = 2\ndirectory = "/srv/current"\n'
OTHER = 'name = "shop"\napp = "a:d"\ninstances = 4\n[listen]\nmode = "0666"\n'
CHANGED = FILE.replace('"a:b"', '"a:c"') + '\n[service]\nuser = "shop"\n[proxy]\nkind = "none"\n'
OTHERS = ("etc/systemd/system/shop2@.service", "etc/systemd/system/shop@.service.d/a.conf", "etc/nginx/conf.d/a.conf")
IDLE = 6
"""One in so many of the calls that change nothing: a file is read, or removed if it is there."""

EVERY = ("apply again", "remove")
"""All ways lead over the same road; these two meet all that is on it."""
FEW = 3
"""One in so many of the calls of the others."""

ERRORS = ("ENOSPC", "EACCES", "EIO")

Picture = dict[str, tuple[int, bytes]]
"""Path → mode and content, or the target of a link."""


@dataclass
class Case:
    """A command, on a host of which it changes something."""

    argv: Sequence[str]
    prepare: Callable[["Host"], None]
    before: tuple[Picture, ...] = ()
    """As it was; also with a link that somebody has led elsewhere taken back to what is in force."""
    wanted: Picture = field(default_factory=dict)
    other: Picture = field(default_factory=dict)
    """What is generated for another deployment file."""
    calls: list[Call] = field(default_factory=list)


class Host:
    """The files of a host, below a directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.root = directory / "root"
        self.file = self.root / "etc/aiosystemd/shop.toml"
        self.write(FILE)
        for other in OTHERS:
            (self.root / other).parent.mkdir(parents=True, exist_ok=True)
            (self.root / other).write_text(f"# {other}\n")
        for release in ("first", "second"):
            (self.root / "srv" / release).mkdir(parents=True)
        self.link("first")
        self.programs = directory / "programs"
        self.programs.mkdir()
        (self.programs / "systemctl").symlink_to(require("systemctl"))
        self.runs = Runs(directory, self.root)
        self.case = CASES["apply"]

    def write(self, text: str) -> None:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self.file.write_text(text)

    def link(self, release: str) -> None:
        link = self.root / "srv/current"
        link.unlink(missing_ok=True)
        link.symlink_to(release)

    def arguments(self, argv: Sequence[str]) -> Sequence[str]:
        yes = () if argv[0] in ("diff", "history") else ("--yes",)
        return (*argv, "--root", str(self.root), *yes)

    def run(self, *argv: str) -> Done:
        """Run a command that is to succeed."""
        done = self.runs.run(*self.arguments([str(self.file) if word == "FILE" else word for word in argv]))
        assert done.status == 0, done.err
        return done

    def disturbed(self, fault: Fault) -> Done:
        """Run the case's command with a fault, on the host as it was before."""
        fresh(self.directory / "before", self.root)
        return self.runs.disturbed(fault, *self.command)

    @property
    def command(self) -> Sequence[str]:
        return self.arguments([str(self.file) if word == "FILE" else word for word in self.case.argv])

    def take(self, case: Case) -> None:
        """Make everything ready for a case, and see what it does undisturbed."""
        self.case = case
        case.prepare(self)
        # The other checkers have seen all of it by now; each takes as long as the rest of a run.
        self.runs.path = str(self.programs)
        fresh(self.root, self.directory / "before")
        before = self.without_litter()
        case.before = (before, {**before, "srv/current": (0, b"first")})
        case.calls = self.runs.calls(*self.command)
        case.wanted = self.picture()
        assert self.apply_other().status == 0
        case.other = self.generated()

    def picture(self) -> Picture:
        """Return all that there is, apart from the lock and the time of day."""
        found = {}
        for path in sorted(self.root.rglob("*")):
            name, mode = str(path.relative_to(self.root)), S_IMODE(path.lstat().st_mode)
            if path.is_symlink():
                found[name] = (0, str(path.readlink()).encode())
            elif path.is_file() and path.suffix != ".lock":
                found[name] = (mode, re.sub(rb'"at": "[^"]*"', b"", path.read_bytes()))
        return found

    def litter(self) -> list[str]:
        """Return what was for a run alone."""
        names = (str(path.relative_to(self.root)) for path in self.root.rglob("*"))
        return [name for name in names if re.search(r"aiosystemd-(new|before)|\.removed", name)]

    def without_litter(self) -> Picture:
        litter = tuple(self.litter())
        # Where a generation is too old only once another one is in force, its end may be left to a later run.
        old = "var/lib/aiosystemd/shop/generations/1.json" if self.case is CASES["prune"] else ""
        picture = self.picture()
        return {name: each for name, each in picture.items() if name != old and not name.startswith(litter)}

    def apply_other(self) -> Done:
        """Apply another deployment file of that name, which lies beside the root."""
        (self.directory / "shop.toml").write_text(OTHER)
        adopt = ("--adopt",) if "--adopt" in self.case.argv else ()
        return self.runs.run(*self.arguments(("apply", str(self.directory / "shop.toml"), *adopt)))

    def generated(self) -> Picture:
        """Return what the deployment file alone decides about."""
        places = ("etc/systemd", "etc/nginx", "usr/")
        return {name: each for name, each in self.picture().items() if name.startswith(places) and "-old" not in name}


def nothing(_: Host) -> None:
    return


def applied(host: Host) -> None:
    host.run("apply", "FILE")


def to_change(host: Host) -> None:
    applied(host)
    host.write(CHANGED)
    host.link("second")


def to_go_back(host: Host) -> None:
    """Let a rollback bring back a deployment file that is gone."""
    to_change(host)
    host.run("apply", "FILE")
    host.file.unlink()


def to_adopt(host: Host) -> None:
    applied(host)
    with (host.root / "etc/systemd/system/shop@.service").open("a") as unit:
        unit.write("Nice=5\n")


def to_prune(host: Host) -> None:
    for count in (2, 3) * 5:
        host.run("apply", "FILE")
        host.write(FILE.replace("2", str(5 - count)))


CASES = {
    "apply": Case(("apply", "FILE"), nothing),
    "apply again": Case(("apply", "FILE"), to_change),
    "adopt": Case(("apply", "FILE", "--adopt"), to_adopt),
    "prune": Case(("apply", "FILE"), to_prune),
    "scale": Case(("scale", "shop", "3"), applied),
    "rollback": Case(("rollback", "shop", "--to", "1"), to_go_back),
    "remove": Case(("remove", "shop"), applied),
}


@pytest.fixture(params=CASES, scope="module")
def host(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """Return a host on which a case is about to happen."""
    host = Host(tmp_path_factory.mktemp("faults"))
    with host.runs:
        host.take(CASES[request.param])
        yield host


def worth_it(host: Host) -> Iterator[Call]:
    """Yield the calls that change something or wait for the disk, and some of the others."""
    calls = host.case.calls
    yield from chosen(host, [call for call in calls if call.changes or call.name == "fsync"])
    yield from chosen(host, [call for call in calls if not call.changes and call.name != "fsync"][::IDLE])


def chosen(host: Host, calls: Sequence[Call]) -> Sequence[Call]:
    return calls if any(host.case is CASES[name] for name in EVERY) else calls[::FEW]


def after_an_error(host: Host, done: Done) -> str:
    """Return what is wrong with what an error has left, "" when nothing."""
    now, case = host.without_litter(), host.case
    if "Traceback" in done.err:
        return done.err
    if now not in (*case.before, case.wanted):
        return f"neither as before nor as wanted: {difference(now, case.before[0])} / {difference(now, case.wanted)}"
    if done.status == 0 and now != case.wanted:
        return f"not as wanted, and nothing said: {done}"
    if done.status and now not in case.before and "lock" not in done.log.partition("(INJECTED)")[0].splitlines()[-1]:
        return f"as wanted, and said to have failed: {done.err}"
    if host.litter() and done.status:
        return f"left behind: {host.litter()}"
    return ""


def after_a_second_run(host: Host) -> str:
    """Return what is wrong after the same command again, undisturbed."""
    finished = host.without_litter() == host.case.wanted
    done = host.runs.run(*host.command)
    gone = [name for name in host.litter() if not name.startswith("var/lib/aiosystemd/.shop.removed")]
    if finished and host.case is CASES["remove"] and not gone:
        return ""  # What is kept of a deployment goes file by file, and the last that knows of it must go some time.
    if "Traceback" in done.err or (done.status and not finished):
        return f"the second run fails: {done.err}"
    now = host.picture()
    if now != host.case.wanted:
        return f"not as wanted after a second run: {difference(now, host.case.wanted)}"
    if host.litter():
        return f"left behind: {host.litter()}"
    return ""


def after_another_run(host: Host) -> str:
    """Return what is wrong after another deployment file was applied."""
    done, now = host.apply_other(), host.generated()
    if done.status or host.litter():
        return f"another run: {done.err} {host.litter()}"
    return f"not as wanted by another run: {difference(now, host.case.other)}" if now != host.case.other else ""


def difference(one: Picture, other: Picture) -> list[str]:
    return sorted(name for name in {*one, *other} if one.get(name) != other.get(name))


def all_right(found: dict[str, str]) -> None:
    wrong = {fault: words for fault, words in found.items() if words}
    assert not wrong, "\n".join(f"{fault}\n    {words}" for fault, words in wrong.items())
    assert found


def test_every_kind_of_call_is_met(host: Host) -> None:
    """Or a change of how files are written would leave the tests below without anything to do."""
    kinds = {re.sub(r"at2?$", "", call.name) for call in host.case.calls}
    assert kinds >= {"open", "write", "fsync", "fchmod", "rename", "unlink", "link", "mkdir"} - (
        {"link"} if host.case is CASES["apply"] else set()
    )


# Each call fails in one way, and those of one command in every way.
ALL = [*((name, 0) for name in CASES), ("scale", 1), ("scale", 2)]


@pytest.mark.parametrize(("host", "first"), ALL, indirect=["host"])
def test_error_leaves_the_host_as_before_or_as_wanted(host: Host, first: int) -> None:
    found = {}
    for number, call in enumerate(worth_it(host), start=first):
        fault = Fault(call, f"error={ERRORS[number % len(ERRORS)]}")
        done = host.disturbed(fault)
        words = after_an_error(host, done)
        found[str(fault)] = words or (after_a_second_run(host) if host.litter() else "")
    all_right(found)


def test_killed_run_is_finished_by_the_next(host: Host) -> None:
    found = {}
    for call in chosen(host, [call for call in host.case.calls if call.changes]):
        fault = Fault(call, "signal=KILL")
        done = host.disturbed(fault)
        assert done.status == -9
        fresh(host.root, host.directory / "killed")
        words = after_a_second_run(host)
        fresh(host.directory / "killed", host.root)
        found[str(fault)] = words or after_another_run(host)
    all_right(found)


def test_disk_that_stays_full_leaves_the_host_as_before(host: Host) -> None:
    found = {}
    for call in host.case.calls:
        if call.name in ("write", "mkdir", "symlink", "symlinkat", "pwrite64"):
            fault = Fault(call, "error=ENOSPC", "+")
            done = host.disturbed(fault)
            words = after_an_error(host, done)
            # With write it is not: what is said goes to a file too.
            if done.status and call.name != "write" and "No space left on device" not in done.err:
                words += f"not said: {done.err}"
            found[str(fault)] = words
    all_right(found)


FAILING = """#!/bin/sh
case "$*" in
*able\\ *) exec {strace} --output=/dev/null --trace={calls} --inject={calls}:error=EIO {systemctl} "$@" ;;
*) exec {systemctl} "$@" ;;
esac
"""


@pytest.mark.parametrize("program", ["", FAILING])
@pytest.mark.parametrize("host", ["apply", "remove"], indirect=True)
def test_systemctl_that_fails_leaves_the_host_as_before(host: Host, program: str, tmp_path: Path) -> None:
    """It is not there, or the disk does not let it make its links or remove them."""
    calls = ",".join(f"?{name}" for name in ("symlink", "symlinkat", "unlink", "unlinkat", "rename", "renameat"))
    if program:
        names = {name: require(name) for name in ("strace", "systemctl")}
        (tmp_path / "systemctl").write_text(program.format(calls=calls, **names))
        (tmp_path / "systemctl").chmod(0o755)
    fresh(host.directory / "before", host.root)
    before, host.runs.path = host.runs.path, str(tmp_path)
    try:
        done = host.runs.run(*host.command)
    finally:
        host.runs.path = before
    assert done.status == 1
    assert "Traceback" not in done.err
    assert ("cannot be run: No such file" in done.err) == (not program)
    assert ("Input/output error" in done.err) == bool(program)
    assert host.picture() in host.case.before
    assert host.litter() == []
