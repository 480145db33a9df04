"""What putting a deployment on this host means: the files that change, and what that does to what runs."""

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from aiosystemd import scope
from aiosystemd.build import Build
from aiosystemd.compare import Change
from aiosystemd.deploy.consequence import Consequence, consequence
from aiosystemd.deploy.store import Generation, Release
from aiosystemd.errors import Location, Problem

_UNITS: Final = (".service", ".socket", ".target")


@dataclass(frozen=True, slots=True)
class Effect:
    """One thing that changes."""

    what: str
    """A path, or an instance."""
    kind: str
    """``create``, ``update``, ``renew``, ``remove``, and for what is not ours ``foreign`` or ``edited``."""
    consequence: str
    diff: str = ""
    """Unified."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """A way from what is on this host to what is wanted."""

    built: Build
    """What is wanted."""
    root: Path
    before: Generation | None
    """What is in force."""
    changes: tuple[Change, ...]
    addresses: Mapping[str, str]
    """The instances that are wanted, and where they are to listen."""
    were: tuple[str, ...] = ()
    """Those that are in force, or that an earlier run which was killed may have started."""
    release: Release | None = None
    """Where the link to the application's directory leads, or is to lead."""
    interrupted: bool = False
    """Whether an earlier run did not come to its end."""
    renew: bool = False
    """Whether every instance gets a new process, whatever changes."""
    dropped: tuple[str, ...] = ()
    """Instances in force that it was to remove, and may have stopped."""
    drop_ins: tuple[Path, ...] = ()
    """The administrator's, which stay as they are."""

    @property
    def name(self) -> str:
        """Name of the deployment."""
        return self.built.deployment.name

    @property
    def instances(self) -> tuple[str, ...]:
        """Those that are wanted."""
        return tuple(self.addresses)

    @property
    def added(self) -> tuple[str, ...]:
        """Instances that are new, or as if they were."""
        known = self.before.instances if self.before else ()
        return tuple(each for each in self.instances if each not in known or each in self.dropped)

    @property
    def anew(self) -> bool:
        """Whether it is put on this host as if for the first time: a run that was killed may have taken it off."""
        return not self.before or set(self.dropped) >= set(self.before.instances)

    @property
    def removed(self) -> tuple[str, ...]:
        """Instances that are not wanted any more."""
        return tuple(each for each in self.were if each not in self.instances)

    @property
    def changed(self) -> tuple[Change, ...]:
        """The files that would not stay as they are."""
        return tuple(change for change in self.changes if change.kind != "unchanged")

    @property
    def moved(self) -> bool:
        """Whether the application's directory leads elsewhere than it did."""
        before = self.before.release if self.before else None
        return bool(self.before and self.release and before != self.release)

    @property
    def renewed(self) -> tuple[str, ...]:
        """Instances that stay, and get new code."""
        return tuple(each for each in self.instances if self.renew and each not in self.added)

    @property
    def moving(self) -> tuple[str, ...]:
        """Instances that stay, and are to listen elsewhere."""
        before = self.before.instances if self.before else {}
        return tuple(name for name, at in self.addresses.items() if before.get(name, at) != at)

    @property
    def anything(self) -> bool:
        """Whether there is anything to do."""
        return bool(self.changed or self.moved or self.renewed or self.interrupted or self.added or self.removed)

    @property
    def gravest(self) -> Consequence:
        """What the instances that stay need at most, the proxy left aside."""
        found = [self._consequence(change) for change in self.changed]
        found.append(Consequence.RELOAD if self.moved else Consequence.NOTHING)
        found.append(Consequence.RELOAD if self.renewed else Consequence.NOTHING)
        found.append(Consequence.SOCKETS if self.moving else Consequence.NOTHING)
        found.append(Consequence.RESTART if self.interrupted else Consequence.NOTHING)
        return max(each for each in found if each < Consequence.PROXY)

    @property
    def proxies(self) -> tuple[str, ...]:
        """The proxies that have to read their configuration anew; first the one that others take the place of."""
        changes = (change.name for change in self.changed if self._consequence(change) >= Consequence.PROXY)
        found = {each for path in changes for each in ("nginx", "haproxy") if each in str(path)}
        kind = self.built.deployment.proxy.kind
        # A user has none: root installs the site for the machine's.
        if self.interrupted and not scope.current().user and kind != "none":
            found.add(kind)
        return tuple(sorted(found, key=lambda each: (each == kind, each)))

    def refused(self) -> Iterator[Problem]:
        """Yield a problem for each file that is somebody else's, or was edited."""
        for change in self.changes:
            if change.kind == "foreign":
                what = "is in the way and was not written by aiosystemd apply"
            elif change.kind == "edited":
                what = "was edited since aiosystemd has written it"
            else:
                continue
            yield Problem(Location(str(change.path)), what, "--adopt replaces it and keeps a copy")

    def effects(self) -> Iterator[Effect]:
        """Yield what changes, file by file, then instance by instance."""
        for change in self.changed:
            yield Effect(str(change.path), change.kind, str(self._consequence(change)), _diff(change))
        if self.moved and self.release:
            before = self.before.release.target if self.before and self.before.release else "no link"
            what = f"{self.release.link}: {before} → {self.release.target}"
            yield Effect(what, "update", str(Consequence.RELOAD))
        for each in self.moving:
            before = self.before.instances[each] if self.before else ""
            what = f"{self.name}@{each}: {before} → {self.addresses[each]}"
            yield Effect(what, "update", str(Consequence.SOCKETS))
        if self.gravest is Consequence.RELOAD:
            yield from (Effect(f"{self.name}@{each}", "renew", str(Consequence.RELOAD)) for each in self.renewed)
        yield from (Effect(f"{self.name}@{each}", "create", "instance added") for each in self.added)
        yield from (Effect(f"{self.name}@{each}", "remove", "instance removed") for each in self.removed)

    def _consequence(self, change: Change) -> Consequence:
        found, wanted = (None if each is None else _text(each) for each in (change.found, change.content))
        # What runs is what was put in place, also where somebody has edited or removed the file since.
        kept = self.before.files.get(str(change.name)) if self.before else None
        return max(consequence(change.name, each, wanted) for each in (found, kept.text if kept else found))

    def as_json(self) -> dict[str, object]:
        """Return what ``diff --json`` prints."""
        fields = ("what", "kind", "consequence", "diff")
        return {
            "deployment": self.name,
            "changes": [{name: getattr(each, name) for name in fields} for each in self.effects()],
            "interrupted": self.interrupted,
            "refused": [str(problem.at) for problem in self.refused()],
            "drop_ins": [str(path) for path in self.drop_ins],
        }


def is_unit(path: PurePosixPath | Path) -> bool:
    """Tell whether systemd reads the file as a unit, or as a part of one."""
    return path.suffix in _UNITS or path.match("*.service.d/*.conf")


def _diff(change: Change) -> str:
    wanted = b"" if change.wanted is None else change.wanted.content
    names = (str(change.path) if change.found is not None else "/dev/null", str(change.path))
    old, new = (_text(each).splitlines(keepends=True) for each in (change.found or b"", wanted))
    return "".join(difflib.unified_diff(old, new, names[0], names[1] if change.wanted else "/dev/null"))


def _text(content: bytes) -> str:
    return content.decode("utf-8", errors="replace")
