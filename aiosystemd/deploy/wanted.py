"""What is to be on a host: by a deployment file, an earlier generation, another number of instances, or nothing."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from aiosystemd import scope
from aiosystemd.build import Build, build_accepted, build_source, with_instances
from aiosystemd.compare import Change, Kind, compare
from aiosystemd.deploy.proposal import Proposal
from aiosystemd.deploy.recover import find_release
from aiosystemd.deploy.store import Generation, Release, Store, name_of, place
from aiosystemd.errors import Location, Problem, ProblemsError
from aiosystemd.export import instance_address, instance_names
from aiosystemd.host import Host
from aiosystemd.load import parse, text_of
from aiosystemd.plan import Rendered
from aiosystemd.rollout.instance import in_order


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be on a host."""

    built: Build
    source: str
    """Text of the deployment file."""
    instances: dict[str, str]
    """Name → address of the socket."""
    release: Release | None = None
    """Where the link to the application's directory leads, or is to lead."""
    writes_source: bool = False
    """Whether the deployment file is to be written too."""
    file: str = ""
    """Its name on the host, where ``built`` does not say where it lies."""
    renew: bool = False
    """Whether its code is new: every instance is renewed, whether or not anything else has changed."""


def by_file(file: Path, host: Host, root: Path) -> Wanted:
    """Return what a deployment file describes; raises ProblemsError."""
    return by_text(file, text_of(file), host, root)


def by_text(file: Path, text: str, host: Host, root: Path) -> Wanted:
    """Return what the text of a deployment file describes; raises ProblemsError."""
    built = with_instances(build_source(file, parse(str(file), text), host))
    d = built.deployment
    addresses = {name: instance_address(d, name) for name in instance_names(d, host)}
    return Wanted(built, text, addresses, find_release(d.directory, root))


def by_count(current: Generation, count: int, host: Host, root: Path) -> Wanted:
    """Return what is in force with another number of instances; raises ProblemsError."""
    file = place(current.file, root)
    wanted, same = (by_text(file, _with_count(text, count), host, root) for text in (text_of(file), current.source))
    # What they come to: a key that no file says anything of, as of [health], apply would not put in force either.
    if wanted.built.tree != same.built.tree:
        what, hint = "has other changes, that are not in force yet", f"aiosystemd apply {file} puts them in place first"
        raise ProblemsError(Problem(Location(str(file)), what, hint))
    return replace(wanted, writes_source=True)


def _with_count(text: str, count: int) -> str:
    """Return the text of a deployment file with another number of instances, and otherwise as it was."""
    import tomlkit  # noqa: PLC0415 (only here)

    document = tomlkit.parse(text)
    if "instances" not in document and (longer := _with_a_line(text, count)):
        return longer
    document["instances"] = count
    return tomlkit.dumps(document)


def _with_a_line(text: str, count: int) -> str:
    """Return the text with the number below ``app``, "" where that cannot be."""
    # tomlkit puts a new key in front of the first table: between the table and the comment above it.
    end = "\r\n" if "\r\n" in text else "\n"
    lines = (text if text.endswith("\n") else f"{text}{end}").split("\n")
    source = parse("", text)
    line, _ = source.positions.values["app",]
    longer = "\n".join((*lines[:line], f"instances = {count}{end[:-1]}", *lines[line:]))
    try:
        # It may be a string of several lines.
        return longer if parse("", longer).data == {**source.data, "instances": count} else ""
    except ProblemsError:
        return ""


def by_generation(generation: Generation, host: Host, root: Path) -> Wanted:
    """Return what an earlier apply had put in place, byte by byte; raises ProblemsError."""
    built = rebuild(generation, host)._replace(file=place(generation.file, root))
    if generation.release:
        _check_release(generation.release, root)
    return Wanted(built, generation.source, generation.instances, generation.release, writes_source=True)


def nothing(current: Generation, host: Host) -> Wanted:
    """Return what is left when a deployment is removed; raises ProblemsError."""
    return Wanted(rebuild(current, host)._replace(tree={}), current.source, {}, file=current.file)


def rebuild(generation: Generation, host: Host) -> Build:
    """Return an earlier deployment, with the files as they were then; raises ProblemsError."""
    file = Path(generation.file)
    return build_accepted(file, parse(str(file), generation.source), host)._replace(tree=generation.tree)


def propose(wanted: Wanted, store: Store, root: Path, killed: Generation | None) -> Proposal:
    """Compare what is wanted with what is on the host; ``killed`` did not come to its end. Raises ProblemsError."""
    before = store.current
    were = (*(before.instances if before else ()), *(killed.instances if killed else ()))
    changes = (*compare(wanted.built.tree, root, store.owned()), *_source(wanted, root))
    return Proposal(
        wanted.built,
        root,
        before,
        changes,
        wanted.instances,
        in_order(were),
        wanted.release,
        interrupted=killed is not None,
        renew=wanted.renew,
        dropped=tuple(name for name in before.instances if name not in killed.instances) if before and killed else (),
        drop_ins=tuple(_drop_ins(wanted.built.deployment.name, root)),
    )


def _source(wanted: Wanted, root: Path) -> Iterator[Change]:
    file = wanted.built.file
    if not wanted.writes_source:
        return
    target = file.absolute()
    content = wanted.source.encode()
    try:
        found, mode = target.read_bytes(), target.stat().st_mode & 0o7777
    except FileNotFoundError:
        found, mode = None, 0o644
    except OSError as error:
        raise ProblemsError(Problem(Location(str(target)), f"cannot be read: {error.strerror}")) from None
    if found != content:
        kind: Kind = "create" if found is None else "update"
        yield Change(target, kind, Rendered(mode, content), PurePosixPath(name_of(target, root)), found)


def _check_release(release: Release, root: Path) -> None:
    link = root / release.link.lstrip("/")
    target = root / release.target.lstrip("/") if release.target.startswith("/") else link.parent / release.target
    if not target.is_dir():
        what, hint = f"the release {release.target} is not there any more", "go back to another generation"
        raise ProblemsError(Problem(Location(release.link), what, hint))


def _drop_ins(name: str, root: Path) -> Iterator[Path]:
    # systemd.unit(5): of the templates, of single instances and of the targets.
    units = root / scope.current().units.relative_to("/")
    for directory in sorted(units.glob("*.d")) if units.is_dir() else ():
        unit = directory.name.removesuffix(".d")
        if unit.partition("@")[0] == name or unit.partition(".")[0] == name:
            yield from sorted(directory.glob("*.conf"))
