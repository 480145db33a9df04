"""Everything that can be said about a deployment file without installing it."""

from dataclasses import dataclass

from aiosystemd.build import build
from aiosystemd.errors import Problem, ProblemsError
from aiosystemd.host import Host
from aiosystemd.load import find
from aiosystemd.verify import Verdict, verify


@dataclass(frozen=True, slots=True)
class Report:
    """What is wrong with a file, and what each checker said."""

    file: str
    problems: tuple[Problem, ...]
    verdicts: tuple[Verdict, ...] = ()

    @property
    def failed(self) -> bool:
        """Whether anything but warnings was found."""
        return any(problem.severity == "error" for problem in self.problems)

    def as_json(self) -> dict[str, object]:
        """Return what ``check --json`` prints for a file; ``line`` and ``column`` are 0 where there is none."""
        return {
            "file": self.file,
            "problems": [_problem_as_json(problem) for problem in self.problems],
            "checkers": [
                {"name": verdict.checker, "verdict": verdict.said, "note": verdict.note} for verdict in self.verdicts
            ],
        }


def inspect(name_or_file: str, host: Host) -> Report:
    """Check one file: its own rules first, then the real checkers on what it generates."""
    file = find(name_or_file)
    try:
        built = build(name_or_file, host)
    except ProblemsError as error:
        return Report(str(file), error.problems)
    verdicts = tuple(verify(built.deployment, host, file.name))
    found = tuple(problem for verdict in verdicts for problem in verdict.problems)
    return Report(str(file), (*built.warnings, *found), verdicts)


def _problem_as_json(problem: Problem) -> dict[str, object]:
    at = problem.at
    place = {"file": at.file, "line": at.line, "column": at.column}
    return {**place, "severity": problem.severity, "message": problem.what, "hint": problem.hint}
