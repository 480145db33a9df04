"""nginx, as it runs on this host: checked, and told to read its configuration."""

import subprocess
import time
from pathlib import Path
from typing import Final

from aiosystemd import systemctl
from aiosystemd.probe import program
from aiosystemd.rollout.work import Failed, Work
from aiosystemd.systemctl import Command

_UNIT: Final = "nginx.service"

_PATIENCE: Final = 10.0
"""Seconds in which nginx starts workers that have read the new configuration."""

_LOOK: Final = 0.05
"""Seconds between two looks at them."""


def refusal() -> str:
    """Return what nginx has against its configuration as it is on the disk, "" when nothing, or when there is none."""
    nginx = program("nginx")
    if nginx is None:
        return ""
    done = subprocess.run((nginx, "-t", "-q"), capture_output=True, text=True, errors="replace", check=False)
    return done.stderr.strip() or f"status {done.returncode}" if done.returncode else ""


def reload(work: Work) -> None:
    """Have nginx read its configuration, and wait until it has.

    Raises:
        Failed: the configuration is refused; nginx goes on with the one that it had.
        Interrupted: before it was told.

    """
    if words := refusal():
        raise Failed(f"nginx -t: {words}")
    main = _main_process()
    if not main:
        work.say("", "nginx does not run: it reads the site when it starts")
        return
    work.say("", f"systemctl reload {_UNIT}")
    before = _children(main)
    with Command(work.loop, "reload", _UNIT) as command:
        work.until(lambda: command.status is not None)
    if command.status:
        raise Failed(f"systemctl reload {_UNIT}: {command.words}")
    _wait_for_new(work, main, before)


def _wait_for_new(work: Work, main: int, before: frozenset[int]) -> None:
    # nginx(8): the reload is a signal; what it finds wrong only then, such as an address in use, is in its error log.
    end = time.monotonic() + _PATIENCE
    while not _children(main) - before:
        if time.monotonic() > end:
            raise Failed("nginx has not taken the new configuration, and its error log says why")
        work.rest(_LOOK)


def _main_process() -> int:
    properties = systemctl.show([_UNIT], ["ActiveState", "MainPID"]).get(_UNIT, {})
    running = properties.get("ActiveState") in ("active", "reloading")
    return int(properties.get("MainPID", "0")) if running else 0


def _children(process: int) -> frozenset[int]:
    try:
        text = Path(f"/proc/{process}/task/{process}/children").read_text(encoding="ascii")
    except OSError:
        return frozenset()
    return frozenset(map(int, text.split()))
