"""What is known of operations on known values, and of what syntax says by itself."""

import ast
import operator
from collections.abc import Callable, Iterator
from pathlib import PurePosixPath
from typing import Final, TypeVar

from aiosystemd.init import meaning
from aiosystemd.init.values import Class, External, Function, Table, Value

_V = TypeVar("_V")

ITEMS: Final = 200
"""Items of a list that a loop is followed for."""
_BITS: Final = 64
"""Of a number that is reckoned with."""
_LONG: Final = 4096
"""Characters of a path."""
_TEXT: Final = (str, int, PurePosixPath)

_ARITHMETIC: Final[dict[type[ast.operator], Callable[[int, int], int]]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Pow: operator.pow,
    ast.LShift: operator.lshift,
}


def operation(op: ast.operator, left: Value, right: Value) -> Value:
    """Return what an operator gives: of paths, texts, lists of routes, and sizes."""
    match op, left, right:
        case ast.Div(), PurePosixPath() | str(), PurePosixPath() | str():
            return short(PurePosixPath(left, right))
        case ast.Add(), str(), str():
            return short(left + right)
        case ast.Add(), list() | Table(), list() | Table():
            return [*items(left), *items(right)]
        case _, int(), int():
            return _reckoned(op, left, right)
        case _:
            return None


def _reckoned(op: ast.operator, left: int, right: int) -> int | None:
    function = _ARITHMETIC.get(type(op))
    power = isinstance(op, ast.Pow | ast.LShift)
    if function is None or left.bit_length() > _BITS or (power and not 0 <= right <= _BITS):
        return None
    found = function(left, right)
    return found if found.bit_length() <= _BITS else None


def joined(parts: list[Value]) -> str | None:
    """Return the text of an f-string, None where a part of it is not known."""
    texts = [str(part) for part in parts if isinstance(part, _TEXT)]
    return short("".join(texts)) if len(texts) == len(parts) else None


def short(value: _V) -> _V | None:
    """Return a value, None for a text or path that nobody means, such as one that is doubled again and again."""
    return None if isinstance(value, str | PurePosixPath) and len(str(value)) > _LONG else value


def items(value: Value) -> list[Value]:
    """Return the items of a list or a table of routes; one that is not known for anything else."""
    found = value.items if isinstance(value, Table) else value
    return found[:ITEMS] if isinstance(found, list) else [None]


def item(of: Value, index: Value) -> Value:
    """Return what stands at an index."""
    if isinstance(of, list) and isinstance(index, int) and -len(of) <= index < len(of):
        value: Value = of[index]
        return value
    return None


def first(*values: Value) -> Value:
    """Return the first that is known."""
    return next((value for value in values if value is not None), None)


def either(test: ast.expr, body: Value, orelse: Value) -> Value:
    """Return what a conditional expression gives: nothing that is known where it may be one or the other."""
    if isinstance(test, ast.Constant):
        return body if test.value else orelse
    return first(body, orelse) if None in (body, orelse) or body == orelse else None


def bound(member: Value, owner: Value) -> Value:
    """Return a member of a class as its object has it."""
    return Function(member.node, member.scope, owner) if isinstance(member, Function) else member


def is_decorated(member: Value, name: str) -> bool:
    """Tell whether a name such as ``classmethod`` stands above a function."""
    decorators = member.node.decorator_list if isinstance(member, Function) else []
    return any(isinstance(each, ast.Name) and each.id == name for each in decorators)


def is_of_script(test: ast.expr) -> bool:
    """Tell whether this asks if the module is run as a program."""
    match test:
        case ast.Compare(ast.Name("__name__"), [ast.Eq()], [ast.Constant("__main__")]):
            return True
        case ast.Compare(ast.Constant("__main__"), [ast.Eq()], [ast.Name("__name__")]):
            return True
        case _:
            return False


def is_application(kind: Value) -> bool:
    """Tell whether this is aiohttp's class of applications, or one made from it."""
    if isinstance(kind, External):
        return kind.name in meaning.APPLICATION
    return isinstance(kind, Class) and kind.is_a(*meaning.APPLICATION)


def bodies(node: ast.stmt) -> Iterator[list[ast.stmt]]:
    """Yield the statements within a statement, in the order of the file."""
    yield getattr(node, "body", [])
    for part in (*getattr(node, "handlers", []), *getattr(node, "cases", [])):
        yield part.body
    yield getattr(node, "orelse", [])
    yield getattr(node, "finalbody", [])
