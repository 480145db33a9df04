"""What every format shares: the refusal, and comments that cannot end early."""

import textwrap
from collections.abc import Iterator
from typing import Final

COMMENT_WIDTH: Final = 100


class Unrepresentable(ValueError):  # noqa: N818 -- it says what is wrong with the value
    """A value that the format has no spelling for; the message says what cannot be spelt and why."""


def is_control(char: str) -> bool:
    """Tell whether ``char`` is one of ASCII's control characters, DEL included."""
    return char < " " or char == "\x7f"


def is_unicode(char: str) -> bool:
    """Tell whether ``char`` can be written as UTF-8; half of a surrogate pair cannot."""
    return not "\ud800" <= char <= "\udfff"


def visible(text: str) -> str:
    r"""Return ``text`` with whatever could end a line or fool a terminal spelt as an escape, ``\n`` for one."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def comment_lines(text: str, *, indent: str = "") -> Iterator[str]:
    """Yield ``text`` as lines of a ``#`` comment, wrapped at white space, inside a word only if it must be.

    It must: nginx takes a comment of more than 4096 bytes in one line for an argument that is too long.
    """
    width = COMMENT_WIDTH - len(f"{indent}# ")
    shown = visible(text)
    lines = [shown] if len(shown) <= width else textwrap.wrap(shown, width, break_on_hyphens=False)
    for line in lines or [""]:
        yield f"{indent}# {line}".rstrip()


def quoted(path: str) -> str:
    """Return ``path`` as a request has it: RFC 3986, 2.1, blanks and what is beyond ASCII by their UTF-8 bytes."""
    return "".join(c if "!" <= c <= "~" else "".join(f"%{byte:02X}" for byte in c.encode()) for c in path)
