"""What is found out about the machine."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from aiosystemd.host import OLDEST_NGINX, OLDEST_SYSTEMD, Host
from aiosystemd.probe import probe, program
from tests.tools import require


@pytest.fixture
def fakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the only directory in which programs are looked for."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("aiosystemd.probe._SBIN", str(tmp_path))
    return tmp_path


def install(directory: Path, name: str, script: str) -> None:
    file = directory / name
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)


def test_this_machine_tells_its_versions() -> None:
    systemd = subprocess.run((require("systemctl"), "--version"), capture_output=True, text=True, check=True).stdout
    nginx = subprocess.run((require("nginx"), "-v"), capture_output=True, text=True, check=True).stderr
    found = probe()
    assert f"systemd {found.systemd} " in systemd
    assert f"nginx/{'.'.join(map(str, found.nginx))}" in nginx
    assert found.cpus == len(os.sched_getaffinity(0))


def test_without_programs_it_is_the_oldest_that_is_supported(fakes: Path) -> None:
    assert list(fakes.iterdir()) == []
    assert probe() == Host(cpus=len(os.sched_getaffinity(0)))


def test_what_is_asked_for_counts(fakes: Path) -> None:
    install(fakes, "systemctl", "echo systemd 255")
    assert (probe(257, (1, 26)).systemd, probe(257, (1, 26)).nginx) == (257, (1, 26))
    assert probe(None, (1, 26)).systemd == 255


@pytest.mark.parametrize(
    ("output", "version"),
    [
        ("systemd 257 (257.9-1~deb13u1)", 257),
        ("systemd 260~rc1 (260~rc1-1)", 260),
        ("systemd 219", OLDEST_SYSTEMD),
        ("nothing of interest", OLDEST_SYSTEMD),
        ("", OLDEST_SYSTEMD),
    ],
)
def test_versions_of_systemd_are_read(output: str, version: int, fakes: Path) -> None:
    install(fakes, "systemctl", f"echo '{output}'\necho +PAM +AUDIT")
    assert probe().systemd == version


@pytest.mark.parametrize(
    ("output", "version"),
    [
        ("nginx version: nginx/1.26.3 (Ubuntu)", (1, 26, 3)),
        ("nginx version: nginx/1.31.0", (1, 31, 0)),
        ("nginx version: freenginx/1.27.1", (1, 27, 1)),
        ("nginx version: nginx/1.14.2", OLDEST_NGINX),
        ("nginx version: openresty", OLDEST_NGINX),
    ],
)
def test_versions_of_nginx_are_read(output: str, version: tuple[int, ...], fakes: Path) -> None:
    install(fakes, "nginx", f"echo '{output}' >&2")
    assert probe().nginx == version


@pytest.mark.parametrize("script", ["exit 1", "kill -9 $$", "printf '\\377\\376'"])
def test_a_program_that_fails_counts_as_the_oldest(script: str, fakes: Path) -> None:
    install(fakes, "systemctl", script)
    install(fakes, "nginx", script)
    assert (probe().systemd, probe().nginx) == (OLDEST_SYSTEMD, OLDEST_NGINX)


def test_a_program_that_cannot_be_run_counts_as_the_oldest(fakes: Path) -> None:
    (fakes / "systemctl").write_bytes(b"\x7fELF")
    (fakes / "systemctl").chmod(0o755)
    assert probe().systemd == OLDEST_SYSTEMD


def test_an_administrators_program_is_found_without_its_directory_in_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    nginx = require("nginx")
    monkeypatch.setenv("PATH", "/nowhere")
    assert program("nginx") == (nginx if re.match(r"(/usr(/local)?)?/sbin/", nginx) else None)
    monkeypatch.delenv("PATH")
    assert program("sh")


def test_both_programs_are_asked_at_once(fakes: Path) -> None:
    os.mkfifo(fakes / "fifo")
    # Neither end of a fifo opens before the other one does.
    install(fakes, "systemctl", f"echo > {fakes}/fifo; echo systemd 255")
    install(fakes, "nginx", f"read line < {fakes}/fifo; echo nginx/1.26.3 >&2")
    assert (probe().systemd, probe().nginx) == (255, (1, 26, 3))


def test_a_program_that_hangs_counts_as_the_oldest(fakes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aiosystemd.probe._PATIENCE", 0.1)
    install(fakes, "systemctl", "echo systemd 255; while :; do :; done")
    assert probe().systemd == OLDEST_SYSTEMD
