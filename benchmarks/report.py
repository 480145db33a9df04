"""The figures as a table of targets, tables of everything, and a plot."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple
from xml.sax.saxutils import escape

Figures = Mapping[str, Mapping[str, float]]
Results = Mapping[str, Mapping[str, object]]

DOCS: Final = "docs: supervisord"
BEGIN: Final = "<!-- figures -->\n"
END: Final = "<!-- end of figures -->\n"
ENOUGH: Final = 100_000
"""Requests without a failure that prove something."""
BAR: Final = 20
_TEXT: Final = 270


class Target(NamedTuple):
    """A ratio that is wanted, and what was measured."""

    figure: str
    wanted: str
    found: str
    met: bool


def targets(results: Results) -> Iterator[Target]:
    """Yield the targets of what has been measured."""
    if rates := {name: each["rate"] for name, each in _figures(results, "throughput").items()}:
        yield from _throughput(rates)
    if memory := _figures(results, "memory"):
        for plain in ("run_app, no proxy", "run_app with uvloop, no proxy"):
            ratio = memory["aiosystemd, 2"]["rss"] / memory[plain]["rss"]
            yield _most(f"resident memory of an instance / {plain.removesuffix(', no proxy')}", ratio, 1.05)
    if first := results.get("sleeping"):
        ratio = float(str(first["first request"])) / float(str(first["import"]))
        yield _most("first request on a sleeping instance / importing the application in plain Python", ratio, 1.15)
    if whole := results.get("generate"):
        ratio = float(str(whole["aiosystemd generate"])) / float(str(whole["honcho export systemd"]))
        yield _most("aiosystemd generate, whole process / honcho export systemd", ratio, 1.0)
    if files := results.get("generate 1000"):
        for kind in ("written", "unchanged"):
            each = 1000 * float(str(files[f"{kind}, of 1000"]))
            yield Target(f"generate, 1,000 files in one call, {kind}", "≤ 3 ms each", f"{each:.2f} ms", each <= 3)  # noqa: PLR2004
    if deploys := results.get("deploys"):
        yield from _deploys(deploys)


def _throughput(rates: Mapping[str, float]) -> Iterator[Target]:
    pairs = (
        ("aiosystemd, 2", DOCS, 3.0),
        ("aiosystemd, 2", "gunicorn uvloop, 2, tuned nginx", 1.1),
        ("aiosystemd, 4", "gunicorn uvloop, 4, tuned nginx", 1.0),
    )
    for ours, theirs, least in pairs:
        if ours in rates and theirs in rates:
            ratio = rates[ours] / rates[theirs]
            yield Target(f"requests/s, {ours} / {theirs}", f"≥ {least:.2f}", f"{ratio:.2f}", ratio >= least)


def _deploys(deploys: Mapping[str, object]) -> Iterator[Target]:
    ours = _events(deploys, "aiosystemd, 4")
    for event in ("12 reloads in a row", "restart, one after the other", "restart of all at once"):
        if report := ours.get(event):
            found = f"{report['failed']} of {report['requests']:,}"
            met = not report["failed"] and int(str(report["requests"])) >= ENOUGH
            yield Target(f"failed requests, {event}", f"0 of ≥ {ENOUGH:,}", found, met)
    if "rollout" in ours and "nothing" in ours:
        ratio = float(str(ours["rollout"]["p99.9"])) / float(str(ours["nothing"]["p99.9"]))
        yield _most("p99.9 during a rollout / steady", ratio, 1.5)
    if report := ours.get("SIGKILL of all at once"):
        # Each of the clients had at most one request in a process that was killed.
        clients, failed = 64, int(str(report["failed"]))
        yield Target("failed requests, SIGKILL of all", f"those inside: ≤ {clients}", str(failed), failed <= clients)


def _most(figure: str, ratio: float, most: float) -> Target:
    return Target(figure, f"≤ {most:.2f}", f"{ratio:.2f}", ratio <= most)


def _figures(results: Results, part: str) -> Figures:
    return results.get(part, {})  # type: ignore[return-value]


def _events(deploys: Mapping[str, object], name: str) -> Mapping[str, Mapping[str, object]]:
    return deploys.get(name, {})  # type: ignore[return-value]


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table whose columns are aligned, so that a terminal shows it well too."""
    lines = [tuple(head), *map(tuple, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    rule = ["-" * width for width in widths]
    padded = ([cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in lines)
    first, *rest = (f"| {' | '.join(cells)} |" for cells in padded)
    return "\n".join([first, f"| {' | '.join(rule)} |", *rest]) + "\n"


def text(results: Results) -> str:
    """Return everything that ``results`` hold as Markdown."""
    return "\n".join(f"## {title}\n\n{body}" for title, body in _sections(results))


def _sections(results: Results) -> Iterator[tuple[str, str]]:
    if rows := [(t.figure, t.wanted, t.found, "met" if t.met else "**missed**") for t in targets(results)]:
        yield "Targets", table(("figure", "target", "measured", ""), rows)
    for part, title in (("throughput", "Requests per second"), ("variants", "One change each")):
        if figures := _figures(results, part):
            yield title, _rates(figures)
    for part, title in (("deploys", "Deploys and crashes"), ("roads", "Every road, restarted under load")):
        if deploys := results.get(part):
            head = ("under load", "requests", "failed", "why", "p50", "p99", "p99.9", "max, ms")
            yield title, table(head, _deploy_rows(deploys))
    if memory := _figures(results, "memory"):
        rows_ = [
            (n, f"{m['rss'] / 1024:.1f}", f"{m['pss'] / 1024:.1f}", f"{m['total'] / 1024:.1f}")
            for n, m in memory.items()
        ]
        yield "Memory, MiB", table(("", "resident, a process", "proportional, a process", "of all"), rows_)
    for part, title in (("sleeping", "A sleeping instance, ms"), ("generate", "The tool's whole process, s")):
        if found := results.get(part):
            yield title, table(("", "median"), [(name, f"{value:.3f}") for name, value in found.items()])
    if machine := results.get("machine"):
        yield "The machine", table(("", ""), [(name, str(value)) for name, value in machine.items()])


def _rates(figures: Figures) -> str:
    base = next(iter(figures.values()))["rate"]
    head = ("", "requests/s", "ratio", "slowest-fastest", "app µs", "proxy µs", "p50 ms", "p99 ms")
    rows = (
        (
            name,
            f"{f['rate']:.0f}",
            f"{f['rate'] / base:.2f}",
            f"{f['slowest']:.0f}-{f['fastest']:.0f}",
            *(f"{f[column]:.1f}" for column in ("app", "proxy", "p50", "p99")),
        )
        for name, f in figures.items()
    )
    return table(head, rows)


def _deploy_rows(deploys: Mapping[str, object]) -> Iterator[tuple[str, ...]]:
    for name in deploys:
        for event, r in _events(deploys, name).items():
            reasons = r["reasons"]
            why = (
                ", ".join(f"{count} {reason}" for reason, count in reasons.items()) if isinstance(reasons, dict) else ""
            )
            times = (f"{r[quantile]}" for quantile in ("p50", "p99", "p99.9", "max"))
            yield f"{name}: {event}", f"{r['requests']:,}", f"{r['failed']:,}", why, *times


def plot(figures: Figures) -> str:
    """Return an SVG: a bar for each contender, as long as its requests per second."""
    most = max(f["fastest"] for f in figures.values())
    height = BAR * len(figures) + 30
    bars = "".join(_bar(number, name, f, most) for number, (name, f) in enumerate(figures.items()))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 760 {height}" font-family="sans-serif" font-size="12">\n'
        f'<rect width="760" height="{height}" fill="white"/>\n{bars}'
        f'<text x="{_TEXT}" y="{height - 8}">requests/s, median; the line spans all rounds</text>\n</svg>\n'
    )


def _bar(number: int, name: str, figures: Mapping[str, float], most: float) -> str:
    y = BAR * number + 4
    scale = (760 - _TEXT - 60) / most
    length, low, high = (round(figures[key] * scale) for key in ("rate", "slowest", "fastest"))
    colour = "#2a7" if name.startswith("aiosystemd") else "#999"
    return (
        f'<text x="{_TEXT - 8}" y="{y + 12}" text-anchor="end">{escape(name)}</text>\n'
        f'<rect x="{_TEXT}" y="{y}" width="{length}" height="{BAR - 6}" fill="{colour}"/>\n'
        f'<path d="M{_TEXT + low} {y + 7}H{_TEXT + high}" stroke="black"/>\n'
        f'<text x="{_TEXT + high + 6}" y="{y + 12}">{figures["rate"]:.0f}</text>\n'
    )


def page(old: str, results: Results) -> str:
    """Return the page ``old`` with the figures of ``results`` in the place of its own."""
    return re.sub(f"(?s)(?<={BEGIN}).*(?={END})", lambda _: f"\n{text(results)}\n", old)
