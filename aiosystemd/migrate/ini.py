"""INI files as Python's ``configparser`` reads them, which supervisord uses, but with the line of each setting."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Final

from aiosystemd.errors import Location, Problem, ProblemsError
from aiosystemd.migrate.found import Setting, Text

_SECTION: Final = re.compile(r"\[(?P<header>.+)\]")
_OPTION: Final = re.compile(r"(?P<option>.*?)\s*(?:(?P<vi>[=:])\s*(?P<value>.*))$")


@dataclass(slots=True)
class Section:
    """A section, with every setting that was written, those that were written twice too."""

    name: str
    at: Location
    settings: list[Setting] = field(default_factory=list)


def read(text: Text, *, circus: bool = False) -> list[Section]:
    """Return the sections of ``text`` by supervisord's rules, or by Circus's, which are older ones.

    Raises ProblemsError with every line that is neither a header nor a setting.
    """
    reader = _Circus(text) if circus else _Reader(text)
    # As a file is iterated: other line separators of Unicode are part of a line.
    for number, line in enumerate(re.split(r"\r\n|\r|\n", text.text), 1):
        reader.line(number, line)
    if reader.problems:
        raise ProblemsError(*reader.problems)
    for section in reader.sections:
        section.settings = [Setting(each.at, each.name, each.value.rstrip()) for each in section.settings]
    return reader.sections


class _Reader:
    """The rules of RawConfigParser._read with ``inline_comment_prefixes=(";", "#")``."""

    nameless = False  # whether a line may begin with the equals sign

    def __init__(self, text: Text) -> None:
        self.text = text
        self.sections: list[Section] = []
        self.problems: list[Problem] = []
        self.indent = 0
        self.open = False  # whether a deeper line would continue the last setting

    def line(self, number: int, line: str) -> None:
        comment = _comment(line)
        value = line[:comment].strip()
        if not value:
            if comment is None and self.open:
                self.more("")
            return
        indent = len(line) - len(line.lstrip())
        if self.open and indent > self.indent:
            self.more(value)
        else:
            self.indent = indent
            self.begin(Location(self.text.file, number, indent + 1), value)

    def name(self, name: str) -> str:
        return name.lower()

    def value(self, value: str) -> str:
        return value.strip()

    def more(self, value: str) -> None:
        settings = self.sections[-1].settings
        last = settings[-1]
        settings[-1] = Setting(last.at, last.name, f"{last.value}\n{value}")

    def begin(self, at: Location, value: str) -> None:
        if header := _SECTION.match(value):
            self.sections.append(Section(header["header"], at))
            self.open = False
        elif not self.sections:
            self.problem(at, value, "no section begins before it", "begin with one, as in [program:shop]")
        elif (option := _OPTION.match(value)) and (option["option"].rstrip() or self.nameless):
            name = self.name(option["option"].rstrip())
            self.sections[-1].settings.append(Setting(at, name, self.value(option["value"])))
            self.open = bool(name)
        else:
            self.problem(at, value, "neither a [section] nor a setting", "write NAME = VALUE")

    def problem(self, at: Location, line: str, what: str, hint: str) -> None:
        if len(self.problems) < 20:  # noqa: PLR2004 (of a file that is something else, twenty lines say enough)
            self.problems.append(Problem(at, what, hint, source=" " * (at.column - 1) + line[:200]))


def _comment(line: str) -> int | None:
    """Return where a comment begins, or None.

    Both signs are looked for in turns, the first of each, then the second: one that stands alone may be passed over.
    """
    if line.lstrip()[:1] in {"#", ";"}:
        return 0
    places = ([each.start() for each in re.finditer(sign, line)] for sign in "#;")
    for turn in zip_longest(*places):
        begun = [place for place in turn if place is not None and (place == 0 or line[place - 1].isspace())]
        if begun:
            return min(begun)
    return None


class _Circus(_Reader):
    """The rules of Python 2's reader: a comment begins a line, or stands behind a value with ``;`` alone."""

    nameless = True

    def line(self, number: int, line: str) -> None:
        value = line.strip()
        if not value or line[0] in "#;" or (line[0] in "rR" and value.split()[0].lower() == "rem"):
            return
        at = Location(self.text.file, number, len(line) - len(line.lstrip()) + 1)
        if self.open and line[0].isspace():
            self.more(value)
        else:
            self.begin(at, line)  # blanks before a name are part of it

    def name(self, name: str) -> str:
        return name

    def more(self, value: str) -> None:
        """Continue what counts of the last name, which is the first setting of it: a second one is passed over."""
        here = self.sections[-1]
        same = (each.settings for each in self.sections if each.name == here.name)
        name = here.settings[-1].name
        for settings in same:
            for index, each in enumerate(settings):
                if each.name == name:
                    settings[index] = Setting(each.at, name, f"{each.value}\n{value}")
                    return

    def value(self, value: str) -> str:
        semicolon = value.find(";")
        if semicolon != -1 and value[semicolon - 1].isspace():  # before the first one stands the last character
            value = value[:semicolon]
        return "" if value.strip() == '""' else value.strip()


def merged(sections: Iterable[Section]) -> list[Section]:
    """Return sections of which each name is one: what stands below a header again goes to the first."""
    found: dict[str, Section] = {}
    for each in sections:
        found.setdefault(each.name, Section(each.name, each.at)).settings.extend(each.settings)
    return list(found.values())


def first_of_each(section: Section) -> dict[str, Setting]:
    """Return the settings that count for Circus: of a name that is set twice, the first one."""
    return {each.name: each for each in reversed(section.settings)}


def last_of_each(section: Section) -> dict[str, Setting]:
    """Return the settings that count: of a name that is set twice, the last one."""
    return {each.name: each for each in section.settings}
