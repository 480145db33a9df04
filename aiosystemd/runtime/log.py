"""Errors on stderr, with their priority where the journal reads it."""

import logging
import os
import sys
from typing import Final

# sd-daemon(3): a line that begins with <N> has syslog priority N; any other has SyslogLevel=, "info".
_PRIORITIES: Final = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))


class PriorityFormatter(logging.Formatter):
    """Begins each line of a record with its syslog priority."""

    def format(self, record: logging.LogRecord) -> str:
        priority = next((number for level, number in _PRIORITIES if record.levelno >= level), 7)
        return "\n".join(f"<{priority}>{line}" for line in super().format(record).splitlines() or [""])


def stderr_is_journal() -> bool:
    """Whether stderr is a stream to the journal, systemd.exec(5) JOURNAL_STREAM."""
    stream = os.environ.get("JOURNAL_STREAM", "")
    try:
        found = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError, AttributeError):
        return False
    return stream == f"{found.st_dev}:{found.st_ino}"


def prioritise_errors() -> None:
    """Give errors that nobody else handles their priority in the journal."""
    # The handler of last resort is asked only when the application has not configured logging; a handler on the root
    # logger would make its own basicConfig() do nothing.
    if stderr_is_journal() and logging.lastResort:
        logging.lastResort.setFormatter(PriorityFormatter())


def complain(text: str) -> None:
    """Write lines of ``text`` to stderr as errors."""
    prefix = "<3>" if stderr_is_journal() else ""
    sys.stderr.write("".join(f"{prefix}{line}\n" for line in text.splitlines()))
