"""Commands that look at deployment files and write what they describe."""

from pathlib import Path
from typing import Annotated

import typer

from aiosystemd.commands import (
    DEFAULT_FILE,
    By,
    Files,
    HAProxy,
    Nginx,
    Systemd,
    User,
    haproxy_version,
    nginx_version,
    print_json,
    report,
)
from aiosystemd.errors import ExitCode
from aiosystemd.host import Manager
from aiosystemd.render.text import visible


def check(  # noqa: PLR0913 (each is an option)
    files: Files = None,
    *,
    introspect: Annotated[
        bool,
        typer.Option(
            "--introspect",
            help="Import the application, in its own interpreter, and compare what it says of itself with the proxy.",
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON document, for editors and CI.")] = False,
    _user: User = False,
    systemd: Systemd = None,
    nginx: Nginx = None,
    haproxy: HAProxy = None,
    manager: By = Manager.SYSTEMD,
) -> None:
    """Say whether deployment files are right, by the real checkers too where they are installed.

    With --introspect it looks for static routes that the proxy does not serve, websockets and streams that it ends,
    and body limits that differ. A factory is called; the hooks of the start are not run.

    Example: aiosystemd check example.toml
    """
    from aiosystemd.check import inspect  # noqa: PLC0415 (--help and --version need none of it)
    from aiosystemd.probe import probe  # noqa: PLC0415

    host = probe(systemd, nginx_version(nginx), haproxy_version(haproxy), manager)
    found = inspect(files or [DEFAULT_FILE], host, introspect=introspect)
    if as_json:
        print_json([each.as_json() for each in found])
    for each in () if as_json else found:
        report(each.problems)
        for verdict in each.verdicts:
            typer.echo(visible(f"{each.file}: {verdict}"))
    if any(each.failed for each in found):
        raise typer.Exit(ExitCode.PROBLEMS)


def generate(  # noqa: PLR0913 (each is an option)
    files: Files = None,
    *,
    output: Annotated[Path, typer.Option(metavar="DIR", help="Root of the tree; / installs it.")] = Path("build"),
    force: Annotated[
        bool, typer.Option("--force", help="Replace files of others too; each is kept as a copy.")
    ] = False,
    _user: User = False,
    systemd: Systemd = None,
    nginx: Nginx = None,
    haproxy: HAProxy = None,
    manager: By = Manager.SYSTEMD,
) -> None:
    """Write the units and the proxy's site, as a tree that mirrors where each file belongs.

    With --manager it writes what another process manager reads in place of the units. No sandbox comes with that, and
    generate tells what else of the file is lost; apply, rollout and what else works on a host are for systemd.

    Example: aiosystemd generate example.toml --output /
    """
    from aiosystemd import probe  # noqa: PLC0415

    host = probe.start(systemd, nginx_version(nginx), haproxy_version(haproxy), manager)
    from aiosystemd.generate import generate_all  # noqa: PLC0415 (takes as long as systemd and nginx to answer)

    generated = generate_all(files or [DEFAULT_FILE], host(), output, force=force)
    report(generated.warnings)
    for change in generated.changes:
        typer.echo(visible(f"{change.done:9} {change.path}"))
    for action in generated.actions:
        typer.echo(f"next:     {action.describe():50} # {action.why}")


def schema() -> None:
    """Print the JSON Schema of the deployment file, for editors.

    Example: aiosystemd schema > aiosystemd.schema.json
    """
    from aiosystemd.model import json_schema  # noqa: PLC0415

    print_json(json_schema())
