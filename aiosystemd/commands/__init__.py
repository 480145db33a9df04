"""What the commands share: their arguments and options, and how they tell what they do."""

import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from aiosystemd.errors import Problem
from aiosystemd.host import OLDEST_HAPROXY, OLDEST_NGINX, Manager
from aiosystemd.render.text import visible

if TYPE_CHECKING:
    from aiosystemd.rollout.standing import Outcome
    from aiosystemd.rollout.work import Say, Step

# Without a default of its own: click before 8.2 has none for an argument that may be repeated.
Files = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[FILE]...",
        help="Deployment file, NAME for /etc/aiosystemd/NAME.toml, or a directory for all *.toml in it.  "
        "[default: aiosystemd.toml]",
        show_default=False,
    ),
]
DEFAULT_FILE = "aiosystemd.toml"

File = Annotated[str, typer.Argument(metavar="FILE", help="Deployment file, or NAME for /etc/aiosystemd/NAME.toml.")]

AsJson = Annotated[bool, typer.Option("--json", help="Print a JSON document, at the end.")]


def _choose(wanted: bool) -> bool:  # noqa: FBT001 (typer calls it so)
    if wanted:
        from aiosystemd import scope  # noqa: PLC0415 (most runs need none of it)
        from aiosystemd.probe import user_scope  # noqa: PLC0415

        scope.use(user_scope())
    return wanted


User = Annotated[
    bool,
    typer.Option("--user", callback=_choose, help="For your own systemd; NAME is in ~/.config/aiosystemd then."),
]
"""Chosen for the whole process (``scope.current``), and a fact of the ``Host`` that ``probe`` returns."""

Systemd = Annotated[
    int | None,
    typer.Option(min=252, metavar="VERSION", help="Write for this systemd; default: this host's, else 252."),
]
Nginx = Annotated[
    str | None, typer.Option(metavar="VERSION", help="Write for this nginx; default: this host's, else 1.22.")
]
HAProxy = Annotated[
    str | None, typer.Option(metavar="VERSION", help="Write for this HAProxy; default: this host's, else 2.6.")
]

By = Annotated[
    Manager,
    typer.Option(
        "--manager", metavar="NAME", help="Write for this process manager; what is lost with another is told."
    ),
]


def nginx_version(text: str | None) -> tuple[int, ...] | None:
    return _version(text, OLDEST_NGINX, '1.22 on, as in "1.26" or "1.25.1"', "--nginx")


def haproxy_version(text: str | None) -> tuple[int, ...] | None:
    return _version(text, OLDEST_HAPROXY, '2.6 on, as in "3.0"', "--haproxy")


def _version(text: str | None, oldest: tuple[int, ...], known: str, option: str) -> tuple[int, ...] | None:
    if text is None:
        return None
    version = tuple(map(int, text.split("."))) if re.fullmatch(r"[0-9]{1,4}(\.[0-9]{1,4}){1,2}", text) else ()
    if version < oldest:
        raise typer.BadParameter(f"not a version from {known}", param_hint=option)
    return version


def report(problems: Iterable[Problem]) -> None:
    for problem in problems:
        colour = typer.colors.YELLOW if problem.severity == "warning" else typer.colors.RED
        typer.secho(str(problem), fg=colour, err=True)
        if excerpt := problem.excerpt():
            typer.secho(excerpt, err=True)


def print_json(document: object) -> None:
    import json  # noqa: PLC0415 (most runs print none)

    typer.echo(json.dumps(document, indent=2))


def as_seconds(value: float, option: str) -> float:
    if not 0 <= value <= 86400:  # noqa: PLR2004 (a day; also not a number)
        raise typer.BadParameter("not a number of seconds from 0 to 86400", param_hint=option)
    return value


@contextmanager
def telling(steps: "list[Step]", *, as_json: bool) -> "Iterator[Say]":
    """Yield what is told each step: it goes to ``steps``, to a terminal above a progress bar, or to a line."""
    if as_json:
        yield steps.append
    elif not sys.stdout.isatty():
        yield lambda step: typer.echo(visible(f"{step.unit}: {step.text}"))
    else:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn  # noqa: PLC0415
        from rich.text import Text  # noqa: PLC0415

        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        with Progress(*columns) as progress:
            bar = progress.add_task("", total=None)

            def say(step: "Step") -> None:
                progress.console.print(Text(visible(f"{step.unit}: {step.text}")), soft_wrap=True)
                progress.update(bar, description=step.unit, completed=step.done, total=step.of or None)

            yield say


def tell(outcome: "Outcome") -> None:
    if outcome.failure:
        typer.secho(visible(f"failed: {outcome.failure}"), fg=typer.colors.RED, err=True)
    if outcome.interrupted:
        typer.secho("interrupted", err=True)
    for line in outcome.lines():
        typer.echo(visible(line))
    if outcome.next:
        typer.echo(visible(f"next: {outcome.next}"))
