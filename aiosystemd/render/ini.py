"""INI files as supervisord and Circus read them: sections, settings, and the spelling of every kind of value.

Both take what stands behind white space and ``;`` for a comment, supervisord also behind ``#``, and neither knows an
escape: a command is split as a shell would (Python's ``shlex``), so that quotes can break what would be misread; any
other value that would be is refused. Where a constructor takes parts, a ``str`` is literal and a ``Value`` is kept.
"""

import re
import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from aiosystemd.render.sections import Sections
from aiosystemd.render.text import Unrepresentable, is_control, is_unicode, visible

__all__ = ["Circus", "Ini", "Supervisord", "Unrepresentable", "Value", "raw"]

_COMMENT: Final = re.compile(r"(?<=\s)(?=[;#])")
_VARIABLE: Final = re.compile(r"(?<=\$)(?=\(circus)|(?<=\()(?=\(circus)|(?<=\$)(?=WID)", re.IGNORECASE)
_OF_CIRCUSD: Final = re.compile(r"\$[A-Z]")


@dataclass(frozen=True, slots=True)
class Value:
    """The right side of a setting, spelt."""

    spelling: str


Part: TypeAlias = str | Value
Word: TypeAlias = Part | tuple[Part, ...]


def raw(spelling: str) -> Value:
    """Return text that this program wrote itself, expansions such as ``%(process_num)s`` included, as it stands."""
    return Value(spelling)


class Ini(Sections):
    """A file: sections in the order of their first setting, settings in the order they were added."""

    def add(self, section: str, name: str, value: Value, *, comment: str | None = None) -> None:
        """Append ``name = value`` to ``section``."""
        self.append(section, f"{name} = {value.spelling}", comment)


class Supervisord:
    """Values as supervisord 4 reads them (``supervisor.options``, ``supervisor.datatypes``)."""

    @staticmethod
    def text(*parts: Part) -> Value:
        """Return one value, which has no quotes."""
        return Value(_unquoted(_join(parts, _double_percent)))

    @staticmethod
    def command(words: Iterable[Word]) -> Value:
        """Return a command."""
        return Value(" ".join(_word(each, lambda part: _double_percent(_quoted(part))) for each in words))

    @staticmethod
    def environment(variables: Mapping[str, Part]) -> Value:
        """Return ``environment=``, whose values have quotes around them and none at their ends."""
        return Value(",".join(f"{name}={_in_quotes(name, value)}" for name, value in variables.items()))


class Circus:
    """Values as Circus reads them (``circus.config``, ``circus.util``): it fills in ``$(circus.…)`` everywhere."""

    @staticmethod
    def text(*parts: Part) -> Value:
        """Return one value, which has no quotes."""
        spelling = _unquoted(_join(parts, str))
        if any(_VARIABLE.search(part) for part in parts if isinstance(part, str)):
            raise Unrepresentable(f"{_shown(spelling)} has what Circus would fill in, and cannot escape")
        if spelling == '""':
            raise Unrepresentable(f"{_shown(spelling)} is what Circus takes for nothing")
        return Value(spelling)

    @staticmethod
    def variable(value: str) -> Value:
        """Return the value of a variable of the environment, in which circusd fills in those of its own."""
        if _OF_CIRCUSD.search(value):
            raise Unrepresentable(f"{_shown(value)} has the name of a variable, which Circus would fill in")
        return Circus.text(value)

    @staticmethod
    def command(words: Iterable[Word]) -> Value:
        """Return a command."""
        return Value(" ".join(_word(each, _unfilled) for each in words))


def _parts(word: Word) -> tuple[Part, ...]:
    return word if isinstance(word, tuple) else (word,)


def _join(parts: Iterable[Part], spell: Callable[[str], str]) -> str:
    return "".join(part.spelling if isinstance(part, Value) else spell(part) for part in parts)


def _word(word: Word, spell: Callable[[str], str]) -> str:
    spelling = _join(_parts(word), lambda part: spell(part) if part else "")
    _check_line(spelling)
    return spelling or "''"


def _double_percent(text: str) -> str:
    return text.replace("%", "%%")


def _quoted(text: str) -> str:
    # White space is in single quotes: to end them and begin anew keeps the text, and nothing is a comment any more.
    return _COMMENT.sub("''", shlex.quote(text))


def _unfilled(text: str) -> str:
    return _VARIABLE.sub("''", _quoted(text))


def _in_quotes(name: str, value: Part) -> str:
    if isinstance(value, Value):
        return f'"{value.spelling}"'
    quote = "'" if '"' in value else '"'
    if quote in value or value.strip("'\"") != value:
        raise Unrepresentable(f"the variable {name} has quotes that supervisord cannot be told")
    if _COMMENT.search(value):
        raise Unrepresentable(f"the variable {name} has a ; or # behind white space, which would be a comment")
    _check_line(value)
    return f"{quote}{_double_percent(value)}{quote}"


def _unquoted(spelling: str) -> str:
    _check_line(spelling)
    if spelling != spelling.strip():
        raise Unrepresentable(f"{_shown(spelling)} has white space at an end, which is not read")
    if _COMMENT.search(f" {spelling}"):
        raise Unrepresentable(f"{_shown(spelling)} has a ; or # behind white space, which would be a comment")
    return spelling


def _check_line(spelling: str) -> None:
    if any(is_control(char) and char != "\t" for char in spelling):
        raise Unrepresentable(f"{_shown(spelling)} has a control character, which an INI file cannot hold")
    if not all(map(is_unicode, spelling)):
        raise Unrepresentable(f"{_shown(spelling)} has half a surrogate pair, which is no UTF-8")


def _shown(text: str) -> str:
    return f'"{visible(text)[:80]}"'
