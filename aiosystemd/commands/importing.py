"""The command that reads what other programs were told."""

import shlex
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aiosystemd.commands import AsJson, print_json, report
from aiosystemd.errors import ExitCode
from aiosystemd.render.text import visible

if TYPE_CHECKING:
    from aiosystemd.migrate import Imported


class Format(StrEnum):
    """Whose files are read."""

    SUPERVISORD = "supervisord"
    GUNICORN = "gunicorn"
    PROCFILE = "procfile"
    UNIT = "unit"
    CIRCUS = "circus"


def import_(  # noqa: PLR0913 (each is an option)
    kind: Annotated[Format, typer.Argument(metavar="FORMAT", help="supervisord, gunicorn, procfile, unit or circus.")],
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="SOURCE...",
            help="Its files; besides, a gunicorn.conf.py that commands name, and .env files of a Procfile or script.",
        ),
    ],
    *,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE|DIR",
            help="Default: aiosystemd.toml, and NAME.toml for each of several deployments.",
        ),
    ] = None,
    apps: Annotated[
        list[str] | None,
        typer.Option(
            "--app",
            metavar="[PROGRAM=]MODULE:ATTRIBUTE",
            help="The application, where the command of a program does not name it.",
        ),
    ] = None,
    proxies: Annotated[
        list[Path] | None,
        typer.Option(
            "--nginx",
            metavar="CONF",
            help="A configuration of the nginx in front: names, TLS, static files of the servers that pass to it.",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace files in the way; each is kept as a copy.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write deployment files for what supervisord, gunicorn, a Procfile, systemd units or Circus run.

    The files are read, not run. The report tells what became of every setting - kept, changed, dropped - and mistakes
    of the original. What is no aiohttp application is named and left out. The old program is left as it is.

    Example: aiosystemd import supervisord /etc/supervisor/conf.d/shop.conf --nginx /etc/nginx/nginx.conf -o shop.toml
    """
    from aiosystemd import migrate  # noqa: PLC0415 (--help needs none of it)

    found = migrate.importing(kind.value, files, apps or (), proxies or ())
    changes = migrate.write(found, output, force=force)
    if as_json:
        print_json(
            {
                "files": [{"file": str(path), "done": each.done} for path, each in changes.items()],
                "programs": [each.as_json() for each in found],
            }
        )
    else:
        for each in found:
            _tell(each)
        for path, change in changes.items():
            typer.echo(visible(f"{change.done:9} {path}"))
        for path in changes:
            typer.echo(visible(f"next:     {shlex.join(('aiosystemd', 'check', str(path)))}"))
    if not changes:
        typer.secho("no aiohttp application was found", fg=typer.colors.RED, err=True)
        raise typer.Exit(ExitCode.PROBLEMS)


def _tell(each: "Imported") -> None:
    what = f"is left out: {each.left_out}" if each.left_out else f"is {each.name}"
    typer.echo(visible(f"{each.program} {what}"))
    for finding in each.findings:
        key = f" -> {'.'.join(finding.key)}" if finding.key else ""
        says = f": {finding.says}" if finding.says else ""
        line = visible(f"  {finding.outcome:8}  {finding.setting.place} {finding.setting}{key}{says}")
        typer.secho(line, fg=typer.colors.YELLOW if finding.outcome == "mistake" else None)
    report(each.warnings)
