"""Times and sizes, as nginx writes them."""

import re
from typing import Final

_TIME: Final = re.compile(
    r"(?:(?P<d>\d{1,6})d)?(?:(?P<h>\d{1,6})h)?(?:(?P<m>\d{1,6})m)?(?:(?P<s>\d{1,9})s?)?(?:(?P<ms>\d{1,9})ms)?"
)
_UNITS: Final = {"d": 86_400.0, "h": 3_600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_LONG: Final = {"y": 31_536_000.0, "M": 2_592_000.0, "w": 604_800.0}
_BYTES: Final = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


def seconds(text: str) -> float | None:
    """Return a time as nginx writes it, in seconds, or None."""
    match = _TIME.fullmatch(text) if text else None
    return sum(_UNITS[unit] * int(count) for unit, count in match.groupdict().items() if count) if match else None


def span(text: str) -> float | None:
    """Return how long files are kept, in seconds, or None; ``max`` is ten years in nginx, and one here."""
    if text == "max":
        return _LONG["y"]
    match = re.fullmatch(r"(\d{1,3})([yMw])", text)
    return int(match[1]) * _LONG[match[2]] if match else seconds(text)


def size(text: str) -> int | None:
    """Return a number of bytes, or None."""
    match = re.fullmatch(r"(\d{1,15})([kKmMgG]?)", text)
    return int(match[1]) * _BYTES[match[2].lower()] if match else None
