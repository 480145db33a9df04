"""Procfiles, the files of variables beside them, and scripts that start gunicorn."""

import re
from collections.abc import Iterator
from typing import Final

from aiosystemd.errors import Location, Problem, ProblemsError
from aiosystemd.migrate import roles
from aiosystemd.migrate.command import command
from aiosystemd.migrate.found import Draft, Given, Setting, Text

_PROCESS: Final = re.compile(r"(?P<name>[A-Za-z0-9_-]+):\s*(?P<command>.+)")
_ASSIGNMENT: Final = re.compile(r"(?:export\s+)?(?P<name>[A-Za-z_][A-Za-z0-9_]*)\s*=\s*(?P<value>.*)", re.ASCII)
_SERVER: Final = re.compile(r"(^|[\s/])(gunicorn|aiosystemd-serve|python[0-9.]*)\s")


def drafts(texts: tuple[Text, ...], given: Given) -> Iterator[Draft]:
    """Yield a draft for each process of Procfiles; raises ProblemsError with each line that is none."""
    problems: list[Problem] = []
    found: list[Draft] = []
    variables = [each for text in given.environments for each in _variables(text)]
    for text in texts:
        for at, line in _lines(text):
            match = _PROCESS.fullmatch(line.strip())
            if match:
                found.append(_process(Setting(at, match["name"], match["command"]), variables, given))
            else:
                problems.append(Problem(at, "not a process", "write NAME: COMMAND", source=line[:200]))
    if problems:
        raise ProblemsError(*problems[:20])
    yield from found


def script(texts: tuple[Text, ...], given: Given) -> Iterator[Draft]:
    """Yield a draft for each line of scripts that starts a server; other lines are told of, none is run."""
    for text in texts:
        draft = given.draft(text.file, Location(text.file))
        _from_files(draft, [each for environment in given.environments for each in _variables(environment)])
        lines = list(_joined(text))
        for at, line in lines:
            _line(draft, Setting(at, "line", line.strip()), given)
        if ("app",) not in draft.values:
            draft.leave("no line of it starts an aiohttp application")
        yield draft


def _line(draft: Draft, setting: Setting, given: Given) -> None:
    assignment = _ASSIGNMENT.fullmatch(setting.value)
    if _SERVER.search(f"{setting.value} ") and not assignment:
        command(
            draft,
            Setting(setting.at, "command", setting.value),
            roles.filled(draft, setting),
            given=given,
            shelled=True,
        )
    elif assignment:
        roles.variable(draft, Setting(setting.at, "variable"), assignment["name"], _unquoted(assignment["value"]))
    elif setting.value.startswith("cd ") and not set(setting.value) & set("&|;$`"):
        roles.directory(draft, Setting(setting.at, "cd", _unquoted(setting.value[3:].strip())))
    else:
        draft.drop(setting, "a line of a script, which is not run")


def _process(setting: Setting, variables: list[Setting], given: Given) -> Draft:
    draft = given.draft(setting.name, setting.at, setting.name)
    draft.sources[("name",)] = [Setting(setting.at, setting.name)]
    _from_files(draft, variables)
    command(draft, setting, roles.filled(draft, setting), given=given, shelled=True)
    return draft


def _from_files(draft: Draft, variables: list[Setting]) -> None:
    for each in variables:
        if each.name == "PORT":
            draft.drop(each, "systemd opens the sockets: no instance needs a port")
        elif each.name:
            roles.variable(draft, Setting(each.at, "variable"), each.name, each.value)
        else:
            draft.drop(Setting(each.at, "line", each.value), "no NAME=value")


def _variables(text: Text) -> Iterator[Setting]:
    """Yield the variables of a .env file; a line that is none has no name."""
    for at, line in _lines(text):
        match = _ASSIGNMENT.fullmatch(line.strip())
        yield Setting(at, match["name"], _unquoted(match["value"])) if match else Setting(at, "", line.strip())


def _unquoted(value: str) -> str:
    value = value.strip()
    if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
        return value[1:-1]
    return re.sub(r"\s+#.*", "", value)


def _lines(text: Text) -> Iterator[tuple[Location, str]]:
    for number, line in enumerate(re.split(r"\r\n|\r|\n", text.text), 1):
        if line.strip() and not line.lstrip().startswith("#"):
            yield Location(text.file, number, len(line) - len(line.lstrip()) + 1), line


def _joined(text: Text) -> Iterator[tuple[Location, str]]:
    """Yield the lines of a script, those that end with a backslash joined to the next one."""
    begun: tuple[Location, str] | None = None
    for at, line in _lines(text):
        first, whole = (begun[0], f"{begun[1]} {line.strip()}") if begun else (at, line)
        begun = (first, whole[:-1].rstrip()) if whole.endswith("\\") else None
        if begun is None:
            yield first, whole
    if begun:
        yield begun
