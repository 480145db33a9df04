"""haproxy.cfg from structure: every quoting rule of HAProxy's configuration manual, section 2.2, and only here."""

import re
from dataclasses import dataclass
from typing import Final, TypeAlias

from aiosystemd.render.text import Unrepresentable, comment_lines, is_control, is_unicode, visible

__all__ = ["Line", "Raw", "Section", "Unrepresentable", "line", "logged", "raw", "render", "section"]

_PLAIN: Final = re.compile(r"[A-Za-z0-9_./:@%+,=\[\]*-]+")
_WORDS: Final = 64
"""Words of a line (MAX_LINE_ARGS), its keyword among them."""
_BYTES: Final = 2048
"""Bytes of a line (LINESIZE), its end among them."""


class Raw(str):
    """A word that stands as it is: HAProxy's own syntax."""

    __slots__ = ()


Word: TypeAlias = str | Raw


@dataclass(frozen=True, slots=True)
class Line:
    """A keyword and its words."""

    words: tuple[Word, ...]
    comment: str = ""


@dataclass(frozen=True, slots=True)
class Section:
    """A section, such as ``frontend NAME``, and its lines."""

    head: Line
    body: tuple[Line, ...]


def raw(text: str) -> Raw:
    """Return a word of HAProxy's own syntax."""
    return Raw(text)


def line(keyword: str, *words: Word, comment: str = "") -> Line:
    """Return a line; ``keyword`` may be several words of HAProxy's own."""
    return Line((*map(Raw, keyword.split()), *words), comment)


def section(keyword: str, *words: Word, body: tuple[Line, ...]) -> Section:
    """Return a section."""
    return Section(line(keyword, *words), body)


def logged(text: str) -> str:
    """Return ``text`` as it stands in a log-format string, where a percent sign begins a variable (section 8.2.6)."""
    return text.replace("%", "%%")


def render(sections: tuple[Section, ...], *, header: tuple[str, ...] = ()) -> str:
    """Return a file's text.

    Raises ``Unrepresentable`` for a control character, which no word can hold, and for a line that is too long.
    """
    comment = [text for each in header for text in comment_lines(each)]
    return "\n".join([*comment, *(text for each in sections for text in _section(each))]) + "\n"


def _section(each: Section) -> list[str]:
    body = [text for part in each.body for text in _line(part, "    ")]
    return ["", *_line(each.head, ""), *body]


def _line(each: Line, indent: str) -> list[str]:
    text = indent + " ".join(map(_word, each.words))
    if len(each.words) > _WORDS or len(text.encode()) >= _BYTES - 1:
        raise Unrepresentable(f'"{visible(text.strip())[:80]}..." is longer than a line of haproxy.cfg may be')
    return [*(indent + note for note in (comment_lines(each.comment) if each.comment else ())), text]


def _word(word: Word) -> str:
    if not _is_text(word):
        raise Unrepresentable(f'"{visible(word)[:80]}" cannot be written in haproxy.cfg')
    if isinstance(word, Raw) or _PLAIN.fullmatch(word):
        return str(word)
    # Strong quotes: nothing is special between them, and a quote itself stands between two of them.
    return "'" + word.replace("'", r"'\''") + "'"


def _is_text(word: str) -> bool:
    return all(is_unicode(char) and not is_control(char) for char in word)
