"""Seeing whether a new process is any good: its health, its answers, and that it lives."""

import time
from collections.abc import Callable
from typing import Final

from aiosystemd.ask import Question
from aiosystemd.control import Counts
from aiosystemd.rollout.work import Failed, Work

_EVERY: Final = 1.0
"""Seconds between two looks."""

_ENOUGH: Final = 20
"""Requests from which on their share of errors means something."""

_TOO_MANY: Final = 0.05
"""Share of answers with a status of 500 or more."""


def watch(work: Work, name: str, counts: Callable[[], Counts], ended: Callable[[], str]) -> None:
    """Ask an instance for its health at once and then every second, until ``--pause`` has passed.

    Args:
        work: the rollout.
        name: the instance.
        counts: what its new process has served; it raises Failed when that cannot be found out.
        ended: why the new process is no more, ``""`` while it is there.

    Raises:
        Failed: when it is not what it should be.
        Interrupted: at a signal.

    """
    end = time.monotonic() + work.options.pause
    while True:
        _check(work, name, counts, ended)
        if (left := end - time.monotonic()) <= 0:
            return
        work.until(ended, min(_EVERY, left))


def _check(work: Work, name: str, counts: Callable[[], Counts], ended: Callable[[], str]) -> None:
    if why := ended():
        raise Failed(why)
    if answer := _bad_answer(work, name):
        # An instance that has just ended answers nothing, and its end says more.
        raise Failed(ended() or answer)
    served = counts()
    if served.requests >= _ENOUGH and served.errors > _TOO_MANY * served.requests:
        raise Failed(f"answers {served.errors} of {served.requests} requests with a status of 500 or more")


def _bad_answer(work: Work, name: str) -> str:
    """Ask for the health path, and return the answer if it is not the right one."""
    health = work.deployment.health_check
    address = work.address(name)
    question = Question(work.loop, address, "localhost", health, tls=work.deployment.listen.tls is not None)
    try:
        work.until(lambda: question.answer, timed=[question])
    finally:
        question.close()
    return "" if question.good else f"{question.answer} (health.path {health.path})"
