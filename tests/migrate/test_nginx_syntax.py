"""nginx's language is read as nginx and crossplane read it, and whatever is wrong has a line and a column."""

import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path

import crossplane
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from aiosystemd.errors import ProblemsError
from aiosystemd.migrate.found import Text
from aiosystemd.migrate.nginx_syntax import Directive, read, walk
from tests.render.hostile import texts

NAMES = st.sampled_from("server location listen proxy_pass server_name añadir".split())
# No word that ends with a brace: crossplane takes the blank behind it for a part of it.
PLAIN = st.sampled_from('80 /static/ ~ \\.php$ ${a}b a$b ${a}${b}c a#b x="y" é= http://web:8000/$1 a\'b'.split())
QUOTED = st.sampled_from(('"a b"', "'a;{}b'", '"#"', "''", '""', "'a\"b'", '"a\'b ${x}"', '"two\nlines"'))
GAP = st.sampled_from((" ", "\t", "\n", "  \n\t", "\r\n"))  # in a directive crossplane takes a comment for a word
BETWEEN = st.sampled_from((" ", "\n", ' # c }{;"\n', "\n# что это?\r\n"))
BEFORE_END = st.sampled_from(("", " ", "\n"))
WORDS = st.lists(st.tuples(GAP, PLAIN | QUOTED).map("".join), max_size=4).map("".join)
SIMPLE = st.tuples(NAMES, WORDS, BEFORE_END, st.just(";")).map("".join)
BODY = st.recursive(
    SIMPLE,
    lambda inner: st.tuples(
        NAMES, WORDS, st.just(" {"), st.lists(inner, max_size=3).map("\n".join), st.just("\n}")
    ).map("".join),
    max_leaves=8,
)
FILES = st.lists(st.tuples(BODY, BETWEEN).map("".join), max_size=5).map("".join)
WILD = st.lists(st.sampled_from("a|b;|{|}|;|\"|'|\\|#|\n| |$|${|)|x_by_lua_block {|--|[[|]]".split("|")), max_size=16)


def _crossplane(text: str) -> object:
    with tempfile.NamedTemporaryFile("w", newline="") as file:
        file.write(text)
        file.flush()
        found = crossplane.parse(file.name, single=True, check_ctx=False, check_args=False, comments=False)
    assert not found["errors"]
    return _theirs(found["config"][0]["parsed"])


def _theirs(block: Iterable[dict[str, object]]) -> object:
    return [
        (each["line"], each["directive"], tuple(each["args"]), _theirs(each["block"]) if "block" in each else None)  # type: ignore[arg-type]
        for each in block
    ]


def _ours(block: Iterable[Directive]) -> object:
    return [
        (each.at.line, each.name, each.words, _ours(each.block) if each.block is not None else None) for each in block
    ]


@given(FILES)
@example("server { listen 80; # c\n location / { return 200 'a;b'; } }")
@example("# Сервер\nserver{server_name пример.рф;}")
def test_files_are_read_as_crossplane_reads_them(text: str) -> None:
    assert _ours(read(Text("FILE", text))) == _crossplane(text)


@given(WILD.map("".join) | texts)
def test_no_text_is_too_strange(text: str) -> None:
    try:
        found = read(Text("FILE", text))
    except ProblemsError as wrong:
        problems = wrong.problems
        assert all(each.at.line and each.at.column for each in problems)
        return
    lines = text.split("\n")
    for each in walk(found):  # where it begins is where it says
        written = lines[each.at.line - 1][each.at.column - 1 :]
        assert written[0] in {each.name[:1], '"', "'", "\\"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (r'return 200 "a\"b\\c\td\x";', ("200", 'a"b\\c\td\\x')),
        (r"return 200 a\;b\ c;", ("200", r"a\;b\ c")),
        ("return 200 ${request_method}x$uri;", ("200", "${request_method}x$uri")),
        ("return 200 a}b;", ("200", "a}b")),
    ],
)
def test_words_are_what_nginx_makes_of_them(text: str, words: tuple[str, ...]) -> None:
    assert read(Text("FILE", text))[0].words == words


def test_lua_is_passed_over() -> None:
    text = 'a_by_lua_block {\n local x = { "}" } -- }\n --[[ } ]] y = [==[ } ]==]\n}\nb;'
    assert [(each.name, each.block) for each in read(Text("FILE", text))] == [("a_by_lua_block", ()), ("b", None)]


WRONG = [
    ("a", 'FILE:1:1: the directive does not end (it lacks a ";")'),
    ("server {\n\tlisten 80;\n", 'FILE:1:1: the block does not end (it lacks a "}")'),
    ("a;\n }", 'FILE:2:2: unexpected "}" (no block is open here)'),
    ("a {\n b }", 'FILE:2:4: unexpected "}" (a directive ends with ";")'),
    (" ;", 'FILE:1:2: unexpected ";" (a directive ends with ";")'),
    ("a 'b\n;", "FILE:1:3: the quotation does not end (it lacks a ')"),
    ('a "b"c;', "FILE:1:6: unexpected 'c' (write a blank behind a quotation)"),
    ("a \\", "FILE:1:3: the file ends behind a backslash"),
    ("x_by_lua_block { {", 'FILE:1:1: the block does not end (its Lua lacks a "}")'),
    ("a {" * 60, "FILE:1:148: more than 50 blocks in one another"),
]


@pytest.mark.parametrize(("text", "told"), WRONG)
def test_what_is_wrong_has_its_line_and_column(text: str, told: str) -> None:
    with pytest.raises(ProblemsError) as error:
        read(Text("FILE", text))
    assert [str(each) for each in error.value.problems] == [told]


@pytest.mark.parametrize("text", [text for text, _ in WRONG[:8]])
def test_nginx_refuses_that_too(text: str, tmp_path: Path) -> None:
    (tmp_path / "nginx.conf").write_text(text)
    done = subprocess.run(
        ("/usr/sbin/nginx", "-t", "-e", "stderr", "-p", tmp_path, "-c", "nginx.conf"),
        capture_output=True, check=False, text=True,
    )  # fmt: skip
    assert done.returncode != 0
