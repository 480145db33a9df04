"""What the tests need from the machine: there, or the test says why it did not run."""

import os
import shutil
import sys
from pathlib import Path
from typing import NoReturn

import pytest

_BEYOND_PATH = ("/usr/sbin", "/sbin", "/usr/lib/systemd", "/lib/systemd")
"""Where Debian keeps daemons that a user's ``PATH`` does not name."""


def require(program: str) -> str:
    """Return the path of ``program``; without it the test is skipped, or fails where ``CI=true``."""
    directories = (os.environ.get("PATH", os.defpath), *_BEYOND_PATH)
    found = shutil.which(program, path=os.pathsep.join(directories))
    return found or lacking(f"{program} is not installed")


def own_command(name: str) -> str:
    """Return the path of one of our own commands: beside the interpreter, or where Debian's pip puts it."""
    beside = str(Path(sys.executable).parent)
    found = shutil.which(name, path=os.pathsep.join((beside, os.environ.get("PATH", os.defpath))))
    assert found, f"{name} is not installed: pip install -e ."
    return found


def require_root() -> None:
    """Skip the test, or fail it where ``CI=true``, unless it runs as root."""
    if os.geteuid() != 0:
        lacking("namespaces with mounts of their own need root")


def lacking(what: str) -> NoReturn:
    """Skip the test because of ``what``; where ``CI=true`` nothing may be skipped, so it fails."""
    if os.environ.get("CI") == "true":
        pytest.fail(what, pytrace=False)
    pytest.skip(what)
