"""aiosystemd-serve(1), made from the runtime's own parser of its options."""

import argparse
from collections.abc import Iterator, Mapping
from typing import Final

from aiosystemd.manual.words import begin, paragraphs, parts, sentence, titled
from aiosystemd.render.roff import Bold, Italic, Page, Part, Reference
from aiosystemd.runtime.options import PROGRAM, parser

DESCRIPTION: Final = """
It is what ``ExecStart=`` of the units that aiosystemd(1) writes starts, as ``python -P -m aiosystemd.runtime``. The
application is an attribute of a module that the working directory or the interpreter's own path has: an
``aiohttp.web.Application``, or a function or coroutine function that makes one. The function is given the arguments
as a list when it takes any.

systemd is told when the application has started, that it is alive, and when it stops. In a stop no request is lost:
those under way are answered, and the proxy is left to close the connections that it keeps.
"""

ENVIRONMENT: Final[Mapping[str, str]] = {
    "AIOSYSTEMD_INSTANCE": "Name of the instance, as it stands in entries of the journal.",
    "CREDENTIALS_DIRECTORY": "Where ``--tls-certificate`` and ``--tls-key`` are looked for: systemd.exec(5).",
    "JOURNAL_STREAM": "Whether standard error is the journal: systemd.exec(5). Errors get their priority there.",
    "LISTEN_PID": "With ``LISTEN_FDS`` and ``LISTEN_FDNAMES``, the sockets to serve on: sd_listen_fds(3).",
    "NOTIFY_SOCKET": "Where systemd is told that the application serves, drains, and is alive: sd_notify(3).",
    "RUNTIME_DIRECTORY": "Directory of the socket ``control``, on which aiosystemd-rollout(1) gives orders.",
    "WATCHDOG_USEC": "With ``WATCHDOG_PID``, how often systemd expects to hear from it: sd_watchdog_enabled(3).",
}


def page(source: str) -> Page:
    """Return the page of the runtime."""
    program = parser()
    page = Page(PROGRAM, 1, source)
    begin(page, program.description or "")
    page.heading("synopsis")
    app, arguments = Italic("MODULE:ATTRIBUTE"), Italic("ARGUMENT")
    page.paragraph(Bold(PROGRAM), " [", Italic("OPTION"), "]... ", app, " [", arguments, "]...")
    page.heading("description")
    for text in paragraphs(f"{program.description}\n{DESCRIPTION}"):
        page.paragraph(*parts(text))
    _options(page, program)
    told = program.epilog or ""
    for title in ("Exit status", "Signals"):
        page.heading(title)
        page.paragraph(*parts(" ".join(titled(told, title))))
    page.heading("environment")
    for name, text in ENVIRONMENT.items():
        page.item((Bold(name),), parts(text))
    page.heading("example")
    page.example(" ".join(titled(told, "Example")))
    page.references |= {Reference(1, "aiosystemd"), Reference(5, "systemd.service"), Reference(5, "systemd.socket")}
    return page


def _options(page: Page, program: argparse.ArgumentParser) -> None:
    arguments, general, *groups = program._action_groups  # noqa: SLF001 (argparse offers no other way to them)
    for heading, group in (("arguments", arguments), ("options", general)):
        page.heading(heading)
        _group(page, group)
    for group in groups:
        page.subheading(sentence(group.title or "").rstrip("."))
        _group(page, group)


def _group(page: Page, group: argparse._ArgumentGroup) -> None:
    for action in group._group_actions:  # noqa: SLF001
        page.item(_tag(action), parts(sentence((action.help or "") % vars(action))))


def _tag(action: argparse.Action) -> Iterator[Part]:
    if action.option_strings:
        yield Bold(", ".join(action.option_strings))
        yield " " if action.nargs != 0 else ""
    if action.choices:
        yield Bold("|".join(action.choices))
    elif action.nargs != 0:
        yield Italic(str(action.metavar or action.dest.upper()))
