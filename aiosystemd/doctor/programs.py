"""Programs that look at something, run to their end."""

import os
import subprocess
from typing import Final

from aiosystemd.probe import program

_PATIENCE: Final = 60.0
"""Seconds; none talks to the network."""


def run(name: str, *arguments: str, stdin: str = "", patience: float = _PATIENCE) -> subprocess.CompletedProcess[str]:
    """Return what a program did, in plain English; one that cannot be run fails, and says why."""
    argv = (program(name) or name, *arguments)
    try:
        return subprocess.run(
            argv,
            input=stdin,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=patience,
            check=False,
            env={**os.environ, "LC_ALL": "C.UTF-8"},
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return subprocess.CompletedProcess(argv, 1, "", f"cannot be run: {error}")


def installed(name: str) -> bool:
    """Tell whether a program is there."""
    return program(name) is not None
