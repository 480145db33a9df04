"""``aiosystemd logs``: what the instances of a deployment, and systemd about them, have written into the journal."""

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from aiosystemd import scope, systemctl
from aiosystemd.build import refuse_gunicorn
from aiosystemd.errors import Location, Problem, ProblemsError
from aiosystemd.load import find, validate
from aiosystemd.load import read as read_file
from aiosystemd.render.text import visible
from aiosystemd.systemctl import SystemctlError

if TYPE_CHECKING:
    from systemd.journal import Reader

PRIORITIES: Final = ("emerg", "alert", "crit", "err", "warning", "notice", "info", "debug")
"""syslog(3): the names, from 0."""

JOURNALS: Final = (Path("/var/log/journal"), Path("/run/log/journal"))
"""systemd-journald.service(8): where the journal is."""

_TOGETHER: Final = 0.25
"""Seconds after which a line does not belong to the one before it."""

_MICROSECOND: Final = 0.000_001
"""Seconds: the resolution of the journal's times."""

_COREDUMP: Final = "fc2e22bc6ee647b6b90729ab34a250b1"
"""systemd-coredump(8): the message that tells of a process that has crashed."""

Entry = Mapping[str, object]
"""Fields of the journal by their names, as systemd-python gives them."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which messages."""

    name: str
    """Of the deployment."""
    instances: tuple[str, ...] = ()
    """Of these instances; of all without one."""
    since: float | None = None
    until: float | None = None
    """Times of day."""
    priority: int = 7
    """The least important one."""
    lines: int | None = None
    """The last ones, so many; all without."""


@dataclass(slots=True)
class Message:
    """A message: the lines that belong together."""

    at: float
    """Time of day."""
    instance: str
    unit: str
    priority: int
    pid: int | None
    identifier: str
    """Who wrote it, in the words of syslog."""
    stream: str
    """What it came through; other messages of the same process may too."""
    lines: list[str]
    last: float
    """Time of day of the last line."""
    trace: bool = False
    """Whether it ends inside a traceback, the last line of which, alone, is not indented."""

    def text(self) -> str:
        """Return it as lines of a terminal: nothing in it moves a cursor or fools a reader."""
        when = datetime.fromtimestamp(self.at).astimezone().isoformat(" ", "milliseconds")[:23]
        by = "" if self.identifier.partition("@")[2] == self.instance else f"{self.identifier}: "
        head, *rest = (_shown(line) for line in self.lines)
        first = f"{when}  {visible(self.instance):3} {PRIORITIES[self.priority]:7}  {visible(by)}{head}"
        return "\n".join((first, *(f"    {line}" for line in rest)))

    def as_json(self) -> dict[str, object]:
        """Return what ``logs --json`` prints, in a line."""
        return {
            "time": datetime.fromtimestamp(self.at, UTC).isoformat(timespec="microseconds"),
            "instance": self.instance,
            "unit": self.unit,
            "priority": self.priority,
            "level": PRIORITIES[self.priority],
            "identifier": self.identifier,
            "pid": self.pid,
            "message": "\n".join(self.lines),
        }


def _shown(line: str) -> str:
    # The indentation of a traceback is part of it; a tab is as wide as the terminal likes.
    return visible(line.expandtabs())


def deployment(name_or_file: str) -> str:
    """Return the name of the deployment meant, which need not have a file any more.

    Raises ProblemsError when it is a file, and one that is wrong; and when it has no instances.
    """
    try:
        source = read_file(find(name_or_file))
        found, _ = validate(source)
    except ProblemsError:
        if "/" in name_or_file or name_or_file.endswith(".toml"):
            raise
        return name_or_file
    refuse_gunicorn(found, source, f"journalctl --unit {found.name}")
    return found.name


def when(text: str, option: str) -> float:
    """Return the time of day that ``text`` means, in the words of systemd.time(7).

    Raises ProblemsError when it means none.
    """
    try:
        found = systemctl.run_program("systemd-analyze", "timestamp", "--", text)
    except SystemctlError as error:
        hint = 'as in "2 hours ago", "yesterday", "14:30" or "2026-01-31 14:30:00"; systemd.time(7)'
        raise ProblemsError(Problem(Location(option), str(error), hint)) from None
    # The words before it are right-aligned.
    match = re.search(r"^ *UNIX seconds: @(\S+)$", found, re.MULTILINE)
    if not match:
        raise ProblemsError(Problem(Location(option), f'"{text}" is no time that systemd-analyze knows'))
    return float(match[1])


def level(text: str) -> int:
    """Return the number of a priority; raises ProblemsError when there is none of that name."""
    names = {name: number for number, name in enumerate(PRIORITIES)}
    names |= {str(number): number for number in names.values()} | {"error": 3, "critical": 2, "warn": 4}
    if text.lower() not in names:
        raise ProblemsError(
            Problem(Location("--level"), f'"{text}" is no priority', f"one of: {', '.join(PRIORITIES)}")
        )
    return names[text.lower()]


def read(wanted: Wanted, *, follow: bool) -> Iterator[Message]:
    """Yield messages, the oldest first; with ``follow`` those to come too, without an end.

    Raises ProblemsError when the journal cannot be read.
    """
    with _reader() as reader:
        units = Units(wanted)
        units.match(reader)
        together = Together(wanted.name)
        yield from together.of(_first(reader, wanted))
        yield from together.of(_entries(reader, wanted.until))
        while follow:
            yield from together.end()
            reader.wait(1)
            units.match(reader)
            yield from together.of(_entries(reader, None))
        yield from together.end()


def _reader() -> "Reader":
    try:
        from systemd.journal import Reader  # noqa: PLC0415 (optional, and of use here alone)
    except ImportError:
        hint = "apt install python3-systemd, or pip install 'aiosystemd[logs]'"
        raise ProblemsError(Problem(Location("logs"), "reading the journal needs systemd-python", hint)) from None
    _check_readable()
    try:
        return Reader()
    except OSError as error:
        raise ProblemsError(Problem(Location("journal"), f"cannot be opened: {error.strerror}")) from None


def _check_readable() -> None:
    """Raise ProblemsError when this user may not read the system's journal: then the library shows nothing of it."""
    files = [file for directory in JOURNALS for file in directory.glob("*/system.journal")]
    if not files:
        hint = "systemctl status systemd-journald"
        raise ProblemsError(Problem(Location("journal"), "there is none, or it is not for this user to see", hint))
    if not any(os.access(file, os.R_OK) for file in files) and not scope.current().user:
        hint = "use sudo, or be in group systemd-journal or adm: sudo usermod --append --groups systemd-journal USER"
        raise ProblemsError(Problem(Location("journal"), "this user may not read it", hint))


@dataclass(slots=True)
class Units:
    """The units whose messages are wanted: those that the journal knows, and later those that it gets to know."""

    wanted: Wanted
    known: set[str] = field(default_factory=set)

    def match(self, reader: "Reader") -> None:
        """Let the reader see these units' messages alone."""
        found = self._found(reader)
        if self.known and found <= self.known:
            return
        self.known |= found
        reader.flush_matches()
        # The same as journalctl --unit=: nobody but root and systemd writes about another unit.
        own, about = ("_SYSTEMD_USER_UNIT", "USER_UNIT") if scope.current().user else ("_SYSTEMD_UNIT", "UNIT")
        by = f"_UID={os.getuid()}" if scope.current().user else "_PID=1"
        for field_, *others in ((own,), (about, by), (f"COREDUMP_{about}", f"MESSAGE_ID={_COREDUMP}", "_UID=0")):
            for match in (*others, *(f"{field_}={unit}" for unit in sorted(self.known))):
                reader.add_match(match)
            reader.add_disjunction()
        reader.add_conjunction()
        for number in range(self.wanted.priority + 1):
            reader.add_match(f"PRIORITY={number}")

    def _found(self, reader: "Reader") -> set[str]:
        fields = ("_SYSTEMD_USER_UNIT", "USER_UNIT") if scope.current().user else ("_SYSTEMD_UNIT", "UNIT")
        pattern = _unit(self.wanted.name)
        names = self.wanted.instances
        units = {value for name in fields for value in reader.query_unique(name) if isinstance(value, str)}
        found = {unit for unit in units if (match := pattern.fullmatch(unit)) and (not names or match[1] in names)}
        # Without one there would be no match, and no match lets everything through.
        always = (f"{self.wanted.name}@{name}.service" for name in names or ("1",))
        return found | set(always)


def _unit(deployment: str) -> re.Pattern[str]:
    return re.compile(rf"{re.escape(deployment)}@(.+)\.(?:service|socket)")


def _first(reader: "Reader", wanted: Wanted) -> Iterator[Entry]:
    """Go to where the next entry is one that is wanted; yield the one that the reader is on, if it is one too."""
    if wanted.lines is None:
        if wanted.since is None:
            reader.seek_head()
        else:
            reader.seek_realtime(wanted.since)
        return
    if wanted.until is None:
        reader.seek_tail()
    else:
        reader.seek_realtime(wanted.until + _MICROSECOND)
    entry = reader.get_previous(max(1, wanted.lines))
    if not entry:
        reader.seek_head()
    elif wanted.since is not None and _time(entry) < wanted.since:
        reader.seek_realtime(wanted.since)
    elif wanted.lines:
        yield entry


def _entries(reader: "Reader", until: float | None) -> Iterator[Entry]:
    while entry := reader.get_next():
        if until is not None and _time(entry) > until:
            return
        yield entry


def _time(entry: Entry) -> float:
    at = entry["__REALTIME_TIMESTAMP"]
    return at.timestamp() if isinstance(at, datetime) else 0.0


class Together:
    """Puts lines together that belong together: a traceback comes line by line, between those of other instances."""

    def __init__(self, name: str) -> None:
        self._pattern = _unit(name)
        self._waiting: list[Message] = []
        """Those to which a line may still be added, and others after the first of them; in their order."""
        self._open: dict[str, Message] = {}
        """The last one of each stream."""

    def of(self, entries: Iterable[Entry]) -> Iterator[Message]:
        """Yield the messages that are complete."""
        for entry in entries:
            message = self._message(entry)
            before = self._open.get(message.stream)
            if before and message.at - before.last < _TOGETHER and _continues(before, message):
                before.lines += message.lines
                before.last, before.trace = message.at, message.trace or _is_inside(before, message)
            else:
                self._open[message.stream] = message
                self._waiting.append(message)
            yield from self._complete(message.at)

    def end(self) -> Iterator[Message]:
        """Yield what is left: nothing follows on it."""
        yield from self._waiting
        self._waiting.clear()
        self._open.clear()

    def _complete(self, now: float) -> Iterator[Message]:
        while self._waiting:
            first = self._waiting[0]
            if self._open.get(first.stream) is first and now - first.last < _TOGETHER:
                return
            if self._open.get(first.stream) is first:
                del self._open[first.stream]
            yield self._waiting.pop(0)

    def _message(self, entry: Entry) -> Message:
        fields = ("_SYSTEMD_USER_UNIT", "_SYSTEMD_UNIT", "USER_UNIT", "UNIT", "COREDUMP_USER_UNIT", "COREDUMP_UNIT")
        units = [str(entry.get(name, "")) for name in fields]
        matches = [match for match in map(self._pattern.fullmatch, units) if match]
        at, text = _time(entry), _text(entry.get("MESSAGE"))
        pid, priority = entry.get("_PID"), entry.get("PRIORITY")
        identifier = _text(entry.get("SYSLOG_IDENTIFIER") or entry.get("_COMM"))
        lines = text.rstrip("\n").split("\n")
        return Message(
            at=at,
            instance=matches[0][1] if matches else "",
            unit=matches[0][0] if matches else "",
            priority=priority if isinstance(priority, int) and priority in range(len(PRIORITIES)) else 6,
            pid=pid if isinstance(pid, int) else None,
            identifier=identifier,
            stream=f"{entry.get('_STREAM_ID')} {pid} {identifier}",
            lines=lines,
            last=at,
            trace=_TRACE.match(lines[-1]) is not None,
        )


_TRACE: Final = re.compile(r"(Exception Group )?Traceback \(most recent call last\):")
_BETWEEN: Final = ("During handling of the above exception", "The above exception was the direct cause")
"""What stands between two tracebacks, with empty lines around it."""


def _continues(before: Message, new: Message) -> bool:
    line = new.lines[0]
    return not line or line[0].isspace() or before.trace or new.trace or line.startswith(_BETWEEN)


def _is_inside(before: Message, new: Message) -> bool:
    """Tell whether a traceback goes on after a line."""
    return before.trace and new.lines[-1][:1].isspace()


def _text(value: object) -> str:
    if isinstance(value, list):  # a field that an entry has several times
        value = value[0]
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value if value is not None else "")
