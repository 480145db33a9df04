"""TOML, written: Python's standard library only reads it."""

from collections.abc import Mapping
from typing import Any


def dumps(data: Mapping[str, Any]) -> str:
    """Return ``data`` as a TOML document of one line per key, tables inline."""
    return "".join(f"{string(key)} = {value(item)}\n" for key, item in data.items())


def value(item: Any) -> str:
    """Return a value, spelt in one line."""
    match item:
        case bool():
            return str(item).lower()
        case str():
            return string(item)
        case Mapping():
            return "{" + ", ".join(f"{string(key)} = {value(each)}" for key, each in item.items()) + "}"
        case list() | tuple():
            return "[" + ", ".join(map(value, item)) + "]"
        case _:
            return str(item)


def string(text: str) -> str:
    """Return ``text`` as a basic string."""
    escaped = (char if char >= " " and char not in '"\\\x7f' else f"\\u{ord(char):04x}" for char in text)
    return f'"{"".join(escaped)}"'
