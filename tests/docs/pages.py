"""What the pages show: blocks, commands, links; as CONTRIBUTING.md says how they are written."""

import re
from collections.abc import Iterator
from itertools import chain, repeat, takewhile
from pathlib import Path
from typing import Final, NamedTuple

TOP: Final = Path(__file__).parents[2]
PAGES: Final = (TOP / "README.md", *sorted((TOP / "docs").glob("*.md")))

_OURS: Final = re.compile(r"(aiosystemd(-serve)?|apt|make|nginx|systemctl|systemd-analyze|journalctl)( |$)")
_PROMPT: Final = re.compile(r"([$#]) (.*)")
_COMMENT: Final = re.compile(r"<!-- (.*) -->")
_HEREDOC: Final = re.compile(r"<<-? ?'?(\w+)'?")


class Block(NamedTuple):
    """A fenced block, or an indented one, which has no language."""

    page: Path
    line: int
    language: str
    notes: tuple[str, ...]
    """What the comments directly above it say, as ``<!-- file shop.toml -->``."""
    text: str

    @property
    def place(self) -> str:
        return f"{self.page.relative_to(TOP)}:{self.line}"

    @property
    def file(self) -> str | None:
        """The path that the block is the text of."""
        return next(self._noted("file "), None)

    @property
    def before(self) -> str:
        """A script that is run before the block's first command, and that readers need not see."""
        return "\n".join(self._noted("run "))

    @property
    def statuses(self) -> list[int]:
        """The exit statuses of its first commands; 0 is that of the others."""
        return [int(status) for words in self._noted("status ") for status in words.split()]

    def _noted(self, word: str) -> Iterator[str]:
        return (note.removeprefix(word) for note in self.notes if note.startswith(word))


class Command(NamedTuple):
    """A command, with the lines that belong to it."""

    text: str
    root: bool
    status: int
    """That it ends with."""
    place: str


def blocks(page: Path) -> list[Block]:
    """Return the page's blocks, in order."""
    return list(_blocks(page, page.read_text(encoding="utf-8").splitlines()))


def commands(block: Block) -> list[Command]:
    """Return what the block tells to type: each line of ``sh``, else what has a prompt."""
    return [
        Command(text, root, status, f"{block.place}: {text}")
        for (text, root), status in zip(_typed(block), chain(block.statuses, repeat(0)), strict=False)
    ]


def _typed(block: Block) -> Iterator[tuple[str, bool]]:
    lines = iter(block.text.splitlines())
    for line in lines:
        prompt = _PROMPT.fullmatch(line)
        if block.language == "sh" and line.split("#")[0].strip():
            yield _whole(line, lines), True
        elif block.language in {"", "console"} and prompt:
            yield _whole(prompt[2], lines), prompt[1] == "#"


def without_prompt(block: Block) -> list[str]:
    """Return lines that look like commands and are not written as such, so that nobody would run them."""
    if block.language not in {"", "console", "text"}:
        return []
    return [line for line in block.text.splitlines() if _OURS.match(line)]


def name(page: Path) -> str:
    """Return what a page is called in the names of tests."""
    return str(page.relative_to(TOP))


def bare(text: str) -> str:
    """Return a command without the remark behind it."""
    return re.split(r"\s+# ", text)[0]


def prose(page: Path) -> str:
    """Return the page without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def inline(page: Path) -> list[str]:
    """Return what stands in backquotes in running text."""
    text = "\n".join(line for line in prose(page).splitlines() if not line.startswith("    "))
    return [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", text)]


def links(page: Path) -> list[str]:
    """Return where the page's links lead."""
    return re.findall(r"\]\(([^)\s]+)\)", prose(page))


def anchors(page: Path) -> set[str]:
    """Return the anchors of the headings, as GitHub and GitLab make them."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def _blocks(page: Path, lines: list[str]) -> Iterator[Block]:
    number = 0
    while number < len(lines):
        start, opened = number, re.fullmatch(r"```(\w*)", lines[number])
        indented = _is_indented(lines, number)
        number += 1
        if opened:
            while lines[number] != "```":
                number += 1
            yield Block(page, start + 1, opened[1] or "text", _notes(lines, start), _joined(lines[start + 1 : number]))
            number += 1
        elif indented:
            while number < len(lines) and (lines[number].startswith("    ") or _goes_on(lines, number)):
                number += 1
            text = _joined([line.removeprefix("    ") for line in lines[start:number]])
            yield Block(page, start + 1, "", _notes(lines, start), text)


def _is_indented(lines: list[str], number: int) -> bool:
    return lines[number].startswith("    ") and number > 0 and not lines[number - 1].strip()


def _goes_on(lines: list[str], number: int) -> bool:
    return not lines[number] and number + 1 < len(lines) and lines[number + 1].startswith("    ")


def _notes(lines: list[str], start: int) -> tuple[str, ...]:
    """Return the comments above a block, in order; there may be empty lines in between."""
    above = (_COMMENT.fullmatch(line) for line in reversed(lines[:start]) if line)
    return tuple(comment[1] for comment in takewhile(bool, above) if comment)[::-1]


def _joined(lines: list[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def _whole(line: str, lines: Iterator[str]) -> str:
    """Return a command with the lines that it goes on in: after a backslash, or up to the end of a here-document."""
    text = line
    while text.endswith("\\"):
        text += f"\n{next(lines)}"
    if heredoc := _HEREDOC.search(line):
        for more in lines:
            text += f"\n{more}"
            if more == heredoc[1]:
                break
    return text
