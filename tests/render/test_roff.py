"""How manual pages are spelt, and that roff shows what they say."""

import re
import subprocess
import unicodedata
from operator import add

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiosystemd.render.roff import Bold, Italic, Page, Part, Reference
from aiosystemd.render.text import visible
from tests.render.hostile import texts
from tests.tools import require

_TYPOGRAPHERS = ".ad l\n.char - \\[hy]\n.char ' \\[cq]\n.char ` \\[oq]\n.char ^ \\[u02C6]\n.char ~ \\[u02DC]\n"
"""What groff 1.23 does, and 1.22 does not for manual pages: groff_char(7), "Fundamental character set"."""

_requests = st.sampled_from(
    (".", "..", "'", ".br", "'br", ".\\}", ' "', "` ' - \u2010", "\\fB", "\\&", "\\[rs]", "\\\n", "\\*x")
)


def body(page: Page) -> list[str]:
    """Return the lines of a page below its title."""
    return page.render().splitlines()[4:]


def shown(page: Page, width: int = 20000) -> str:
    """Return what roff makes of a page, without bold and italics, on lines that are long enough for all."""
    command = (require("groff"), "-man", "-Tutf8", "-ww", f"-rLL={width}n", "-P-cbou")
    # The macros are read at the title, and have a say in it.
    text = page.render().replace(".ad l\n", _TYPOGRAPHERS, 1)
    done = subprocess.run(command, input=text.encode(), capture_output=True, check=True, timeout=60)
    assert done.stderr == b""
    return done.stdout.decode()


@pytest.mark.parametrize(
    ("parts", "line"),
    [
        (["--a-b 'c' `d` \"e\" f\\fBg ^ ~"], r"\-\-a\-b \(aqc\(aq \(gad\(ga \(dqe\(dq f\(rsfBg \(ha \(ti"),
        ([".SH no"], r"\&.SH no"),
        ([" \n.SH no"], r"\&.SH no"),
        (["'br"], r"\(aqbr"),
        (["a\n\n.b\tc  d "], "a .b c d"),
        (["é漢\U0001f600"], r"\[u00E9]\[u6F22]\[u1F600]"),
        (["\x1b[31m\u202e"], r"\(rsx1b[31m\(rsu202e"),
        (["a ", Bold("-b"), " ", Italic("C"), ", ", Reference(5, "d-e")], r"a \fB\-b\fR \fIC\fR, \fBd\-e\fR(5)"),
    ],
)
def test_spelling(parts: list[Part], line: str) -> None:
    page = Page("example", 1, "example 1")
    page.paragraph(*parts)
    assert body(page) == [".PP", line]


def test_structure() -> None:
    page = Page("a-b", 5, "a 1.0")
    page.heading("see also")
    page.paragraph(Reference(5, "b"))
    page.paragraph("c")
    page.item([Bold("d")], ["e"], ["f"])
    page.subheading('[g "h"]')
    page.example(".i\n\n  j")
    assert (page.file, page.references) == ("man5/a-b.5", {Reference(5, "b")})
    assert page.render().splitlines() == [
        *(".nr HY 0", ".ds AD l", r'.TH "A\-B" "5" "" "a 1.0" "a"', ".ad l"),
        *('.SH "SEE ALSO"', r"\fBb\fR(5)", ".PP", "c"),
        *(".TP", r"\fBd\fR", "e", ".IP", "f"),
        *(r'.SS "[g \(dqh\(dq]"', ".RS 4", ".EX", r"\&.i", "", "  j", ".EE", ".RE"),
    ]


@settings(max_examples=25, deadline=None)
@given(st.lists(texts | st.builds(add, _requests, texts), min_size=10, max_size=30))
def test_any_text_is_shown_as_itself(many: list[str]) -> None:
    page = Page("example", 1, "example 1")
    expected = ["begin"]
    page.paragraph("begin")
    for text in many:
        page.heading(text)
        page.subheading(text)
        page.paragraph(text)
        page.item([Bold(text)], [Italic(text)], [Bold(text), text])
        page.example(text)
        flowing, lines = _flowing(text), [visible(line) for line in text.split("\n")]
        expected += [_flowing(text.upper()), *[flowing] * 4, f"{flowing}{flowing}", *lines]
    page.paragraph("end")
    assert _words(" ".join((*expected, "end"))) in _words(shown(page))


def test_nothing_is_divided_or_spaced_out() -> None:
    page = Page("example", 1, "example 1")
    words = "systemd.unit configuration applications deployments instances " * 9
    page.paragraph(words)
    page.item([words], [words], [words])
    lines = [line.strip() for line in shown(page, 44).splitlines() if not line.startswith(("EXAMPLE", "example"))]
    assert all("  " not in line for line in lines)
    shown_words = " ".join(lines).split()
    assert [shown_words.count(word) for word in words.split()[:5]] == [36] * 5


def test_examples_keep_their_lines_and_indents() -> None:
    page = Page("example", 1, "example 1")
    page.example("[a]\n    b =  1\n\nc")
    [first] = re.findall(r"^( *)\[a\]$", shown(page), re.MULTILINE)
    assert f"{first}[a]\n{first}    b =  1\n\n{first}c\n" in shown(page)


def _flowing(text: str) -> str:
    return visible(re.sub(r"\s+", " ", text))


def _words(text: str) -> str:
    # What is composed of several characters may be shown as one, or the other way around.
    return unicodedata.normalize("NFC", " ".join(text.split()))
