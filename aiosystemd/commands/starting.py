"""The command that writes a first deployment file."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aiosystemd.commands import print_json, report
from aiosystemd.render.text import visible

if TYPE_CHECKING:
    from aiosystemd.init.applications import Application


def init(  # noqa: PLR0913 (each is an option)
    directory: Annotated[Path, typer.Argument(metavar="[DIR]", help="The application's directory.")] = Path(),
    *,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Default: aiosystemd.toml in DIR.")
    ] = None,
    app: Annotated[
        str | None, typer.Option("--app", metavar="MODULE:ATTRIBUTE", help="Which of several applications.")
    ] = None,
    imports: Annotated[
        bool,
        typer.Option("--import", help="Import the application, in its own interpreter, and ask it."),
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace FILE; it is kept as a copy.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print what is found as a JSON document; nothing is asked or written.")
    ] = False,
) -> None:
    """Write a commented deployment file for the application in a directory.

    Its code is read, not run: the application, its static routes, websockets and streams, client_max_size, and the
    virtual environment beside it. What cannot be known is asked on a terminal; elsewhere there are safe defaults.

    Example: aiosystemd init /srv/example
    """
    from aiosystemd import init as first  # noqa: PLC0415
    from aiosystemd.init.document import Draft  # noqa: PLC0415

    around, file = first.around(directory), output or directory / first.FILE
    if as_json:
        print_json((around.imported() if imports else around).as_json())
        return
    asks = sys.stdin.isatty()
    if asks and file.exists() and not force:
        raise first.in_the_way(file)
    chosen = first.choose(around, app, imports=imports, pick=_pick if asks else None)
    draft = Draft(around, chosen, _server_names() if asks else ())
    change = first.write(draft, file, force=force)
    report((*around.found.told, *chosen.notes))
    typer.echo(visible(f"{change.done:9} {file}: {chosen.app}"))
    for each in draft.assumed():
        typer.echo(visible(f"assumed:  {each}"))
    typer.echo(visible(f"next:     {shlex.join(('aiosystemd', 'check', str(file)))}"))


def _pick(applications: "tuple[Application, ...]") -> "Application":
    for number, each in enumerate(applications, 1):
        typer.echo(visible(f"{number}  {each.app}  {each.at.file}:{each.at.line}"), err=True)
    while not 0 < (number := typer.prompt("which of them", type=int, err=True)) <= len(applications):
        typer.echo(f"a number from 1 to {len(applications)}", err=True)
    return applications[number - 1]


def _server_names() -> tuple[str, ...]:
    from aiosystemd.init.document import is_server_name  # noqa: PLC0415

    question = "server names, such as example.com www.example.com (none: the machine's host name)"
    while True:
        names = tuple(dict.fromkeys(typer.prompt(question, default="", show_default=False, err=True).split()))
        wrong = [name for name in names if not is_server_name(name)]
        if not wrong:
            return names
        typer.echo(visible(f"no server name: {' '.join(wrong)}"), err=True)
