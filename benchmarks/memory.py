"""Memory of a process that serves the application, after it has served for a while."""

import re
from statistics import median

from benchmarks.contenders import Contender
from benchmarks.serving import ask, processes, serving
from tests.container.machine import Machine

REQUESTS = 5000


def run(machine: Machine, chosen: tuple[Contender, ...]) -> dict[str, dict[str, float]]:
    """Return for each contender, in KiB: ``rss`` and ``pss`` of one process (the median), ``total`` pss of all."""
    return {contender.name: _measure(machine, contender) for contender in chosen}


def _measure(machine: Machine, contender: Contender) -> dict[str, float]:
    with serving(machine, contender):
        ask(machine, contender, "--count", str(REQUESTS))
        found = [_rollup(machine, pid) for pid in processes(machine, contender.app)]
    rss, pss = ([each[name] for each in found] for name in ("Rss", "Pss"))
    return {"rss": median(rss), "pss": median(pss), "total": sum(pss), "processes": len(found)}


def _rollup(machine: Machine, pid: int) -> dict[str, int]:
    text = machine.read(f"/proc/{pid}/smaps_rollup")
    return {name: int(size) for name, size in re.findall(r"^(\w+): +(\d+) kB$", text, re.MULTILINE)}
