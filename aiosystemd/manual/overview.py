"""aiosystemd(1): the commands, and what holds for all of them."""

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Final

from typer.core import TyperOption

from aiosystemd.cli import app
from aiosystemd.commands import DEFAULT_FILE
from aiosystemd.commands.completion import OPTIONS, SHELLS
from aiosystemd.manual import commands
from aiosystemd.manual.words import begin, paragraphs, parts
from aiosystemd.model import descriptions
from aiosystemd.render.roff import Bold, Italic, Page, Reference
from aiosystemd.scope import SYSTEM, Scope, of_user

USER: Final = of_user(
    "you",
    home=PurePosixPath("~"),
    config=PurePosixPath("~/.config"),
    state=PurePosixPath("~/.local/state"),
    run=PurePosixPath("$XDG_RUNTIME_DIR"),
)
"""What ``--user`` works on, as it is written for any user."""

DESCRIPTION: Final = """
One file, aiosystemd.toml(5), describes how an aiohttp application runs in production. From it come the units of
systemd, which holds the sockets, so that no deploy, restart or crash loses a request; and the site of nginx, which
finds every instance on a socket of its own. Each instance runs aiosystemd-serve(1), in a sandbox.

A command takes a deployment by the path of its file, or by its name when the file is among those of the host.
"""

ENVIRONMENT: Final[Mapping[str, str]] = {
    "NO_COLOR": "When it is set, and not to nothing, nothing is printed in colours.",
    "PATH": "Where systemctl(1), nginx(8) and the checkers are looked for; then in the directories of daemons.",
    "POETRY_CACHE_DIR": "Where aiosystemd-init(1) looks for virtual environments of Poetry.",
    "PYTHONUNBUFFERED": "Passed on to the instances of aiosystemd-up(1), as ``1`` when it is not set.",
    "TMPDIR": "Where scratch directories are made, ``/tmp`` when it is not set.",
    "VIRTUAL_ENV": "The virtual environment that aiosystemd-init(1) takes, when it is active and there is no other.",
    "XDG_CACHE_HOME": "Where Poetry keeps its own directory, ``~/.cache`` when it is not set.",
    "XDG_CONFIG_HOME": "Where ``--user`` finds deployment files and writes units, ``~/.config`` when it is not set.",
    "XDG_RUNTIME_DIR": "Where ``--user`` finds your systemd, and puts the sockets.",
    "XDG_STATE_HOME": "Where ``--user`` keeps what has been applied, ``~/.local/state`` when it is not set.",
}


def page(source: str) -> Page:
    """Return the page of the program."""
    page = Page("aiosystemd", 1, source)
    begin(page, app.info.help or "")
    page.heading("synopsis")
    page.paragraph(
        Bold("aiosystemd"), " ", Italic("COMMAND"), " [", Italic("OPTION"), "]... [", Italic("ARGUMENT"), "]..."
    )
    page.heading("description")
    for text in paragraphs(DESCRIPTION):
        page.paragraph(*parts(text))
    page.heading("commands")
    for name, command in commands.named():
        page.item((Reference(1, f"aiosystemd-{name}"),), parts(commands.summary(command)))
    _options(page)
    _files(page)
    commands.exit_status(page)
    page.heading("environment")
    for name, text in ENVIRONMENT.items():
        page.item((Bold(name),), parts(text))
    page.references |= {Reference(1, "systemctl"), Reference(5, "systemd.unit")}
    return page


def _options(page: Page) -> None:
    taken = (each for each in commands.program().params if isinstance(each, TyperOption))
    # typer's words about completion depend on its version and on what it finds installed.
    commands.options(page, (each for each in taken if each.opts[0] not in OPTIONS))
    for option, text in OPTIONS.items():
        page.item((Bold(option), " [", Bold("|".join(SHELLS)), "]"), parts(text))


def _files(page: Page) -> None:
    page.heading("files")
    page.item((Bold(DEFAULT_FILE),), ("The deployment file of the working directory.",))
    for name, text in descriptions(Scope):
        if name in {"files", "units", "state"}:
            page.item((Bold(str(getattr(SYSTEM, name))), ", ", Bold(str(getattr(USER, name)))), parts(text))
