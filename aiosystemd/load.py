"""FILE → Source → Deployment, or every Problem in it."""

import os
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import cached_property
from itertools import groupby
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from aiosystemd import scope
from aiosystemd.errors import Location, Problem, ProblemsError
from aiosystemd.model import Deployment
from aiosystemd.positions import Path as KeyPath
from aiosystemd.positions import Positions, positions
from aiosystemd.rules import Violation, violations

MAX_SIZE = 1 << 17
"""Bytes of a deployment file; more is a mistake, such as a log given by name."""

MAX_DEPTH = 32
"""Tables and arrays within one another; the model has four, and everything here that descends is recursive."""


@dataclass(frozen=True)
class Source:
    """A deployment file as it was read: its data, and where each key of it stands."""

    file: str
    text: str
    data: Mapping[str, Any]

    @cached_property
    def positions(self) -> Positions:
        """Line and column of every key and value."""
        return positions(self.text)

    def problem(self, path: KeyPath, what: str, hint: str = "", *, key: bool = False) -> Problem:
        """Return a problem with the value, or the key, at ``path`` or at its nearest parent that was written."""
        keys = self.positions.keys
        table = keys if key else {**keys, **self.positions.values}  # [[x]] and x.y = 1 have no value of x to point at
        line, column = next((table[path[:n]] for n in range(len(path), 0, -1) if path[:n] in table), (0, 0))
        return Problem(Location(self.file, line, column), what, hint, source=_line(self.text, line))

    def violation(self, each: Violation) -> Problem:
        """Return a rule that does not hold as a problem with the first of its keys that was written."""
        written = (path for path in each.concerns if path in self.positions.values)
        path = next(written, each.concerns[0])
        return replace(self.problem(path, each.what, each.hint), severity=each.severity)


def find(name_or_file: str) -> Path:
    """Return the file meant: a NAME is ``NAME.toml`` of the host's, or the user's, everything else is a path."""
    # os.path: Path.is_file() raises for a name that is too long.
    is_file = "/" in name_or_file or name_or_file.endswith(".toml") or os.path.isfile(name_or_file)  # noqa: PTH113
    return Path(name_or_file) if is_file else Path(scope.current().files, f"{name_or_file}.toml")


def find_all(name_or_file: str) -> list[Path]:
    """Return the files meant: a directory stands for each ``*.toml`` in it, in the order of their names.

    A NAME comes before a directory of that name, which may well be the application's own.
    Raises ProblemsError for a directory that holds none, or cannot be read.
    """
    file = find(name_or_file)
    is_directory = os.path.isdir(name_or_file) and not os.path.isfile(file)  # noqa: PTH112, PTH113 (see find)
    return _files_in(Path(name_or_file)) if is_directory else [file]


def _files_in(directory: Path) -> list[Path]:
    try:
        # Hidden ones are an editor's: locks and copies of what is being written.
        found = sorted(file for file in directory.iterdir() if file.suffix == ".toml" and file.name[0] != ".")
    except OSError as error:
        raise ProblemsError(Problem(Location(str(directory)), f"cannot be read: {error.strerror}")) from None
    if not found:
        raise ProblemsError(
            Problem(Location(str(directory)), "no deployment file is in it", "their names end in .toml")
        )
    return found


def read(file: Path) -> Source:
    """Read a deployment file.

    Raises ProblemsError when it cannot be read or is not TOML.
    """
    return parse(str(file), text_of(file))


def parse(name: str, text: str) -> Source:
    """Parse the text of a deployment file; ``name`` is what messages call it.

    Raises ProblemsError when it is not TOML.
    """
    text = text.replace("\r\n", "\n")
    try:
        data = tomllib.loads(text)
    except ValueError as error:
        what, line, column = _syntax_error(str(error), text)
        at = Location(name, line, column)
        raise ProblemsError(Problem(at, f"not valid TOML: {what}", source=_line(text, line))) from None
    except RecursionError:
        raise ProblemsError(Problem(Location(name), "nested too deeply")) from None
    for key, value in data.items():
        if _depth(value) > MAX_DEPTH:
            raise ProblemsError(Problem(Location(name), f"{_key(key)} is nested too deeply"))
    return Source(name, text, data)


def validate(source: Source) -> tuple[Deployment, tuple[Problem, ...]]:
    """Return the deployment that ``source`` describes, and the warnings about it.

    Raises ProblemsError with every problem of the file, warnings included.
    """
    deployment = modelled(source)
    problems = [source.violation(each) for each in violations(deployment)]
    if any(problem.severity == "error" for problem in problems):
        raise ProblemsError(*problems)
    return deployment, tuple(sorted(problems))


def modelled(source: Source) -> Deployment:
    """Return the deployment that ``source`` describes, without the rules between its keys.

    Raises ProblemsError with every key that is wrong by itself, and the rules that the others break.
    """
    data = _tuples(source.data)
    try:
        return Deployment.model_validate(data)
    except ValidationError as error:
        errors = error.errors(include_url=False)
        problems = [_problem(source, group) for group in _by_path(errors, source.data)]
        problems += _rules_of_the_rest(source, data, errors)
        raise ProblemsError(*problems) from None


def load(file: Path) -> tuple[Deployment, tuple[Problem, ...]]:
    """Read and validate; see ``read`` and ``validate``."""
    return validate(read(file))


def text_of(file: Path) -> str:
    """Return the text of a deployment file, its line ends as they are; raises ProblemsError."""
    try:
        with file.open("rb") as stream:
            content = stream.read(MAX_SIZE + 1)
    except FileNotFoundError:
        hint = f"give the path of a deployment file, or the name of one in {scope.current().files}"
        raise ProblemsError(Problem(Location(str(file)), "no such file", hint)) from None
    except OSError as error:
        what = f"cannot be read: {error.strerror}"
        raise ProblemsError(Problem(Location(str(file)), what)) from None
    if len(content) > MAX_SIZE:
        raise ProblemsError(Problem(Location(str(file)), f"larger than {MAX_SIZE} bytes"))
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        column = error.start - content.rfind(b"\n", 0, error.start)
        raise ProblemsError(Problem(Location(str(file), line, column), "not UTF-8")) from None


def _depth(value: object) -> int:
    """Count the levels of tables and arrays, without recursion: dotted keys nest without limit."""
    depth, level = 0, [value]
    while level := [each for each in level if isinstance(each, dict | list)]:
        depth += 1
        level = [each for holder in level for each in (holder.values() if isinstance(holder, dict) else holder)]
    return depth


def _syntax_error(message: str, text: str) -> tuple[str, int, int]:
    # tomllib lets int() complain about a number of more digits than Python converts.
    if message.startswith("Exceeds the limit") and (long := re.search(r"\d[\d_]{4300,}", text)):
        line_start = text.rfind("\n", 0, long.start()) + 1
        return "a number of more than 4300 digits", text.count("\n", 0, line_start) + 1, long.start() - line_start + 1
    if match := re.search(r" \(at line (\d+), column (\d+)\)$", message):
        return message[: match.start()], int(match[1]), int(match[2])
    return message.removesuffix(" (at end of document)"), text.count("\n") + 1, 1


def _line(text: str, number: int) -> str:
    if not number:
        return ""
    # Printed to a terminal: an escape sequence in the file must not reach it.
    line = text.split("\n")[number - 1][:200]
    return "".join(char if char.isprintable() or char == "\t" else "�" for char in line)


def _tuples(value: Any) -> Any:  # noqa: ANN401 (any TOML value)
    """Return TOML data with arrays as tuples, which is what a frozen model holds."""
    if isinstance(value, Mapping):
        return {key: _tuples(item) for key, item in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _by_path(errors: list[ErrorDetails], data: Mapping[str, Any]) -> Iterator[tuple[KeyPath, list[ErrorDetails]]]:
    """Group the errors of one value: a value that fits no member of a union gets one from each."""
    located = [(_written(error["loc"], data), error) for error in errors if not _follows(error, errors)]
    # Keys that are missing from one table are different problems, though what was written is the table.
    for _, pairs in groupby(located, key=lambda pair: (pair[0], pair[1]["type"] == "missing" and pair[1]["loc"])):
        group = list(pairs)
        yield group[0][0], [error for _, error in group]


def _follows(error: ErrorDetails, errors: Iterable[ErrorDetails]) -> bool:
    """Tell whether a list is only too short because its items are wrong."""
    loc = error["loc"]
    return error["type"] == "too_short" and any(e["loc"][: len(loc)] == loc and e["loc"] != loc for e in errors)


def _written(loc: tuple[int | str, ...], data: Any) -> KeyPath:  # noqa: ANN401 (any TOML value)
    """Cut from pydantic's ``loc`` what does not stand in the file: names of union members and ``[key]``."""
    for depth, part in enumerate(loc):
        try:
            data = data[part]
        except (KeyError, IndexError, TypeError):
            return loc[:depth]
    return loc


def _problem(source: Source, group: tuple[KeyPath, list[ErrorDetails]]) -> Problem:
    path, errors = group
    error = errors[0]
    if error["type"] == "extra_forbidden":
        return _unknown_key(source, path)
    if error["type"] == "missing":
        return source.problem(path, f"{_dotted((*path, str(error['loc'][-1])))} is missing", key=True)
    custom = next((e for e in errors if e["type"] == "value"), None)
    if custom is not None:
        of_key = custom["loc"][-1] == "[key]"
        what = f"{_dotted(path[:-1] if of_key else path)}: {custom['ctx']['what']}"
        return source.problem(path, what, custom["ctx"]["hint"], key=of_key)
    # An error behind the path is one of an item, of a list that is one of several things the value may be.
    wanted = " or ".join(dict.fromkeys(_wanted(e["msg"], e["loc"][len(path) :]) for e in errors))
    return source.problem(path, f"{_dotted(path)} should be {wanted}, not {_shown(error['input'])}")


def _unknown_key(source: Source, path: KeyPath) -> Problem:
    *parents, key = path
    table = f"[{_dotted(tuple(parents))}]" if parents else "the file"
    known = _fields(tuple(parents))
    homes = [name for name, fields in _tables() if key in fields]
    above = [name for name in homes if table.startswith(f"{name[:-1]}.")]
    homes = above or homes
    if homes:
        hint = f"it belongs in {' or '.join(homes)}"
    elif close := get_close_matches(str(key), known, n=1, cutoff=0.6):
        hint = f'did you mean "{close[0]}"?'
    else:
        hint = f"known are {', '.join(known)}"
    return source.problem(path, f'unknown key "{key}" in {table}', hint, key=True)


def _fields(parents: KeyPath) -> list[str]:
    return list(_model(parents).model_fields)


def _model(parents: KeyPath) -> type[BaseModel]:
    model: type[BaseModel] = Deployment
    for parent in parents:
        model = _table(model.model_fields[str(parent)].annotation) or model
    return model


def _table(annotation: Any) -> type[BaseModel] | None:  # noqa: ANN401 (any type expression)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if isinstance(annotation, UnionType) or get_origin(annotation) is Annotated:
        return next((table for table in map(_table, get_args(annotation)) if table), None)
    return None


def _tables(parents: tuple[str, ...] = ()) -> Iterator[tuple[str, list[str]]]:
    yield f"[{_dotted(parents)}]" if parents else "the top of the file", _fields(parents)
    for name, info in _model(parents).model_fields.items():
        if _table(info.annotation):
            yield from _tables((*parents, name))


def _wanted(message: str, behind: tuple[int | str, ...]) -> str:
    if any(isinstance(part, int) for part in behind):
        return "a list of strings"
    wanted = re.sub(r"^Input should be (?:a valid )?", "", message).replace("'", '"')
    plain = {
        "string": "a string",
        "integer": "a whole number",
        "number": "a number",
        "boolean": "true or false",
        "tuple": "a list",
        "dictionary": "a table",
    }
    wanted = re.sub(r"^Tuple should have at least 1 item.*", "a list that is not empty", wanted)
    return plain.get(wanted.split(" or instance of ")[0].removesuffix(", "), wanted)


def _shown(value: object) -> str:
    shown = "a table" if isinstance(value, Mapping) else _toml(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}…"  # noqa: PLR2004 (a line of the terminal)


def _toml(value: object) -> str:
    """Return a value much as the user wrote it."""
    match value:
        case bool():
            return str(value).lower()
        case str():
            return f'"{value}"'
        case tuple():
            return f"[{', '.join(map(_toml, value))}]"
        case Mapping():
            return "{…}"
        case int() if value.bit_length() > 14_000:  # noqa: PLR2004 (4300 digits, the most that Python converts)
            return "a number of more than 4300 digits"
        case _:
            return str(value)


def _dotted(path: KeyPath) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{_key(part)}" for part in path).lstrip(".")


def _key(part: str) -> str:
    return part if re.fullmatch(r"[A-Za-z0-9_-]+", part) else f'"{part}"'


def _rules_of_the_rest(source: Source, data: dict[str, Any], errors: list[ErrorDetails]) -> Iterator[Problem]:
    """Check what is right on its own against one another, so that one run reports everything."""
    wrong = {_written(error["loc"], data) for error in errors}
    rest = deepcopy(data)
    for path in wrong:
        _remove(rest, path)
    try:
        deployment = Deployment.model_validate({"name": "name", "app": "app:app", **rest})
    except ValidationError:
        return
    for each in violations(deployment):
        if not any(concern[: len(path)] == path for concern in each.concerns for path in wrong if path):
            yield source.violation(each)


def _remove(data: Any, path: KeyPath) -> None:  # noqa: ANN401 (any TOML value)
    """Take the smallest dictionary entry out that holds ``path``, unless it went with another one."""
    entry: tuple[dict[str | int, Any], str | int] | None = None
    for part in path:
        if isinstance(data, dict):
            if part not in data:
                return
            entry = data, part
        data = data[part]
    if entry:
        del entry[0][entry[1]]
