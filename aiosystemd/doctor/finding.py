"""What a look at a host has found, and the command that mends it."""

import shlex
from dataclasses import dataclass
from typing import Literal

from aiosystemd.errors import Location, Problem

Severity = Literal["error", "warning", "fine", "unseen"]
"""``unseen`` is what could not be looked at, such as what only root may see."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One fact about a deployment on a host."""

    severity: Severity
    what: str
    at: Location | None = None
    """The key at fault, or the file; None for what is fine."""
    mend: str = ""
    """The command that mends it, spelt for a shell."""
    source: str = ""
    """The offending line of the deployment file."""
    check: str = ""
    """Which check has found it."""

    def __str__(self) -> str:
        kind = f"{self.severity}: " if self.severity in ("error", "warning") else ""
        return f"{self.at}: {kind}{self.what}" if self.at else self.what

    def excerpt(self) -> str:
        """Return the offending line with a caret below the column, or ``""``; see ``Problem.excerpt``."""
        return Problem(self.at, self.what, source=self.source).excerpt() if self.at else ""

    def as_json(self) -> dict[str, object]:
        """Return what ``doctor --json`` prints; ``line`` and ``column`` are 0 where no key is at fault."""
        at = self.at or Location("")
        place = {"file": at.file, "line": at.line, "column": at.column}
        return {"check": self.check, "severity": self.severity, "message": self.what, "mend": self.mend, **place}


def command(*argv: str) -> str:
    """Return a command as a person would type it."""
    return shlex.join(argv)


def then(*commands: str) -> str:
    """Return commands that follow one another as long as each succeeds."""
    return " && ".join(commands)


def edit(file: str, line: int = 0) -> str:
    """Return the command that opens an editor on a line, 0 for none: ``+N`` means the same to vi, nano and emacs."""
    return " ".join(('"${EDITOR:-vi}"', *([f"+{line}"] if line else []), shlex.quote(file)))


def append(line: str, file: str) -> str:
    """Return the command that appends a line to a file."""
    return f"echo {shlex.quote(line)} >> {shlex.quote(file)}"
