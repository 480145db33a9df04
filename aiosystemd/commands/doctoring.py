"""The command that looks at a host."""

import sys
from typing import TYPE_CHECKING

import typer

from aiosystemd.commands import DEFAULT_FILE, AsJson, File, print_json
from aiosystemd.errors import ExitCode
from aiosystemd.render.text import visible

if TYPE_CHECKING:
    from aiosystemd.doctor import Diagnosis
    from aiosystemd.doctor.finding import Finding, Severity

_COLOURS = {"error": typer.colors.RED, "warning": typer.colors.YELLOW}


def doctor(file: File = DEFAULT_FILE, *, as_json: AsJson = False) -> None:
    """Say what would stop this deployment from working on this host, and the command that mends each finding.

    The application is imported as its instances would, in their sandbox; nothing on the host is changed. Root sees
    everything; what somebody else cannot look at is named. The exit status is 1 when there is an error.

    Example: aiosystemd doctor example
    """
    from aiosystemd.doctor import examine  # noqa: PLC0415
    from aiosystemd.probe import probe  # noqa: PLC0415

    found = examine(file, probe())
    if as_json:
        print_json(found.as_json())
    else:
        _show(found)
    if found.failed:
        raise typer.Exit(ExitCode.PROBLEMS)


def _show(found: "Diagnosis") -> None:
    for finding in found.of("error", "warning"):
        _show_one(finding)
    titles: dict[Severity, str] = {"fine": "fine", "unseen": "not looked at"}
    for severity, title in titles.items():
        for finding in found.of(severity):
            typer.echo(visible(f"{title}: {finding}"))
    errors, warnings = (len(tuple(found.of(severity))) for severity in ("error", "warning"))
    typer.echo(f"{errors} error{'s'[: errors != 1]}, {warnings} warning{'s'[: warnings != 1]}")


def _show_one(finding: "Finding") -> None:
    typer.secho(visible(str(finding)), fg=_COLOURS[finding.severity])
    if excerpt := finding.excerpt():
        typer.echo(excerpt)
    if finding.mend:
        typer.secho(visible(f"    mend: {finding.mend}"), bold=sys.stdout.isatty())
