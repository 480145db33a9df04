"""Requests per second at saturation, and the processor time that each of them costs."""

import re
from dataclasses import asdict, dataclass
from statistics import median
from typing import Final

from benchmarks.contenders import Contender
from benchmarks.serving import processor_seconds, serving
from tests.container.machine import Machine

CLIENTS: Final = 64


@dataclass(frozen=True)
class Sample:
    """One round of one contender."""

    rate: float
    """Requests per second."""
    app: float
    """Processor time of the application's processes, in microseconds a request."""
    proxy: float
    """The same of the proxy."""
    idle: float
    """Share of the processors that nobody used."""
    p50: float
    """Milliseconds."""
    p99: float


_MILLISECONDS: Final = {"us": 0.001, "ms": 1.0, "s": 1000.0}


def sample(machine: Machine, contender: Contender, seconds: int) -> Sample:
    """Load a contender that serves for ``seconds``; raise `RuntimeError` if it fails a request."""
    proxy = (contender.proxy,) if contender.proxy else ()
    groups = (contender.app, proxy)
    before = [processor_seconds(machine, group) for group in groups]
    idle = _idle(machine)
    output = _wrk(machine, contender, seconds)
    idle = _idle(machine) - idle
    requests = int(_found(r"(\d+) requests in", output))
    app, front = ((processor_seconds(machine, g) - b) * 1e6 / requests for g, b in zip(groups, before, strict=True))
    p50, p99 = (quantile(output, share) for share in ("50%", "99%"))
    rate = float(_found(r"Requests/sec:\s+([0-9.]+)", output))
    return Sample(rate, app, front, idle / (seconds * _processors(machine)), p50, p99)


def _wrk(machine: Machine, contender: Contender, seconds: int) -> str:
    options = ("-t2", f"-c{CLIENTS}", f"-d{seconds}s", "--latency")
    output = machine.run("wrk", *options, f"http://127.0.0.1:{contender.port}/").stdout
    return without_errors(contender.name, output)


def without_errors(name: str, output: str) -> str:
    """Return what wrk has said, or raise `RuntimeError` if a request has failed."""
    if "Non-2xx" in output or "Socket errors" in output:
        raise RuntimeError(f"{name} fails requests: {output}")
    return output


def _found(pattern: str, output: str) -> str:
    match = re.search(pattern, output)
    if not match:
        raise RuntimeError(f"wrk did not say {pattern}: {output}")
    return match[1]


def quantile(output: str, share: str) -> float:
    """Return the latency in milliseconds within which wrk saw ``share`` of the answers."""
    # A line of its own: there are other percentages.
    found = _found(rf"\n\s+{share}\s+([0-9.]+(?:us|ms|s))\n", output)
    unit = found.lstrip("0123456789.")
    return float(found.removesuffix(unit)) * _MILLISECONDS[unit]


def _processors(machine: Machine) -> int:
    return int(machine.run("nproc").stdout)


def _idle(machine: Machine) -> float:
    """Return the seconds that all processors have been idle (proc(5), ``/proc/stat``, in ticks of 10 ms)."""
    fields = machine.read("/proc/stat").splitlines()[0].split()
    return (int(fields[4]) + int(fields[5])) / 100


def measure(machine: Machine, chosen: tuple[Contender, ...], rounds: int, seconds: int) -> dict[str, list[Sample]]:
    """Measure each of ``chosen`` once a round, each time started anew, in an order that turns by one."""
    samples: dict[str, list[Sample]] = {contender.name: [] for contender in chosen}
    for number in range(rounds):
        turn = number % len(chosen)
        for contender in (*chosen[turn:], *chosen[:turn]):
            with serving(machine, contender):
                samples[contender.name].append(found := sample(machine, contender, seconds))
                print(f"  round {number + 1}: {contender.name:40} {found.rate:8.0f}/s", flush=True)
    return samples


def medians(samples: list[Sample]) -> dict[str, float]:
    """Return the median of each figure, and the least and the largest rate."""
    columns = {name: [asdict(each)[name] for each in samples] for name in asdict(samples[0])}
    rates = columns["rate"]
    return {name: round(median(values), 3) for name, values in columns.items()} | {
        "slowest": min(rates),
        "fastest": max(rates),
    }


def run(machine: Machine, chosen: tuple[Contender, ...], rounds: int, seconds: int) -> dict[str, dict[str, float]]:
    """Return the medians of each contender, by its name."""
    return {name: medians(samples) for name, samples in measure(machine, chosen, rounds, seconds).items()}
