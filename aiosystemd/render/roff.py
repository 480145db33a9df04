"""Manual pages, in roff's man(7) macros: headings, paragraphs, items with a tag, examples.

The text is all ASCII: how it is shown depends on no locale, and what is copied from a page is what the page means.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from aiosystemd.render.text import visible

_GLYPHS: Final = str.maketrans(
    # groff_char(7): as they stand, roff reads the first as its own, and shows the others as typographers like them.
    {"\\": r"\(rs", "-": r"\-", "'": r"\(aq", "`": r"\(ga", "^": r"\(ha", "~": r"\(ti", '"': r"\(dq"}
)


@dataclass(frozen=True, slots=True)
class Bold:
    """What is typed as it stands."""

    text: str


@dataclass(frozen=True, slots=True)
class Italic:
    """What stands for something else."""

    text: str


@dataclass(frozen=True, slots=True, order=True)
class Reference:
    """Another page."""

    section: int
    name: str


Part: TypeAlias = str | Bold | Italic | Reference


@dataclass(slots=True)
class Page:
    """A page: its parts in the order they were added."""

    name: str
    section: int
    source: str
    """What the page belongs to, for the footer: a program and its version."""
    references: set[Reference] = field(default_factory=set)
    """Every other page that was named."""
    _lines: list[str] = field(default_factory=list)

    @property
    def file(self) -> str:
        """Where it belongs below a directory of MANPATH, as ``man1/example.1``."""
        return f"man{self.section}/{self.name}.{self.section}"

    def heading(self, text: str) -> None:
        """Begin a section."""
        self._lines.append(f".SH {_argument(text.upper())}")

    def subheading(self, text: str) -> None:
        """Begin a section within a section."""
        self._lines.append(f".SS {_argument(text)}")

    def paragraph(self, *parts: Part) -> None:
        """Add a paragraph; white space in it is a space."""
        self._space()
        self._lines.append(self._line(parts))

    def item(self, tag: Iterable[Part], *paragraphs: Iterable[Part]) -> None:
        """Add what has a name: the name, and below it, indented, what it is."""
        first, *more = (self._line(parts) for parts in paragraphs)
        self._lines += [".TP", self._line(tag), first]
        for line in more:
            self._lines += [".IP", line]

    def example(self, text: str) -> None:
        """Add lines that are shown as they are, indented."""
        self._space()
        self._lines += [".RS 4", ".EX", *(_guarded(_spell(line)) for line in text.split("\n")), ".EE", ".RE"]

    def render(self) -> str:
        """Return the page's text; the same calls give the same text, and no date is in it."""
        title = (self.name.upper(), str(self.section), "", self.source, self.source.partition(" ")[0])
        # Names are searched for and copied: they are not to be divided at the end of a line, nor spaced out.
        # groff_man(7): the macros look at HY and AD again and again; older ones know only the request.
        begin = (".nr HY 0", ".ds AD l", f".TH {' '.join(map(_argument, title))}", ".ad l")
        return "\n".join((*begin, *self._lines)) + "\n"

    def _space(self) -> None:
        # man(7): below a heading stands no empty line.
        if not self._lines[-1:] or not self._lines[-1].startswith((".SH", ".SS")):
            self._lines.append(".PP")

    def _line(self, parts: Iterable[Part]) -> str:
        parts = tuple(parts)
        self.references |= {part for part in parts if isinstance(part, Reference)}
        return _guarded("".join(map(_part, parts)).strip())


def _part(part: Part) -> str:
    match part:
        case Bold(text):
            return rf"\fB{_flowing(text)}\fR"
        case Italic(text):
            return rf"\fI{_flowing(text)}\fR"
        case Reference(section, name):
            return rf"\fB{_flowing(name)}\fR({section})"
        case str(text):
            return _flowing(text)


def _flowing(text: str) -> str:
    return _spell(re.sub(r"\s+", " ", text))


def _spell(text: str) -> str:
    spelling = visible(text).translate(_GLYPHS)
    return (
        spelling if spelling.isascii() else re.sub(r"[^\x00-\x7f]", lambda char: rf"\[u{ord(char[0]):04X}]", spelling)
    )


def _argument(text: str) -> str:
    return f'"{_flowing(text)}"'


def _guarded(line: str) -> str:
    """Return a line of text that roff takes for no request."""
    return rf"\&{line}" if line.startswith(".") else line
