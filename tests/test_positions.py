"""Every key and value is found where it stands, however the document is laid out."""

import tomllib
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiosystemd.positions import Path, positions
from tests import toml
from tests.render.hostile import texts

Place = tuple[int, int]

_blanks = st.sampled_from(["", " ", "\t", "  \t"])
_ends = st.sampled_from(["\n", " \n", ' # ] } , " \'\'\' """ = [x]\n', "\n\n#\n", "\t#\u6f22\n  "])
_gaps = st.sampled_from(["", " ", "\n", '# , ] [ "\n', "\t\n # '''\n  "])
_scalars = (
    st.integers()
    | st.booleans()
    | texts
    | st.floats(allow_nan=False)
    | st.dates().map(str)
    | st.datetimes().map(str)
    | st.times().map(str)
)
_keys = st.text("abc-_0", min_size=1, max_size=3) | texts
_values = st.recursive(
    _scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_keys, inner, max_size=3), max_leaves=8
)
_documents = st.dictionaries(_keys, _values | st.dictionaries(_keys, _values, max_size=3), max_size=4)


@dataclass
class _Writer:
    """Writes a document in one of many layouts, and notes where it put each key and value."""

    draw: st.DrawFn
    text: str = ""
    keys: dict[Path, Place] = field(default_factory=dict)
    values: dict[Path, Place] = field(default_factory=dict)
    tables: set[Path] = field(default_factory=lambda: {()})

    def place(self) -> Place:
        return self.text.count("\n") + 1, len(self.text) - (self.text.rfind("\n") + 1) + 1

    def blank(self) -> None:
        self.text += self.draw(_blanks)

    def gap(self) -> None:
        self.text += self.draw(_gaps)

    def key(self, name: str) -> None:
        bare = name and all(char in "abc-_0" for char in name)
        plain = "'" not in name and name.isprintable()
        spellings = [toml.string(name), *([name] if bare else ()), *([f"'{name}'"] if plain else ())]
        self.text += self.draw(st.sampled_from(spellings))

    def path(self, path: Path) -> None:
        """Write a dotted key; its parents count from where they were written first."""
        start = max((n for n in range(len(path)) if path[:n] in self.tables), default=0)
        for depth in range(start, len(path)):
            if depth > start:
                self.blank()
                self.text += "."
                self.blank()
            self.keys.setdefault(path[: depth + 1], self.place())
            self.key(str(path[depth]))

    def document(self, data: dict[str, Any]) -> None:
        tables = {}
        self.text += self.draw(_ends)
        for name, value in data.items():
            layout = self.draw(st.sampled_from(["inline", "dotted", "header"]))
            if layout == "header" and (_is_table(value) or _is_tables(value)):
                tables[name] = value
            elif layout == "dotted" and isinstance(value, dict) and value:
                for key, item in value.items():
                    self.pair((name, key), item)
            else:
                self.pair((name,), value)
        for name, value in tables.items():
            for index, table in enumerate(value) if isinstance(value, list) else ((None, value),):
                self.table(name, index, table)

    def table(self, name: str, index: int | None, table: dict[str, Any]) -> None:
        brackets = ("[", "]") if index is None else ("[[", "]]")
        self.text += brackets[0]
        self.blank()
        self.path((name,))
        self.blank()
        self.text += brackets[1] + self.draw(_ends)
        path: Path = (name,) if index is None else (name, index)
        self.tables.add(path)
        for key, item in table.items():
            self.pair((*path, key), item)

    def pair(self, path: Path, value: object) -> None:
        self.blank()
        self.path(path)
        self.blank()
        self.text += "="
        self.value(path, value)
        self.text += self.draw(_ends)

    def value(self, path: Path, value: object) -> None:
        self.blank()
        self.values[path] = self.place()
        match value:
            case dict():
                self.inline_table(path, value)
            case list():
                self.array(path, value)
            case str():
                self.string(value)
            case _:
                self.text += toml.value(value)

    def inline_table(self, path: Path, table: dict[str, Any]) -> None:
        self.text += "{"
        for number, (key, item) in enumerate(table.items()):
            self.text += "," if number else ""
            self.blank()
            self.keys.setdefault((*path, key), self.place())
            self.key(key)
            self.blank()
            self.text += "="
            self.value((*path, key), item)
        self.blank()
        self.text += "}"

    def array(self, path: Path, items: list[Any]) -> None:
        self.text += "["
        for number, item in enumerate(items):
            self.text += "," if number else ""
            self.gap()
            self.value((*path, number), item)
        self.gap()
        trailing_comma: bool = self.draw(st.booleans())
        self.text += "," if items and trailing_comma else ""
        self.gap()
        self.text += "]"

    def string(self, text: str) -> None:
        spellings = [toml.string(text), f'"""\n{toml.string(text)[1:-1]}"""', f'"""{toml.string(text)[1:-1]}\\\n  """']
        if "'" not in text and text.isprintable():
            spellings += [f"'{text}'", f"'''\n{text}'''", f"'''{text}\"\n#'''"]
        self.text += self.draw(st.sampled_from(spellings))


def _is_table(value: object) -> bool:
    return isinstance(value, dict)


def _is_tables(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(map(_is_table, value))


@st.composite
def _written(draw: st.DrawFn) -> _Writer:
    writer = _Writer(draw)
    writer.document(draw(_documents))
    return writer


@given(_written())
def test_each_key_and_value_is_found_where_it_was_written(written: _Writer) -> None:
    tomllib.loads(written.text)
    found = positions(written.text)
    assert {path: found.keys.get(path) for path in written.keys} == written.keys
    assert {path: found.values.get(path) for path in written.values} == written.values


@pytest.mark.parametrize(
    ("text", "path", "place"),
    [
        ("[a]\n[a.b]\nc = 1", ("a", "b", "c"), (3, 5)),
        ("[[a]]\n[[a]]\n[[a.b]]\n[[a.b]]\nc = [1,\n 2]", ("a", 1, "b", 1, "c", 1), (6, 2)),
        ("[[a]]\nb.c = 1\n[a.d]\ne = 2", ("a", 0, "d", "e"), (4, 5)),
        ('a = """\n"" \\""" """ # """\nb = 1', ("b",), (3, 5)),
        ('a = """"x""""\nb = 1', ("b",), (2, 5)),
        ("a = ''''x'''''\nb = 1", ("b",), (2, 5)),
        ("a = {b = {c = [{d = 1}, {d = 2}]}}", ("a", "b", "c", 1, "d"), (1, 30)),
        ('a."b.c".\'d"\' = 1', ("a", "b.c", 'd"'), (1, 16)),
        ('"\\u0061" = 1', ("a",), (1, 12)),
        ("a = 1", ("a",), (1, 5)),
        ("a = 1979-05-27 07:32:00 # 1\nb = +inf", ("b",), (2, 5)),
    ],
)
def test_a_value_is_found_in_every_construct_of_toml(text: str, path: Path, place: Place) -> None:
    tomllib.loads(text)
    assert positions(text).values[path] == place
