r"""systemd unit files: sections, directives, and the spelling of every kind of value (systemd.syntax(7)).

A directive's parser decides which constructor is right:

==================  ==========================================================================================
``raw``             what this program wrote itself; specifiers (``%i``) work
``text``            one value that systemd takes as it stands: ``Description=``, ``User=``, ``After=`` (unit names)
``path``            one absolute path, not unquoted: ``WorkingDirectory=``, ``ListenStream=``, ``SourcePath=``
``words``           lists that unquote: ``ReadWritePaths=``, ``SupplementaryGroups=``
``environment``     ``Environment=``
``environment_file``, ``credential``   ``EnvironmentFile=``, ``LoadCredential=``
``command``         ``ExecStart=`` and its relatives
``boolean``, ``seconds``, ``number``, ``size``   what they say
==================  ==========================================================================================

Where a constructor takes parts, a ``str`` is literal and a ``Value`` is kept as it is, so that
``path("/run/", name, "/", raw("%i"), ".sock")`` is one path with one specifier in it.
"""

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Final, TypeAlias

from aiosystemd.render.sections import Sections
from aiosystemd.render.text import Unrepresentable, is_control, is_unicode, visible

__all__ = [
    "UnitFile",
    "Unrepresentable",
    "Value",
    "boolean",
    "command",
    "credential",
    "environment",
    "environment_file",
    "number",
    "path",
    "raw",
    "seconds",
    "size",
    "text",
    "words",
]

LINE_MAX: Final = 1024 * 1024
"""Bytes; systemd refuses to read a longer line (``LONG_LINE_MAX``)."""

PATH_MAX: Final = 4096
"""Bytes, the NUL at the end included (limits.h)."""

ARGUMENT_MAX: Final = 131072
"""Bytes of one argument or variable that execve(2) takes, the NUL at the end included (``MAX_ARG_STRLEN``)."""

_NONCHARACTERS: Final = (0xFFFE, 0xFFFF)
_WHITE: Final = " \t\n\r"
_PLAIN_WORD: Final = re.compile(r"[A-Za-z0-9_./:=@,+%$~^*?!|{}\[\]()<>&-]+")


@dataclass(frozen=True, slots=True)
class Value:
    """The right side of a directive, spelt; made by the constructors of this module only."""

    spelling: str


Part: TypeAlias = str | Value
Parts: TypeAlias = tuple[Part, ...]
Word: TypeAlias = Part | Parts


class UnitFile(Sections):
    """A unit file: sections in the order of their first directive, directives in the order they were added."""

    def add(self, section: str, name: str, value: Value, *, comment: str | None = None) -> None:
        """Append ``name=value`` to ``section``; a name added twice is printed twice, as lists need.

        Raises ``Unrepresentable`` for a section or name that systemd could not read, or an overlong line.
        """
        _check_name(section, "section")
        _check_name(name, "directive")
        line = f"{name}={value.spelling}"
        if len(line.encode()) >= LINE_MAX:
            raise Unrepresentable(f"{name}= needs a line longer than systemd reads ({LINE_MAX} bytes)")
        self.append(section, line, comment)


def raw(spelling: str) -> Value:
    """Return text that this program wrote itself, specifiers and quotes included, as it stands."""
    _check_line(spelling)
    return Value(spelling)


def text(*parts: Part) -> Value:
    """Return free text, which systemd neither unquotes nor unescapes: only ``%`` needs a spelling."""
    return raw(_join(parts, _double_percent))


def path(*parts: Part) -> Value:
    """Return the one absolute path of a directive that unquotes nothing, so that spaces and quotes stay."""
    return raw(_absolute(parts, _double_percent))


def words(items: Iterable[Word]) -> Value:
    """Return a list, each item quoted where it must be; an empty list resets the directive.

    A line end cannot be spelt: lists of paths and names know quotes, but none of C's escapes.
    """
    return Value(" ".join(_word(item, _double_percent) for item in items))


def mount(source: str, target: str) -> Value:
    """Return one ``SOURCE:TARGET`` for ``BindPaths=`` and its like, for a source that may be missing.

    Each side has its own quotes, which hide a colon in it too.
    """
    sides = (_word(each, _double_percent) for each in (f"-{source}", target))
    return Value(":".join(f'"{each}"' if ":" in each and not each.startswith('"') else each for each in sides))


def environment(name: str, value: str | Parts) -> Value:
    """Return one assignment for ``Environment=``, which knows C's escapes and so takes any character."""
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise Unrepresentable(f"{_shown(name)} is no name of an environment variable")
    assignment = (f"{name}=", *_parts(value))
    _check_length(assignment, ARGUMENT_MAX, f"the variable {name}")
    return Value(_word(assignment, lambda part: _escape_controls(_double_percent(part))))


def environment_file(*parts: Part, optional: bool = False) -> Value:
    r"""Return the path of an ``EnvironmentFile=``, where ``*``, ``?``, ``[`` and ``\`` are glob(7)'s."""
    spelling = _absolute(parts, lambda part: re.sub(r"([*?\[\\])", r"\\\1", _double_percent(part)))
    return raw(f"-{spelling}" if optional else spelling)


def credential(name: str, *source: Part) -> Value:
    """Return ``LoadCredential=``'s NAME:PATH, whose path is not unquoted.

    Measured: systemd 257 hands that line on to another process of its own, where a space or a backslash breaks it.
    """
    if not re.fullmatch(r"[A-Za-z0-9_.@-]+", name) or name in (".", ".."):
        raise Unrepresentable(f"{_shown(name)} is no name of a credential")
    spelling = _absolute(source, _double_percent)
    if " " in spelling or "\\" in spelling:
        raise Unrepresentable(f"{_shown(source)} has a space or backslash, with which systemd loads no credential")
    return raw(f"{name}:{spelling}")


def command(argv: Iterable[Word], *, sandboxed: bool = True) -> Value:
    """Return a command line that starts ``argv`` exactly: no specifier, variable or separator is left alive.

    One that is not ``sandboxed`` has the rights of the manager: systemd.service(5), ``+``.

    The program is an absolute path and obeys other rules than its arguments: ``$`` is literal in it, while
    quotes, backslashes and control characters are refused by systemd however they are spelt.
    """
    program, *arguments = argv
    return Value(("" if sandboxed else "+") + " ".join((_program(program), *map(_argument, arguments))))


def boolean(value: bool) -> Value:  # noqa: FBT001 -- the value is the whole message
    """Return ``yes`` or ``no``."""
    return Value("yes" if value else "no")


def seconds(value: float) -> Value:
    """Return a time span, ``40s`` or ``500ms``, exact to systemd's microsecond; infinity is ``infinity``."""
    if value == math.inf:
        return Value("infinity")
    if not value >= 0:
        raise Unrepresentable(f"{value} is no time span")
    span = Decimal(str(value))
    for unit, factor in (("s", 1), ("ms", 1_000), ("us", 1_000_000)):
        if (scaled := span * factor) == int(scaled):
            return Value(f"{int(scaled)}{unit}")
    raise Unrepresentable(f"{value} s is finer than a microsecond")


def number(value: int) -> Value:
    """Return a whole number."""
    return Value(str(int(value)))


def size(value: int) -> Value:
    """Return a number of bytes, in the largest unit (powers of 1024) that says it exactly."""
    if value < 0:
        raise Unrepresentable(f"{value} is no number of bytes")
    for unit, factor in (("T", 2**40), ("G", 2**30), ("M", 2**20), ("K", 2**10)):
        if value and value % factor == 0:
            return Value(f"{value // factor}{unit}")
    return Value(str(value))


def _program(item: Word) -> str:
    where, literal = f"the program {_shown(item)}", _literal(item)
    spelling = _join(_parts(item), str)
    if not spelling.startswith("/") or spelling.endswith("/"):
        raise Unrepresentable(f"{where} is no absolute path of a file")
    if any(is_control(char) or char in "\"'\\" for char in literal):
        raise Unrepresentable(f"{where} has a quote, backslash or control character, which systemd refuses")
    if "${" in literal or "$$" in literal:
        raise Unrepresentable(f"{where} would see another argv[0], in which systemd expands $")
    _check_length(item, PATH_MAX, where)
    return _word(item, _double_percent)


def _argument(item: Word) -> str:
    _check_length(item, ARGUMENT_MAX, "an argument")
    return _word(item, lambda part: _escape_controls(_double_percent(part).replace("$", "$$")))


def _word(item: Word, spell: Callable[[str], str]) -> str:
    if isinstance(item, Value):
        return item.spelling
    spelling = _join(_parts(item), lambda part: spell(part.replace("\\", r"\\").replace('"', r"\"")))
    _check_line(spelling.strip(_WHITE))
    return spelling if _PLAIN_WORD.fullmatch(spelling) else f'"{spelling}"'


def _absolute(parts: Parts, spell: Callable[[str], str]) -> str:
    spelling = _join(parts, spell)
    # A specifier may stand for the root of the path, as %t and %S do.
    if not re.match(r"/|%[^%]", spelling):
        raise Unrepresentable(f"{_shown(parts)} is no absolute path")
    _check_length(parts, PATH_MAX, f"the path {_shown(parts)}")
    return spelling


def _parts(item: Word) -> Parts:
    return item if isinstance(item, tuple) else (item,)


def _join(parts: Parts, spell: Callable[[str], str]) -> str:
    return "".join(part.spelling if isinstance(part, Value) else spell(part) for part in parts)


def _literal(item: Word) -> str:
    return "".join(part for part in _parts(item) if isinstance(part, str))


def _shown(item: Word) -> str:
    return f'"{visible(_join(_parts(item), str))[:80]}"'


def _double_percent(literal: str) -> str:
    return literal.replace("%", "%%")


def _escape_controls(literal: str) -> str:
    if literal.isprintable():
        return literal
    if "\0" in literal:
        raise Unrepresentable(f"{_shown(literal)} has a NUL, which no argument or variable can carry")
    return "".join(f"\\x{ord(char):02x}" if is_control(char) else char for char in literal)


def _check_name(name: str, kind: str) -> None:
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9-]*", name):
        raise Unrepresentable(f"{_shown(name)} is no name of a {kind}")


def _check_length(item: Word, limit: int, what: str) -> None:
    if len(_literal(item).encode(errors="replace")) >= limit:
        raise Unrepresentable(f"{what} is longer than Linux takes ({limit - 1} bytes)")


def _check_line(line: str) -> None:
    """Refuse what no line of a unit file can carry to its directive."""
    if line != line.strip(_WHITE):
        raise Unrepresentable(f"{_shown(line)} begins or ends with white space, which systemd strips")
    if not line.isprintable():
        _check_characters(line)
    if (len(line) - len(line.rstrip("\\"))) % 2:
        raise Unrepresentable(f"{_shown(line)} ends with a backslash, which would swallow the next line")


def _check_characters(line: str) -> None:
    if any(is_control(char) and char != "\t" for char in line):
        raise Unrepresentable(f"{_shown(line)} has a line end or control character, which this directive cannot carry")
    if not all(map(_is_character, line)):
        raise Unrepresentable(f"{_shown(line)} has a code point that is no character; systemd ignores such a line")


def _is_character(char: str) -> bool:
    # utf8_is_valid() of systemd refuses more than surrogates: Unicode's noncharacters too.
    return is_unicode(char) and not "\ufdd0" <= char <= "\ufdef" and ord(char) & 0xFFFF not in _NONCHARACTERS
