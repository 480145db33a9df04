"""Tree + disk → Changes: what is new, what differs, and what is somebody else's."""

import errno
from collections.abc import Iterator, Mapping
from hashlib import sha256
from pathlib import Path, PurePosixPath
from stat import S_IMODE, S_ISDIR, S_ISREG
from typing import Literal, NamedTuple

from aiosystemd.errors import Location, Problem, ProblemsError
from aiosystemd.export import MARK
from aiosystemd.plan import Rendered, Tree

_VENDOR_UNITS = ("usr/local/lib/systemd/system", "usr/lib/systemd/system", "lib/systemd/system")


Kind = Literal["create", "update", "unchanged", "remove", "foreign", "edited"]

_DONE: Mapping[Kind, str] = {
    "create": "created",
    "update": "updated",
    "unchanged": "unchanged",
    "remove": "removed",
    "foreign": "replaced",
    "edited": "replaced",
}

Owned = Mapping[PurePosixPath, frozenset[str]]
"""What aiosystemd has written: path on the target → hashes of what it put there, as ``digest`` makes them."""


class Change(NamedTuple):
    """What putting one file of the tree in place, or taking it away, means on this disk."""

    path: Path
    """Where it is, below the root."""
    kind: Kind
    wanted: Rendered | None
    """None for a file that is not wanted any more."""
    name: PurePosixPath = PurePosixPath()
    """Where it belongs on the target."""
    found: bytes | None = None
    """What is there; None for nothing, and for what is no file."""

    @property
    def content(self) -> bytes | None:
        """What it is to be; None for nothing."""
        return None if self.wanted is None else self.wanted.content

    @property
    def done(self) -> str:
        """The change in the past tense, once it was written."""
        return "removed" if self.wanted is None else _DONE[self.kind]

    @property
    def refused(self) -> bool:
        """Whether it is somebody else's, or has been edited since."""
        return self.kind in ("foreign", "edited")


def digest(content: bytes) -> str:
    """Return the hash by which a file is known again: SHA-256, in hexadecimal."""
    return sha256(content).hexdigest()


def compare(tree: Tree, root: Path, owned: Owned | None = None) -> tuple[Change, ...]:
    """Compare ``tree`` with what stands under ``root``.

    With ``owned`` a file is ours when its content is what we have put there, and those that the tree has no more are to
    be removed; without, when its first line says so. Raises ProblemsError when something cannot be read, or when a unit
    would silently replace a vendor's one.
    """
    problems: list[Problem] = []
    changes: list[Change] = []
    vendors = [directory for directory in (root / each for each in _VENDOR_UNITS) if directory.is_dir()]
    for path in (*tree, *(path for path in owned or () if path not in tree)):
        target = root / path.relative_to("/")
        try:
            problems.extend(_shadowed(path, target, vendors) if path in tree else ())
            change = _change(path, target, tree.get(path), owned)
            changes.extend([change] if change else ())
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


def _change(name: PurePosixPath, target: Path, wanted: Rendered | None, owned: Owned | None) -> Change | None:
    try:
        status = target.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return Change(target, "create", wanted, name) if wanted else None
    if S_ISDIR(status.st_mode):  # not even --force has a copy of one
        raise IsADirectoryError(errno.EISDIR, "a directory is in the way")
    if not S_ISREG(status.st_mode):  # a link too: systemctl mask makes one, and writing through it is not ours to do
        return Change(target, "foreign", wanted, name)
    content = target.read_bytes()
    return Change(target, _kind(name, content, S_IMODE(status.st_mode), wanted, owned), wanted, name, content)


def _kind(name: PurePosixPath, content: bytes, mode: int, wanted: Rendered | None, owned: Owned | None) -> Kind:
    if wanted and content == wanted.content:
        return "unchanged" if mode == wanted.mode else "update"
    if owned is None:
        return "update" if _is_ours(content) else "foreign"
    if digest(content) in owned.get(name, ()):
        return "update" if wanted else "remove"
    return "edited" if name in owned else "foreign"


def _is_ours(content: bytes) -> bool:
    """Tell whether the first line carries our mark, or the second one of a script."""
    first, _, rest = content.partition(b"\n")
    return MARK.encode() in (rest.partition(b"\n")[0] if first.startswith(b"#!") else first)


def _shadowed(path: PurePosixPath, target: Path, vendors: list[Path]) -> Iterator[Problem]:
    # systemd.unit(5): a unit in /etc/systemd/system takes the place of the vendor's unit of that name.
    if path.parent == PurePosixPath("/etc/systemd/system"):
        for vendor in (directory / path.name for directory in vendors):
            if vendor.is_file() and not _is_ours(vendor.read_bytes()):
                what = f"would be replaced by {target}"
                yield Problem(Location(str(vendor)), what, "choose another name for the deployment")
                break
