"""The real program, watched from outside."""

import contextlib
import json
import os
import re
import select
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.tools import own_command

PATIENCE = 60.0
"""Seconds after which something that must happen is taken not to happen; no measure of speed."""

AIOSYSTEMD = own_command("aiosystemd")


def free_ports(count: int = 1) -> int:
    """Return the first of ``count`` ports in a row on which nobody listens."""
    while True:
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError, OverflowError):
            first = _bind(stack.enter_context(socket.socket()), 0)
            for number in range(1, count):
                _bind(stack.enter_context(socket.socket()), first + number)
            return first


def _bind(sock: socket.socket, port: int) -> int:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("127.0.0.1", port))
    return int(sock.getsockname()[1])


class Program:
    """``aiosystemd up``, started in a directory of its own, whose temporary files go where they can be counted."""

    def __init__(self, arguments: Sequence[str], directory: Path, temporary: Path, **options: Any) -> None:
        self.temporary = temporary
        self.output = ""
        # A warning would be an error, and a descriptor that was not closed a line of output.
        environment = {
            **os.environ,
            "TMPDIR": str(temporary),
            "PYTHONWARNINGS": "error",
            **options.pop("environment", {}),
        }
        wrapper = options.pop("wrapper", ())
        options.setdefault("stdout", subprocess.PIPE)
        self.process = subprocess.Popen(
            [*wrapper, AIOSYSTEMD, "up", *arguments],
            cwd=directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.STDOUT,
            **options,
        )
        self._descriptor = self.process.stdout.fileno() if self.process.stdout else -1

    def read_from(self, descriptor: int) -> None:
        """Read the output from ``descriptor``, a terminal's."""
        self._descriptor = descriptor

    def wait_for(self, pattern: str, begin: int = 0, *, patience: float = PATIENCE) -> re.Match[str]:
        """Read until the output from ``begin`` on matches."""
        end = time.monotonic() + patience
        while not (match := re.compile(pattern, re.MULTILINE).search(self.output, begin)):
            assert self._read_until(end), f"no {pattern!r} in:\n{self.output}"
        return match

    def end(self) -> int:
        """Read all its output and return its exit status."""
        end = time.monotonic() + PATIENCE
        while self._read_until(end):
            pass
        return self.process.wait(PATIENCE)

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def close(self) -> None:
        """Leave nothing behind, whatever the test did."""
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait()
        if self.process.stdout:
            self.process.stdout.close()
        for pid in self.family():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def family(self) -> list[int]:
        """Return the processes that work in, or know of, the program's temporary directory."""
        processes = (
            each for each in Path("/proc").iterdir() if each.name.isdecimal() and each.name != str(os.getpid())
        )
        return [int(each.name) for each in processes if self._knows(each)]

    def _knows(self, process: Path) -> bool:
        mark = os.fsencode(self.temporary)
        try:
            # nginx writes over its environment, but its processes stay where they were started.
            state = (process / "stat").read_text().rpartition(")")[2].split()[0]
            known = bytes((process / "cwd").readlink()) + (process / "environ").read_bytes()
        except OSError:
            return False
        return mark in known and state not in "ZX"

    def _read_until(self, end: float) -> bool:
        ready, _, _ = select.select([self._descriptor], [], [], max(end - time.monotonic(), 0))
        assert ready, f"nothing more came:\n{self.output}"
        try:
            part = os.read(self._descriptor, 1 << 16)
        except OSError:  # a terminal whose other end is closed, pty(7)
            return False
        self.output += part.decode()
        return bool(part)


def ended(pids: Sequence[int]) -> bool:
    """Wait for the end of processes that are not ours; return whether it came."""
    end = time.monotonic() + PATIENCE
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            descriptor = os.pidfd_open(pid)
            ready, _, _ = select.select([descriptor], [], [], max(end - time.monotonic(), 0))
            os.close(descriptor)
            if not ready:
                return False
    return True


def ask(port: int, path: str = "/", data: bytes | None = None) -> bytes:
    """Return the body of a good answer."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", data, PATIENCE) as response:
        body: bytes = response.read()
        return body


def who(port: int, data: bytes | None = None) -> dict[str, Any]:
    """Return what an instance says about itself."""
    told: dict[str, Any] = json.loads(ask(port, data=data))
    return told
