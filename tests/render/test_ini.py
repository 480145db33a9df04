"""INI files, read back by supervisord and Circus themselves: what was given arrives, or is refused."""

import shlex
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from circus.config import get_config
from circus.process import Process
from circus.util import parse_env_dict
from hypothesis import given
from hypothesis import strategies as st
from supervisor.options import ServerOptions, UnhosedConfigParser

from aiosystemd.render.ini import Circus, Ini, Supervisord, Unrepresentable, Value, raw
from tests.render.hostile import texts

WORDS = st.lists(texts, min_size=1, max_size=4)
PLAIN = "a /b.c-d:1=é"


def _spelt(spell: Callable[..., Value], *given: object) -> Value | None:
    try:
        return spell(*given)
    except Unrepresentable:
        return None


def _supervisord(**settings: Value | None) -> Any:
    """Return what supervisord makes of a program."""
    file = Ini()
    for name, value in {"command": raw("true"), **settings}.items():
        if value is not None:
            file.add("program:shop", name, value)
    parser = UnhosedConfigParser()
    parser.read_string(file.render())
    options = ServerOptions()
    (group,) = options.process_groups_from_parser(parser)
    (process,) = group.process_configs
    return process


def _circus(*settings: tuple[str, str, Value | None]) -> Any:
    """Return what Circus makes of a watcher."""
    file = Ini()
    for section, name, value in settings:
        if value is not None:
            file.add(section, name, value)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "circus.ini")
        path.write_text(f"[circus]\nendpoint = x\n{file.render()}", newline="")
        (watcher,) = get_config(str(path))["watchers"]
    return watcher


@given(WORDS)
def test_supervisord_starts_the_command_that_was_given(words: list[str]) -> None:
    spelt = _spelt(Supervisord.command, words)
    if spelt:
        assert shlex.split(_supervisord(command=spelt).command) == words
    else:
        assert any(char < " " or char == "\x7f" for word in words for char in word)


@given(texts)
def test_supervisord_passes_the_variables_that_were_given(text: str) -> None:
    spelt = _spelt(Supervisord.environment, {"A": text, "B": PLAIN})
    if spelt:
        assert _supervisord(environment=spelt).environment == {"A": text, "B": PLAIN}


@given(texts)
def test_supervisord_takes_the_text_that_was_given(text: str) -> None:
    spelt = _spelt(Supervisord.text, text)
    if spelt and text:
        assert _supervisord(directory=spelt).directory == text


@given(WORDS)
def test_circus_starts_the_command_that_was_given(words: list[str]) -> None:
    spelt = _spelt(Circus.command, words)
    if spelt:
        watcher = _circus(("watcher:shop", "cmd", spelt))
        process = Process.__new__(Process)
        vars(process).update(
            {"cmd": watcher["cmd"], "args": watcher["args"], "env": {}, "wid": 1, "shell": False, "watcher": None},
            **dict.fromkeys(("working_dir", "uid", "gid", "rlimits", "executable", "use_fds")),
        )
        assert process.format_args() == words


@given(texts)
def test_circus_passes_the_variables_that_were_given(text: str) -> None:
    spelt = _spelt(Circus.variable, text)
    if spelt:
        watcher = _circus(("watcher:shop", "cmd", raw("a")), ("env:shop", "A", spelt), ("env:shop", "B", raw(PLAIN)))
        environment = parse_env_dict(watcher["env"])
        assert {name: environment[name] for name in "AB"} == {"A": text, "B": PLAIN}


@pytest.mark.parametrize(
    ("spell", "given"),
    [
        (Supervisord.text, "a\nb"),
        (Supervisord.text, " a"),
        (Supervisord.text, "a ;b"),
        (Supervisord.text, "\ud800"),
        (Supervisord.command, ["a\0"]),
        (Supervisord.environment, {"A": "both ' and \""}),
        (Supervisord.environment, {"A": "'ends'"}),
        (Supervisord.environment, {"A": "a #b"}),
        (Supervisord.environment, {"A": "a\nb"}),
        (Circus.text, "$(circus.env.HOME)"),
        (Circus.text, "((circus.env.HOME))"),
        (Circus.text, '""'),
        (Circus.variable, "$HOME"),
        (Circus.command, ["a\rb"]),
    ],
)
def test_what_cannot_be_spelt_is_refused(spell: Callable[..., Value], given: object) -> None:
    with pytest.raises(Unrepresentable):
        spell(given)


@pytest.mark.parametrize("argument", ["$(circus.wid)", "((circus.wid))", "$WID", "a ;b", "x  #y", "", "'\"", "50 %"])
def test_what_would_be_filled_in_or_be_a_comment_is_told_apart_by_quotes(argument: str) -> None:
    assert shlex.split(Circus.command(["a", argument]).spelling) == ["a", argument]
    assert shlex.split(Supervisord.command(["a", argument]).spelling.replace("%%", "%")) == ["a", argument]


def test_parts_of_our_own_are_kept() -> None:
    number = raw("%(process_num)s")
    assert Supervisord.command([("--path=/a b/", number, ".sock")]).spelling == "'--path=/a b/'%(process_num)s.sock"
    assert Supervisord.text("/50%/", number).spelling == "/50%%/%(process_num)s"
    assert Supervisord.environment({"N": number}).spelling == 'N="%(process_num)s"'
    assert _supervisord(command=Supervisord.command(["a", ("b", number)])).command == "a b0"
