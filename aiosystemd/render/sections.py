"""A file of sections, each below its name in brackets: unit files and INI files."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from aiosystemd.render.text import comment_lines


@dataclass(slots=True)
class Sections:
    """Sections in the order of their first line, below a comment."""

    header: tuple[str, ...] = ()
    _sections: dict[str, list[str]] = field(default_factory=dict)

    def append(self, section: str, line: str, comment: str | None = None) -> None:
        """Append a line, spelt, with a comment above it."""
        self._sections.setdefault(section, []).extend((*(comment_lines(comment) if comment else ()), line))

    def render(self) -> str:
        """Return the file's text; the same calls give the same text."""
        return "\n".join(self._lines()) + "\n"

    def _lines(self) -> Iterator[str]:
        for line in self.header:
            yield from comment_lines(line)
        for index, (section, lines) in enumerate(self._sections.items()):
            if index or self.header:
                yield ""
            yield f"[{section}]"
            yield from lines
