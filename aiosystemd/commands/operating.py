"""Commands that change what is on a host, and keep the way back."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aiosystemd.commands import DEFAULT_FILE, AsJson, File, User, as_seconds, print_json, report, telling
from aiosystemd.errors import ExitCode, Location, Problem, ProblemsError
from aiosystemd.render.text import visible

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiosystemd.deploy.proposal import Proposal
    from aiosystemd.deploy.wanted import Wanted
    from aiosystemd.host import Host
    from aiosystemd.rollout.work import Step

CHANGES = 2
"""Exit status of ``diff`` when there is something to do."""

Root = Annotated[Path, typer.Option(metavar="DIR", help="Root of the host's files, as of an image that is built.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Adopt = Annotated[
    bool, typer.Option("--adopt", help="Take over files that are others' or were edited; each is kept as a copy.")
]
ByPolicy = Annotated[
    bool,
    typer.Option(
        "--policy-rc-d", help="For maintainer scripts: start and stop nothing where policy-rc.d forbids it; files only."
    ),
]
Pause = Annotated[float, typer.Option(metavar="SECONDS", help="How long each renewed instance is watched.")]
Timeout = Annotated[
    float | None,
    typer.Option(metavar="SECONDS", help="Most that a reload or restart may take; default: systemd's own limits."),
]
DeploymentName = Annotated[str, typer.Argument(metavar="NAME", help="Name of the deployment, or its file.")]


def diff(
    file: File = DEFAULT_FILE,
    *,
    root: Root = Path("/"),
    as_json: AsJson = False,
    _user: User = False,
) -> None:
    """Show what apply would change on this host, and what that does to what runs.

    The exit status is 0 when nothing would change, 2 when something would: a check for cron and Ansible.

    Example: aiosystemd diff example
    """
    from aiosystemd.deploy import plan  # noqa: PLC0415
    from aiosystemd.deploy.wanted import by_file  # noqa: PLC0415
    from aiosystemd.load import find  # noqa: PLC0415
    from aiosystemd.probe import probe  # noqa: PLC0415

    host, root = probe(), root.resolve()
    proposal = plan(lambda: by_file(find(file), host, root), root)
    if as_json:
        print_json(proposal.as_json())
    else:
        _show(proposal, diffs=True)
    raise typer.Exit(CHANGES if proposal.anything else ExitCode.FINE)


def apply(  # noqa: PLR0913 (each is an option)
    file: File = DEFAULT_FILE,
    *,
    root: Root = Path("/"),
    yes: Yes = False,
    renew: Annotated[
        bool, typer.Option("--renew", help="Renew every instance, whatever has changed: its application has.")
    ] = False,
    adopt: Adopt = False,
    pause: Pause = 5.0,
    timeout: Timeout = None,
    as_json: AsJson = False,
    by_policy: ByPolicy = False,
    _user: User = False,
) -> None:
    """Put a deployment in place: files, users, units, instances one by one, the proxy last; all of it or nothing.

    Whatever fails, files, enablement and what runs go back to what they were. Where no systemd runs, as in an image
    that is built, only the files are put in place and the deployment is enabled.

    Example: aiosystemd apply example --yes
    """
    from aiosystemd.deploy.wanted import by_file  # noqa: PLC0415
    from aiosystemd.load import find  # noqa: PLC0415

    def make(host: "Host", root: Path) -> "Wanted":
        return replace(by_file(find(file), host, root), renew=renew)

    _change(make, root, pause=pause, timeout=timeout, yes=yes, adopt=adopt, as_json=as_json, by_policy=by_policy)


def rollback(  # noqa: PLR0913 (each is an option)
    name: DeploymentName,
    *,
    to: Annotated[int | None, typer.Option(min=1, metavar="N", help="Generation; default: the one before.")] = None,
    root: Root = Path("/"),
    yes: Yes = False,
    adopt: Adopt = False,
    pause: Pause = 5.0,
    timeout: Timeout = None,
    as_json: AsJson = False,
    _user: User = False,
) -> None:
    """Go back to an earlier generation: files, deployment file, and the release that a link led to; rolled like apply.

    Example: aiosystemd rollback example --to 3
    """
    from aiosystemd.deploy import earlier  # noqa: PLC0415
    from aiosystemd.deploy.wanted import by_generation  # noqa: PLC0415

    def make(host: "Host", root: Path) -> "Wanted":
        return by_generation(earlier(name, to, root), host, root)

    _change(make, root, pause=pause, timeout=timeout, yes=yes, adopt=adopt, as_json=as_json)


def scale(  # noqa: PLR0913 (each is an option)
    name: DeploymentName,
    count: Annotated[int, typer.Argument(min=1, max=1000, metavar="COUNT", help="How many instances.")],
    *,
    root: Root = Path("/"),
    yes: Yes = False,
    timeout: Timeout = None,
    as_json: AsJson = False,
    _user: User = False,
) -> None:
    """Add instances, or drain and remove them, without touching the others; the number goes into the deployment file.

    Example: aiosystemd scale example 8
    """
    from aiosystemd.deploy import in_force  # noqa: PLC0415
    from aiosystemd.deploy.wanted import by_count  # noqa: PLC0415

    def make(host: "Host", root: Path) -> "Wanted":
        return by_count(in_force(name, root), count, host, root)

    _change(make, root, pause=0, timeout=timeout, yes=yes, adopt=False, as_json=as_json)


def remove(  # noqa: PLR0913 (each is an option)
    name: DeploymentName,
    *,
    root: Root = Path("/"),
    yes: Yes = False,
    adopt: Adopt = False,
    timeout: Timeout = None,
    as_json: AsJson = False,
    by_policy: ByPolicy = False,
    _user: User = False,
) -> None:
    """Take a deployment off this host: the proxy first, then its instances are drained; its own files only.

    The deployment file, the state directory and the administrator's drop-ins stay.
    With --policy-rc-d it is no error when there is no such deployment.

    Example: aiosystemd remove example
    """
    from aiosystemd.deploy import in_force, is_known  # noqa: PLC0415
    from aiosystemd.deploy.wanted import nothing  # noqa: PLC0415

    if by_policy and not is_known(name, root.resolve()):
        # A package can be removed whose first postinst has failed.
        raise typer.Exit(_nothing(name, as_json=as_json))

    def make(host: "Host", root: Path) -> "Wanted":
        return nothing(in_force(name, root, removed=True), host)

    _change(make, root, pause=0, timeout=timeout, yes=yes, adopt=adopt, as_json=as_json, by_policy=by_policy)


def history(name: DeploymentName, *, root: Root = Path("/"), as_json: AsJson = False, _user: User = False) -> None:
    """List what has been applied: generations that rollback can go back to.

    Example: aiosystemd history example
    """
    from aiosystemd.deploy import generations  # noqa: PLC0415

    found = tuple(generations(name, root.resolve()))
    if as_json:
        print_json([each.as_json() for each in found])
        return
    for each in found:
        typer.echo(visible(str(each)))


def _change(  # noqa: PLR0913 (each is an option)
    make: "Callable[[Host, Path], Wanted]",
    root: Path,
    *,
    pause: float,
    timeout: float | None,
    yes: bool,
    adopt: bool,
    as_json: bool,
    by_policy: bool = False,
) -> None:
    from aiosystemd.deploy import How, carry_out, plan  # noqa: PLC0415
    from aiosystemd.probe import probe  # noqa: PLC0415
    from aiosystemd.rollout.work import Options  # noqa: PLC0415

    limit = float("inf") if timeout is None else as_seconds(timeout, "--timeout")
    options = Options(0, as_seconds(pause, "--pause"), limit)
    host, root = probe(), root.resolve()
    proposal = plan(lambda: make(host, root), root)
    report(proposal.built.warnings)
    if not as_json:
        _show(proposal, diffs=any(proposal.refused()))
    if proposal.anything and not yes:
        _ask()
    steps: list[Step] = []
    with telling(steps, as_json=as_json) as say:
        result = carry_out(lambda: make(host, root), How(host, root, options, adopt, by_policy), say)
    if as_json:
        said = [{"unit": step.unit, "text": step.text} for step in steps]
        print_json({**proposal.as_json(), **result.as_json(), "steps": said})
    else:
        for line in result.lines():
            typer.echo(visible(line), err=bool(result.status))
    raise typer.Exit(result.status)


def _nothing(name: str, *, as_json: bool) -> ExitCode:
    if as_json:
        print_json({"deployment": name, "changes": []})
    else:
        typer.echo(visible(f"{name}: is not deployed here"))
    return ExitCode.FINE


def _show(proposal: "Proposal", *, diffs: bool) -> None:
    if not proposal.anything:
        typer.echo(f"{proposal.name}: nothing to do")
    if proposal.interrupted:
        typer.echo("another run is at work, or was killed: then this one takes back what it has done, and does its own")
    effects = tuple(proposal.effects())
    for effect in effects:
        typer.echo(visible(f"{effect.kind:8} {effect.what}: {effect.consequence}"))
    for path in proposal.drop_ins:
        typer.echo(visible(f"stays    {path}: the administrator's"))
    for effect in effects if diffs else ():
        typer.echo("\n".join(visible(line) for line in effect.diff.splitlines()))


def _ask() -> None:
    if not sys.stdin.isatty():
        raise ProblemsError(Problem(Location("aiosystemd"), "cannot ask: there is no terminal", "use --yes"))
    if not typer.confirm("do it?"):
        raise typer.Exit(ExitCode.PROBLEMS)
