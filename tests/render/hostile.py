"""Values that break naive quoting, for hypothesis to draw from."""

from hypothesis import strategies as st

_FRAGMENTS = (
    *("%", "%%", "%i", "%n", "%h", "$", "$$", "$HOME", "${HOME}", "$host", "${host}"),
    *("\\", "\\\\", "\\n", "\\x41", "\\;", '"', "'", "`", '""', "''", ";", " ; ", "#", " #", "{", "}", "{}"),
    *("\n", "\r", "\r\n", "\t", " ", "  ", "\x01", "\x1b[31m", "\x7f", "\n[Service]\nUser=root\n", "\n}\n"),
    *("=", ":", "-", "--", "@", "+", "!", "|", "~", "^~", "*", "?", "[", "]", "<", ">", "(", ")", "&", "a", "0"),
    *("\u00e9", "\u6f22", "\U0001f600", "\u0085", "\u00a0", "\u2028", "\ufeff", "\u202e", "e\u0301"),
)

NONCHARACTERS = "".join(
    map(chr, (*range(0xFDD0, 0xFDF0), *(plane << 16 | low for plane in range(17) for low in (0xFFFE, 0xFFFF))))
)
"""Code points that Unicode keeps from ever being characters; systemd refuses them in UTF-8."""

_characters = st.characters(codec="utf-8", exclude_characters="\0" + NONCHARACTERS)

texts = st.lists(st.sampled_from(_FRAGMENTS) | _characters, max_size=12).map("".join)
"""Any text but NUL."""


def without(forbidden: str) -> st.SearchStrategy[str]:
    """Return ``texts`` with the characters of ``forbidden`` taken out."""
    table = str.maketrans("", "", forbidden)
    return texts.map(lambda value: value.translate(table))


CONTROLS = "".join(map(chr, (*range(0x01, 0x20), 0x7F)))


def names(forbidden: str = "") -> st.SearchStrategy[str]:
    """Return names of files: no slash, short enough for a path of several."""
    return without("/" + forbidden).map(lambda name: f"x{name[:12]}x")
