"""What is made of the journal's entries; the journal itself is in the container tests."""

import errno
import json
import os
import sys
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import pytest

from aiosystemd import cli, logs
from aiosystemd.errors import ProblemsError
from aiosystemd.logs import PRIORITIES, Message, Together, Wanted, deployment, level, read

START = 1_700_000_000.0
Fields = dict[str, Any]


def entry(at: float, text: object, unit: str = "web@1.service", **fields: object) -> Fields:
    """Return an entry as systemd-python gives it."""
    return {
        "__REALTIME_TIMESTAMP": datetime.fromtimestamp(START + at, UTC),
        "MESSAGE": text,
        "_SYSTEMD_UNIT": unit,
        "_PID": 76,
        "_STREAM_ID": unit,
        "PRIORITY": 3,
        "SYSLOG_IDENTIFIER": unit.removesuffix(".service"),
        **fields,
    }


def together(entries: Iterable[Fields], name: str = "web") -> list[Message]:
    found = Together(name)
    return [*found.of(entries), *found.end()]


TRACE = (
    "Error handling request",
    "Traceback (most recent call last):",
    '  File "a", line 1, in f',
    "    f()",
    "ValueError: a",
)
CHAIN = (
    *TRACE,
    "",
    "During handling of the above exception, another exception occurred:",
    "",
    "Traceback (most recent call last):",
    '  File "b", line 1, in g',
    "TypeError: b",
)
GROUP = (
    "  + Exception Group Traceback (most recent call last):",
    '  |   File "a", line 1, in f',
    "  | ExceptionGroup: two (2 sub-exceptions)",
    "  +-+---------------- 1 ----------------",
    "    | ValueError: a",
    "    +------------------------------------",
)


@pytest.mark.parametrize("lines", [TRACE, CHAIN, GROUP, ("a", "  b", "\tc"), TRACE[1:]])
def test_lines_that_belong_together_are_one_message(lines: tuple[str, ...]) -> None:
    others = "web@2.service"
    mixed = [
        each
        for number, line in enumerate(lines)
        for each in (entry(number / 1000, line), entry(number / 1000, f"other {number}", others))
    ]
    found = together([*mixed, entry(0.1, "next")])
    assert [each.lines for each in found if each.instance == "1"] == [list(lines), ["next"]]
    assert len([each for each in found if each.instance == "2"]) == len(lines)
    assert [each.at for each in found] == sorted(each.at for each in found)


@pytest.mark.parametrize(
    "entries",
    [
        (entry(0, "a"), entry(0.01, "b")),
        (entry(0, "a"), entry(1, "  indented, but much later")),
        (entry(0, "a"), entry(0.01, "  indented, but of another", "web@2.service")),
        (entry(0, "a"), entry(0.01, "  indented, but of another", _PID=77)),
    ],
)
def test_other_lines_are_messages_of_their_own(entries: tuple[Fields, ...]) -> None:
    assert [each.lines for each in together(entries)] == [[each["MESSAGE"]] for each in entries]


def test_message_is_told_as_soon_as_nothing_can_follow() -> None:
    found = Together("web")
    assert list(found.of([entry(0, "a")])) == []
    assert [each.lines for each in found.of([entry(0.1, "b", "web@2.service")])] == []
    assert [each.lines for each in found.of([entry(0.3, "c", "web@3.service")])] == [["a"]]
    assert [each.lines for each in found.end()] == [["b"], ["c"]]
    assert list(found.end()) == []


def test_text_is_harmless_and_says_who_wrote_it() -> None:
    text = "a\x1b[2J\n  b\tc\r\nd"
    by_systemd = entry(0, "Started.", "init.scope", UNIT="web@2.socket", SYSLOG_IDENTIFIER="systemd", PRIORITY=6)
    first, second = (each.text() for each in together([entry(0, text), by_systemd]))
    when = datetime.fromtimestamp(START).astimezone().isoformat(" ", "milliseconds")[:23]
    assert first.splitlines() == [f"{when}  1   err      a\\x1b[2J", "      b     c\\r", "    d"]
    assert second == f"{when}  2   info     systemd: Started."


def test_json_has_the_message_as_it_was() -> None:
    (found,) = together([entry(0, "a\x1b\nb")])
    assert json.loads(json.dumps(found.as_json())) == {
        "time": "2023-11-14T22:13:20.000000+00:00",
        "instance": "1",
        "unit": "web@1.service",
        "priority": 3,
        "level": "err",
        "identifier": "web@1",
        "pid": 76,
        "message": "a\x1b\nb",
    }


@pytest.mark.parametrize(
    ("field", "value", "shown"), [("MESSAGE", b"a\xff", "a\ufffd"), ("MESSAGE", None, ""), ("MESSAGE", ["a", "b"], "a")]
)
def test_odd_entries_are_shown_all_the_same(field: str, value: object, shown: str) -> None:
    assert together([entry(0, "x") | {field: value}])[0].lines == [shown]


def test_odd_fields_have_a_default() -> None:
    (found,) = together([entry(0, "x", PRIORITY="high", _PID=None, __REALTIME_TIMESTAMP=None)])
    assert (found.priority, found.pid, found.at) == (6, None, 0.0)


@pytest.mark.parametrize("unit", ["web2@1.service", "xweb@1.service", "web@1.slice", "web.service", "web@.service"])
def test_names_that_are_alike_are_others(unit: str) -> None:
    assert together([entry(0, "x", unit)])[0].instance == ""


@pytest.mark.parametrize(
    ("text", "number"),
    [*((name, number) for number, name in enumerate(PRIORITIES)), ("Error", 3), ("warn", 4), ("0", 0)],
)
def test_level_is_a_name_or_a_number(text: str, number: int) -> None:
    assert level(text) == number


@pytest.mark.parametrize("text", ["", "8", "-1", "loud"])
def test_level_that_is_none_is_an_error(text: str) -> None:
    with pytest.raises(ProblemsError, match=r"is no priority .*one of: emerg"):
        level(text)


def test_deployment_needs_no_file_any_more(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text('name = "web"\napp = "a:b"\n')
    assert (deployment(str(file)), deployment("gone")) == ("web", "gone")
    with pytest.raises(ProblemsError, match="no such file"):
        deployment("./gone.toml")


class Journal:
    """A journal of a few entries, as far as a reader of it is asked."""

    def __init__(self, *entries: Fields) -> None:
        self.entries = list(entries)
        self.later: list[Fields] = []
        self.at = 0
        self.matches: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def query_unique(self, field: str) -> set[str]:
        return {each[field] for each in self.entries if field in each}

    def flush_matches(self) -> None:
        self.matches.clear()

    def add_match(self, match: str) -> None:
        self.matches.append(match)

    def add_disjunction(self) -> None:
        self.matches.append("or")

    def add_conjunction(self) -> None:
        self.matches.append("and")

    def seek_head(self) -> None:
        self.at = 0

    def seek_tail(self) -> None:
        self.at = len(self.entries)

    def seek_realtime(self, at: float) -> None:
        self.at = sum(each["__REALTIME_TIMESTAMP"].timestamp() < at for each in self.entries)

    def get_next(self) -> Fields:
        self.at += 1
        if self.at > len(self.entries):
            self.at = len(self.entries)
            return {}
        return self.entries[self.at - 1]

    def get_previous(self, count: int) -> Fields:
        before = self.entries[: self.at]
        self.at = max(1, self.at - count + 1)
        return before[self.at - 1] if before else {}

    def wait(self, _: float) -> None:
        if not self.later:
            raise KeyboardInterrupt
        self.entries.append(self.later.pop(0))


@pytest.fixture
def journal(monkeypatch: pytest.MonkeyPatch) -> Journal:
    found = Journal(*(entry(number, str(number), f"web@{number % 2 + 1}.service") for number in range(6)))
    monkeypatch.setattr(logs, "_reader", lambda: found)
    return found


@pytest.mark.parametrize(
    ("wanted", "shown"),
    [
        (Wanted("web"), "012345"),
        (Wanted("web", lines=2), "45"),
        (Wanted("web", lines=9), "012345"),
        (Wanted("web", lines=0), ""),
        (Wanted("web", since=START + 2), "2345"),
        (Wanted("web", until=START + 2), "012"),
        (Wanted("web", since=START + 1, until=START + 3), "123"),
        (Wanted("web", since=START + 4, lines=4), "45"),
        (Wanted("web", until=START + 3, lines=2), "23"),
    ],
)
def test_only_the_lines_wanted_are_read(journal: Journal, wanted: Wanted, shown: str) -> None:
    assert journal.entries
    assert "".join(each.lines[0] for each in read(wanted, follow=False)) == shown


def test_journal_without_an_entry_is_no_error(journal: Journal) -> None:
    journal.entries.clear()
    assert list(read(Wanted("web", lines=5), follow=False)) == []


def test_follow_waits_for_more_and_learns_new_units(journal: Journal) -> None:
    journal.later = [entry(7, "new", "web@7.service")]
    found = read(Wanted("web"), follow=True)
    assert [next(found).lines[0] for _ in range(7)] == [*"012345", "new"]
    assert "_SYSTEMD_UNIT=web@7.service" in journal.matches
    with pytest.raises(KeyboardInterrupt):
        next(found)


def test_matches_are_journalctls(journal: Journal) -> None:
    list(read(Wanted("web", instances=("1",), priority=1), follow=False))
    assert journal.matches == [
        *("_SYSTEMD_UNIT=web@1.service", "or"),
        *("_PID=1", "UNIT=web@1.service", "or"),
        *(f"MESSAGE_ID={logs._COREDUMP}", "_UID=0", "COREDUMP_UNIT=web@1.service", "or"),
        *("and", "PRIORITY=0", "PRIORITY=1"),
    ]


def test_library_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "systemd.journal", None)
    with pytest.raises(ProblemsError, match="apt install python3-systemd, or pip install"):
        list(read(Wanted("web"), follow=False))


def test_journal_that_may_not_be_read_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "JOURNALS", (tmp_path,))
    with pytest.raises(ProblemsError, match="there is none"):
        logs._check_readable()
    (tmp_path / "machine").mkdir()
    file = tmp_path / "machine" / "system.journal"
    file.touch()
    logs._check_readable()
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(ProblemsError, match="be in group systemd-journal or adm"):
        logs._check_readable()


def test_real_reader_is_opened_where_there_is_a_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("systemd.journal")
    (tmp_path / "machine").mkdir()
    (tmp_path / "machine" / "system.journal").touch()
    monkeypatch.setattr(logs, "JOURNALS", (tmp_path,))
    assert list(read(Wanted("a-name-that-nobody-has"), follow=False)) == []


@pytest.mark.parametrize(("text", "at"), [("@1700000000", START), ("2023-11-14 22:13:20 UTC", START)])
def test_time_is_systemds(text: str, at: float) -> None:
    assert logs.when(text, "--since") == at
    with pytest.raises(ProblemsError, match=r"--since: .*2 hours ago"):
        logs.when("nonsense", "--since")


Command = Callable[..., int]


@pytest.fixture
def command(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Return a function that runs the program in this process, and returns its exit status."""
    assert journal.entries

    def run(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["aiosystemd", "logs", *arguments])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        return int(caught.value.code or 0)

    return run


def test_command_prints_lines_or_json(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("web", "--lines", "2") == 0
    assert [line.split()[-1] for line in capsys.readouterr().out.splitlines()] == ["4", "5"]
    assert command("web", "--since", f"@{START + 4}", "--json") == 0
    assert [json.loads(line)["message"] for line in capsys.readouterr().out.splitlines()] == ["4", "5"]
    assert command("web", "--lines", "0") == 0
    assert capsys.readouterr().err == "no messages\n"


def test_colours_are_for_terminals_that_want_them(
    command: Command, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert command("web", "--lines", "1") == 0
    assert capsys.readouterr().out.startswith("\x1b[31m")
    monkeypatch.setenv("NO_COLOR", "1")
    assert command("web", "--lines", "1") == 0
    assert "\x1b" not in capsys.readouterr().out


def test_ctrl_c_ends_it_quietly(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("web", "--follow") == 130
    found = capsys.readouterr()
    assert (len(found.out.splitlines()), found.err) == (6, "")


@pytest.mark.parametrize("end", [(errno.EPIPE, 0, ""), (errno.ENOSPC, 1, "No space left")])
def test_output_that_ends_is_no_traceback(
    end: tuple[int, int, str],
    command: Command,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    number, status, said = end

    def write(_: str) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "dup2", lambda *_: None)
    monkeypatch.setattr(sys.stdout, "write", write)
    assert command("web") == status
    monkeypatch.undo()
    assert said in capfd.readouterr().err
