"""The command line: each command says in a few lines which stages run."""

import json
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from aiosystemd.errors import ExitCode, Problem, ProblemsError
from aiosystemd.host import OLDEST_NGINX
from aiosystemd.render.text import visible

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
        typer.echo(json.dumps([report.as_json() for report in reports], indent=2))
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
    from aiosystemd.generate import generate_all  # noqa: PLC0415
    from aiosystemd.probe import probe  # noqa: PLC0415

    generated = generate_all(files or [DEFAULT_FILE], probe(systemd, _nginx_version(nginx)), output, force=force)
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
def schema() -> None:
    """Print the JSON Schema of the deployment file, for editors.

    Example: aiosystemd schema > aiosystemd.schema.json
    """
    from aiosystemd.model import json_schema  # noqa: PLC0415

    typer.echo(json.dumps(json_schema(), indent=2))
