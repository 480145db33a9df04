"""What is found in a directory, by reading it or by importing what is there."""

import sys
from dataclasses import dataclass, replace
from pathlib import Path

from aiosystemd.errors import Location, Problem, ProblemsError
from aiosystemd.init import surroundings
from aiosystemd.init.applications import Application, Found, look
from aiosystemd.introspect import FailedError, Subject, ask


@dataclass(frozen=True, slots=True)
class Around:
    """What is found in a directory: its applications, a name for them, an interpreter."""

    found: Found
    name: str
    interpreter: surroundings.Interpreter | None

    @property
    def python(self) -> str:
        """The interpreter to import the application with: the one that was found, else this program's own."""
        return self.interpreter.python if self.interpreter else sys.executable

    def imported(self) -> "Around":
        """Return the same with what each application says of itself; raises ProblemsError."""
        applications = tuple(imported(each, self.python) for each in self.found.applications)
        return replace(self, found=replace(self.found, applications=applications))

    def as_json(self) -> dict[str, object]:
        """Return what ``init --json`` prints; a line is 0 where there is none."""
        return {
            "directory": str(self.found.directory),
            "name": self.name,
            "interpreter": self.interpreter.as_json() if self.interpreter else None,
            "applications": [_as_json(each) for each in self.found.applications],
            "notes": [_told(each) for each in self.found.told],
        }


def around(directory: Path) -> Around:
    """Look at a directory, without running anything of it; raises ProblemsError when it cannot be read."""
    whole = directory.resolve()
    return Around(look(whole), surroundings.name(whole), surroundings.interpreter(whole))


def imported(application: Application, python: str) -> Application:
    """Return the application with what it says of itself when it is imported; raises ProblemsError."""
    try:
        facts = ask(Subject(application.app, python, application.root))
    except FailedError as error:
        hint = f"{python} -m pip install 'aiosystemd[serve]'" if error.of_interpreter else ""
        raise ProblemsError(Problem(whole_line(application.at), str(error), hint)) from None
    seen = {(each.prefix.rstrip("/"), each.directory): each.at for each in application.facts.static}
    static = (replace(each, at=seen.get((each.prefix.rstrip("/"), each.directory))) for each in facts.static)
    return replace(application, facts=replace(facts, static=tuple(static)), notes=())


def whole_line(at: Location) -> Location:
    """Return a place without its column."""
    return Location(at.file, at.line)


def _as_json(each: Application) -> dict[str, object]:
    static = [{"prefix": s.prefix, "directory": s.directory or None, **_place(s.at)} for s in each.facts.static]
    routes = [{"path": r.path, "kind": r.kind, **_place(r.at)} for r in each.facts.routes]
    return {
        "app": each.app,
        **_place(each.at),
        "import_from": str(each.root),
        "served": each.served,
        "static": static,
        "routes": routes,
        "client_max_size_bytes": each.facts.body_limit,
        "notes": [_told(note) for note in each.notes],
    }


def _place(at: Location | None) -> dict[str, object]:
    return {"file": at.file if at else None, "line": at.line if at else 0}


def _told(problem: Problem) -> dict[str, object]:
    return {**_place(problem.at), "message": problem.what, "hint": problem.hint}
