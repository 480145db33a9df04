"""Deployments to look at, and programs that stand in for what a test's host has not."""

import os
import shlex
import stat
from pathlib import Path

import pytest

from aiosystemd import probe
from aiosystemd.build import build_source
from aiosystemd.doctor.finding import Finding
from aiosystemd.doctor.subject import Subject
from aiosystemd.host import Host
from aiosystemd.load import read
from tests.unprivileged import open_to_others

_BASE = 'name = "shop"\napp = "app:application"\n'


def subject(directory: Path, toml: str = "", host: Host | None = None) -> Subject:
    """Return what is looked at for a deployment file with these lines."""
    open_to_others(directory)
    file = directory / "shop.toml"
    file.write_text(_BASE + toml)
    source = read(file)
    host = host or Host()
    return Subject(source, build_source(file, source, host), host)


def seen_by_root(monkeypatch: pytest.MonkeyPatch, *, systemd: bool = False) -> None:
    """Let everything be looked at: all that a test has made is its own. And say whether systemd runs."""
    monkeypatch.setattr(Subject, "root", property(lambda _: True))
    monkeypatch.setattr(Subject, "systemd_runs", property(lambda _: systemd))


def stand_in(directory: Path, monkeypatch: pytest.MonkeyPatch, name: str, script: str) -> None:
    """Put a shell script of that name before every other program."""
    programs = directory / "programs"
    programs.mkdir(exist_ok=True)
    (programs / name).write_text(f"#!/bin/sh\n{script}\n")
    (programs / name).chmod(stat.S_IRWXU | stat.S_IRGRP | stat.S_IXGRP | stat.S_IROTH | stat.S_IXOTH)
    if str(programs) not in os.environ["PATH"].split(":"):
        monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")


def says(text: str, stream: int = 1) -> str:
    """Return a script that prints a text."""
    return f"printf '%s\\n' {shlex.quote(text)} >&{stream}"


def nothing_installed(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave no program to be found."""
    (directory / "empty").mkdir()
    monkeypatch.setenv("PATH", str(directory / "empty"))
    monkeypatch.setattr(probe, "_SBIN", str(directory / "empty"))


def told(finding: Finding) -> tuple[str, str, str]:
    """Return what a person reads of a finding."""
    return finding.severity, finding.what, finding.mend


def editor(s: Subject, line: int) -> str:
    """Return the command that opens the deployment file at a line."""
    return f'"${{EDITOR:-vi}}" +{line} {s.source.file}'
