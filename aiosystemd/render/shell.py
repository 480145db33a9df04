"""POSIX shell: scripts of simple commands, and the lines of a Procfile, which a shell reads too."""

import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from aiosystemd.render.text import Unrepresentable, comment_lines, is_unicode, visible

__all__ = ["Procfile", "Script", "Unrepresentable", "Value", "assignment", "command", "raw"]

_CONTROL: Final = re.compile(r"[\x00\r\n]")


@dataclass(frozen=True, slots=True)
class Value:
    """Trusted text, spelt."""

    spelling: str


Word: TypeAlias = str | Value


def raw(spelling: str) -> Value:
    """Return text that this program wrote itself, parameters and quotes included, as it stands."""
    return Value(spelling)


def command(words: Iterable[Word]) -> Value:
    """Return a simple command; each ``str`` reaches the program as it is, whatever it holds."""
    return Value(" ".join(each.spelling if isinstance(each, Value) else _quoted(each) for each in words))


def assignment(name: str, value: str) -> Value:
    """Return ``NAME=value``, as ``export`` and env(1) take it."""
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise Unrepresentable(f'"{visible(name)[:80]}" is no name of an environment variable')
    return Value(f"{name}={_quoted(value)}")


def _quoted(text: str) -> str:
    if "\0" in text or not all(map(is_unicode, text)):
        raise Unrepresentable(f'"{visible(text)[:80]}" is no argument of a command')
    return shlex.quote(text)


@dataclass(slots=True)
class Script:
    """A script that ends with the first command that fails."""

    header: tuple[str, ...] = ()
    _lines: list[str] = field(default_factory=list)

    def add(self, line: Value, *, comment: str | None = None) -> None:
        """Append a command."""
        self._lines.extend(comment_lines(comment) if comment else ())
        self._lines.append(line.spelling)

    def render(self) -> str:
        """Return the file's text; the comment that marks it comes behind the line that names the shell."""
        comment = [line for text in self.header for line in comment_lines(text)]
        return "\n".join(("#!/bin/sh -e", *comment, *self._lines)) + "\n"


@dataclass(slots=True)
class Procfile:
    """Processes by name, a line each, which a shell runs."""

    header: tuple[str, ...] = ()
    _lines: list[str] = field(default_factory=list)

    def add(self, name: str, line: Value) -> None:
        """Append a process; raises ``Unrepresentable`` for what has a line end in it."""
        if _CONTROL.search(line.spelling):
            raise Unrepresentable(f'"{visible(line.spelling)[:80]}" has a line end, which a Procfile cannot hold')
        self._lines.append(f"{name}: {line.spelling}")

    def render(self) -> str:
        """Return the file's text."""
        comment = [line for text in self.header for line in comment_lines(text)]
        return "\n".join((*comment, *self._lines)) + "\n"
