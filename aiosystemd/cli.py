"""The command line: what each command is called, and what becomes of errors."""

import gc
import sys
from typing import Annotated

import typer

from aiosystemd.commands import doctoring, files, importing, looking, operating, report, running, starting
from aiosystemd.commands.completion import OPTIONS, SHELLS, completed, give_script
from aiosystemd.errors import ExitCode, ProblemsError

app = typer.Typer(
    name="aiosystemd",
    help="aiohttp applications as socket-activated systemd instances behind nginx, from one checked file.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

for command in (
    *(starting.init, importing.import_, files.check, files.generate, doctoring.doctor, running.up),
    *(operating.diff, operating.apply, operating.history, operating.rollback, operating.scale, operating.remove),
    *(running.rollout, running.drill, looking.status, looking.logs, files.schema),
):
    app.command(command.__name__.rstrip("_"))(completed(command))  # import is a keyword


def main() -> None:
    """Run the program; the exit status is one of ``ExitCode``."""
    # What is built here is kept until the end: looking for rubbish in it every 700 objects is a tenth of the time.
    gc.set_threshold(50_000)
    try:
        match sys.argv[1:]:
            case [option, shell] if option in OPTIONS and shell in SHELLS:
                give_script(option, shell)
            case _:
                app()
    except ProblemsError as error:
        report(error.problems)
        sys.exit(ExitCode.PROBLEMS)
    except OSError as error:  # of what it prints on, such as a full disk; files have problems of their own
        typer.secho(f"aiosystemd: {error.strerror}", err=True)
        sys.exit(ExitCode.PROBLEMS)
    except KeyboardInterrupt:
        typer.secho("interrupted", err=True)
        sys.exit(ExitCode.INTERRUPTED)


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
