"""A child process: started as systemd starts one, and never left behind."""

import ctypes
import fcntl
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn

from aiosystemd.loop import Loop
from aiosystemd.up.output import Lines

_FIRST_DESCRIPTOR: Final = 3
"""SD_LISTEN_FDS_START, sd_listen_fds(3)."""

_PR_SET_PDEATHSIG: Final = 1
_EXIT_EXEC: Final = 203
"""systemd.exec(5): the program could not be executed."""

_LIBC: Final = ctypes.CDLL(None)
_EVERY_SIGNAL: Final = signal.valid_signals()


@dataclass(frozen=True, slots=True)
class Command:
    """A program to run."""

    argv: tuple[str, ...]
    """Its path and its arguments."""
    directory: Path
    environment: Mapping[str, str]
    own_pid: tuple[str, ...] = ()
    """Variables that hold the process's own number, as ``LISTEN_PID`` does."""
    orphaned: signal.Signals = signal.SIGKILL
    """What it gets when this program dies."""


class Child:
    """A running ``Command``, in a session of its own: a terminal's Ctrl-C does not reach it."""

    def __init__(
        self,
        loop: Loop,
        command: Command,
        write: Callable[[bytes], None],
        ended: Callable[[int], None],
        descriptors: Sequence[int] = (),
    ) -> None:
        """Start it.

        Args:
            loop: calls back.
            command: what to run.
            write: gets each line of its stdout and stderr.
            ended: gets its exit status, negative for a signal, after the last line.
            descriptors: what it finds from descriptor 3 on.

        """
        self._loop = loop
        self._ended = ended
        self.pid, output = _spawn(command, descriptors)
        self._lines = Lines(output, write)
        # pidfd_open(2): readable when the process has ended.
        self._process = os.pidfd_open(self.pid)
        loop.watch(output, self._read)
        loop.watch(self._process, self._reap)

    def send(self, number: signal.Signals) -> None:
        """Send a signal; the process may have ended, but its number is not given to another before ``ended``."""
        os.kill(self.pid, number)

    def destroy(self) -> None:
        """Kill it and wait for its end."""
        self.send(signal.SIGKILL)
        os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        self._reap()

    def _read(self) -> None:
        if not self._lines.read():
            self._loop.forget(self._lines.descriptor)

    def _reap(self) -> None:
        # systemd.kill(5) KillMode=mixed: what the main process leaves behind is killed.
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        _, status = os.waitpid(self.pid, 0)
        for descriptor in (self._process, self._lines.descriptor):
            self._loop.forget(descriptor)
        os.close(self._process)
        self._lines.close()
        self._ended(os.waitstatus_to_exitcode(status))


def is_clean(status: int) -> bool:
    """Whether a process ended as it should (systemd.service(5), SuccessExitStatus=)."""
    return -status in {0, signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGPIPE}


def describe(status: int) -> str:
    """Return how a process ended, in words that follow its name."""
    if status >= 0:
        return f"ended with status {status}"
    with suppress(ValueError):
        return f"was killed by {signal.Signals(-status).name}"
    return f"was killed by signal {-status}"


def _spawn(command: Command, descriptors: Sequence[int]) -> tuple[int, int]:
    """Return the process and the descriptor to read its output from."""
    ours, theirs = os.pipe()
    parent = os.getpid()
    # Until execve(2) a signal for the child would be noted in the pipe by which this process wakes up.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, _EVERY_SIGNAL)
    pid = os.fork()
    if pid == 0:
        _become(command, descriptors, theirs, parent, mask)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    os.close(theirs)
    return pid, ours


def _become(
    command: Command, descriptors: Sequence[int], output: int, parent: int, mask: set[signal.Signals | int]
) -> NoReturn:
    try:
        os.setsid()
        _die_with(parent, command.orphaned)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        _place(descriptors)
        os.chdir(command.directory)
        # Python ignores both, and execve(2) would keep that.
        for number in (signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        own_pid = dict.fromkeys(command.own_pid, str(os.getpid()))
        os.execve(command.argv[0], command.argv, {**command.environment, **own_pid})  # noqa: S606 (an argument vector)
    except OSError as error:
        os.write(2, f"cannot start {command.argv[0]}: {error.strerror}\n".encode())
    finally:
        os._exit(_EXIT_EXEC)


def _die_with(parent: int, number: signal.Signals) -> None:
    _LIBC.prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0)
    if os.getppid() != parent:  # It died before the call, and no signal will come.
        os._exit(_EXIT_EXEC)


def _place(descriptors: Sequence[int]) -> None:
    end = _FIRST_DESCRIPTOR + len(descriptors)
    # First out of the way of one another, or dup2(2) onto 3 could close what belongs on 4.
    copies = [fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, end) for descriptor in descriptors]
    for number, copy in enumerate(copies, _FIRST_DESCRIPTOR):
        os.dup2(copy, number)
