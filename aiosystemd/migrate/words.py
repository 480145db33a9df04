"""What a shell reads as syntax, and what quotes keep it from."""

import re
from typing import Final

_QUOTED: Final = re.compile(r"""'[^']*'|"(?:\\.|[^"\\])*"|\\.""", re.DOTALL)
_SPECIAL: Final = ";&|<>$`~*?#!(){}[]"
_PRIVATE: Final = 0xF0000
"""Of a plane of Unicode that nobody writes a command in."""

_SHIELD: Final = {ord(char): _PRIVATE + ord(char) for char in _SPECIAL}
_IN_DOUBLE_QUOTES: Final = {code: shield for code, shield in _SHIELD.items() if chr(code) not in "$`"}
_BACK: Final = {shield: code for code, shield in _SHIELD.items()}


def shielded(text: str) -> str:
    """Return a command in which what is quoted can be told from what a shell acts upon; see ``plain``."""
    return _QUOTED.sub(lambda match: match[0].translate(_IN_DOUBLE_QUOTES if match[0][0] == '"' else _SHIELD), text)


def plain(word: str) -> str:
    """Return a word as it was before ``shielded``."""
    return word.translate(_BACK)
