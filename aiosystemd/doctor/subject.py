"""What is looked at: a deployment, where each of its keys stands, and this host."""

import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from inspect import getsource
from pathlib import Path
from typing import Any

from aiosystemd.build import Build
from aiosystemd.doctor import facts, identity
from aiosystemd.doctor.configuration import Configuration, parse
from aiosystemd.doctor.finding import Finding, edit
from aiosystemd.doctor.identity import Identity
from aiosystemd.doctor.programs import installed, run
from aiosystemd.errors import Location
from aiosystemd.host import Host
from aiosystemd.load import Source
from aiosystemd.model import Deployment
from aiosystemd.positions import Path as KeyPath

_PATIENCE = 60.0
"""Seconds for an interpreter to import aiohttp, on a machine that is busy."""


@dataclass(frozen=True)
class Subject:
    """A deployment on this host."""

    source: Source
    build: Build
    host: Host

    @property
    def deployment(self) -> Deployment:
        """What the user wrote."""
        return self.build.deployment

    @property
    def root(self) -> bool:
        """Whether this program may look at everything."""
        return os.geteuid() == 0

    @property
    def systemd_runs(self) -> bool:
        """Whether systemd is this machine's first process, sd_booted(3)."""
        return Path("/run/systemd/system").is_dir()

    @cached_property
    def user(self) -> Identity:
        """Whom the instances run as, or who stands for a user that does not exist yet."""
        return identity.of_service(self.deployment)

    @cached_property
    def interpreter(self) -> "Interpreter":
        """What the interpreter has; asked as the service's user, since its owner need not be trusted by root."""
        return ask(self.user, self.deployment)

    @cached_property
    def nginx(self) -> Configuration | None:
        """What nginx is configured to do; None where it does not tell."""
        done = run("nginx", "-T") if self.root and installed("nginx") else None
        return parse(done.stdout) if done and not done.returncode else None

    def error(self, key: KeyPath, what: str, mend: str = "") -> Finding:
        """Return an error at a key; without a command that mends it, an editor is opened there."""
        problem = self.source.problem(key, what)
        mend = mend or edit(problem.at.file, problem.at.line)
        return Finding("error", what, problem.at, mend, problem.source)

    def warning(self, key: KeyPath, what: str, mend: str = "") -> Finding:
        """Return a warning at a key; see ``error``."""
        problem = self.source.problem(key, what)
        mend = mend or edit(problem.at.file, problem.at.line)
        return Finding("warning", what, problem.at, mend, problem.source)


def fault(file: str, what: str, mend: str, line: int = 0) -> Finding:
    """Return an error at a file or a program of the host, where no key is at fault."""
    return Finding("error", what, Location(file, line), mend)


def doubt(file: str, what: str, mend: str) -> Finding:
    """Return a warning at a file or a program of the host, where no key is at fault."""
    return Finding("warning", what, Location(file), mend)


def fine(what: str) -> Finding:
    """Return that something is as it should be."""
    return Finding("fine", what)


def unseen(what: str) -> Finding:
    """Return that something could not be looked at, and why."""
    return Finding("unseen", what)


@dataclass(frozen=True, slots=True)
class Interpreter:
    """A Python and what is installed for it."""

    version: tuple[int, ...] = ()
    """Empty when it gave no answer."""
    prefix: str = ""
    """Where its standard library is, behind any virtual environment and link."""
    managed: bool = False
    """Whether pip leaves it to the distribution, PEP 668."""
    versions: Mapping[str, str] = field(default_factory=dict)
    failures: Mapping[str, str] = field(default_factory=dict)
    """Why a module cannot be imported, by the name of what is installed; "" for one that can."""
    words: str = ""
    """What it said in place of an answer."""


def ask(user: Identity, d: Deployment) -> Interpreter:
    """Return what the deployment's interpreter has."""
    script = f"{getsource(facts)}\ntell()\n"
    try:
        done = user.run(d.python, "-", stdin=script, environment=d.service.environment, patience=_PATIENCE)
    except (OSError, subprocess.TimeoutExpired) as error:
        return Interpreter(words=str(error))
    try:
        return _interpreter(json.loads(last_line(done.stdout)))
    except (ValueError, TypeError, KeyError):
        return Interpreter(words=last_line(done.stderr) or f"exit status {done.returncode}")


def _interpreter(told: Mapping[str, Any]) -> Interpreter:
    return Interpreter(
        version=tuple(map(int, told["version"])),
        prefix=str(told["prefix"]),
        managed=bool(told["managed"]),
        versions={name: str(told["versions"][name]) for name in facts.MODULES},
        failures={name: str(told["failures"][name]) for name in facts.MODULES},
    )


def last_line(text: str) -> str:
    """Return the last line that is not blank; a program's reason stands there."""
    return text.strip().rpartition("\n")[2].strip()
