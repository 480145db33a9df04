"""Everything that can be said about a deployment file without installing it."""

from collections.abc import Iterable
from dataclasses import dataclass

from aiosystemd.build import Attempt, attempt
from aiosystemd.errors import Problem
from aiosystemd.host import Host
from aiosystemd.model import Deployment
from aiosystemd.verify import Verdict, verify


@dataclass(frozen=True, slots=True)
class Report:
    """What is wrong with a file, and what each checker said."""

    file: str
    problems: tuple[Problem, ...]
    verdicts: tuple[Verdict, ...] = ()
    deployment: Deployment | None = None
    """What it describes, where it can be read."""

    @property
    def failed(self) -> bool:
        """Whether anything but warnings was found."""
        return any(problem.severity == "error" for problem in self.problems)

    def as_json(self) -> dict[str, object]:
        """Return what ``check --json`` prints for a file; ``line`` and ``column`` are 0 where there is none."""
        return {
            "file": self.file,
            "name": self.deployment and self.deployment.name,
            "proxy": self.deployment and self.deployment.proxy.kind,
            "addressable": self.deployment and self.deployment.addressable,
            "problems": [_problem_as_json(problem) for problem in self.problems],
            "checkers": [
                {"name": verdict.checker, "verdict": verdict.said, "note": verdict.note} for verdict in self.verdicts
            ],
        }


def inspect(names_or_files: Iterable[str], host: Host, *, introspect: bool = False) -> list[Report]:
    """Check files: their own rules first, one beside the other, then the real checkers on what each generates.

    With ``introspect`` each application is imported, and what it says of itself is compared with its file.
    """
    return [_inspect(each, host, introspect=introspect) for each in attempt(names_or_files, host)]


def _inspect(tried: Attempt, host: Host, *, introspect: bool) -> Report:
    if tried.built is None or tried.failed:
        return Report(str(tried.file), tuple(sorted(tried.problems)))
    verdicts = tuple(verify(tried.built.deployment, host, tried.file.name))
    if introspect:
        from aiosystemd.introspect import look  # noqa: PLC0415 (only where it is asked for)

        problems, note = look(tried.built)
        verdicts = (*verdicts, Verdict("application", problems, note))
    found = tuple(problem for verdict in verdicts for problem in verdict.problems)
    return Report(str(tried.file), (*sorted(tried.problems), *found), verdicts, tried.built.deployment)


def _problem_as_json(problem: Problem) -> dict[str, object]:
    at = problem.at
    place = {"file": at.file, "line": at.line, "column": at.column}
    return {**place, "severity": problem.severity, "message": problem.what, "hint": problem.hint}
