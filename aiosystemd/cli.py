"""The command line: each command says in a few lines which stages run."""

import gc
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aiosystemd.errors import ExitCode, Problem, ProblemsError
from aiosystemd.host import OLDEST_NGINX
from aiosystemd.render.text import visible

if TYPE_CHECKING:
    from aiosystemd.rollout.standing import Outcome
    from aiosystemd.rollout.work import Say, Step

app = typer.Typer(
    name="aiosystemd",
    help="aiohttp applications as socket-activated systemd instances behind nginx, from one checked file.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

# Without a default of its own: click before 8.2 has none for an argument that may be repeated.
Files = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[FILE]...",
        help="Deployment file, or NAME for /etc/aiosystemd/NAME.toml.  [default: aiosystemd.toml]",
        show_default=False,
    ),
]
DEFAULT_FILE = "aiosystemd.toml"


def main() -> None:
    """Run the program; the exit status is one of ``ExitCode``."""
    # What is built here is kept until the end: looking for rubbish in it every 700 objects is a tenth of the time.
    gc.set_threshold(50_000)
    try:
        app()
    except ProblemsError as error:
        _report(error.problems)
        sys.exit(ExitCode.PROBLEMS)
    except OSError as error:  # of what it prints on, such as a full disk; files have problems of their own
        typer.secho(f"aiosystemd: {error.strerror}", err=True)
        sys.exit(ExitCode.PROBLEMS)
    except KeyboardInterrupt:
        typer.secho("interrupted", err=True)
        sys.exit(130)


def _report(problems: Iterable[Problem]) -> None:
    for problem in problems:
        colour = typer.colors.YELLOW if problem.severity == "warning" else typer.colors.RED
        typer.secho(str(problem), fg=colour, err=True)
        if excerpt := problem.excerpt():
            typer.secho(excerpt, err=True)


def _print_json(document: object) -> None:
    import json  # noqa: PLC0415 (most runs print none)

    typer.echo(json.dumps(document, indent=2))


def _version(value: bool) -> None:  # noqa: FBT001 (typer calls it so)
    if value:
        from importlib.metadata import version  # noqa: PLC0415 (30 ms that only this option needs)

        typer.echo(f"aiosystemd {version('aiosystemd')}")
        raise typer.Exit


@app.callback()
def _options(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    del version


def _nginx_version(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    version = tuple(map(int, text.split("."))) if re.fullmatch(r"[0-9]{1,4}(\.[0-9]{1,4}){1,2}", text) else ()
    if version < OLDEST_NGINX:
        raise typer.BadParameter('not a version from 1.22 on, as in "1.26" or "1.25.1"', param_hint="--nginx")
    return version


Systemd = Annotated[
    int | None,
    typer.Option(min=252, metavar="VERSION", help="Write for this systemd; default: this host's, else 252."),
]
Nginx = Annotated[
    str | None, typer.Option(metavar="VERSION", help="Write for this nginx; default: this host's, else 1.22.")
]


@app.command()
def check(
    files: Files = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON document, for editors and CI.")] = False,
    systemd: Systemd = None,
    nginx: Nginx = None,
) -> None:
    """Say whether deployment files are right, by the real checkers too where they are installed.

    Example: aiosystemd check example.toml
    """
    from aiosystemd.check import inspect  # noqa: PLC0415 (--help and --version need none of it)
    from aiosystemd.probe import probe  # noqa: PLC0415

    host = probe(systemd, _nginx_version(nginx))
    reports = [inspect(file, host) for file in files or [DEFAULT_FILE]]
    if as_json:
        _print_json([report.as_json() for report in reports])
    for report in () if as_json else reports:
        _report(report.problems)
        for verdict in report.verdicts:
            typer.echo(visible(f"{report.file}: {verdict}"))
    if any(report.failed for report in reports):
        raise typer.Exit(ExitCode.PROBLEMS)


@app.command()
def generate(
    files: Files = None,
    *,
    output: Annotated[Path, typer.Option(metavar="DIR", help="Root of the tree; / installs it.")] = Path("build"),
    force: Annotated[
        bool, typer.Option("--force", help="Replace files of others too; each is kept as a copy.")
    ] = False,
    systemd: Systemd = None,
    nginx: Nginx = None,
) -> None:
    """Write the units and the proxy's site, as a tree that mirrors where each file belongs.

    Example: aiosystemd generate example.toml --output /
    """
    from aiosystemd import probe  # noqa: PLC0415

    host = probe.start(systemd, _nginx_version(nginx))
    from aiosystemd.generate import generate_all  # noqa: PLC0415 (takes as long as systemd and nginx to answer)

    generated = generate_all(files or [DEFAULT_FILE], host(), output, force=force)
    _report(generated.warnings)
    for change in generated.changes:
        typer.echo(visible(f"{change.done:9} {change.path}"))
    for action in generated.actions:
        typer.echo(f"next:     {action.describe():50} # {action.why}")


@app.command()
def up(
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="Deployment file, or NAME for /etc/aiosystemd/NAME.toml.")
    ] = DEFAULT_FILE,
    *,
    port: Annotated[int, typer.Option(min=1, max=65535, metavar="PORT", help="Port on 127.0.0.1 to serve on.")] = 8080,
    once: Annotated[bool, typer.Option("--try", help="Stop again once each instance has answered.")] = False,
) -> None:
    """Run the deployment here, in the foreground, without root or systemd, nor their limits; Ctrl-C drains.

    Example: aiosystemd up example.toml
    """
    from aiosystemd.build import build  # noqa: PLC0415
    from aiosystemd.probe import probe  # noqa: PLC0415
    from aiosystemd.up import run  # noqa: PLC0415

    host = probe()
    built = build(file, host)
    _report(built.warnings)
    raise typer.Exit(run(built, host, port, once=once))


@app.command()
def rollout(  # noqa: PLR0913 (each is an option)
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="Deployment file, or NAME for /etc/aiosystemd/NAME.toml.")
    ] = DEFAULT_FILE,
    *,
    canary: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Stop after N instances; the others keep the old version.")
    ] = None,
    pause: Annotated[float, typer.Option(metavar="SECONDS", help="How long each instance is watched.")] = 5.0,
    timeout: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", help="Most that a reload or restart may take; default: systemd's own limits."),
    ] = None,
    restart: Annotated[bool, typer.Option("--restart", help="Restart, also where a reload is enough.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON document, at the end.")] = False,
) -> None:
    """Put new code in place, instance by instance, without losing a request; the first that is no good ends it.

    Each instance is reloaded, or restarted where its unit, environment or credentials have changed, then asked for its
    health and watched. A new process that fails in a reload is dropped, and the old one serves on. The end says how
    each instance stands; the exit status is 1 when anything failed, 130 when it was interrupted.

    Example: aiosystemd rollout example --canary 1
    """
    from aiosystemd.build import build  # noqa: PLC0415
    from aiosystemd.probe import probe  # noqa: PLC0415
    from aiosystemd.rollout import roll_out  # noqa: PLC0415
    from aiosystemd.rollout.work import Options  # noqa: PLC0415

    limits = (_seconds(pause, "--pause"), float("inf") if timeout is None else _seconds(timeout, "--timeout"))
    options = Options(canary or 0, *limits, "restart" if restart else "auto")
    host = probe()
    built = build(file, host)
    _report(built.warnings)
    steps: list[Step] = []
    with _telling(steps, as_json=as_json) as say:
        outcome = roll_out(built, host, options, say)
    if as_json:
        said = [{"unit": step.unit, "text": step.text} for step in steps]
        _print_json({**outcome.as_json(), "steps": said})
    else:
        _tell(outcome)
    raise typer.Exit(outcome.status)


@app.command()
def drill(
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="Deployment file, or NAME for /etc/aiosystemd/NAME.toml.")
    ] = DEFAULT_FILE,
    *,
    post: Annotated[str, typer.Option(metavar="PATH", help="Path to POST to; default: health.path.")] = "",
    seconds: Annotated[float, typer.Option(metavar="SECONDS", help="How long to look at the undisturbed site.")] = 5.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON document, at the end.")] = False,
) -> None:
    """Prove that no request is lost: reload and restart every instance, under light traffic through the proxy.

    GETs and POSTs of a few bytes go to the site, whose code stays as it is. What the undisturbed site answers is what
    every answer must be; the exit status is 1 when one is not.

    Example: aiosystemd drill example --post /echo
    """
    from aiosystemd.build import build  # noqa: PLC0415
    from aiosystemd.drill import drill as run  # noqa: PLC0415
    from aiosystemd.probe import probe  # noqa: PLC0415

    host = probe()
    built = build(file, host)
    _report(built.warnings)
    steps: list[Step] = []
    with _telling(steps, as_json=as_json) as say:
        found = run(built, host, post, _seconds(seconds, "--seconds"), say)
    if as_json:
        _print_json(found.as_json())
    else:
        _tell(found.outcome)
        for line in found.table():
            typer.echo(visible(line))
    raise typer.Exit(found.status)


def _seconds(value: float, option: str) -> float:
    if not 0 <= value <= 86400:  # noqa: PLR2004 (a day; also not a number)
        raise typer.BadParameter("not a number of seconds from 0 to 86400", param_hint=option)
    return value


@contextmanager
def _telling(steps: "list[Step]", *, as_json: bool) -> "Iterator[Say]":
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


def _tell(outcome: "Outcome") -> None:
    if outcome.failure:
        typer.secho(visible(f"failed: {outcome.failure}"), fg=typer.colors.RED, err=True)
    if outcome.interrupted:
        typer.secho("interrupted", err=True)
    for line in outcome.lines():
        typer.echo(visible(line))
    if outcome.next:
        typer.echo(visible(f"next: {outcome.next}"))


@app.command()
def schema() -> None:
    """Print the JSON Schema of the deployment file, for editors.

    Example: aiosystemd schema > aiosystemd.schema.json
    """
    from aiosystemd.model import json_schema  # noqa: PLC0415

    _print_json(json_schema())
