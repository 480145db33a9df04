r"""nginx configuration: directives, blocks, and the spelling of their arguments (ngx_conf_file.c).

An argument that is a ``str`` is literal: it is quoted as needed and reaches nginx as it is, or is refused.
A ``Value`` is this program's own text, variables included: ``raw("$host")``. Where one argument mixes both, a
tuple joins them: ``directive("proxy_pass", ("http://", upstream, raw("$uri")))``.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeAlias

from aiosystemd.render.text import Unrepresentable, comment_lines, is_control, is_unicode, visible

__all__ = ["Directive", "Unrepresentable", "Value", "block", "directive", "entry", "raw", "render"]

TOKEN_MAX: Final = 4094
"""Bytes of one argument as spelt, quotes apart: with the quotes it must fit a buffer of 4096 bytes."""

INDENT: Final = " " * 4

_ESCAPES: Final = str.maketrans({"\\": r"\\", '"': r"\"", "\t": r"\t", "\n": r"\n", "\r": r"\r"})
_PLAIN: Final = re.compile(r"[A-Za-z0-9_./:=@,+%$~^*?!|()<>&\[\]-]+")

_NO_VARIABLES: Final = frozenset(
    {
        *("error_log", "include", "listen", "location", "pid", "server", "server_name", "upstream"),
    }
)
"""Directives of ours that take ``$`` literally; in any other it starts a variable and nginx cannot escape it."""

_MAP_WORDS: Final = frozenset({"default", "hostnames", "include", "volatile"})

_HEADERS: Final = frozenset({"add_header", "proxy_set_header", "return"})
"""Directives whose arguments go into a message's head, where a line end would start another header."""


@dataclass(frozen=True, slots=True)
class Value:
    """Trusted text, spelt; made by ``raw``."""

    spelling: str


Part: TypeAlias = str | Value
Argument: TypeAlias = Part | tuple[Part, ...]


class Directive(NamedTuple):
    """One directive; ``block`` is what stands between its braces, ``None`` for one that ends with ``;``."""

    name: str
    args: tuple[Argument, ...] = ()
    block: tuple["Directive", ...] | None = None
    comment: str | None = None


def raw(spelling: str) -> Value:
    """Return text that this program wrote itself, variables and quotes included, as it stands."""
    if not spelling.isprintable() and any(map(is_control, spelling)):
        raise Unrepresentable(f"{_shown(spelling)} has a control character")
    return Value(spelling)


def directive(name: str, *args: Argument, comment: str | None = None) -> Directive:
    """Return a directive that ends with ``;``."""
    return Directive(name, args, comment=comment)


def block(name: str, *args: Argument, body: Iterable[Directive], comment: str | None = None) -> Directive:
    """Return a directive with a block."""
    return Directive(name, args, tuple(body), comment)


def entry(*args: Argument) -> Directive:
    """Return a line of a ``map`` block, which begins with a value and not with a directive's name."""
    return Directive("", args)


def render(directives: Iterable[Directive], *, header: Iterable[str] = ()) -> str:
    """Return the file's text: header, then each directive; the same input gives the same text.

    Raises ``Unrepresentable`` for an argument that nginx could not read back as it was given.
    """
    lines = [line for text in header for line in comment_lines(text)]
    lines.extend(_lines(tuple(directives), "", after_header=bool(lines)))
    return "\n".join(lines) + "\n"


def _lines(directives: tuple[Directive, ...], indent: str, *, after_header: bool = False) -> Iterator[str]:
    previous = None
    for item in directives:
        if after_header or (previous and (item.block, previous.block) != (None, None)):
            yield ""
        after_header, previous = False, item
        yield from _directive(item, indent)


def _directive(item: Directive, indent: str) -> Iterator[str]:
    if item.comment:
        yield from comment_lines(item.comment, indent=indent)
    name = (_name(item.name),) if item.name else ()
    head = indent + " ".join((*name, *_arguments(item)))
    if item.block is None:
        yield f"{head};"
        return
    yield f"{head} {{"
    yield from _lines(item.block, indent + INDENT)
    yield f"{indent}}}"


def _name(name: str) -> str:
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise Unrepresentable(f"{_shown(name)} is no name of an nginx directive")
    return name


def _arguments(item: Directive) -> Iterator[str]:
    _check_prefix(item)
    for argument in item.args:
        parts = argument if isinstance(argument, tuple) else (argument,)
        for part in parts:
            if isinstance(part, str):
                _check_literal(part, item.name)
        yield _spell(parts)


def _check_prefix(item: Directive) -> None:
    """Refuse a literal that nginx takes for something else by how it begins, quoted or not."""
    for index, argument in enumerate(item.args):
        first = argument[0] if isinstance(argument, tuple) else argument
        if not isinstance(first, str):
            continue
        if item.name == "location" and len(item.args) == 1 and first.startswith(("=", "~", "^~", "@")):
            raise Unrepresentable(f"{_shown(first)} would be a location with a modifier")
        if item.name == "server_name" and first.startswith("~"):
            raise Unrepresentable(f"{_shown(first)} would be a regular expression in server_name")
        if not item.name and index == 0 and (first.startswith(("~", "\\")) or first in _MAP_WORDS):
            raise Unrepresentable(f"{_shown(first)} would not be a value to compare with in a map")


def _spell(parts: tuple[Part, ...]) -> str:
    if len(parts) == 1 and isinstance(parts[0], Value):
        return parts[0].spelling
    spelling = "".join(part.spelling if isinstance(part, Value) else _escape(part) for part in parts)
    if len(spelling.encode()) > TOKEN_MAX:
        raise Unrepresentable(f"{_shown(spelling)} is longer than nginx reads ({TOKEN_MAX} bytes)")
    return spelling if _PLAIN.fullmatch(spelling) else f'"{spelling}"'


def _escape(literal: str) -> str:
    return literal.translate(_ESCAPES)


def _check_literal(literal: str, name: str) -> None:
    for flaw in _flaws(literal, name):
        raise Unrepresentable(f"{_shown(literal)} in {name} {flaw}")


def _flaws(literal: str, name: str) -> Iterator[str]:
    if "$" in literal and name not in _NO_VARIABLES:
        yield "has a $, which nginx takes for a variable and cannot escape"
    if name == "include" and any(char in "*?[" for char in literal):
        yield "has a wildcard, which nginx expands"
    if literal.isprintable():
        return
    if any(is_control(char) and ord(char) not in _ESCAPES for char in literal):
        yield "has a control character that nginx has no escape for"
    if name in _HEADERS and any(char in "\r\n" for char in literal):
        yield "has a line end, which would start another header"
    if not all(map(is_unicode, literal)):
        yield "has half a surrogate pair, which is no UTF-8"


def _shown(literal: str) -> str:
    return f'"{visible(literal)[:80]}"'
