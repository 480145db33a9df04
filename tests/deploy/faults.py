"""aiosystemd as a process of its own whose system calls fail, or kill it: strace(1), ``--inject``."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple, Self

from tests.tools import require

_CALLS: Final = (
    "openat write pwrite64 ftruncate fsync chmod fchmod fchmodat rename renameat renameat2 link linkat "
    "unlink unlinkat rmdir mkdir mkdirat symlink symlinkat"
).split()
"""Those that change a file system, some of them of one architecture alone; openat is among them for O_CREAT."""

# One interpreter with everything loaded, which forks for each run: a start under strace takes a second.
_SERVER: Final = """
import ctypes, json, os, signal, sys
import aiosystemd.commands.operating, aiosystemd.deploy, aiosystemd.deploy.wanted, aiosystemd.load, aiosystemd.probe
import json, tomlkit
from aiosystemd import cli

def run(job):
    for descriptor, name in enumerate((os.devnull, job["out"], job["err"])):
        os.dup2(os.open(name, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600), descriptor)
    os.closerange(3, 100)
    os.environ["PATH"] = job["path"]
    sys.argv = ["aiosystemd", *job["argv"]]
    # Yama, PR_SET_PTRACER: strace is no ancestor of this process.
    ctypes.CDLL(None).prctl(0x59616D61, ctypes.c_ulong(-1))
    if job["stop"]:
        os.kill(os.getpid(), signal.SIGSTOP)
    try:
        cli.main()
        status = 0
    except SystemExit as end:
        status = end.code or 0
    except BaseException:
        import traceback
        traceback.print_exc()
        status = 99
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)

for line in sys.stdin:
    job = json.loads(line)
    child = os.fork()
    if not child:
        run(job)
    if job["stop"]:
        os.waitpid(child, os.WUNTRACED)
        print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Call(NamedTuple):
    """A system call of a run, on a file below its root."""

    name: str
    number: int
    """Which of all calls of that name it is, from 1."""
    what: str
    """As strace shows it."""
    changes: bool
    """Whether something may be other than before after it."""


class Fault(NamedTuple):
    """What happens at a call in its place."""

    call: Call
    what: str
    """``error=ENOSPC`` and the like, or ``signal=KILL``."""
    on: str = ""
    """``+`` for all that follow it too."""

    def __str__(self) -> str:
        return f"{self.call.name} {self.call.number}{self.on} {self.what}: {self.call.what}"


@dataclass
class Done:
    """A run that has ended."""

    status: int
    """Below zero the number of the signal that killed it."""
    out: str
    err: str
    log: str = ""
    """strace's."""


class Runs:
    """Runs of aiosystemd; a context."""

    def __init__(self, directory: Path, root: Path) -> None:
        self._strace = require("strace")
        self._directory = directory
        self._root = root
        self.path = os.environ["PATH"]
        """$PATH of the runs."""
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            "COVERAGE_PROCESS_START": "",
        }
        self._server = subprocess.Popen(
            (sys.executable, "-c", _SERVER),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=directory,
            env=environment,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(BrokenPipeError):
            self._server.communicate(timeout=60)

    def run(self, *argv: str) -> Done:
        """Run it undisturbed."""
        self._begin(argv, stop=False)
        return self._end()

    def calls(self, *argv: str) -> list[Call]:
        """Run it, and return the calls that it made below its root."""
        done = self._traced(argv, ",".join(f"?{name}" for name in _CALLS))
        assert done.status == 0, done.err
        return self._below(done.log)

    def disturbed(self, fault: Fault, *argv: str) -> Done:
        """Run it with a fault."""
        when = f"{fault.call.number}{fault.on}"
        done = self._traced(argv, fault.call.name, f"--inject={fault.call.name}:{fault.what}:when={when}")
        killed = f"\nkilled by signal {signal.SIGKILL}" if done.status == -signal.SIGKILL else ""
        assert "(INJECTED)" in done.log or killed, f"{fault} was not met:\n{done.log}"
        return done

    def _traced(self, argv: Sequence[str], calls: str, *options: str) -> Done:
        log = self._directory / "log"
        child = self._begin(argv, stop=True)
        command = (self._strace, "-y", "-s", "0", f"--output={log}", f"--trace={calls}", *options, f"--attach={child}")
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as strace:
            assert strace.stderr
            assert "attached" in (line := strace.stderr.readline()), line
            os.kill(child, signal.SIGCONT)
            done = self._end()
            strace.communicate(timeout=60)
        done.log = log.read_text()
        return done

    def _begin(self, argv: Sequence[str], *, stop: bool) -> int:
        job = {"argv": argv, "stop": stop, "path": self.path}
        job.update({name: str(self._directory / name) for name in ("out", "err")})
        assert self._server.stdin
        assert self._server.stdout
        self._server.stdin.write(json.dumps(job) + "\n")
        self._server.stdin.flush()
        return int(self._server.stdout.readline()) if stop else 0

    def _end(self) -> Done:
        assert self._server.stdout
        status = int(self._server.stdout.readline())
        return Done(status, *((self._directory / name).read_text() for name in ("out", "err")))

    def _below(self, log: str) -> list[Call]:
        found = []
        counts: dict[str, int] = {}
        for line in log.splitlines():
            name, _, rest = line.partition("(")
            counts[name] = counts.get(name, 0) + 1
            if str(self._root) in rest:
                changes = name not in ("openat", "fsync") or "O_CREAT" in rest
                found.append(Call(name, counts[name], _shown(rest, self._root), changes and "= -1" not in rest))
        return found


def _shown(rest: str, root: Path) -> str:
    names = re.findall(rf'(?:{re.escape(str(root))})([^">]*)', rest)
    return re.sub(r"\.[a-z0-9_]{8}\.", ".*.", " ".join(dict.fromkeys(names)))


def fresh(source: Path, target: Path) -> None:
    """Make ``target`` the same tree as ``source``."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target, symlinks=True)
