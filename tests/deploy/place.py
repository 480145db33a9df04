"""A host of one's own in a directory: what the program takes for the root, for systemd and for nginx."""

import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Final

from aiosystemd import deploy, probe, rollout, rules, scope
from aiosystemd.host import Host
from aiosystemd.model import Deployment

HOST: Final = Host(cpus=2)
APP: Final = "/srv/shop/current"

Set = Callable[[object, str, object], None]


def move_in(directory: Path, put: Set) -> None:
    """Let the program work on the host in ``directory``, and take itself for root's."""
    root = directory / "root"
    run = PurePosixPath(root, "run")
    put(scope, "_current", replace(scope.SYSTEM, run=run, drop_ins=()))
    put(rollout, "SYSTEMD", directory)
    put(deploy, "SYSTEMD", directory)
    put(deploy, "HERE", root)
    put(probe, "probe", lambda: HOST)
    put(deploy.checks, "verify", lambda *_: iter(()))  # It has tests of its own, and takes its time.
    put(os, "geteuid", lambda: 0)
    # A temporary directory is not where sockets live, nor an interpreter, and there may be no other for a test.
    elsewhere = (rules.listening._sockets_are_where_sockets_live, rules.sandbox._sandbox_shows_its_paths)
    put(rules, "RULES", [each for each in rules.RULES if each not in elsewhere])
    put(Deployment, "socket_directory", property(lambda d: f"{root}{d.listen.directory or '/run/shop'}"))


def deployment(*lines: str, instances: int = 2) -> str:
    """Return the text of a deployment file."""
    head = ('name = "shop"', 'app = "app:create"', f'directory = "{APP}"', f'python = "{sys.executable}"')
    return "\n".join((*head, f"instances = {instances}  # as many as there are", *lines, ""))
