"""nginx's configuration as ``nginx -T`` prints it, taken apart as far as the checks need it."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

_FILE: Final = re.compile(r"^# configuration file (.*):$", re.MULTILINE)
_TOKEN: Final = re.compile(
    r"""\s+|\#[^\n]*|(?P<mark>[;{}])|"(?P<double>(?:\\.|[^"\\])*)"|'(?P<single>(?:\\.|[^'\\])*)'"""
    r"""|(?P<word>(?:\$\{[^}]*\}|\\.|[^\s;{}\\])+)""",
    re.DOTALL,
)


@dataclass(slots=True)
class Directive:
    """A directive, and what is within its braces."""

    words: tuple[str, ...]
    file: str
    line: int
    body: list["Directive"] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The directive's own name."""
        return self.words[0] if self.words else ""

    def all(self, name: str) -> Iterator["Directive"]:
        """Yield the directives of that name that stand directly in this one."""
        return (each for each in self.body if each.name == name)


@dataclass(frozen=True, slots=True)
class Configuration:
    """All files that nginx reads."""

    directives: tuple[Directive, ...]

    def all(self, name: str) -> Iterator[Directive]:
        """Yield every directive of that name, wherever it stands."""
        rest = list(self.directives)
        while rest:
            each = rest.pop(0)
            rest[:0] = each.body
            if each.name == name:
                yield each


def parse(dump: str) -> Configuration:
    """Take apart what ``nginx -T`` prints: nginx itself has found it right."""
    parts = _FILE.split(dump)
    pairs = zip(parts[1::2], parts[2::2], strict=True)
    return Configuration(tuple(directive for file, text in pairs for directive in _directives(file, text)))


def _directives(file: str, text: str) -> list[Directive]:
    top = Directive((), file, 0)
    open_blocks, words, line = [top], list[str](), 0
    for match in _TOKEN.finditer(text):
        if (mark := match["mark"]) is None:
            word = next((match[kind] for kind in ("double", "single", "word") if match[kind] is not None), None)
            if word is not None:
                line = line if words else text.count("\n", 0, match.start())
                words.append(word)
            continue
        if mark == "}":
            open_blocks = open_blocks[:-1] or [top]
        else:
            directive = Directive(tuple(words), file, line)
            open_blocks[-1].body.append(directive)
            open_blocks += [directive] if mark == "{" else []
        words = []
    return top.body
