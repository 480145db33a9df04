"""Draft → deployment file: what fits the model is written, each line below the setting that it came from."""

import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final

from aiosystemd.errors import Problem, ProblemsError
from aiosystemd.known import NAMES
from aiosystemd.load import Source, parse, validate
from aiosystemd.migrate.found import Draft, KeyPath, Setting
from aiosystemd.render.text import visible

if TYPE_CHECKING:
    from tomlkit import TOMLDocument
    from tomlkit.items import Table

_FIRST: Final = ("name", "app", "instances", "directory", "python", "arguments")
_TABLES: Final = ("service", "server", "listen", "timeouts", "sandbox", "proxy")
_HIDDEN: Final = {"home": ("/home/", "/root/"), "shared_tmp": ("/tmp/", "/var/tmp/")}  # noqa: S108 (compared)
_NAMELESS: Final = "app"


def settle(draft: Draft) -> tuple[Problem, ...]:
    """Let ``draft``, which has a name, hold only what ``check`` finds right, and return its warnings.

    What does not fit is taken out, with the reason; without an application nothing is left of it.
    """
    if draft.left_out:
        return ()
    _show(draft)
    while not draft.left_out:
        source = None
        try:
            source = parse(f"{draft.values['name',]}.toml", text(draft))
            return validate(source)[1]
        except ProblemsError as error:
            _take_out(draft, source, next(each for each in error.problems if each.severity == "error"))
    return ()


def name(draft: Draft, taken: Iterable[str]) -> str:
    """Give the deployment a name that systemd, the machine and ``taken`` leave free, and return it."""
    app = str(draft.values.get(("app",), _NAMELESS))
    wanted = draft.name or app.partition(":")[0].partition(".")[0]
    name = re.sub(r"[^a-z0-9_-]+", "-", wanted.lower()).strip("-_")[:24]
    name = name if name[:1].isalpha() else f"{_NAMELESS}-{name}".rstrip("-")
    name = f"{name}-site" if name in NAMES or name.startswith("systemd-") else name
    free = next(each for each in _numbered(name) if each not in taken)
    draft.sources[("name",)] = draft.sources.get(("name",)) or draft.sources.get(("app",), [])
    draft.values[("name",)] = free
    return free


def _numbered(name: str) -> Iterator[str]:
    yield name
    for number in range(2, 10_000):
        yield f"{name}-{number}"


def _show(draft: Draft) -> None:
    """Open the sandbox for the application's own directories, where it would hide them."""
    for key in (("directory",), ("python",)):
        value = f"{draft.values.get(key, '')}/"
        for relaxation, hidden in _HIDDEN.items():
            if value.startswith(hidden) and ("sandbox", relaxation) not in draft.values:
                for setting in draft.sources[key][:1]:
                    says = "it is in a directory that instances do not see otherwise: /srv is a better place"
                    draft.change(setting, ("sandbox", relaxation), True, says)  # noqa: FBT003 (a value, no switch)


def _take_out(draft: Draft, source: Source | None, problem: Problem) -> None:
    """Take the key out that ``problem`` is about."""
    reason = f"{problem.what} ({problem.hint})" if problem.hint else problem.what
    key = _key_at(draft, source, problem) if source else None
    if key is None or key in {("app",), ("name",)}:
        draft.leave(f"no deployment file can hold it: {reason}")
    else:
        draft.without(key, reason)


def _key_at(draft: Draft, source: Source, problem: Problem) -> KeyPath | None:
    """Return the key that stands where a problem is: the last one of them, if it is a whole table."""
    at = (problem.at.line, problem.at.column)
    places = (*source.positions.keys.items(), *source.positions.values.items())
    paths = [path for path, place in places if place == at]
    for path in sorted(paths, key=len, reverse=True):
        below = [key for key in draft.values if key[: len(path)] == path or path[: len(key)] == key]
        if below:
            return below[-1]
    return None


def text(draft: Draft) -> str:
    """Return the deployment file, in the order of the model, with the places that its values came from."""
    import tomlkit  # noqa: PLC0415 (30 ms)

    document = tomlkit.document()
    program = draft.program if draft.program == draft.at.file else f"{draft.program} of {draft.at.file}"
    document.add(tomlkit.comment(visible(f"{program}, as aiosystemd import has read it.")))
    document.add(tomlkit.comment("FILE:LINE is where each line came from; aiosystemd check says whether all is right."))
    document.add(tomlkit.nl())
    for key in _FIRST:
        _add(document, draft, (key,))
    for name in _TABLES:
        keys = [key for key in draft.values if key[0] == name]
        if keys:
            document.add(tomlkit.nl())
            document.add(name, _table(draft, (name,), keys))
    return tomlkit.dumps(document)


def _table(draft: Draft, prefix: KeyPath, keys: list[KeyPath]) -> "Table":
    import tomlkit  # noqa: PLC0415

    depth = len(prefix)
    table = tomlkit.table()
    for key in keys:
        if len(key) == depth + 1:
            _add(table, draft, key)
    deeper = dict.fromkeys(key[: depth + 1] for key in keys if len(key) > depth + 1)
    for number, inner in enumerate(deeper):
        if number or len(table):
            table.add(tomlkit.nl())
        table.add(inner[-1], _table(draft, inner, [key for key in keys if key[: depth + 1] == inner]))
    return table


def _add(to: "TOMLDocument | Table", draft: Draft, key: KeyPath) -> None:
    import tomlkit  # noqa: PLC0415

    if key not in draft.values:
        return
    told = {each.setting: each.says for each in draft.findings if each.key == key and each.outcome != "mistake"}
    for setting in draft.sources.get(key, []):
        to.add(tomlkit.comment(_comment(setting, told.get(setting, ""))))
    value = draft.values[key]
    to.add(key[-1], list(value) if isinstance(value, tuple) else value)


def _comment(setting: Setting, says: str) -> str:
    return visible(f"{setting.place} {setting}" + (f": {says}" if says else ""))
