"""A page for each command of the tool, made from its help: docstring, arguments and options."""

from collections.abc import Iterable, Iterator
from inspect import cleandoc

from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption
from typer.main import get_command

from aiosystemd.cli import app
from aiosystemd.errors import ExitCode
from aiosystemd.manual.words import begin, paragraphs, parts, titled
from aiosystemd.model import descriptions
from aiosystemd.render.roff import Bold, Italic, Page, Part, Reference


def program() -> TyperGroup:
    """Return the program, as typer runs it."""
    made = get_command(app)
    assert isinstance(made, TyperGroup)  # noqa: S101 (for mypy: it has several commands)
    return made


def named() -> Iterator[tuple[str, TyperCommand]]:
    """Yield the name of each command, and the command."""
    for name, command in program().commands.items():
        if isinstance(command, TyperCommand) and not command.hidden:
            yield name, command


def pages(source: str) -> Iterator[Page]:
    """Yield the page of each command."""
    for name, command in named():
        yield _page(Page(f"aiosystemd-{name}", 1, source), name, command)


def summary(command: TyperCommand) -> str:
    """Return what a command does, in a sentence."""
    return paragraphs(command.help or "")[0]


def options(page: Page, taken: Iterable[TyperOption]) -> None:
    """Add options, and the one for help."""
    page.heading("options")
    for option in taken:
        value = () if option.is_flag else (" ", Italic(option.metavar or ""))
        page.item((Bold(", ".join((*option.opts, *option.secondary_opts))), *value), _description(option))
    names: list[str] = (app.info.context_settings or {})["help_option_names"]
    page.item((Bold(", ".join(names)),), ("Print a summary of this page.",))


def exit_status(page: Page, *, more: bool = False) -> None:
    """Add the exit statuses that all commands share; with ``more`` there are others, told before."""
    page.heading("exit status")
    if more:
        page.paragraph("Beside what is said above:")
    for name, text in descriptions(ExitCode):
        page.item((Bold(str(int(ExitCode[name]))),), parts(text))


def _page(page: Page, name: str, command: TyperCommand) -> Page:
    told = cleandoc(command.help or "")
    arguments = [each for each in command.params if isinstance(each, TyperArgument)]
    begin(page, summary(command))
    page.heading("synopsis")
    usage = (part for each in arguments for part in (" ", *_usage(each)))
    page.paragraph(Bold(f"aiosystemd {name}"), " [", Italic("OPTION"), "]...", *usage)
    page.heading("description")
    for text in paragraphs(told):
        if not text.startswith("Example: "):
            page.paragraph(*parts(text))
    if arguments:
        page.heading("arguments")
    for each in arguments:
        page.item((Italic(_metavar(each)),), _description(each))
    options(page, (each for each in command.params if isinstance(each, TyperOption)))
    exit_status(page, more="exit status" in told)
    page.heading("example")
    page.example("\n".join(titled(told, "Example")))
    page.references |= {Reference(1, "aiosystemd"), Reference(5, "aiosystemd.toml")}
    return page


def _metavar(argument: TyperArgument) -> str:
    return (argument.metavar or "").strip("[].")


def _usage(argument: TyperArgument) -> Iterator[Part]:
    """Yield how an argument stands in a synopsis."""
    yield from (Italic(_metavar(argument)),) if argument.required else ("[", Italic(_metavar(argument)), "]")
    if argument.nargs != 1:
        yield "..."


def _description(taken: TyperArgument | TyperOption) -> Iterator[Part]:
    """Yield what an argument or option does, and what it is when it is not given."""
    yield from parts(taken.help or "")
    value = taken.default
    if taken.show_default and not callable(value) and value not in (None, False, ""):
        yield from (" Default: ", Bold(f"{value:g}" if isinstance(value, float) else str(value)), ".")
