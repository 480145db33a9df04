"""How nginx configuration is spelt, and what is refused."""

import pytest

from aiosystemd.render.nginx import Argument, Unrepresentable, block, directive, entry, raw, render


@pytest.mark.parametrize(
    ("argument", "spelling"),
    [
        ("plain", "plain"),
        ("", '""'),
        ("a b", '"a b"'),
        ("a;b{c}d#e", '"a;b{c}d#e"'),
        ("'", '"\'"'),
        ('"', r'"\""'),
        ("\\", r'"\\"'),
        ("\t\r\n", r'"\t\r\n"'),
        ("\u00e9", '"\u00e9"'),
        (raw("$host:$server_port"), "$host:$server_port"),
        (("http://", raw("$host"), "/a b"), '"http://$host/a b"'),
        (("a", raw("$uri")), "a$uri"),
    ],
)
def test_arguments_are_quoted_where_they_must_be(argument: Argument, spelling: str) -> None:
    assert render([directive("root", argument)]) == f"root {spelling};\n"


def test_blocks_are_indented_and_apart() -> None:
    server = block("server", body=[directive("listen", "80"), block("location", "/", body=[directive("root", "/a")])])
    others = block("map", raw("$a"), raw("$b"), body=[entry("", "x"), entry("a b", "")], comment="Why.")
    assert render([others, server], header=("Generated", "Edits are lost")) == (
        "# Generated\n# Edits are lost\n\n"
        '# Why.\nmap $a $b {\n    "" x;\n    "a b" "";\n}\n\n'
        "server {\n    listen 80;\n\n    location / {\n        root /a;\n    }\n}\n"
    )


def test_a_comment_cannot_end_early() -> None:
    text = render([directive("root", "/a", comment="why\n}\r\u2028evil on;")], header=["/etc/x\ny.toml"])
    assert text == "# /etc/x\\ny.toml\n\n# why\\n}\\r\\u2028evil on;\nroot /a;\n"


@pytest.mark.parametrize(
    "name", ["root", "alias", "add_header", "return", "proxy_pass", "ssl_certificate", "access_log"]
)
def test_a_dollar_is_refused_where_it_would_be_a_variable(name: str) -> None:
    with pytest.raises(Unrepresentable, match=rf'^"a\$b" in {name} has a \$, which nginx takes for a variable'):
        render([directive(name, ("x", "a$b"))])


@pytest.mark.parametrize(
    ("name", "literal", "message"),
    [
        ("root", "a\0", "control character"),
        ("root", "a\x1b", "control character"),
        ("root", "a\x7f", "control character"),
        ("root", "a\ud800", "surrogate"),
        ("root", "a" * 4095, "longer than nginx reads"),
        ("root", "\u00e9" * 2048, "longer than nginx reads"),
        ("add_header", "a\nSet-Cookie: b", "another header"),
        ("proxy_set_header", "a\rb", "another header"),
        ("return", "https://a\r\n", "another header"),
        ("include", "/etc/*.conf", "wildcard"),
        ("server_name", "~.*", "regular expression"),
        ("location", "=/", "modifier"),
        ("location", "~ a", "modifier"),
        ("location", "^~a", "modifier"),
        ("location", "@a", "modifier"),
        ("a b", "a", "no name of an nginx directive"),
        ("a;", "a", "no name of an nginx directive"),
        ("", "~a", "in a map"),
        ("", "\\a", "in a map"),
        ("", "default", "in a map"),
    ],
)
def test_what_has_no_spelling_is_refused(name: str, literal: str, message: str) -> None:
    with pytest.raises(Unrepresentable, match=message) as caught:
        render([directive(name, literal)])
    assert str(caught.value).isprintable()


def test_a_refused_value_is_shown_short() -> None:
    with pytest.raises(Unrepresentable) as caught:
        render([directive("root", "a" * 5000)])
    assert len(str(caught.value)) < 200


def test_a_prefix_that_looks_like_a_modifier_is_spelt_with_one() -> None:
    assert render([block("location", raw("^~"), "=/a", body=())]) == "location ^~ =/a {\n}\n"


def test_trusted_text_stays_in_its_line() -> None:
    with pytest.raises(Unrepresentable):
        raw("$host\n;")
