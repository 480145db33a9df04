"""Waiting, and what ends it."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from aiosystemd.load import parse, validate
from aiosystemd.loop import Loop
from aiosystemd.rollout.work import Interrupted, Options, Step, Work
from aiosystemd.systemctl import Command

TCP = 'name = "shop"\napp = "shop:app"\nlisten.port = 8000\nlisten.address = "::"\nproxy.kind = "none"\n'
UNIX = 'name = "shop"\napp = "shop:app"\n'


def work_of(text: str, loop: Loop, steps: list[Step]) -> Work:
    deployment, _ = validate(parse("shop.toml", text))
    return Work(deployment, Options(), loop, steps.append)


@pytest.fixture
def steps() -> list[Step]:
    return []


@pytest.fixture
def work(steps: list[Step]) -> Iterator[Work]:
    # Whoever ignores it, as nohup(1) does, has it ignored.
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    with Loop() as loop:
        yield work_of(UNIX, loop, steps)
    signal.signal(signal.SIGHUP, before)


def test_addresses_are_those_of_the_sockets(work: Work) -> None:
    assert work.address("2") == "/run/shop/2.sock"
    assert work_of(TCP, work.loop, []).address("2") == ("::1", 8001)


def test_steps_tell_how_far_it_is(work: Work, steps: list[Step]) -> None:
    work.all = 4
    work.say("1", "is good")
    work.done = 1
    work.say("", "ends")
    assert steps == [Step("shop@1", "is good", 0, 4), Step("shop", "ends", 1, 4)]


def test_wait_ends_with_its_condition_or_its_time(work: Work) -> None:
    begin = time.monotonic()
    assert work.until(lambda: True, 60)
    assert not work.until(lambda: False, 0.05)
    assert 0.05 <= time.monotonic() - begin < 60


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signal_ends_a_wait_and_every_one_after_it(work: Work, number: int) -> None:
    os.kill(os.getpid(), number)
    for _ in range(2):
        with pytest.raises(Interrupted):
            work.until(lambda: False, 60)
    with pytest.raises(Interrupted):
        work.rest(0)
    assert work.signals == [number]


def test_what_must_come_to_its_end_waits_for_the_second_signal(work: Work) -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    assert not work.until(lambda: False, 0.05, signals=2)
    os.kill(os.getpid(), signal.SIGINT)
    with pytest.raises(Interrupted):
        work.until(lambda: False, 60, signals=2)


def test_condition_that_holds_is_no_wait_to_end(work: Work) -> None:
    os.kill(os.getpid(), signal.SIGINT)
    assert work.until(lambda: True, 60)


def test_command_ends_with_its_status_and_words(work: Work, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "systemctl"
    # It must not hear of the Ctrl-C that is meant for us: it is in no group of ours.
    program.write_text('#!/bin/sh\ncut -d" " -f5 /proc/$$/stat >&2\necho "$@" >&2\nexit 3\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with Command(work.loop, "reload", "shop@1.service") as command:
        assert work.until(lambda: command.status is not None, 60)
    assert command.status == 3
    assert int(command.words) not in {0, os.getpgrp()}


def test_command_that_is_not_waited_for_leaves_nothing(
    work: Work, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its client ends: systemd goes on with a job whose client is gone."""
    program = tmp_path / "systemctl"
    program.write_text("#!/bin/sh\nexec sleep 60\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    descriptors = len(list(Path("/proc/self/fd").iterdir()))
    with Command(work.loop, "restart", "shop@1.service") as command:
        assert not work.until(lambda: command.status is not None, 0.05)
    assert command.status == -signal.SIGKILL
    assert len(list(Path("/proc/self/fd").iterdir())) == descriptors
