"""Descriptions, as they stand in the sources, made into parts of a page."""

import inspect
import re
from collections.abc import Iterator
from typing import Final

from aiosystemd.render.roff import Bold, Page, Part, Reference

_MARKED: Final = re.compile(
    r"``(?P<literal>.+?)``|(?<![\w-])(?P<option>--[a-z][a-z-]*)|\b(?P<page>[a-z][\w.@-]*)\((?P<section>[1-8])\)",
    re.DOTALL,
)
"""What stands between two backticks, the name of an option, and another manual page."""


def parts(text: str) -> tuple[Part, ...]:
    """Return a description as parts: what is typed as it stands is bold, other pages are references."""
    return tuple(_parts(text))


def _parts(text: str) -> Iterator[Part]:
    end = 0
    for found in _MARKED.finditer(text):
        yield text[end : found.start()]
        end = found.end()
        if found["page"]:
            yield Reference(int(found["section"]), found["page"])
        else:
            yield Bold(found["literal"] or found["option"])
    yield text[end:]


def paragraphs(text: str) -> list[str]:
    """Return the paragraphs of a docstring, or of a help text."""
    return re.split(r"\n\s*\n", inspect.cleandoc(text))


def titled(text: str, title: str) -> list[str]:
    """Return what the paragraphs of ``text`` say that begin with ``title`` and a colon."""
    found = (each.partition(f"{title}: ") for each in paragraphs(text))
    return [rest for before, colon, rest in found if colon and not before]


def sentence(text: str) -> str:
    """Return a phrase as a sentence."""
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "]")) else ".")


def phrase(text: str) -> str:
    """Return a sentence as a phrase."""
    return text[:1].lower() + text[1:].rstrip(".")


def begin(page: Page, summary: str) -> None:
    """Begin a page with its name and what it is, as man-pages(7) and lexgrog(1) want it."""
    page.heading("name")
    page.paragraph(page.name, " - ", phrase(summary.replace("``", "")))
