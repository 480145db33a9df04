"""What a rule between the keys of a deployment is; those of each table are beside this."""

from collections.abc import Callable, Iterable, Iterator
from typing import Literal, NamedTuple

from aiosystemd.model import Deployment

KeyPath = tuple[str | int, ...]


class Violation(NamedTuple):
    """A rule that does not hold, and the keys that it concerns, the one to point at first."""

    concerns: tuple[KeyPath, ...]
    what: str
    hint: str = ""
    severity: Literal["error", "warning"] = "error"


Rule = Callable[[Deployment], Iterator[Violation]]
RULES: list[Rule] = []
"""Every rule, in the order of the modules that hold them."""


def rule(checks: Rule) -> Rule:
    """Add a rule to those that every deployment must keep; its docstring is what the manual says of it."""
    RULES.append(checks)
    return checks


def twice(items: Iterable[tuple[KeyPath, str]], what: str) -> Iterator[Violation]:
    """Yield a violation for each item that was there before."""
    seen: set[str] = set()
    for key, item in items:
        if item in seen:
            yield Violation((key,), f'{what} "{item}" is given twice', "remove one")
        seen.add(item)


def is_under(path: str, *directories: str) -> bool:
    """Return whether ``path`` is one of the directories, or below it."""
    return any(f"{path}/".startswith(f"{directory}/") for directory in directories)
