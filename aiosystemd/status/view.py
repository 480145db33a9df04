"""All that ``aiosystemd status`` shows, at one moment."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from aiosystemd.errors import ExitCode, Problem
from aiosystemd.status.rows import Row, iso

DOWN: Final = 3
"""systemctl(1), ``status``: the exit status for a unit that is not active."""


@dataclass(frozen=True, slots=True)
class Deployed:
    """A deployment."""

    name: str
    file: Path
    problems: tuple[Problem, ...] = ()
    """What is wrong with its file; then nothing else is known."""
    rows: tuple[Row, ...] = ()
    exposure: float | None = None
    """From 0 to 10, by ``systemd-analyze security``."""
    drift: Mapping[Path, str] = field(default_factory=dict)
    """Files that are not what the deployment file says, each with how."""
    drop_ins: tuple[Path, ...] = ()
    notes: tuple[str, ...] = ()
    """Drift, drop-ins and the like as sentences."""

    @property
    def fine(self) -> bool:
        """Whether its file is right and nothing is down."""
        return not self.problems and all(row.fine for row in self.rows)

    def as_json(self) -> dict[str, object]:
        """Return what ``status --json`` prints of it."""
        return {
            "name": self.name,
            "file": str(self.file),
            "fine": self.fine,
            "problems": [str(problem) for problem in self.problems],
            "exposure": self.exposure,
            "drift": {str(path): how for path, how in self.drift.items()},
            "drop_ins": list(map(str, self.drop_ins)),
            "notes": list(self.notes),
            "instances": [row.as_json() for row in self.rows],
        }


@dataclass(frozen=True, slots=True)
class View:
    """Deployments at one moment."""

    at: float
    """Time of day."""
    deployments: tuple[Deployed, ...]

    @property
    def status(self) -> int:
        """The exit status that says whether all is fine."""
        return ExitCode.FINE if all(each.fine for each in self.deployments) else DOWN

    def as_json(self) -> dict[str, object]:
        """Return what ``status --json`` prints."""
        return {"time": iso(self.at), "deployments": [each.as_json() for each in self.deployments]}
