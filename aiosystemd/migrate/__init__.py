"""From what other programs were told to deployment files, and a report of what became of every setting."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from glob import glob
from pathlib import Path, PurePosixPath
from typing import Final, Literal

from pydantic import TypeAdapter

from aiosystemd import apply, load, values
from aiosystemd.compare import Change, compare
from aiosystemd.errors import Location, Problem, ProblemsError
from aiosystemd.migrate import circus, document, folding, gunicorn, nginx, numbered, procfile, supervisord, unit
from aiosystemd.migrate.found import Draft, Finding, Given, Text
from aiosystemd.migrate.roles import fits
from aiosystemd.migrate.target import OPTION
from aiosystemd.plan import Rendered

Format = Literal["supervisord", "gunicorn", "procfile", "unit", "circus"]
Drafts = Callable[[tuple[Text, ...], Given], Iterator[Draft]]

FILE: Final = "aiosystemd.toml"
_APP: Final = TypeAdapter[str](values.App)
_MOST: Final = 1000
"""Files that are read in one run."""


@dataclass(frozen=True, slots=True)
class Imported:
    """What became of one program."""

    program: str
    at: Location
    name: str
    left_out: str
    """Why there is no deployment of it; empty if there is one."""
    text: str
    findings: tuple[Finding, ...]
    warnings: tuple[Problem, ...]

    def as_json(self) -> dict[str, object]:
        """Return the report as JSON data."""
        return {
            "program": self.program,
            "file": self.at.file,
            "line": self.at.line,
            "name": self.name or None,
            "left_out": self.left_out or None,
            "settings": [_finding(each) for each in self.findings],
            "warnings": [f"{each.what} ({each.hint})" for each in self.warnings],
        }


def _finding(each: Finding) -> dict[str, object]:
    at = each.setting.at
    return {
        "file": at.file,
        "line": at.line,
        "column": at.column,
        "setting": str(each.setting),
        "outcome": each.outcome,
        "key": ".".join(each.key) or None,
        "says": each.says,
    }


def importing(
    kind: Format, files: Iterable[Path], apps: Iterable[str] = (), proxies: Iterable[Path] = ()
) -> tuple[Imported, ...]:
    """Read ``files``, and those that they include, and return what each program in them becomes.

    ``apps`` are applications that commands do not name, as MODULE:ATTRIBUTE or PROGRAM=MODULE:ATTRIBUTE; ``proxies``
    are configurations of the nginx in front of them.
    Raises ProblemsError for what cannot be read.
    """
    named = _named(apps)
    texts = [_text(file) for file in dict.fromkeys(files)]
    return tuple(imported(kind, texts, _included, named, [_text(file) for file in dict.fromkeys(proxies)]))


def imported(
    kind: Format,
    texts: Iterable[Text],
    included: Callable[[Text, Callable[[Text], list[str]]], list[Text]] = lambda *_: [],
    apps: Mapping[str, str] | None = None,
    proxies: Iterable[Text] = (),
) -> Iterator[Imported]:
    """Yield what each program of ``texts`` becomes; ``included`` reads the files that one of them includes.

    ``proxies`` are configurations of the nginx in front.

    Raises ProblemsError for what cannot be read.
    """
    own, given = _sorted_out(kind, texts, apps or {})
    if kind in _INCLUDES:
        own = tuple(dict.fromkeys(each for text in own for each in (text, *included(text, _INCLUDES[kind]))))
    drafts = [*numbered.folded(_DRAFTS[kind](own, given))] if own else []
    drafts += _unused(drafts, given, alone=not own)
    _each_named_once(drafts, given)
    taken: set[str] = set()
    for draft in drafts:
        if not draft.left_out:
            taken.add(document.name(draft, taken))
    if proxies := tuple(proxies):
        drafts += nginx.apply(proxies, drafts, lambda pattern: included(proxies[0], lambda _: [pattern]))
    for draft in drafts:
        warnings = document.settle(draft)
        name = "" if draft.left_out else str(draft.values["name",])
        written = "" if draft.left_out else document.text(draft)
        yield Imported(draft.program, draft.at, name, draft.left_out, written, draft.told(), warnings)


def _named(apps: Iterable[str]) -> dict[str, str]:
    named = {program: app for program, _, app in (each.rpartition("=") for each in apps)}
    for app in named.values():
        if not fits(_APP, app):
            what = f'"{app}" is not of the form MODULE:ATTRIBUTE'
            raise ProblemsError(Problem(Location(OPTION), what, 'as in "shop.main:app", or "web=shop.main:app"'))
    return named


def _sorted_out(kind: Format, texts: Iterable[Text], apps: Mapping[str, str]) -> tuple[tuple[Text, ...], Given]:
    """Tell the files of the old program from those that it, or a shell, would read besides."""
    own, python, environments = [], [], []
    for each in texts:
        name = PurePosixPath(each.file).name
        if name.endswith(".py"):
            python.append(each)
        elif kind in {"procfile", "gunicorn"} and (name.startswith(".env") or name.endswith(".env")):
            environments.append(each)
        else:
            own.append(each)
    return tuple(own), Given(tuple(python), tuple(environments), kind == "gunicorn", apps)


def _unused(drafts: list[Draft], given: Given, *, alone: bool) -> Iterator[Draft]:
    """Yield a draft for each Python file that no command has meant: a deployment if there is no command at all."""
    used = {each.setting.at.file for draft in drafts for each in draft.findings}
    for text in given.python:
        if text.file not in used:
            draft = given.draft(text.file, Location(text.file))
            if not alone:
                draft.leave("no command of a program names it with -c")
            gunicorn.serve(draft, folding.settings(text, draft))
            yield draft


def _each_named_once(drafts: list[Draft], given: Given) -> None:
    """Refuse an application that no program takes, and one that several do."""
    for program, app in given.apps.items():
        took = [each for each in drafts if not each.left_out and each.values.get(("app",)) == app]
        if not took:
            what = f"{app} is no program's" if not program else f"no program {program} is without an application"
            raise ProblemsError(Problem(Location(OPTION), what, "each command names its application, or is none"))
        if len(took) > 1 and not program:
            what = f"{app} could be each of {', '.join(each.program for each in took)}"
            raise ProblemsError(Problem(Location(OPTION), what, f"say which: {OPTION} {took[0].name}={app}"))


def _text(file: Path) -> Text:
    if not file.exists():
        raise ProblemsError(Problem(Location(str(file)), "no such file"))
    return Text(str(file), load.text_of(file))


def _included(text: Text, patterns: Callable[[Text], list[str]]) -> list[Text]:
    files = [Path(file) for pattern in patterns(text) for file in sorted(glob(pattern))[:_MOST]]  # noqa: PTH207
    return [_text(file) for file in dict.fromkeys(files)]


_DRAFTS: Final[Mapping[Format, Drafts]] = {
    "supervisord": supervisord.drafts,
    "gunicorn": procfile.script,
    "procfile": procfile.drafts,
    "unit": unit.drafts,
    "circus": circus.drafts,
}
_INCLUDES: Final[Mapping[Format, Callable[[Text], list[str]]]] = {
    "supervisord": supervisord.includes,
    "circus": circus.includes,
}


def write(found: Iterable[Imported], output: Path | None, *, force: bool = False) -> dict[Path, Change]:
    """Write the deployment files, all or none, and return what each meant: one as a file, several into a directory.

    ``output`` that is a directory, or that is not called *.toml, is one. Raises ProblemsError; for files in the way
    too, unless ``force`` keeps a copy of each.
    """
    places = _places(found, output)
    tree = {PurePosixPath(path.absolute()): Rendered(0o644, each.text.encode()) for path, each in places.items()}
    changes = [_as_it_is(each) for each in compare(tree, Path("/"))]
    ways = [each for each in changes if each.kind not in {"create", "unchanged"}]
    if ways and not force:
        hint = "use --force, which keeps a copy, or -o with another name"
        shown = [path for path, each in zip(places, changes, strict=True) if each in ways]
        raise ProblemsError(*(Problem(Location(str(path)), "is there already", hint) for path in shown))
    changes = [each._replace(kind="foreign") if each in ways else each for each in changes]
    apply.write(tuple(changes))
    return dict(zip(places, changes, strict=True))


def _as_it_is(change: Change) -> Change:
    same = change.found is not None and change.found == change.content  # whatever its mode
    return change._replace(kind="unchanged") if same else change


def _places(found: Iterable[Imported], output: Path | None) -> dict[Path, Imported]:
    deployments = [each for each in found if each.name]
    one = len(deployments) == 1 and not (output and (output.is_dir() or output.suffix != ".toml"))
    if output and not one and output.suffix == ".toml" and not output.is_dir():
        what = f"would be {len(deployments)} files: {', '.join(f'{each.name}.toml' for each in deployments)}"
        raise ProblemsError(Problem(Location(str(output)), what, "give a directory: -o DIR"))
    if one:
        return {output or Path(FILE): deployments[0]}
    return {Path(output or "", f"{each.name}.toml"): each for each in deployments}
