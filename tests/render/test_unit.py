"""How unit files are spelt, and what is refused."""

from collections.abc import Callable

import pytest

from aiosystemd.render.unit import (
    UnitFile,
    Unrepresentable,
    Value,
    boolean,
    command,
    credential,
    environment,
    environment_file,
    number,
    path,
    raw,
    seconds,
    size,
    text,
    words,
)

INSTANCE = raw("%i")


@pytest.mark.parametrize(
    ("value", "spelling"),
    [
        (text("100% \"a\" 'b' \\ $c #d"), "100%% \"a\" 'b' \\ $c #d"),
        (text("a\\\\"), "a\\\\"),
        (text("%i is ", INSTANCE), "%%i is %i"),
        (path("/a b/%", INSTANCE, '/"c"'), '/a b/%%%i/"c"'),
        (path(raw("%t"), "/a"), "%t/a"),
        (environment_file("/a/*?[b]\\%"), r"/a/\*\?\[b]\\%%"),
        (environment_file("/a", optional=True), "-/a"),
        (credential("token", '/a%"b"'), 'token:/a%%"b"'),
        (words([]), ""),
        (
            words(["/a", "/b c", "", 'd"e', "f\\", "'g", "h%", "i\tj", ("%", INSTANCE)]),
            (r'/a "/b c" "" "d\"e" "f\\" "' "'" 'g" h%% "i\tj" %%%i'),
        ),
        (environment("A", "b"), "A=b"),
        (environment("A", "b c%\n\\"), r'"A=b c%%\x0a\\"'),
        (environment("A", ("$b ", INSTANCE)), '"A=$b %i"'),
        (command(["/a b", "c"]), '"/a b" c'),
        (command(["/a$b", "$b", "$$", "${b}"]), "/a$b $$b $$$$ $${b}"),
        (
            command(["/a", ";", "", " ", "%", "\\", '"', "'", "\n", "\x7f"]),
            (r'/a ";" "" " " %% "\\" "\"" "' "'" r'" "\x0a" "\x7f"'),
        ),
        (command(["/a", INSTANCE, ("b c%", INSTANCE, "$")]), '/a %i "b c%%%i$$"'),
        (boolean(True), "yes"),  # noqa: FBT003
        (boolean(False), "no"),  # noqa: FBT003
        (seconds(40), "40s"),
        (seconds(0), "0s"),
        (seconds(0.5), "500ms"),
        (seconds(90.25), "90250ms"),
        (seconds(0.0001), "100us"),
        (seconds(0.1 + 0.2 - 0.3 + 1), "1s"),
        (seconds(float("inf")), "infinity"),
        (number(4096), "4096"),
        (size(0), "0"),
        (size(1000), "1000"),
        (size(1536), "1536"),
        (size(1024), "1K"),
        (size(512 * 1024**2), "512M"),
        (size(3 * 1024**3), "3G"),
        (size(2 * 1024**4), "2T"),
    ],
)
def test_spelling(value: Value, spelling: str) -> None:
    assert value.spelling == spelling


@pytest.mark.parametrize(
    ("spell", "message"),
    [
        (lambda: raw("a\nb"), "line end or control character"),
        (lambda: raw("a\\"), "backslash"),
        (lambda: text("a\rb"), "line end or control character"),
        (lambda: text("a\0"), "line end or control character"),
        (lambda: text(" a"), "white space"),
        (lambda: text("a\t"), "white space"),
        (lambda: text("a\\\\\\"), "swallow the next line"),
        (lambda: text("a\ud800"), "no character"),
        (lambda: text("a\ufffe"), "no character"),
        (lambda: text("a\ufdd0"), "no character"),
        (lambda: text("a\U0010ffff"), "no character"),
        (lambda: path("a/b"), "no absolute path"),
        (lambda: path(""), "no absolute path"),
        (lambda: path("-/a"), "no absolute path"),
        (lambda: path("%t/a"), "no absolute path"),
        (lambda: path("/a\n"), "white space"),
        (lambda: path("/a\nb"), "line end"),
        (lambda: path("/" + "a" * 4095), "longer than Linux takes"),
        (lambda: environment_file("a"), "no absolute path"),
        (lambda: credential("a:b", "/a"), "no name of a credential"),
        (lambda: credential("..", "/a"), "no name of a credential"),
        (lambda: credential("a", "b"), "no absolute path"),
        (lambda: credential("a", "/b c"), "space or backslash"),
        (lambda: credential("a", "/b\\c"), "space or backslash"),
        (lambda: words(["a\nb"]), "line end"),
        (lambda: words(["a\x1b"]), "control character"),
        (lambda: environment("a b", ""), "no name of an environment variable"),
        (lambda: environment("A", "\0"), "NUL"),
        (lambda: environment("A", "a" * 131072), "longer than Linux takes"),
        (lambda: command(["a"]), "no absolute path of a file"),
        (lambda: command(["/a/"]), "no absolute path of a file"),
        (lambda: command(["-/a"]), "no absolute path of a file"),
        (lambda: command(['/a"']), "quote, backslash"),
        (lambda: command(["/a'"]), "quote, backslash"),
        (lambda: command(["/a\\b"]), "quote, backslash"),
        (lambda: command(["/a\n"]), "control character"),
        (lambda: command(["/${a}"]), "argv"),
        (lambda: command(["/a$$"]), "argv"),
        (lambda: command(["/a", "\0"]), "NUL"),
        (lambda: command(["/a", "\ufffe"]), "no character"),
        (lambda: command(["/a", "b" * 131072]), "longer than Linux takes"),
        (lambda: seconds(-1), "no time span"),
        (lambda: seconds(float("nan")), "no time span"),
        (lambda: seconds(1e-7), "finer than a microsecond"),
        (lambda: size(-1), "no number of bytes"),
    ],
)
def test_what_has_no_spelling_is_refused(spell: Callable[[], Value], message: str) -> None:
    with pytest.raises(Unrepresentable, match=message) as caught:
        spell()
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 200


def test_a_file_keeps_order_and_comments() -> None:
    unit = UnitFile(header=("Generated from a\nb.toml", "Edits are lost"))
    unit.add("Unit", "Description", text("a"))
    unit.add("Service", "Environment", environment("A", "b"), comment="systemd.exec(5): " + "why " * 30)
    unit.add("Unit", "After", text("a@1.socket"))
    unit.add("Service", "Environment", environment("C", "d"), comment="not a\n[Section]")
    assert unit.render() == (
        "# Generated from a\\nb.toml\n# Edits are lost\n\n[Unit]\nDescription=a\nAfter=a@1.socket\n\n[Service]\n"
        f"# systemd.exec(5): {' '.join(['why'] * 20)}\n# {' '.join(['why'] * 10)}\n"
        "Environment=A=b\n# not a\\n[Section]\nEnvironment=C=d\n"
    )


@pytest.mark.parametrize("name", ["", "A=b", "A\nB", "[A]", "A ", "#A", "1"])
def test_names_that_systemd_could_not_read_are_refused(name: str) -> None:
    unit = UnitFile()
    with pytest.raises(Unrepresentable, match="no name of a section"):
        unit.add(name, "A", raw("b"))
    with pytest.raises(Unrepresentable, match="no name of a directive"):
        unit.add("A", name, raw("b"))


def test_an_overlong_line_is_refused() -> None:
    unit = UnitFile()
    many = command(["/a", *["b" * 100_000] * 11])
    with pytest.raises(Unrepresentable, match=r"^ExecStart= needs a line longer than systemd reads"):
        unit.add("Service", "ExecStart", many)
