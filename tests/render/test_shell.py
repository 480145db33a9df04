"""Shell scripts and Procfiles, read back by a real shell: what was given arrives."""

import re
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiosystemd.render.shell import Procfile, Script, Unrepresentable, assignment, command, raw
from tests.render.hostile import texts


@settings(max_examples=50)
@given(st.lists(texts, max_size=4), texts)
def test_shell_passes_what_was_given(words: list[str], value: str) -> None:
    script = Script(("Made here.",))
    script.add(raw(f"export {assignment('A', value).spelling}"), comment="Why.")
    script.add(command((raw("printf"), r"%s\0", *words, raw('"$A"'))))
    done = subprocess.run(["sh"], input=script.render().encode(), capture_output=True, check=True)
    assert done.stdout.decode().split("\0") == [*words, value, ""]


def test_script_is_marked_behind_its_first_line() -> None:
    assert Script(("Made here.",)).render() == "#!/bin/sh -e\n# Made here.\n"


@given(texts)
def test_line_of_a_procfile_is_one_line(text: str) -> None:
    file = Procfile(("Made here.",))
    try:
        file.add("web", command(["a", text]))
    except Unrepresentable:
        assert re.search(r"[\r\n]", text)
    else:
        assert file.render().splitlines(keepends=False)[0] == "# Made here."
        assert len(re.split(r"\r|\n", file.render())) == 3


def test_what_no_program_can_be_passed_is_refused() -> None:
    for refused in ("a\0b", "\ud800"):
        with pytest.raises(Unrepresentable):
            command([refused])
    with pytest.raises(Unrepresentable):
        assignment("a b", "c")
