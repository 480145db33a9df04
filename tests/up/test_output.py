"""Lines cut from a pipe."""

import os

from aiosystemd.up.output import Lines


def test_what_nobody_has_read_yet_is_passed_on_at_the_end() -> None:
    ours, theirs = os.pipe()
    seen: list[bytes] = []
    lines = Lines(ours, seen.append)
    os.write(theirs, b"one\ntwo")
    lines.close()
    os.close(theirs)
    assert seen == [b"one", b"two"]


def test_line_that_comes_in_parts_is_one_line() -> None:
    ours, theirs = os.pipe()
    seen: list[bytes] = []
    lines = Lines(ours, seen.append)
    for part in (b"o", b"ne\n\ntw", b"o\n"):
        os.write(theirs, part)
        assert lines.read()
    os.close(theirs)
    assert not lines.read()
    lines.close()
    assert seen == [b"one", b"", b"two"]
