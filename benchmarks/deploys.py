"""What a deploy costs the clients: reloads, restarts and kills under checked traffic, GET and POST."""

import json
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from benchmarks.contenders import Contender
from benchmarks.place import LOAD
from benchmarks.serving import ANSWER, PATIENCE, processes, serving
from tests.container.machine import Machine

SATURATED: Final = ("--clients", "64")
MODERATE: Final = ("--clients", "16", "--pause", "0.01")
"""What leaves some of the processors' time over, so that latencies tell something."""


@dataclass(frozen=True)
class Event:
    """Something that happens under load."""

    name: str
    act: Callable[[Machine, Contender], None]
    load: Sequence[str] = SATURATED
    requests: int = 20_000
    """The least that are sent from first to last."""


def _instances(contender: Contender) -> list[str]:
    return [unit for unit in contender.app if "@" in unit]


def _reload(machine: Machine, contender: Contender) -> None:
    for _ in range(3):
        for unit in _instances(contender):
            machine.systemctl("reload", unit)


def _restart_in_turn(machine: Machine, contender: Contender) -> None:
    for unit in _instances(contender):
        machine.systemctl("restart", unit)


def _restart_all(machine: Machine, contender: Contender) -> None:
    machine.systemctl("restart", *_instances(contender))


def _rollout(machine: Machine, _: Contender) -> None:
    machine.run("aiosystemd", "rollout", "example", "--pause", "0")


def _kill_all(machine: Machine, contender: Contender) -> None:
    """Kill every process that serves; the ones that watch them start them again."""
    main = {int(machine.show(unit, "MainPID")["MainPID"]) for unit in contender.app}
    pids = set(processes(machine, contender.app))
    workers = pids if _instances(contender) else pids - main
    machine.run("sh", "-c", f"kill -KILL {' '.join(map(str, workers))}")
    end = time.monotonic() + PATIENCE
    while len(processes(machine, contender.app)) < len(pids) and time.monotonic() < end:
        time.sleep(0.05)


def _hup(machine: Machine, contender: Contender) -> None:
    for _ in range(4):
        machine.systemctl("kill", "--signal=HUP", "--kill-whom=main", *contender.app)
        time.sleep(2)  # gunicorn does not tell when it is done


def _supervisor_restart(machine: Machine, _: Contender) -> None:
    machine.run("supervisorctl", "restart", "aiohttp:*")


def _supervisor_in_turn(machine: Machine, contender: Contender) -> None:
    for number in range(1, contender.processes + 1):
        machine.run("supervisorctl", "restart", f"aiohttp:example_{number}")


def _nothing(_: Machine, __: Contender) -> None:
    time.sleep(8)


STEADY: Final = Event("nothing", _nothing, MODERATE, 10_000)
KILL: Final = Event("SIGKILL of all at once", _kill_all)
OURS: Final = (
    STEADY,
    Event("rollout", _rollout, MODERATE, 10_000),
    Event("12 reloads in a row", _reload, requests=100_000),
    Event("restart, one after the other", _restart_in_turn, requests=100_000),
    Event("restart of all at once", _restart_all, requests=100_000),
    KILL,
)
GUNICORN: Final = (STEADY, Event("4 HUP", _hup), KILL)
SUPERVISORD: Final = (
    STEADY,
    Event("restart, one after the other", _supervisor_in_turn),
    Event("restart of all at once", _supervisor_restart),
    KILL,
)


def run(machine: Machine, contender: Contender, events: Sequence[Event]) -> dict[str, dict[str, object]]:
    """Return the client's report on each event, each on a contender started anew."""
    return {event.name: _measure(machine, contender, event) for event in events}


def _measure(machine: Machine, contender: Contender, event: Event) -> dict[str, object]:
    with serving(machine, contender), _traffic(machine, event.load) as traffic:
        _wait(traffic, event.requests // 4)
        event.act(machine, contender)
        _wait(traffic, event.requests)
        output, errors = traffic.communicate()
        if traffic.returncode:
            raise RuntimeError(errors)
    report: dict[str, object] = json.loads(output.splitlines()[-1])
    print(f"  {contender.name}, {event.name}: {report['failed']} of {report['requests']} failed", flush=True)
    return report


@contextmanager
def _traffic(machine: Machine, load: Sequence[str]) -> Iterator[subprocess.Popen[str]]:
    process = machine.start("python3", LOAD, "--expect", ANSWER, *load)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _wait(traffic: subprocess.Popen[str], requests: int) -> None:
    """Wait until the client has sent so many requests since it began."""
    begin = time.monotonic()
    first = done = _requests(traffic)
    while done < requests:
        # The client sorts its latencies for an answer, and serves no connection meanwhile: it is not asked often.
        rate = (done - first) / (time.monotonic() - begin)
        time.sleep(min(max((requests - done) / rate, 0.2), PATIENCE) if rate else 1)
        done = _requests(traffic)


def _requests(traffic: subprocess.Popen[str]) -> int:
    if traffic.stdin is None or traffic.stdout is None:
        raise RuntimeError("the client has no pipes")
    traffic.stdin.write("\n")
    traffic.stdin.flush()
    line = traffic.stdout.readline()
    if not line:
        raise RuntimeError(f"the client ended: {traffic.communicate()[1]}")
    requests: int = json.loads(line)["requests"]
    return requests
