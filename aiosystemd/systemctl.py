"""systemctl, the way to talk to systemd: what it knows, and commands that take their time."""

import os
import shlex
import subprocess
from collections.abc import Iterable, Mapping
from typing import Final, Self

from aiosystemd import scope
from aiosystemd.loop import Loop

Properties = Mapping[str, str]
"""Name → value as ``systemctl show`` prints it; the values of a property that is printed several times are lines."""

_LONGEST: Final = 500
"""Characters of a program's message that are repeated."""


_MANY: Final = 4
"""Words of a command that are repeated."""


class SystemctlError(Exception):
    """systemctl, or another of systemd's programs, failed; the text is the command's and its own words."""

    def __init__(self, command: str, words: str) -> None:
        super().__init__(f"{command}: {words}")
        self.command = command
        self.words = words


def show(units: Iterable[str], properties: Iterable[str]) -> dict[str, Properties]:
    """Return properties of units by the units' names; a pattern stands for those that systemd has loaded.

    Raises SystemctlError.
    """
    wanted = ",".join(("Id", *properties))
    # systemctl(1): a time of day with its microseconds, and in UTC.
    output = run("show", "--timestamp=us+utc", f"--property={wanted}", "--", *units)
    found = [_properties(block) for block in output.split("\n\n")]
    return {each["Id"]: each for each in found if "Id" in each}


def run(*arguments: str) -> str:
    """Run systemctl and return what it printed.

    Raises SystemctlError.
    """
    return run_program("systemctl", *arguments)


def run_program(program: str, *arguments: str) -> str:
    """Run another of systemd's programs and return what it printed.

    Raises SystemctlError.
    """
    try:
        process = _start(program, *arguments)
    except OSError as error:
        raise SystemctlError(_named(program, arguments), f"cannot be run: {error.strerror}") from None
    output, errors = process.communicate()
    if process.returncode:
        words = _first_line(errors) or f"failed with status {process.returncode}"
        raise SystemctlError(_named(program, arguments), words)
    return output


def last_error(unit: str, since: float, until: float) -> str:
    """Return the last line of priority ``err`` that a unit's own processes wrote between two times of day."""
    # journalctl(1): what a process wrote just before its end may not be in the journal yet.
    _start("journalctl", "--sync").communicate()
    # Without --lines=1, which with --since= is the first line on systemd 252 (measured).
    field = "_SYSTEMD_USER_UNIT" if scope.current().user else "_SYSTEMD_UNIT"
    chosen = (f"{field}={unit}", "--priority=err", f"--since=@{since:.6f}", f"--until=@{until:.6f}")
    output, _ = _start("journalctl", *chosen, "--output=cat", "--quiet", "--no-pager").communicate()
    return _first_line("".join(output.strip().splitlines()[-1:]))


class Command:
    """A systemctl command at work; a context, after which systemd goes on with the job all the same."""

    def __init__(self, loop: Loop, *arguments: str) -> None:
        self.status: int | None = None
        """The exit status, once there is one."""
        self.words = ""
        """Why it failed, in its own words."""
        self._loop = loop
        self._process = _start("systemctl", *arguments)
        # pidfd_open(2): readable when the process has ended.
        self._end = os.pidfd_open(self._process.pid)
        loop.watch(self._end, self._ended)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.status is None:
            self._process.kill()
            self._ended()

    def _ended(self) -> None:
        _, errors = self._process.communicate()
        self.words = _first_line(errors)
        self.status = self._process.returncode
        self._loop.forget(self._end)
        os.close(self._end)


def _start(program: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        (program, *(_options() if program == "systemctl" else ()), *arguments),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        errors="replace",
        env=_environment(),
        start_new_session=True,  # a Ctrl-C at the terminal is for this program to handle, in order
    )


def _options() -> tuple[str, ...]:
    # Without an agent that asks for a password: it would keep the pipes open.
    return ("--no-ask-password", *scope.current().option)


def _environment() -> dict[str, str]:
    here = scope.current()
    # systemctl(1), --user: it finds the user's manager by this, which neither su(1) nor cron(8) sets.
    manager = {"XDG_RUNTIME_DIR": str(here.run)} if here.user else {}
    return {**os.environ, "LC_ALL": "C.UTF-8", **manager}


def _properties(block: str) -> Properties:
    found: dict[str, str] = {}
    for line in block.splitlines():
        name, _, value = line.partition("=")
        found[name] = f"{found[name]}\n{value}" if name in found else value
    return found


def _named(program: str, arguments: tuple[str, ...]) -> str:
    """Return a command as it is told: without its options, and with the first of many units."""
    words = [word for word in arguments if not word.startswith("-")]
    return shlex.join((program, *scope.current().option, *words[:_MANY])) + " …" * (len(words) > _MANY)


def _first_line(text: str) -> str:
    line = next(iter(text.strip().splitlines()), "")
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 1]}…"
