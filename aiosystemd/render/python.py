"""A Python file of settings, made from syntax: no value can end a text and begin code."""

import ast
from dataclasses import dataclass, field
from typing import TypeAlias

from aiosystemd.render.text import Unrepresentable, comment_lines, is_unicode, visible

__all__ = ["Module", "Unrepresentable", "call"]

Constant: TypeAlias = str | int


@dataclass(slots=True)
class Module:
    """Assignments in the order they were added."""

    header: tuple[str, ...] = ()
    _imports: list[str] = field(default_factory=list)
    _lines: list[str] = field(default_factory=list)

    def add_import(self, module: str, name: str) -> None:
        """Add ``from MODULE import NAME``."""
        self._imports.append(ast.unparse(ast.ImportFrom(module, [ast.alias(name)], 0)))

    def set(self, name: str, value: Constant, *, comment: str = "") -> None:
        """Assign a constant."""
        self._assign(name, _constant(value), comment)

    def choose(self, name: str, value: Constant, test: ast.expr, otherwise: Constant) -> None:
        """Assign ``value`` if ``test`` holds when the file is read, and else ``otherwise``."""
        self._assign(name, ast.IfExp(test, _constant(value), _constant(otherwise)), "")

    def _assign(self, name: str, value: ast.expr, comment: str) -> None:
        self._lines.extend(comment_lines(comment) if comment else ())
        self._lines.append(f"{name} = {ast.unparse(value)}")

    def render(self) -> str:
        """Return the file's text."""
        comment = [line for text in self.header for line in comment_lines(text)]
        imports = [*self._imports, ""] if self._imports else []
        return "\n".join((*comment, "", *imports, *self._lines)) + "\n"


def call(function: str, argument: Constant) -> ast.expr:
    """Return a call of a function with one argument."""
    return ast.Call(ast.Name(function), [_constant(argument)], [])


def _constant(value: Constant) -> ast.expr:
    if isinstance(value, str) and ("\0" in value or not all(map(is_unicode, value))):
        raise Unrepresentable(f'"{visible(value)[:80]}" cannot be written in a Python file')
    return ast.Constant(value)
