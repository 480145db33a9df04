"""nginx or HAProxy, as it runs on this host: checked, and told to read its configuration."""

import subprocess
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from aiosystemd import systemctl
from aiosystemd.export.haproxy import CONFIGURATION
from aiosystemd.probe import program
from aiosystemd.rollout.work import Failed, Work
from aiosystemd.systemctl import Command

CHECKER: Final = {"nginx": "nginx -t", "haproxy": "haproxy -c"}
"""What a proxy's own checker is called."""

_PATIENCE: Final = 10.0
"""Seconds in which a proxy starts workers that have read the new configuration."""

_LOOK: Final = 0.05
"""Seconds between two looks at them."""


def refusal(name: str) -> str:
    """Return what a proxy has against its configuration as it is on the disk, "" when nothing, or without a proxy."""
    path = program(name)
    if path is None:
        return ""
    done = subprocess.run((path, *_check(name)), capture_output=True, text=True, errors="replace", check=False)
    # HAProxy's -q would hide what is wrong as well; what it is called and where it stands is not.
    words = "\n".join(line for line in done.stderr.splitlines() if not line.startswith("[NOTICE]"))
    return words.strip() or f"status {done.returncode}" if done.returncode else ""


def _check(name: str) -> tuple[str, ...]:
    if name == "nginx":
        return ("-t", "-q")
    sites = ("-f", str(CONFIGURATION)) if Path(CONFIGURATION).is_dir() else ()
    return ("-c", "-f", "/etc/haproxy/haproxy.cfg", *sites)


def reload(work: Work, name: str, directories: Iterable[str] = ()) -> None:
    """Have a proxy read its configuration, and wait until it has; ``directories`` are those of unix sockets.

    HAProxy is restarted when it has not been told of our sites, or cannot see the sockets: only a start changes that.

    Raises:
        Failed: the configuration is refused; the proxy goes on with the one that it had.
        Interrupted: before it was told.

    """
    if words := refusal(name):
        raise Failed(f"{CHECKER[name]}: {words}")
    unit = f"{name}.service"
    main = _main_process(unit)
    if not main:
        work.say("", f"{name} does not run: it reads the site when it starts")
        return
    before = _children(main)
    anew = name == "haproxy" and not (_reads_sites(main) and all(_sees(before, each) for each in directories))
    verb = "restart" if anew else "reload"
    work.say("", f"systemctl {verb} {unit}")
    with Command(work.loop, verb, unit) as command:
        work.until(lambda: command.status is not None)
    if command.status:
        raise Failed(f"systemctl {verb} {unit}: {command.words}")
    if not anew:
        _wait_for_new(work, name, main, before)


def _wait_for_new(work: Work, name: str, main: int, before: frozenset[int]) -> None:
    # nginx(8), haproxy(1): the reload is a signal; what is wrong only then, such as an address in use, is in its log.
    end, logs = time.monotonic() + _PATIENCE, "error log" if name == "nginx" else "journal"
    while not _children(main) - before:
        if time.monotonic() > end:
            raise Failed(f"{name} has not taken the new configuration, and its {logs} says why")
        work.rest(_LOOK)


def _reads_sites(main: int) -> bool:
    try:
        return str(CONFIGURATION) in Path(f"/proc/{main}/cmdline").read_text(encoding="utf-8").split("\0")
    except OSError:
        return False


def _sees(workers: Iterable[int], directory: str) -> bool:
    """Tell whether processes have the same directory at that path, however confined they are: proc(5), root."""
    try:
        return all(Path(f"/proc/{worker}/root{directory}").samefile(directory) for worker in workers)
    except OSError:
        return False


def _main_process(unit: str) -> int:
    properties = systemctl.show([unit], ["ActiveState", "MainPID"]).get(unit, {})
    running = properties.get("ActiveState") in ("active", "reloading")
    return int(properties.get("MainPID", "0")) if running else 0


def _children(process: int) -> frozenset[int]:
    try:
        text = Path(f"/proc/{process}/task/{process}/children").read_text(encoding="ascii")
    except OSError:
        return frozenset()
    return frozenset(map(int, text.split()))
