"""Files of one record per line, as sysusers.d(5) and tmpfiles.d(5) have them: words quoted like in unit files."""

from dataclasses import dataclass, field

from aiosystemd.render.text import comment_lines
from aiosystemd.render.unit import Value


@dataclass(slots=True)
class Table:
    """Lines in the order they were added, below a comment."""

    header: tuple[str, ...] = ()
    lines: list[str] = field(default_factory=list)

    def add(self, words: Value) -> None:
        """Append a record, from ``words``: quotes, backslashes and specifiers are spelt as in unit files."""
        self.lines.append(words.spelling)

    def render(self) -> str:
        """Return the file's text."""
        comment = [line for text in self.header for line in comment_lines(text)]
        return "\n".join((*comment, *self.lines)) + "\n"
