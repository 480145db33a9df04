"""The view as text: a table per deployment, and below it what needs a sentence."""

from collections.abc import Iterator, Sequence
from typing import Final, Literal, NamedTuple

from aiosystemd.render.text import visible
from aiosystemd.status.rows import Row
from aiosystemd.status.view import Deployed, View


class Line(NamedTuple):
    """A line, and how it is meant."""

    text: str
    mood: Literal["good", "idle", "passing", "bad", "plain", "head"] = "plain"


_COLUMNS: Final = (
    *("INSTANCE", "STATE", "SOCKET", "PID", "SINCE", "RELEASE", "RESTARTS", "MEMORY", "CPU"),
    *("CONN", "QUEUE", "REQ/S", "5XX"),
)
_RIGHT: Final = frozenset(("PID", "SINCE", "RESTARTS", "MEMORY", "CPU", "CONN", "QUEUE", "REQ/S", "5XX"))

_UNITS: Final = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def lines(view: View) -> Iterator[Line]:
    """Yield the lines of a view."""
    for number, each in enumerate(view.deployments):
        if number:
            yield Line("")
        yield from _deployed(each, view.at)


def _deployed(each: Deployed, now: float) -> Iterator[Line]:
    if each.problems:
        more = f" (and {len(each.problems) - 1} more: aiosystemd check {each.file})" if len(each.problems) > 1 else ""
        yield Line(visible(f"{each.problems[0]}{more}"), "bad")
        return
    yield Line(visible(_head(each)), "head")
    header, *body = _aligned([_COLUMNS, *(_cells(row, now) for row in each.rows)])
    yield Line(header, "head")
    yield from (Line(text, row.mood) for text, row in zip(body, each.rows, strict=True))
    for row in each.rows:
        for text in _sentences(row, now):
            yield Line(visible(f"  {each.name}@{row.instance}: {text}"), "bad" if not row.fine else "passing")
    for text in each.notes:
        yield Line(visible(f"  {text}"), "passing")


def _head(each: Deployed) -> str:
    states = [row.state for row in each.rows]
    counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    exposure = "" if each.exposure is None else f", exposure {each.exposure:g}"
    return f"{each.name}: {counts or 'no instances'}{exposure}, {each.file}"


def _cells(row: Row, now: float) -> tuple[str, ...]:
    release = row.release or "-"
    if row.behind and row.next_release:
        release = f"{release} (not {row.next_release})"
    cells = (
        row.instance,
        row.state,
        row.socket.partition("(")[2].rstrip(")") or row.socket,
        str(row.pid or "-"),
        age(now - row.since) if row.since else "-",
        release,
        str(row.restarts),
        _memory(row),
        "-" if row.cpu is None else f"{row.cpu:.0f}%",
        _number(row.connections),
        _number(row.queue),
        "-" if row.requests_rate is None else f"{row.requests_rate:.1f}",
        _number(row.errors),
    )
    return tuple(map(visible, cells))


def _sentences(row: Row, now: float) -> Iterator[str]:
    if not row.fine:
        yield f"{row.state}: service {row.service}, socket {row.socket}"
    if row.held:
        yield f"a reload is held: its new process {row.held} gets the requests until it is decided"
    if row.reload_error:
        yield f"the last reload failed: {row.reload_error}"
    if row.silent:
        yield row.silent
    if row.last_error:
        yield f"error {age(now - row.last_error.at)} ago: {row.last_error.text}"


def _memory(row: Row) -> str:
    if row.memory is None:
        return "-"
    return size(row.memory) if row.memory_max is None else f"{size(row.memory)}/{size(row.memory_max)}"


def _number(value: int | None) -> str:
    return "-" if value is None else str(value)


def size(number: int) -> str:
    """Return a number of bytes as systemd prints it, ``41.2M``."""
    value = float(number)
    for unit in ("B", "K", "M", "G"):
        if value < 1024:  # noqa: PLR2004
            return f"{value:.1f}".removesuffix(".0") + unit
        value /= 1024
    return f"{value:.1f}".removesuffix(".0") + "T"


def age(seconds: float) -> str:
    """Return a span of time in its two largest units, ``2h 5min``."""
    left = max(0, int(seconds))
    parts = []
    for length, unit in _UNITS:
        count, left = divmod(left, length)
        parts.append(f"{count}{unit}" if count else "")
    first = next((index for index, part in enumerate(parts) if part), len(parts))
    return " ".join(filter(None, parts[first : first + 2])) or "0s"


def _aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield rows of cells as lines, in columns as wide as they must be; without those in which nothing stands."""
    used = [index for index, name in enumerate(_COLUMNS) if any(row[index] != "-" for row in rows[1:])]
    widths = [max(len(row[index]) for row in rows) for index in range(len(_COLUMNS))]
    for row in rows:
        cells = (
            row[index].rjust(widths[index]) if _COLUMNS[index] in _RIGHT else row[index].ljust(widths[index])
            for index in used
        )
        yield "  ".join(cells).rstrip()
