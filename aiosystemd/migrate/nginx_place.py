"""Where a directive of nginx stands, and what is done with it."""

from collections.abc import Callable
from dataclasses import dataclass

from aiosystemd.migrate.found import Draft
from aiosystemd.migrate.nginx_syntax import Directive


@dataclass(frozen=True, slots=True)
class Place:
    """Where a directive stands."""

    draft: Draft
    path: str
    around: tuple[Directive, ...]
    """Its own block."""
    outer: tuple[Directive, ...] = ()
    """The block around that, if it is a location."""
    whole: bool = True
    """Whether every request to the deployment comes by."""


Role = Callable[[Place, Directive], None]


def same(says: str) -> Role:
    """Return the role of what is so here by default."""
    return lambda place, each: place.draft.replaced(each.setting, says)
