"""Programs that are instances of one deployment: NAME-1, NAME-2 and so on, which do the same."""

import re
from collections.abc import Iterable, Iterator
from itertools import groupby

from aiosystemd.migrate.found import Draft, Setting


def folded(drafts: Iterable[Draft]) -> Iterator[Draft]:
    """Yield drafts, those that follow one another with numbers from one on, and are alike, as one of them all."""
    for base, group in groupby(drafts, _base):
        alike = list(group)
        numbered = [f"{base}-{number}" for number in range(1, len(alike) + 1)]
        same = all((each.values, each.left_out) == (alike[0].values, "") for each in alike)
        if same and len(alike) > 1 and [each.name for each in alike] == numbered:
            yield _one(base, alike)
        else:
            yield from alike


def _base(draft: Draft) -> str:
    match = re.fullmatch(r"(?P<base>.+)-[1-9][0-9]*", draft.name)
    return match["base"] if match else ""


def _one(base: str, drafts: list[Draft]) -> Draft:
    first = drafts[0]
    first.name = base
    for each in drafts[1:]:
        first.findings += each.findings
        first.bound += each.bound
    program = first.program.rpartition("-")[0]
    count = Setting(first.at, f"{program}-1 to -{len(drafts)}")
    first.program = program
    first.keep(count, ("instances",), len(drafts), "they differ in their numbers alone")
    return first
