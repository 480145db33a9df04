"""From an application's code to a deployment file for it: what is found, what a person chooses, and the writing."""

import shlex
from collections.abc import Callable, Iterator
from difflib import get_close_matches
from pathlib import Path, PurePosixPath
from typing import Final

from aiosystemd import apply
from aiosystemd.compare import Change, compare
from aiosystemd.errors import Location, Problem, ProblemsError
from aiosystemd.init import document
from aiosystemd.init.applications import Application, Found
from aiosystemd.init.around import Around, around, imported, whole_line
from aiosystemd.init.document import Draft
from aiosystemd.introspect import Facts
from aiosystemd.load import parse, validate
from aiosystemd.plan import Rendered

__all__ = ["FILE", "around", "choose", "in_the_way", "write"]

FILE: Final = "aiosystemd.toml"


Pick = Callable[[tuple[Application, ...]], Application]
"""Asks a person which of several applications is meant."""


def choose(around: Around, target: str | None, *, imports: bool, pick: Pick | None) -> Application:
    """Return the application called ``target``, the only one that the code serves, or the only one there is.

    With ``imports`` it has said itself what it serves. Raises ProblemsError when there is none, and where nobody can be
    asked for several.
    """
    options = _candidates(around.found, target, imports=imports)
    if len(options) > 1 and pick is None:
        raise ProblemsError(*_ambiguous(options))
    chosen = pick(options) if pick and len(options) > 1 else options[0]
    return imported(chosen, around.python) if imports else chosen


def _ambiguous(options: tuple[Application, ...]) -> Iterator[Problem]:
    names = [each.app for each in options]
    for each in options:
        # Two folders may each have a module of that name.
        alone = f"look at it alone: {shlex.join(('aiosystemd', 'init', str(each.root)))}"
        hint = f"choose it with --app {each.app}" if names.count(each.app) == 1 else alone
        yield Problem(whole_line(each.at), f"{each.app} is one of {len(options)} applications", hint)


def _candidates(found: Found, target: str | None, *, imports: bool) -> tuple[Application, ...]:
    here = Location(str(found.directory))
    if target is None:
        if not found.applications:
            hint = "make one at the top of a module or return it from a function; or name it, with --app and --import"
            raise ProblemsError(Problem(here, "no aiohttp application is seen", hint), *found.told)
        return tuple(each for each in found.applications if each.served) or found.applications
    named = tuple(each for each in found.applications if each.app == target)
    if named or imports:
        return named or (Application(target, here, found.directory, Facts()),)
    close = get_close_matches(target, [each.app for each in found.applications], n=1)
    hint = f"did you mean {close[0]}?" if close else "--import takes it all the same"
    raise ProblemsError(Problem(here, f"no application {target} is seen", hint), *found.told)


def write(draft: Draft, file: Path, *, force: bool = False) -> Change:
    """Write the deployment file, and return what that meant; with ``force`` over another one, of which a copy is kept.

    Raises ProblemsError.
    """
    text = document.text(draft)
    validate(parse(str(file), text))
    path = PurePosixPath(file.absolute())
    (change,) = compare({path: Rendered(0o644, text.encode())}, Path("/"))
    if change.found == change.content:  # whatever its mode
        return change._replace(kind="unchanged")
    if change.kind != "create":
        if not force:
            raise in_the_way(file)
        change = change._replace(kind="foreign")
    apply.write((change,))
    return change


def in_the_way(file: Path) -> ProblemsError:
    """Return the error that a deployment file is there already."""
    hint = "use --force, which keeps a copy, or -o FILE"
    return ProblemsError(Problem(Location(str(file)), "is there already", hint))
