"""The last error of each instance, from the journal."""

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from aiosystemd import scope, systemctl

_MOST: Final = 1000
"""Entries that are looked at, the newest first: an instance may log errors all day."""

_LONGEST: Final = 300
"""Characters of a line that are shown."""


@dataclass(frozen=True, slots=True)
class Error:
    """A line in the journal."""

    at: float
    """Time of day."""
    text: str


def last_errors(since: Mapping[str, float]) -> dict[str, Error]:
    """Return the last line of priority ``err`` about each unit since its time of day, which is not 0.

    Those of its own processes count for more than systemd's about it, which only say that it has failed. One call of
    journalctl for all. Raises SystemctlError.
    """
    if not since:
        return {}
    theirs: dict[str, Error] = {}
    systemds: dict[str, Error] = {}
    for entry in _entries(since):
        for found, unit in ((theirs, entry.unit), (systemds, entry.subject)):
            if unit in since and unit not in found and entry.error.at >= since[unit]:
                found[unit] = entry.error
    return systemds | theirs


@dataclass(frozen=True, slots=True)
class _Entry:
    error: Error
    unit: str
    """Whose process wrote it."""
    subject: str
    """The unit that systemd wrote it about."""


def _fields() -> tuple[str, str]:
    # systemd.journal-fields(7): the unit of a process, and the one that a message is about.
    return ("_SYSTEMD_USER_UNIT", "USER_UNIT") if scope.current().user else ("_SYSTEMD_UNIT", "UNIT")


def _entries(since: Mapping[str, float]) -> Iterator[_Entry]:
    unit, subject = _fields()
    # Anybody may write UNIT= into the journal, but nobody else is process 1.
    systemd = f"_UID={os.getuid()}" if scope.current().user else "_PID=1"
    matches = (*(f"{unit}={each}" for each in since), "+", systemd, *(f"{subject}={each}" for each in since))
    options = (
        *("--priority=err", "--reverse", f"--lines={_MOST}", f"--since=@{min(since.values()):.6f}"),
        *("--output=json", f"--output-fields=MESSAGE,{unit},{subject}", "--quiet", "--no-pager"),
    )
    for line in systemctl.run_program("journalctl", *options, *matches).splitlines():
        entry = json.loads(line)
        error = Error(int(entry["__REALTIME_TIMESTAMP"]) / 1_000_000, _text(entry.get("MESSAGE")))
        if error.text:
            yield _Entry(error, str(entry.get(unit, "")), str(entry.get(subject, "")))


def _text(message: object) -> str:
    """Return the first line of a message; journalctl(1): one that is not plain text is a list of bytes."""
    if isinstance(message, list):
        message = bytes(message).decode(errors="replace")
    line = next(iter(str(message or "").strip().splitlines()), "")
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 1]}…"
