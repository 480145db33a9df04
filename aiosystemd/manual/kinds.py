"""What a key of the deployment file takes, told from its type as TOML would have it."""

import json
import re
from collections.abc import Iterable, Iterator
from types import NoneType, UnionType
from typing import Annotated, Final, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from aiosystemd import values
from aiosystemd.render.roff import Bold, Italic, Part

_BASIC: Final = {int: "INTEGER", float: "NUMBER", str: "STRING"}

_LARGEST: Final = 1 << 63
"""TOML's own limit of integers."""


def alias(hint: object) -> str:
    """Return the name that ``values`` gives a type, ``""`` for one without."""
    return next((name for name, value in vars(values).items() if name[0].isupper() and value == hint), "")


def spelt(name: str) -> str:
    """Return the name of a type as it stands for a value: ``ServerName`` is SERVER_NAME."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).upper()


def kind(hint: object) -> Iterator[Part]:
    """Yield what may stand to the right of a key of that type."""
    origin, arguments = get_origin(hint), get_args(hint)
    if name := alias(hint):
        yield Italic(spelt(name))
    elif hint is bool:
        yield from _either([[Bold("true")], [Bold("false")]])
    elif origin is Annotated:
        yield from kind(arguments[0])
        yield limits(hint)
    elif origin is Literal:
        yield from _either([Bold(json.dumps(value))] for value in arguments)
    elif origin in (Union, UnionType):
        yield from _either(kind(each) for each in arguments if each is not NoneType)
    elif origin is tuple:
        yield from ("[", *kind(arguments[0]), ", ...]")
    elif origin is dict:
        yield from ("{ ", *kind(arguments[0]), " = ", *kind(arguments[1]), ", ... }")
    else:
        yield Italic(_BASIC[hint])  # type: ignore[index]  # another type has no spelling, and is to be given one


def limits(hint: object) -> str:
    """Return the least and the largest value of an annotated type, in words; ``""`` without any."""
    of, *more = get_args(hint)
    found = {key: value for info in more for key, value in _bounds(info)}
    if "min_length" in found:
        return f", at least {found['min_length']}"
    step = of is int
    most = found["le"] if "le" in found else found["lt"] - step if "lt" in found else _LARGEST
    if most >= _LARGEST - 1:
        return ""
    if "gt" in found and not step:
        return f" above {found['gt']}, up to {most}"
    return f" from {found['ge'] if 'ge' in found else found['gt'] + step} to {most}"


def default(value: object) -> str:
    """Return a default as TOML has it; ``""`` for nothing."""
    if value is None or value in ((), {}):
        return ""
    return f"{value:g}" if isinstance(value, float) else json.dumps(value)


def _bounds(info: object) -> Iterator[tuple[str, int]]:
    for bound in info.metadata if isinstance(info, FieldInfo) else ():
        for key in ("ge", "gt", "le", "lt", "min_length"):
            if (value := getattr(bound, key, None)) is not None:
                yield key, value


def _either(choices: Iterable[Iterable[Part]]) -> Iterator[Part]:
    for number, choice in enumerate(choices):
        yield " or " if number else ""
        yield from choice
