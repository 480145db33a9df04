"""Tree + disk → Changes: what is new, what differs, and what is somebody else's."""

import errno
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from stat import S_IMODE, S_ISDIR, S_ISREG
from typing import Literal, NamedTuple

from aiosystemd.errors import Location, Problem, ProblemsError
from aiosystemd.export import MARK
from aiosystemd.plan import Rendered, Tree

_VENDOR_UNITS = ("usr/local/lib/systemd/system", "usr/lib/systemd/system", "lib/systemd/system")


class Change(NamedTuple):
    """What writing one file of the tree means on this disk."""

    path: Path
    kind: Literal["create", "update", "unchanged", "foreign"]
    wanted: Rendered

    @property
    def done(self) -> str:
        """The change in the past tense, once it was written."""
        return {"create": "created", "update": "updated", "unchanged": "unchanged", "foreign": "replaced"}[self.kind]


def compare(tree: Tree, root: Path) -> tuple[Change, ...]:
    """Compare ``tree`` with what stands under ``root``.

    Raises ProblemsError when something cannot be read, or when a unit would silently replace a vendor's one.
    """
    problems: list[Problem] = []
    changes = []
    vendors = [directory for directory in (root / each for each in _VENDOR_UNITS) if directory.is_dir()]
    for path, wanted in tree.items():
        target = root / path.relative_to("/")
        try:
            problems.extend(_shadowed(path, target, vendors))
            changes.append(Change(target, _kind(target, wanted), wanted))
        except OSError as error:
            problems.append(Problem(Location(str(target)), f"cannot be compared: {error.strerror}"))
    if problems:
        raise ProblemsError(*problems)
    return tuple(changes)


def foreign(changes: tuple[Change, ...]) -> Iterator[Problem]:
    """Yield a problem for each file in the way that does not carry our header."""
    for change in changes:
        if change.kind == "foreign":
            what = "is in the way and was not made by aiosystemd"
            yield Problem(Location(str(change.path)), what, "move it away, or use --force, which keeps a copy")


def _kind(target: Path, wanted: Rendered) -> Literal["create", "update", "unchanged", "foreign"]:
    try:
        status = target.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return "create"
    if S_ISDIR(status.st_mode):  # not even --force has a copy of one
        raise IsADirectoryError(errno.EISDIR, "a directory is in the way")
    if not S_ISREG(status.st_mode):  # a link too: systemctl mask makes one, and writing through it is not ours to do
        return "foreign"
    content = target.read_bytes()
    if content == wanted.content:
        return "unchanged" if S_IMODE(status.st_mode) == wanted.mode else "update"
    return "update" if MARK.encode() in content.partition(b"\n")[0] else "foreign"


def _shadowed(path: PurePosixPath, target: Path, vendors: list[Path]) -> Iterator[Problem]:
    # systemd.unit(5): a unit in /etc/systemd/system takes the place of the vendor's unit of that name.
    if path.parent == PurePosixPath("/etc/systemd/system"):
        for vendor in (directory / path.name for directory in vendors):
            if vendor.is_file() and MARK.encode() not in vendor.read_bytes().partition(b"\n")[0]:
                what = f"would be replaced by {target}"
                yield Problem(Location(str(vendor)), what, "choose another name for the deployment")
                break
