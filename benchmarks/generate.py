"""How long `aiosystemd generate` takes: beside `honcho export systemd`, and for many files in one call.

    python benchmarks/generate.py [ROUNDS]

Needs the package index: each program goes into a virtual environment of its own, of this interpreter. Prints medians
of interleaved rounds.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
HONCHO = ("honcho[export]==2.0.0",)
FILES = 1000

FLOOR = """
import typer
app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)
@app.command()
def command(number: int = 1) -> None:
    from pydantic import BaseModel
    class Model(BaseModel):
        number: int
    Model(number=number)
app()
"""
"""The least that a program of typer and pydantic does: one command, one model of one field."""


@dataclass(frozen=True)
class Programs:
    """The two programs, each in an environment of its own."""

    ours: Path
    honcho: Path

    @property
    def commands(self) -> dict[str, tuple[str | Path, ...]]:
        """The command of each contender, but for the directory that it writes to, which comes last."""
        return {
            "honcho export systemd": (self.honcho / "honcho", "export", "systemd", "--app", "example"),
            "aiosystemd generate": (self.ours / "aiosystemd", "generate", "aiosystemd.toml", "--output"),
            "typer and pydantic": (self.ours / "python", "-c", FLOOR, "--number=1"),
        }


@contextmanager
def installed() -> Iterator[Programs]:
    """Install both programs for as long as they are measured."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        yield Programs(_install(directory / "ours", str(ROOT)), _install(directory / "honcho", *HONCHO))


def _install(directory: Path, *packages: str) -> Path:
    venv.create(directory, with_pip=True)
    subprocess.run((directory / "bin/pip", "install", "--quiet", *packages), check=True)
    return directory / "bin"


def whole_process(programs: Programs, rounds: int = 15) -> dict[str, float]:
    """Return the median seconds of each program from its start to its end, for a deployment of two lines."""
    times: dict[str, list[float]] = {name: [] for name in programs.commands}
    with tempfile.TemporaryDirectory() as name:
        here = Path(name)
        (here / "Procfile").write_text("web: python3 -m aiohttp.web my_app_module:my_web_app\n")
        (here / "aiosystemd.toml").write_text(deployment("example"))
        for number in range(rounds + 1):
            for program, command in programs.commands.items():
                last = () if program == "typer and pydantic" else (f"{program}-{number}",)
                taken = seconds((*command, *last), here)
                if number:  # the first round fills caches
                    times[program].append(taken)
    return {program: statistics.median(taken) for program, taken in times.items()}


def per_file(programs: Programs, rounds: int = 3, files: int = FILES) -> dict[str, float]:
    """Return the median seconds that each of ``files`` takes in one call, the time that one alone takes left out.

    Written and unchanged, and for half as many files, which costs as much for each where time grows with the number.
    """
    times: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as name:
        here = Path(name)
        names = [f"{number}.toml" for number in range(files)]
        for number, file in enumerate(names):
            (here / file).write_text(deployment(f"site{number}"))
        for number in range(rounds):
            taken = {
                count: _both(programs, here, names[:count], f"{count}-{number}") for count in (1, files // 2, files)
            }
            for kind in ("written", "unchanged"):
                for count in (files // 2, files):
                    each = (taken[count][kind] - taken[1][kind]) / (count - 1)
                    times.setdefault(f"{kind}, of {count}", []).append(each)
    return {kind: statistics.median(taken) for kind, taken in times.items()}


def _both(programs: Programs, here: Path, files: Sequence[str], output: str) -> Mapping[str, float]:
    # A new directory each time: ext4 is slow to give out inodes that were just freed.
    command = (programs.ours / "aiosystemd", "generate", *files, "--output", output)
    return {kind: seconds(command, here) for kind in ("written", "unchanged")}


def deployment(name: str) -> str:
    """Return the text of a deployment file."""
    return f'name = "{name}"\napp = "my_app_module:my_web_app"\nproxy.server_names = ["{name}.example"]\n'


def seconds(command: Sequence[str | Path], directory: Path) -> float:
    """Run ``command`` in ``directory`` and return how long it took."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    start = time.perf_counter()
    done = subprocess.run(command, cwd=directory, env=environment, check=False, capture_output=True)
    taken = time.perf_counter() - start
    if done.returncode:
        raise SystemExit(done.stderr.decode())
    return taken


def main() -> None:
    rounds = int(sys.argv[1]) if sys.argv[1:] else 15
    with installed() as programs:
        whole = whole_process(programs, rounds)
        base = whole["honcho export systemd"]
        for name, taken in whole.items():
            print(f"{name:25} {taken * 1000:7.1f} ms  {taken / base:5.2f}")
        for name, taken in per_file(programs, max(1, rounds // 5)).items():
            print(f"{name:25} {taken * 1000:7.2f} ms each")


if __name__ == "__main__":
    main()
