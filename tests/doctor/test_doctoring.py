"""What the command prints, and its exit status."""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from aiosystemd import cli, doctor
from aiosystemd.doctor.finding import Finding
from aiosystemd.doctor.subject import Subject, doubt, fault, fine, unseen
from tests.doctor.hosts import subject


def _doctor(monkeypatch: pytest.MonkeyPatch, file: Path, *options: str) -> int:
    monkeypatch.setattr(sys, "argv", ["aiosystemd", "doctor", str(file), *options])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    return int(caught.value.code or 0)


def _everything(s: Subject) -> Iterator[Finding]:
    yield fine("this is as it should be")
    yield unseen("that \x1b[1m: no rights")
    yield doubt("/etc/x", "is odd", "chmod o-w /etc/x")
    yield s.error(("app",), "cannot be found")
    yield fault("/etc/y", "is wrong", "")


def test_findings_are_shown_worst_first_and_what_mends_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = subject(tmp_path).source.file
    monkeypatch.setattr(doctor, "CHECKS", {"some": _everything})
    assert _doctor(monkeypatch, tmp_path / "shop.toml") == 1
    assert capsys.readouterr().out.splitlines() == [
        "/etc/x: warning: is odd",
        "    mend: chmod o-w /etc/x",
        f"{file}:2:7: error: cannot be found",
        '    app = "app:application"',
        "          ^",
        f'    mend: "${{EDITOR:-vi}}" +2 {file}',
        "/etc/y: error: is wrong",
        "fine: this is as it should be",
        r"not looked at: that \x1b[1m: no rights",
        "2 errors, 1 warning",
    ]


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_without_an_error_the_exit_status_is_0(
    options: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    subject(tmp_path)
    monkeypatch.setattr(doctor, "CHECKS", {"some": lambda _: iter([doubt("/etc/x", "is odd", "true")])})
    assert _doctor(monkeypatch, tmp_path / "shop.toml", *options) == 0
    shown = capsys.readouterr().out
    if options:
        (ours,) = json.loads(shown)["findings"]
        assert ours == {
            "check": "some",
            "severity": "warning",
            "message": "is odd",
            "mend": "true",
            "file": "/etc/x",
            "line": 0,
            "column": 0,
        }
    else:
        assert shown.endswith("0 errors, 1 warning\n")


def test_check_that_may_not_look_keeps_no_other_from_looking(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(_: Subject) -> Iterator[Finding]:
        os.stat(tmp_path / "none")  # noqa: PTH116 (an error of the operating system)
        yield fine("never reached")

    subject(tmp_path)
    monkeypatch.setattr(doctor, "CHECKS", {"first": refused, "second": lambda _: iter([fine("all right")])})
    assert _doctor(monkeypatch, tmp_path / "shop.toml") == 0
    assert capsys.readouterr().out.splitlines() == [
        "fine: all right",
        f"not looked at: [Errno 2] No such file or directory: '{tmp_path}/none'",
        "0 errors, 0 warnings",
    ]
