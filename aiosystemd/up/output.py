"""What the terminal shows: lines, each with the name of who wrote it."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterable

SELF = "aiosystemd"

_COLOURS = (36, 33, 32, 35, 34, 96, 93, 92, 95, 94)
"""ECMA-48, "select graphic rendition": one for each name, in turn."""

_LONGEST = 1 << 16
"""Bytes of a line; what is longer is shown in parts, or one that never ends would fill the memory."""


class Output:
    """Writes lines to stdout, the names aligned, in colour on a terminal (unless ``$NO_COLOR`` is set)."""

    def __init__(self, names: Iterable[str]) -> None:
        names = (SELF, *names)
        width = max(map(len, names))
        colours = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
        self._prefixes = {name: self._prefix(name, width, n if colours else None) for n, name in enumerate(names)}
        self.closed = False
        """Whether nobody reads any more."""

    def say(self, text: str) -> None:
        """Write a line of our own."""
        self.write(SELF, text.encode(errors="replace"))

    def write(self, name: str, line: bytes) -> None:
        """Write ``line``, which has no end of line, as said by ``name``."""
        if self.closed:
            return
        try:
            sys.stdout.buffer.write(self._prefixes[name] + line + b"\n")
            sys.stdout.buffer.flush()
        except OSError:
            # A reader that has gone, a terminal that was closed, a full disk. Only the text is lost for that.
            self.closed = True
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, sys.stdout.fileno())
            os.close(null)

    @staticmethod
    def _prefix(name: str, width: int, number: int | None) -> bytes:
        text = f"{name:{width}} | "
        return (text if number is None else f"\x1b[{_COLOURS[number % len(_COLOURS)]}m{text}\x1b[0m").encode()


class Lines:
    """The output of one process, cut into lines as it comes; takes ``descriptor`` over."""

    def __init__(self, descriptor: int, write: Callable[[bytes], None]) -> None:
        os.set_blocking(descriptor, False)
        self.descriptor = descriptor
        self._write = write
        self._rest = b""

    def read(self) -> bool:
        """Pass on every line that has come; return whether there may be more later."""
        with contextlib.suppress(BlockingIOError):
            while part := os.read(self.descriptor, _LONGEST):
                *lines, self._rest = (self._rest + part).split(b"\n")
                for line in lines:
                    self._write(line)
                if len(self._rest) > _LONGEST:
                    self._flush()
            return False
        return True

    def close(self) -> None:
        """Pass on what is left, a line without its end too."""
        self.read()
        if self._rest:
            self._flush()
        os.close(self.descriptor)

    def _flush(self) -> None:
        self._write(self._rest)
        self._rest = b""
