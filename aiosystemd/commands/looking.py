"""Commands that look at what runs, and change nothing."""

import os
import signal
import sys
from contextlib import contextmanager, suppress
from time import monotonic, sleep
from typing import TYPE_CHECKING, Annotated, Final

import typer

from aiosystemd import scope
from aiosystemd.commands import User, print_json
from aiosystemd.errors import ExitCode, ProblemsError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from aiosystemd.logs import Message
    from aiosystemd.status import Watcher
    from aiosystemd.status.table import Line
    from aiosystemd.status.view import View

_COLOURS: Final = {
    "good": typer.colors.GREEN,
    "idle": typer.colors.BLUE,
    "passing": typer.colors.YELLOW,
    "bad": typer.colors.RED,
}


def status(
    name: Annotated[
        str | None,
        typer.Argument(metavar="[NAME]", help="Name of a deployment, or its file; default: all of this host."),
    ] = None,
    *,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Show it anew again and again, until Ctrl-C.")] = False,
    interval: Annotated[
        float, typer.Option(min=0.5, max=3600, metavar="SECONDS", help="Time between two views of --watch.")
    ] = 2.0,
    _user: User = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON document.")] = False,
) -> None:
    """Show how the deployments of this host are: each instance, what it serves, and what is not as it should be.

    CPU is in percent of one processor; 5XX counts since the process was started; QUEUE is the connections that wait on
    the socket. The exit status is 3 when an instance is down or a deployment file is wrong, as of systemctl status.

    Example: aiosystemd status example --watch
    """
    from aiosystemd.probe import probe  # noqa: PLC0415 (--help and --version need none of it)
    from aiosystemd.status import Watcher  # noqa: PLC0415

    if watch and as_json:
        raise typer.BadParameter("not together with --watch", param_hint="--json")
    watcher = Watcher(name, probe())
    if watch:
        _watch(watcher, interval)
        return
    view = watcher.look()
    if as_json:
        print_json(view.as_json())
    else:
        _show(view)
    raise typer.Exit(view.status)


def logs(  # noqa: PLR0913 (each is an option)
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the deployment, or its file.")],
    *,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes, until Ctrl-C.")] = False,
    instance: Annotated[
        list[str] | None,
        typer.Option("--instance", "-i", metavar="INSTANCE", help="Of this instance; may be repeated."),
    ] = None,
    since: Annotated[str, typer.Option(metavar="TIME", help='As of systemd.time(7): "2 hours ago", "14:30".')] = "",
    until: Annotated[str, typer.Option(metavar="TIME", help="The end, likewise.")] = "",
    level: Annotated[
        str, typer.Option("--level", "-p", metavar="LEVEL", help='The least important priority, as "warning".')
    ] = "debug",
    lines: Annotated[
        int | None,
        typer.Option("--lines", "-n", min=0, metavar="N", help="The last N; default: 100, or all of a time given."),
    ] = None,
    _user: User = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object in each line.")] = False,
) -> None:
    """Show what all instances of a deployment, and systemd about them, have written into the journal, in its order.

    Lines that belong together, as those of a traceback, are kept together.

    Example: aiosystemd logs example --follow --level warning
    """
    from aiosystemd.logs import Wanted, deployment, read, when  # noqa: PLC0415 (--help needs none of it)
    from aiosystemd.logs import level as priority  # noqa: PLC0415

    if follow and until:
        raise typer.BadParameter("not together with --until", param_hint="--follow")
    begin = when(since, "--since") if since else None
    end = when(until, "--until") if until else None
    number = 100 if lines is None and not since and not until else lines
    wanted = Wanted(deployment(name), tuple(instance or ()), begin, end, priority(level), number)
    _print(read(wanted, follow=follow), as_json=as_json)


def _print(messages: "Iterator[Message]", *, as_json: bool) -> None:
    import json  # noqa: PLC0415

    shown = False
    try:
        for message in messages:
            shown = True
            text = json.dumps(message.as_json()) if as_json else _coloured(message)
            sys.stdout.write(f"{text}\n")
            sys.stdout.flush()
    except KeyboardInterrupt:
        raise typer.Exit(ExitCode.INTERRUPTED) from None
    except OSError as error:
        # At its end Python would flush once more, and complain. A reader that has gone has seen enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            raise
        return
    if not shown and not as_json:
        typer.echo("no messages", err=True)


def _coloured(message: "Message") -> str:
    colour = {4: typer.colors.YELLOW}.get(message.priority, typer.colors.RED if message.priority < 4 else None)  # noqa: PLR2004 (warning)
    return typer.style(message.text(), fg=colour) if colour and sys.stdout.isatty() and _colours() else message.text()


def _colours() -> bool:
    # https://no-color.org
    return not os.environ.get("NO_COLOR")


def _show(view: "View") -> None:
    from aiosystemd.status.table import lines  # noqa: PLC0415

    if not view.deployments:
        typer.echo(f"no deployment files in {scope.current().files}", err=True)
    for line in lines(view):
        typer.secho(
            line.text, fg=_COLOURS.get(line.mood), bold=line.mood == "head", color=None if _colours() else False
        )


def _watch(watcher: "Watcher", interval: float) -> None:
    """Show one view after the other; Ctrl-C is the way to end it, and no failure."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _leave)
    with suppress(KeyboardInterrupt), _display() as show:
        while True:
            begin = monotonic()
            show(_seen(watcher))
            sleep(max(0.2, begin + interval - monotonic()))


def _leave(number: int, _: object) -> None:
    # In order, so that the terminal gets its screen back.
    sys.exit(128 + number)


def _seen(watcher: "Watcher") -> "list[Line]":
    from aiosystemd.status.table import Line, lines  # noqa: PLC0415

    try:
        return list(lines(watcher.look()))
    except ProblemsError as error:  # systemd may be starting itself anew: the next view is another chance
        return [Line(str(problem), "bad") for problem in error.problems]


@contextmanager
def _display() -> "Iterator[Callable[[list[Line]], None]]":
    """Yield what shows a view: in the place of the one before on a terminal, below it elsewhere."""
    if not sys.stdout.isatty():
        yield lambda lines: typer.echo("\n".join((*(line.text for line in lines), "")))
        return
    from rich.console import Group  # noqa: PLC0415 (no other view needs it)
    from rich.live import Live  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    from aiosystemd.status.table import Line  # noqa: PLC0415

    def text(line: "Line") -> Text:
        style = "bold" if line.mood == "head" else _COLOURS.get(line.mood, "")
        return Text(line.text, style, no_wrap=True, overflow="ellipsis")

    with Live(screen=True, auto_refresh=False) as live:

        def show(lines: "list[Line]") -> None:
            room = live.console.size.height
            more = [Line(f"… {len(lines) - room + 1} more lines")] if len(lines) > room else []
            live.update(Group(*map(text, [*lines[: room - len(more)], *more])), refresh=True)

        yield show
