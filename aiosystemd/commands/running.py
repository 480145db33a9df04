"""Commands that run a deployment, or renew what runs."""

from typing import TYPE_CHECKING, Annotated

import typer

from aiosystemd.commands import DEFAULT_FILE, AsJson, File, User, as_seconds, print_json, report, tell, telling
from aiosystemd.render.text import visible

if TYPE_CHECKING:
    from aiosystemd.rollout.work import Step


def up(
    file: File = DEFAULT_FILE,
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
    report(built.warnings)
    raise typer.Exit(run(built, host, port, once=once))


def rollout(  # noqa: PLR0913 (each is an option)
    file: File = DEFAULT_FILE,
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
    _user: User = False,
    as_json: AsJson = False,
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

    limits = (as_seconds(pause, "--pause"), float("inf") if timeout is None else as_seconds(timeout, "--timeout"))
    options = Options(canary or 0, *limits, "restart" if restart else "auto")
    host = probe()
    built = build(file, host)
    report(built.warnings)
    steps: list[Step] = []
    with telling(steps, as_json=as_json) as say:
        outcome = roll_out(built, host, options, say)
    if as_json:
        said = [{"unit": step.unit, "text": step.text} for step in steps]
        print_json({**outcome.as_json(), "steps": said})
    else:
        tell(outcome)
    raise typer.Exit(outcome.status)


def drill(
    file: File = DEFAULT_FILE,
    *,
    post: Annotated[str, typer.Option(metavar="PATH", help="Path to POST to; default: health.path.")] = "",
    seconds: Annotated[float, typer.Option(metavar="SECONDS", help="How long to look at the undisturbed site.")] = 5.0,
    _user: User = False,
    as_json: AsJson = False,
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
    report(built.warnings)
    steps: list[Step] = []
    with telling(steps, as_json=as_json) as say:
        found = run(built, host, post, as_seconds(seconds, "--seconds"), say)
    if as_json:
        print_json(found.as_json())
    else:
        tell(found.outcome)
        for line in found.table():
            typer.echo(visible(line))
    raise typer.Exit(found.status)
