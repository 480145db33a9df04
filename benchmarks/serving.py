"""Puts a contender into service in the machine, takes it out, and tells what it has used."""

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from benchmarks.contenders import Contender
from benchmarks.place import LOAD
from tests.container.machine import Machine

PATIENCE: Final = 30.0
"""Seconds after which a contender that does not answer is broken."""

STEADY: Final = 1.2
"""Seconds without a failure after which it serves: nginx leaves a server that was missing alone for one second."""

ANSWER: Final = "Welcome home!"

CHECKED: Final = 500
"""Requests whose answers are compared, one by one, at a time."""


@contextmanager
def serving(machine: Machine, contender: Contender) -> Iterator[None]:
    """Install and start ``contender``, wait until it answers well; stop it and remove its files at the end.

    Raises `RuntimeError` when it does not.
    """
    for path, text in contender.files.items():
        machine.write(path, text, mode=0o755 if text.startswith("#!") else 0o644)
    machine.systemctl("daemon-reload")
    try:
        for unit in contender.start:
            machine.systemctl("start", unit)
        _await_answers(machine, contender)
        yield
    finally:
        for unit in (*contender.units, *contender.start):
            machine.systemctl("stop", unit)
        machine.run("rm", "-f", *contender.files)
        # The next one's sockets are others' in the same place.
        machine.run("sh", "-c", "systemctl stop 'example*.socket'; rm -rf /tmp/example_*.sock /run/example")


def _await_answers(machine: Machine, contender: Contender) -> None:
    # supervisord and gunicorn tell nobody when they serve, and each process has its own moment.
    begin = failed_at = time.monotonic()
    while time.monotonic() < failed_at + STEADY:
        reasons = ask(machine, contender, "--count", str(CHECKED), "--post", "")["reasons"]
        if not reasons:
            continue
        failed_at = time.monotonic()
        if failed_at > begin + PATIENCE:
            raise RuntimeError(f"{contender.name} fails: {reasons}\n{machine.journal()[-3000:]}")


def ask(machine: Machine, contender: Contender, *options: str) -> dict[str, object]:
    """Return the report of the strict client at work on ``contender``; see ``tests/load.py``."""
    target = ("--expect", ANSWER, "--port", str(contender.port))
    report: dict[str, object] = json.loads(machine.run("python3", LOAD, *target, *options).stdout)
    return report


def processor_seconds(machine: Machine, units: Sequence[str]) -> float:
    """Return what all processes of ``units`` have used since they were started."""
    return sum(int(machine.show(unit, "CPUUsageNSec")["CPUUsageNSec"]) for unit in units) / 1e9


def processes(machine: Machine, units: Sequence[str]) -> list[int]:
    """Return the processes of ``units``, as the machine numbers them."""
    groups = (machine.show(unit, "ControlGroup")["ControlGroup"] for unit in units)
    find = 'find "$@" -name cgroup.procs -exec cat {} +'
    found = machine.run("sh", "-c", find, "sh", *(f"/sys/fs/cgroup{group}" for group in groups)).stdout
    return [int(line) for line in found.split()]
