"""nginx's language, by the rules of its own reader (ngx_conf_file.c), with the place of each directive."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, Literal

from aiosystemd.errors import Location, Problem, ProblemsError
from aiosystemd.migrate.found import Setting, Text

_BLANK: Final = re.compile(r"(?:[ \t\r\n]+|#[^\n]*)*")
# A brace behind a dollar sign is part of the word, one anywhere else begins a block.
_WORD: Final = re.compile(r"""(?:\\.|\$\{*|[^\s;{\\$]|[^\S \t\r\n])+""", re.DOTALL)
_QUOTED: Final = re.compile(r""""((?:\\.|[^"\\])*)"|'((?:\\.|[^'\\])*)'""", re.DOTALL)
_ESCAPE: Final = re.compile(r"""\\(["'\\trn])""")
_MEANS: Final = {"t": "\t", "r": "\r", "n": "\n"}
_LUA: Final = re.compile(
    r"--\[(=*)\[.*?\]\1\]|--[^\n]*|\[(=*)\[.*?\]\2\]|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'|[{}]", re.DOTALL
)
"""Its comments, texts and braces."""
_DEEPEST: Final = 50
"""Blocks in one another."""

End = Literal[";", "{", "}", ""]


@dataclass(frozen=True, slots=True)
class Directive:
    """A name, what follows it, and for a block what stands in it."""

    at: Location
    name: str
    words: tuple[str, ...] = ()
    block: tuple["Directive", ...] | None = None

    @property
    def setting(self) -> Setting:
        """As a report shows it, without what a block holds."""
        return Setting(self.at, self.name, " ".join(self.words))


@dataclass(slots=True)
class _Open:
    """A block that has not ended."""

    at: Location
    words: list[str] = field(default_factory=list)
    inside: list[Directive] = field(default_factory=list)

    def directive(self) -> Directive:
        return Directive(self.at, self.words[0], tuple(self.words[1:]), tuple(self.inside))


def read(text: Text) -> tuple[Directive, ...]:
    """Return the directives of a file; raises ProblemsError with line and column."""
    return _Reader(text).read()


class _Reader:
    def __init__(self, text: Text) -> None:
        self.text, self.content = text, text.text
        self.place = 0
        self.counted, self.line = 0, 1  # the line at which a place up to here was counted

    def read(self) -> tuple[Directive, ...]:
        blocks = [_Open(Location(self.text.file))]
        while True:
            at, words, end = self.statement()
            if end == ";":
                blocks[-1].inside.append(Directive(at, words[0], tuple(words[1:])))
            elif end == "{":
                blocks.append(_Open(at, words))
                if words[0].endswith("_by_lua_block"):
                    self.skip_lua(at)
                    blocks[-2].inside.append(blocks.pop().directive())
                elif len(blocks) > _DEEPEST:
                    raise self.problem(at, f"more than {_DEEPEST} blocks in one another")
            elif end == "}" and len(blocks) > 1:
                done = blocks.pop()
                blocks[-1].inside.append(done.directive())
            elif end == "}":
                raise self.problem(at, 'unexpected "}"', "no block is open here")
            elif len(blocks) > 1:
                raise self.problem(blocks[-1].at, "the block does not end", 'it lacks a "}"')
            else:
                return tuple(blocks[0].inside)

    def statement(self) -> tuple[Location, list[str], End]:
        """Return where a directive begins, its words, and what ends it."""
        self.blank()
        at, words = self.at(self.place), list[str]()
        while True:
            for end in (";", "{", "}", ""):
                if (end and self.content.startswith(end, self.place)) or self.place == len(self.content):
                    ended: End = end if self.place < len(self.content) else ""
                    self.ends(at, words, ended)
                    return at, words, ended
            words.append(self.word())
            self.blank()

    def ends(self, at: Location, words: list[str], end: End) -> None:
        """Go on behind the end of a directive; raises ProblemsError where it may not stand."""
        if (end == "}" and words) or (end in {";", "{"} and not words):
            raise self.problem(self.at(self.place), f'unexpected "{end}"', 'a directive ends with ";"')
        if not end and words:
            raise self.problem(at, "the directive does not end", 'it lacks a ";"')
        self.place += len(end)

    def word(self) -> str:
        begin = self.place
        if self.content[begin] not in "\"'":
            match = _WORD.match(self.content, begin)
            if match is None:  # a backslash, and nothing behind it
                raise self.problem(self.at(begin), "the file ends behind a backslash")
            self.place = match.end()
            return _unescaped(match[0])
        match = _QUOTED.match(self.content, begin)
        if match is None:
            raise self.problem(self.at(begin), "the quotation does not end", f"it lacks a {self.content[begin]}")
        self.place = match.end()
        behind = self.content[self.place : self.place + 1]
        if behind == ")":  # as in if ($x = "y"): a word of its own
            return _unescaped(match[1] if match[1] is not None else match[2])
        if behind and behind not in " \t\r\n;{":
            raise self.problem(self.at(self.place), f"unexpected {behind!r}", "write a blank behind a quotation")
        return _unescaped(match[1] if match[1] is not None else match[2])

    def blank(self) -> None:
        match = _BLANK.match(self.content, self.place)
        self.place = match.end() if match else self.place

    def skip_lua(self, at: Location) -> None:
        depth = 1
        for match in _LUA.finditer(self.content, self.place):
            depth += {"{": 1, "}": -1}.get(match[0], 0)
            if not depth:
                self.place = match.end()
                return
        raise self.problem(at, "the block does not end", 'its Lua lacks a "}"')

    def at(self, place: int) -> Location:
        self.line += self.content.count("\n", self.counted, place)
        self.counted = max(place, self.counted)
        return Location(self.text.file, self.line, place - self.content.rfind("\n", 0, place))

    def problem(self, at: Location, what: str, hint: str = "") -> ProblemsError:
        source = self.content.split("\n")[at.line - 1].rstrip("\r")[:200]
        return ProblemsError(Problem(at, what, hint, source=source))


def _unescaped(word: str) -> str:
    return _ESCAPE.sub(lambda match: _MEANS.get(match[1], match[1]), word)


def walk(directives: tuple[Directive, ...]) -> Iterator[Directive]:
    """Yield directives, those of a block behind the block."""
    for each in directives:
        yield each
        yield from walk(each.block or ())
