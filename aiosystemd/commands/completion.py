"""What the shell offers at Tab: quickly, quietly, and nothing that it would have to quote."""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from inspect import signature
from pathlib import Path
from typing import Final, TypeVar

import typer
from typer.models import ParameterInfo

from aiosystemd import scope

_F = TypeVar("_F", bound=Callable[..., None])

_PLAIN: Final = re.compile(r"[A-Za-z0-9_./+,@%-]+")
"""What every shell takes as it stands. Names with anything else are left to its own completion, which quotes them."""

_MOST: Final = 1000
"""Entries of a directory that are looked at."""

LEVELS: Final = ("emerg", "alert", "crit", "err", "warning", "notice", "info", "debug")
"""Priorities, as syslog(3) calls them."""

SHELLS: Final = ("bash", "zsh", "fish")
OPTIONS: Final = {
    "--show-completion": "Print what makes a shell complete commands, options and names.",
    "--install-completion": "Install that for the user who asks.",
}
"""Options of the program, and what they do."""


def deployments(incomplete: str) -> list[str]:
    """Return names of deployments, deployment files, and directories that may hold some."""
    names = (each.removesuffix(".toml") for each in _entries(str(_files())) if each.endswith(".toml"))
    offered = [*_plain(names, incomplete), *_paths(incomplete, ".toml")]
    if len(offered) == 1 and offered[0].endswith("/"):
        # The shell would take the only one there is, and go on to the next word.
        offered += _paths(offered[0], ".toml")
    return offered


def directories(incomplete: str) -> list[str]:
    """Return directories."""
    offered = _paths(incomplete, "/")
    return offered + _paths(offered[0], "/") if len(offered) == 1 else offered


def levels(incomplete: str) -> list[str]:
    """Return priorities of the journal."""
    return _plain(LEVELS, incomplete)


def instances(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the instances of the deployment whose name stands before."""
    import tomllib  # noqa: PLC0415 (only here)

    # An option that still lacks its value leaves the arguments before it unread.
    name = str(ctx.params.get("name") or next(iter(ctx.args), ""))
    with suppress(OSError, ValueError, TypeError):
        text = Path(name if "/" in name or name.endswith(".toml") else _files() / f"{name}.toml").read_text("utf-8")
        count = tomllib.loads(text).get("instances", 4)
        number = len(os.sched_getaffinity(0)) if count == "auto" else int(count)
        return _plain(map(str, range(1, min(number, _MOST) + 1)), incomplete)
    return []


_BY_METAVAR: Final[dict[str, Callable[..., list[str]]]] = {
    "FILE": deployments,
    "NAME": deployments,
    "DIR": directories,
    "LEVEL": levels,
    "INSTANCE": instances,
}


def completed(command: _F) -> _F:
    """Return a command, each argument and option of which is completed as what its metavar says it is."""
    for parameter in signature(command).parameters.values():
        for info in getattr(parameter.annotation, "__metadata__", ()):
            if isinstance(info, ParameterInfo):
                info.autocompletion = _BY_METAVAR.get((info.metavar or "").strip("[]."), info.autocompletion)
    return command


def give_script(option: str, shell: str) -> None:
    """Show or install what makes a shell complete; typer takes no name of a shell where it can find it out."""
    from typer.completion import (  # type: ignore[attr-defined]  # noqa: PLC0415 (once in a life)
        get_completion_script,
        install,
    )

    name, variable = "aiosystemd", "_AIOSYSTEMD_COMPLETE"
    if option == "--show-completion":
        typer.echo(get_completion_script(prog_name=name, complete_var=variable, shell=shell))
    else:
        _, path = install(shell=shell, prog_name=name, complete_var=variable)
        typer.echo(f"installed {path}; it works from the next start of {shell} on")


def _files() -> Path:
    # --user, where it stands before, has been looked at: typer calls what an option calls here too.
    return Path(scope.current().files)


def _paths(incomplete: str, suffix: str) -> list[str]:
    """Return the paths that ``incomplete`` may become: directories, and files whose names end in ``suffix``."""
    folder = incomplete[: incomplete.rfind("/") + 1]
    hidden = incomplete[len(folder) :].startswith(".")
    names = (name for name in _entries(folder or ".") if hidden or not name.startswith("."))
    return _plain((folder + name for name in names if name.endswith(("/", suffix))), incomplete)


def _entries(directory: str) -> Iterator[str]:
    """Yield the names in a directory, those of directories with a slash at their end."""
    with suppress(OSError, ValueError), os.scandir(directory) as entries:
        for _, entry in zip(range(_MOST), entries, strict=False):
            yield f"{entry.name}/" if _is_directory(entry) else entry.name


def _is_directory(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False


def _plain(words: Iterator[str] | tuple[str, ...], incomplete: str) -> list[str]:
    found = dict.fromkeys(word for word in words if word.startswith(incomplete) and _PLAIN.fullmatch(word))
    # Numbers by their value: 2 before 10.
    return sorted(found, key=lambda word: (len(word) if word.isdecimal() else 0, word))
