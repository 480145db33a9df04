"""Where every key and value of a TOML document stands, which ``tomllib`` does not tell.

The text is known to be valid TOML (``tomllib`` has read it), so this walk only has to find the ends of tokens.
"""

import re
import tomllib
from bisect import bisect_right
from dataclasses import dataclass, field

Path = tuple[str | int, ...]
"""Keys and array indexes from the root, as pydantic writes them in ``loc``."""

_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_SPACE = re.compile(r"[ \t]*")
_KEY = re.compile(r"""[A-Za-z0-9_-]+|"(?:[^"\\\n]|\\.)*"|'[^'\n]*'""")
_SCALAR = re.compile(
    r'''"""(?:[^\\]|\\.)*?"{3,5}|\'\'\'.*?'{3,5}|"(?:[^"\\\n]|\\.)*"|'[^'\n]*'|[^,\]}#\n]+''',
    re.DOTALL,
)


@dataclass(slots=True)
class Positions:
    """Line and column, from 1, of each key and of each value, by path."""

    keys: dict[Path, tuple[int, int]] = field(default_factory=dict)
    values: dict[Path, tuple[int, int]] = field(default_factory=dict)


def positions(text: str) -> Positions:
    """Return where each key and value of ``text`` stands; ``text`` must be valid TOML."""
    return _Walk(text).document()


class _Walk:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.found = Positions()
        self.starts = [0, *(match.end() for match in re.finditer("\n", text))]
        self.tables: dict[Path, int] = {}  # arrays of tables: path → index of the newest element

    def document(self) -> Positions:
        prefix: Path = ()
        while next_character := self.peek(_BLANK):
            if next_character == "[":
                prefix = self.header()
            else:
                self.pair(prefix)
        return self.found

    def skip(self, pattern: re.Pattern[str]) -> str:
        """Move behind what ``pattern`` matches here, and return it."""
        match = pattern.match(self.text, self.at)
        token = match[0] if match else ""
        self.at += len(token)
        return token

    def peek(self, blank: re.Pattern[str]) -> str:
        """Return the first character behind the blanks, ``""`` at the end."""
        self.skip(blank)
        return self.text[self.at : self.at + 1]

    def position(self) -> tuple[int, int]:
        line = bisect_right(self.starts, self.at)
        return line, self.at - self.starts[line - 1] + 1

    def header(self) -> Path:
        array = self.text.startswith("[[", self.at)
        here = self.position()
        self.at += 2 if array else 1
        path = self.key(())
        self.at += 2 if array else 1
        if array:
            self.tables[path] = self.tables.get(path, -1) + 1
            path = (*path, self.tables[path])
        self.found.keys.setdefault(path, here)
        self.found.values.setdefault(path, here)
        return path

    def key(self, prefix: Path) -> Path:
        """Read a dotted key; the path goes through the newest element of an array of tables."""
        path = prefix
        while True:
            self.skip(_SPACE)
            here = self.position()
            if path in self.tables:
                path = (*path, self.tables[path])
            path = (*path, _name(self.skip(_KEY)))
            self.found.keys.setdefault(path, here)
            self.skip(_SPACE)
            if not self.text.startswith(".", self.at):
                return path
            self.at += 1

    def pair(self, prefix: Path) -> None:
        path = self.key(prefix)
        self.at += 1  # the equals sign
        self.value(path)

    def value(self, path: Path) -> None:
        self.skip(_SPACE)
        self.found.values.setdefault(path, self.position())
        match self.text[self.at]:
            case "[":
                self.members(path, "]")
            case "{":
                self.members(path, "}")
            case _:
                self.skip(_SCALAR)

    def members(self, path: Path, end: str) -> None:
        self.at += 1
        index = 0
        while self.peek(_BLANK) != end:
            if end == "]":
                self.value((*path, index))
                index += 1
            else:
                self.pair(path)
            if self.peek(_BLANK) == ",":
                self.at += 1
        self.at += 1


def _name(token: str) -> str:
    if token[0] in "\"'":
        return str(tomllib.loads(f"name = {token}")["name"])
    return token
