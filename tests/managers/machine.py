"""A machine that is thrown away, without systemd: in namespaces, with the real /usr."""

import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final, Self

from tests.tools import lacking, require, require_root
from tests.unprivileged import open_to_others

PATIENCE: Final = 60.0
"""Seconds after which something that must happen is taken not to happen; no measure of speed."""

_SETUP: Final = Path(__file__).with_name("machine.sh")
ASK: Final = Path(__file__).with_name("ask.py")
_LOAD: Final = Path(__file__).parents[1] / "load.py"
_PATH: Final = os.pathsep.join((str(Path(sys.executable).parent), "/usr/sbin", "/usr/bin", "/sbin", "/bin"))


class Machine:
    """A context; in it, programs run as on a host that is there for them alone."""

    def __init__(self) -> None:
        require_root()
        self.directory = Path(tempfile.mkdtemp(prefix="manager"))
        open_to_others(self.directory)
        argv = (require("unshare"), "--mount", "--pid", "--net", "--fork", "--kill-child", "--mount-proc")
        setup = (*argv, "sh", "-e", str(_SETUP), str(self.directory), *_opened())
        self._life = subprocess.Popen(setup, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._output = (self.directory / "output").open("w+")
        self._started: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Self:
        assert self._life.stdout
        assert self._life.stdout.readline() == "ready\n"
        try:
            self.run(
                "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", sys.executable, "-c", "import aiosystemd"
            )
        except AssertionError:
            self._end()
            lacking("another user cannot run the interpreter of the tests")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _end(self) -> None:
        self._life.communicate()  # closes its input; with its first process all others end
        for process in self._started:
            process.communicate(timeout=PATIENCE)
        self._output.close()
        shutil.rmtree(self.directory)

    @property
    def output(self) -> str:
        """What the programs that were started have said."""
        return (self.directory / "output").read_text()

    def popen(self, *words: str, stdout: IO[str] | int | None = None) -> subprocess.Popen[str]:
        """Start a program; without ``stdout`` what it says is kept."""
        (first,) = Path(f"/proc/{self._life.pid}/task/{self._life.pid}/children").read_text().split()
        process = subprocess.Popen(
            # setns(2) leads to the root of the namespace, whatever the working directory was.
            ("nsenter", "--target", first, "--mount", "--pid", "--net", "env", f"--chdir={self.directory}", *words),
            env={"PATH": _PATH, "LANG": "C.UTF-8"},
            stdin=subprocess.PIPE if stdout else subprocess.DEVNULL,
            stdout=stdout or self._output,
            stderr=self._output,
            text=True,
        )
        self._started.append(process)
        return process

    def run(self, *words: str) -> str:
        """Return what a program says that must succeed."""
        process = self.popen(*words, stdout=subprocess.PIPE)
        said, _ = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, f"{words}: {said}\n{self.output}"
        return said

    def write(self, path: str, text: str) -> None:
        """Write a file of the machine."""
        process = self.popen("sh", "-c", 'cat >"$0"', path, stdout=subprocess.PIPE)
        process.communicate(text, PATIENCE)
        assert process.returncode == 0

    def ask(self, address: str, path: str = "/") -> str:
        """Return the answer of a unix socket, or of ``HOST:PORT``."""
        return self.run(sys.executable, str(ASK), address, path)

    def who(self, address: str) -> dict[str, Any]:
        """Return what a process says of itself, once it does."""
        end = time.monotonic() + PATIENCE
        while True:
            try:
                told: dict[str, Any] = json.loads(self.ask(address))
            except AssertionError:
                assert time.monotonic() < end, self.output
                time.sleep(0.05)
            else:
                return told

    def wait_for(self, path: str) -> None:
        """Wait until a file is there."""
        self.run("sh", "-c", 'until test -e "$0"; do sleep 0.02; done', path)

    def load(self, *options: str) -> "Traffic":
        """Return traffic at the site, which compares every answer."""
        words = (sys.executable, str(_LOAD), "--host", "shop.test", "--pause", "0.005", "--clients", "8", *options)
        return Traffic(self.popen(*words, stdout=subprocess.PIPE))


def _opened() -> tuple[str, ...]:
    """Return a directory that others may not enter, if there is one, and what in it our interpreter needs."""
    needed = [Path(each).resolve() for each in (sys.base_prefix, sys.prefix, Path(__file__).parents[2])]
    closed = [above for each in needed for above in reversed(each.parents) if not above.stat().st_mode & stat.S_IXOTH]
    return (str(closed[0]), *(str(each) for each in needed if closed[0] in each.parents)) if closed else ()


class Traffic:
    """A client at work, until the context ends."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.report: dict[str, Any] = {}

    def __enter__(self) -> Self:
        self.look()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        said, _ = self._process.communicate(timeout=PATIENCE)
        self.report = json.loads(said.splitlines()[-1])

    def look(self) -> dict[str, Any]:
        """Return what happened so far."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        report: dict[str, Any] = json.loads(self._process.stdout.readline())
        return report

    def goes_on(self) -> None:
        """Wait until there was more of it."""
        before, end = self.look()["requests"], time.monotonic() + PATIENCE
        while self.look()["requests"] < before + 100:
            assert time.monotonic() < end
            time.sleep(0.02)
