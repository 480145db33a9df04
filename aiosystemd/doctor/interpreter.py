"""The interpreter and the application's directory: there, reachable in the sandbox, and with what instances need."""

import os
import re
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from typing import Final

from aiosystemd.doctor.finding import Finding, command, edit, then
from aiosystemd.doctor.subject import Interpreter, Subject, fine, unseen
from aiosystemd.model import Deployment

OLDEST_PYTHON: Final = (3, 11)
"""As pyproject.toml has it."""
AIOHTTP: Final = ((3, 11), (4,))
"""The oldest version, and the first that is too new, as pyproject.toml has them."""

_HOMES: Final = ("/home", "/root", "/run/user")
"""What ``ProtectHome=`` hides, systemd.exec(5)."""
_TEMPORARY: Final = ("/tmp", "/var/tmp")  # noqa: S108 (what PrivateTmp= replaces)


def reach(s: Subject) -> Iterator[Finding]:
    """Look whether the instances can enter their directory and run their interpreter."""
    found = list(obstacles(s))
    yield from found
    if not found:
        paths = " and ".join(path for _, path in _paths(s.deployment))
        yield fine(f"{paths} can be reached by {s.user.name}")


def obstacles(s: Subject) -> Iterator[Finding]:
    """Yield what keeps the instances from their directory or their interpreter."""
    for key, path in _paths(s.deployment):
        if not os.path.exists(path):  # noqa: PTH110 (Path.exists() raises for what may not be entered)
            yield _missing(s, key, path)
        elif hidden := next(_hidden(s, key, path), None):
            yield hidden
        elif key == "python" and (noexec := next(_noexec(s, path), None)):
            yield noexec
        elif not s.user.can_be_taken:
            yield unseen(f"whether {s.user.name} can reach {path}: only root can try")
        elif blocked := s.user.blocked(path, read=key == "directory"):
            yield _blocked(s, key, path, blocked)


def _paths(d: Deployment) -> Iterator[tuple[str, str]]:
    if d.directory:
        yield "directory", d.directory
    yield "python", d.python


def _missing(s: Subject, key: str, path: str) -> Finding:
    if key == "directory":
        return s.error((key,), f"{path} does not exist", command("mkdir", "--parents", path))
    environment = PurePosixPath(path).parent
    if environment.name != "bin" or str(environment).startswith("/usr"):
        return s.error((key,), f"{path} does not exist")
    return s.error((key,), f"{path} does not exist", _virtual_environment(str(environment.parent)))


def _virtual_environment(directory: str) -> str:
    packages = command(f"{directory}/bin/pip", "install", "aiosystemd[serve,uvloop]")
    return then(command("python3", "-m", "venv", directory), packages)


def _hidden(s: Subject, key: str, path: str) -> Iterator[Finding]:
    # The rules look at the paths of the file as they are written; where links lead, only the host knows.
    real = os.path.realpath(path)
    places = [real, s.interpreter.prefix] if key == "python" else [real]
    sandbox = s.deployment.sandbox
    for place in places:
        if not sandbox.home and _is_under(place, _HOMES):
            yield s.error((key,), f"{path} leads to {place}, a home directory, which the sandbox hides")
        if not sandbox.shared_tmp and _is_under(place, _TEMPORARY):
            yield s.error((key,), f"{path} leads to {place}, of which instances get an empty directory of their own")


def _is_under(path: str, directories: tuple[str, ...]) -> bool:
    return any(f"{path}/".startswith(f"{directory}/") for directory in directories)


def _blocked(s: Subject, key: str, path: str, part: str) -> Finding:
    entered = "run" if key == "python" and part == path else "entered"
    what = f"{part} cannot be {entered} by {s.user.name}" + (f", on the way to {path}" if part != path else "")
    return s.error((key,), what, command("chmod", "o+rx" if part == path else "o+x", part))


def _noexec(s: Subject, path: str) -> Iterator[Finding]:
    real = Path(path).resolve()
    if os.statvfs(real).f_flag & os.ST_NOEXEC:
        mount = next(str(parent) for parent in real.parents if parent.is_mount())
        what = f"{real} is on {mount}, which is mounted with noexec"
        yield s.error(("python",), what, command("mount", "--options", "remount,exec", mount))


def libraries(s: Subject) -> Iterator[Finding]:
    """Look whether the interpreter is new enough and has the runtime, aiohttp and what else an instance imports."""
    if any(finding.severity == "error" for finding in obstacles(s)):
        return  # it has been told what is wrong
    python = s.interpreter
    if not python.version:
        yield s.error(("python",), f"{s.deployment.python} cannot be run by {s.user.name}: {python.words}")
    elif python.version < OLDEST_PYTHON:
        shown, oldest = _dotted(python.version), _dotted(OLDEST_PYTHON)
        what = f"{s.deployment.python} is Python {shown}; {oldest} is the oldest supported"
        yield s.error(("python",), what)
    else:
        found = [*_missing_libraries(s, python), *_wrong_versions(s, python)]
        yield from found
        if not found:
            have = ", ".join(f"{name} {number}".strip() for name, number in python.versions.items() if number)
            yield fine(f"{s.deployment.python} is Python {_dotted(python.version)} with {have}")


def _missing_libraries(s: Subject, python: Interpreter) -> Iterator[Finding]:
    needed = ["aiosystemd", "aiohttp", "systemd-python"]
    if s.deployment.server.loop == "uvloop":
        needed.append("uvloop")
    for name in needed:
        if words := python.failures[name]:
            key = ("server", "loop") if name == "uvloop" else ("python",)
            yield s.error(key, f"{s.deployment.python} cannot import {name}: {words}", _install(s, name))


def _wrong_versions(s: Subject, python: Interpreter) -> Iterator[Finding]:
    least, most = AIOHTTP
    number = python.versions["aiohttp"]
    if number and not python.failures["aiohttp"] and not least <= _numbers(number) < most:
        what = f"{s.deployment.python} has aiohttp {number}; {_dotted(least)} or newer is needed, below {_dotted(most)}"
        yield s.error(("python",), what, _install(s, "aiohttp"))
    ours, theirs = version("aiosystemd"), python.versions["aiosystemd"]
    if theirs and theirs != ours and not python.failures["aiosystemd"]:
        what = f"{s.deployment.python} has aiosystemd {theirs}, and this is {ours}: units may ask for what it has not"
        yield s.warning(("python",), what, _install(s, "aiosystemd"))


def _install(s: Subject, name: str) -> str:
    """Return the command that installs ``name``, in a new virtual environment if pip may not touch the interpreter."""
    d = s.deployment
    if s.interpreter.managed:
        directory = f"{d.directory or f'/srv/{d.name}'}/venv"
        line = s.source.problem(("python",), "").at.line
        return then(_virtual_environment(directory), edit(s.source.file, line))
    least, most = AIOHTTP
    wanted = {
        "aiosystemd": f"aiosystemd[serve]=={version('aiosystemd')}",
        "aiohttp": f"aiohttp>={_dotted(least)},<{_dotted(most)}",
    }
    return command(d.python, "-m", "pip", "install", wanted.get(name, name))


def _numbers(number: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", number)[:3]))


def _dotted(number: tuple[int, ...]) -> str:
    return ".".join(map(str, number))
