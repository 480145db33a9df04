"""aiosystemd beside what a user would pick instead: the same application, on one Debian 13 machine, in one run.

    python -m benchmarks.run [PART]... [--rounds N] [--seconds N] [--only TEXT]

Without a part it measures everything and writes ``docs/benchmarks``; with parts it prints those. Needs root, Debian's
mmdebstrap and systemd-container, and the network: the tree that it boots is built once and cached.
"""

import argparse
import json
import platform
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).parent.parent))  # also when it is run by its path

from benchmarks import deploys, generate, memory, report, roads, sleeping, throughput, variants
from benchmarks.contenders import contenders
from benchmarks.place import place
from tests.container.machine import Machine

DOCS: Final = Path(__file__).parent.parent / "docs" / "benchmarks"
VERSIONS: Final = "python3 python3-aiohttp python3-uvloop gunicorn nginx haproxy supervisor wrk systemd".split()


class Run:
    """One run; each part is a method of that name, which returns its results by name."""

    def __init__(self, machine: Machine, arguments: argparse.Namespace) -> None:
        self._machine = machine
        self._rounds: int = arguments.rounds
        self._seconds: int = arguments.seconds
        self._all = {each.name: each for each in contenders(machine)}
        self._only: str = arguments.only
        self._chosen = tuple(each for name, each in self._all.items() if self._only in name)

    def throughput(self) -> report.Results:
        """Measure requests per second at saturation, and the processor time of each."""
        return {"throughput": throughput.run(self._machine, self._chosen, self._rounds, self._seconds)}

    def variants(self) -> report.Results:
        """Measure the same of copies of our set-up with one change each, for four instances."""
        chosen = variants.variants(self._all["aiosystemd, 4"])
        return {"variants": throughput.run(self._machine, chosen, self._rounds, self._seconds)}

    def deploys(self) -> report.Results:
        """Reload, restart and kill under checked traffic."""
        events = {
            "aiosystemd, 4": deploys.OURS,
            "gunicorn uvloop, 4, tuned nginx": deploys.GUNICORN,
            report.DOCS: deploys.SUPERVISORD,
        }
        chosen = {name: each for name, each in events.items() if self._only in name}
        return {"deploys": {name: deploys.run(self._machine, self._all[name], each) for name, each in chosen.items()}}

    def roads(self) -> report.Results:
        """Restart the same deployment under load, as each process manager and proxy runs it."""
        chosen = [(each, events) for each, events in roads.roads(self._machine) if self._only in each.name]
        return {"roads": {each.name: deploys.run(self._machine, each, events) for each, events in chosen}}

    def memory(self) -> report.Results:
        """Measure the memory of a process."""
        names = (
            "run_app, no proxy",
            "run_app with uvloop, no proxy",
            "gunicorn uvloop, 2, tuned nginx",
            "aiosystemd, 2",
        )
        return {"memory": memory.run(self._machine, tuple(self._all[name] for name in names))}

    def sleeping(self) -> report.Results:
        """Measure the first request on a sleeping instance."""
        return {"sleeping": sleeping.run(self._machine, self._all["aiosystemd, 2"], 3 * self._rounds)}

    def generate(self) -> report.Results:
        """Measure the tool, on this host."""
        with generate.installed() as programs:
            whole = generate.whole_process(programs)
            return {"generate": whole, "generate 1000": generate.per_file(programs, rounds=2)}


PARTS: Final[dict[str, Callable[[Run], report.Results]]] = {
    part.__name__: part for part in (Run.throughput, Run.deploys, Run.memory, Run.sleeping, Run.generate)
}
MORE: Final[dict[str, Callable[[Run], report.Results]]] = {"variants": Run.variants, "roads": Run.roads}
"""What a run of everything leaves out."""


def describe(machine: Machine) -> dict[str, str]:
    """Return what the figures depend on."""
    model = next(line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name"))
    query = ("dpkg-query", "--show", "--showformat=${Package} ${Version}\n", *VERSIONS)
    versions = dict(line.split(" ", 1) for line in machine.run(*query).stdout.splitlines())
    return {
        "processor": model.partition(": ")[2],
        "processors": machine.run("nproc").stdout.strip(),
        "kernel": platform.release(),
        "python of generate": platform.python_version(),
        **versions,
    }


def commit() -> str:
    """Return the version that was measured."""
    git = ("git", "describe", "--always", "--dirty")
    return subprocess.run(git, cwd=DOCS.parent.parent, capture_output=True, text=True, check=False).stdout.strip()


def save(results: report.Results) -> None:
    (DOCS / "results.json").write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    (DOCS / "throughput.svg").write_text(report.plot(results["throughput"]))  # type: ignore[arg-type]
    page = DOCS / "README.md"
    page.write_text(report.page(page.read_text(), results))


def save_roads(results: report.Results) -> None:
    (DOCS / "roads.json").write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    page = DOCS / "roads.md"
    page.write_text(report.page(page.read_text(), results))


def main() -> None:
    parser = argparse.ArgumentParser(description="measure aiosystemd beside its peers")
    choices = (*PARTS, *MORE)
    parser.add_argument("part", nargs="*", choices=[*choices, []], help=f"one of {', '.join(choices)} (default: all)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3, help="of load, in each round")
    parser.add_argument("--only", default="", help="contenders with this in their name, in the first two parts")
    arguments = parser.parse_args()
    results: dict[str, Mapping[str, object]] = {}
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the machine and its trees end with the process
    load = Path("/proc/loadavg").read_text().split()[0]
    with place() as machine:
        run = Run(machine, arguments)
        for name in arguments.part or PARTS:
            print(f"--- {name}", flush=True)
            found = (PARTS | MORE)[name](run)
            print(f"\n{report.text(found)}", flush=True)
            results |= found
        results["machine"] = {**describe(machine), "aiosystemd": commit(), "load average before": load}
    if not arguments.part and not arguments.only:
        save(results)
        print(f"{report.text(results).partition('## Requests')[0]}written to {DOCS}")
    if arguments.part == ["roads"] and not arguments.only:
        save_roads(results)


if __name__ == "__main__":
    main()
