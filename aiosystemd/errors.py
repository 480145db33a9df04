"""What went wrong, where, and what to do: the one type that every stage reports with."""

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Literal

from aiosystemd.render.text import visible


class ExitCode(IntEnum):
    """Exit statuses of ``aiosystemd``."""

    FINE = 0
    """It is done, or there was nothing to do."""
    PROBLEMS = 1
    """Something is wrong, and was told on stderr."""
    USAGE = 2
    """The command line is wrong."""
    INTERRUPTED = 130
    """It was interrupted, by Ctrl-C or SIGINT."""


@dataclass(frozen=True, slots=True, order=True)
class Location:
    """A place in a file the user wrote; ``line`` and ``column`` count from 1, 0 where there is none."""

    file: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        numbers = (str(number) for number in (self.line, self.column) if number)
        return ":".join((self.file, *numbers))


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One fact that keeps a deployment from being right, or (``severity="warning"``) from being safe."""

    at: Location
    what: str
    hint: str = ""
    severity: Literal["error", "warning"] = "error"
    source: str = field(default="", compare=False)
    """The offending line of the user's file, without its line end."""

    def __str__(self) -> str:
        kind = "warning: " if self.severity == "warning" else ""
        hint = f" ({self.hint})" if self.hint else ""
        # Names and values of the user's stand in it, and must not fool the terminal that it is printed to.
        return visible(f"{self.at}: {kind}{self.what}{hint}")

    def excerpt(self) -> str:
        """Return the offending line with a caret below the column, or ``""`` when no line is known."""
        if not self.source:
            return ""
        # A tab must stay a tab, or the caret would stand elsewhere than the terminal puts the character.
        before = "".join("\t" if char == "\t" else " " for char in self.source[: self.at.column - 1])
        return f"    {self.source}\n    {before}^"


class ProblemsError(Exception):
    """Every problem of one run, in the order of the file."""

    def __init__(self, *problems: Problem) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = tuple(sorted(problems))
