"""What an application says of itself, and where its deployment file says something else."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from typing import Any, Final, Literal

from aiosystemd.build import Build
from aiosystemd.errors import Location, Problem
from aiosystemd.model import Deployment
from aiosystemd.positions import Path as KeyPath
from aiosystemd.rules import location

_SPARE: Final = 30.0
"""Seconds for the interpreter and aiohttp, on a machine that is busy; the import itself it ends by its own."""
_LOOK: Final = 0.2
"""Seconds between two looks whether it has ended."""
_SHORT: Final = 6
"""Characters that a value of a variable must have to be taken for a secret; less stands in many a message."""
_UNITS: Final = (("G", 1 << 30), ("M", 1 << 20), ("K", 1 << 10))

Kind = Literal["websocket", "stream"]


@dataclass(frozen=True, slots=True)
class Static:
    """A directory that the application serves itself."""

    prefix: str
    directory: str
    """As it is on this machine; "" where that is not known."""
    at: Location | None = None


@dataclass(frozen=True, slots=True)
class Route:
    """A path on which a connection may be silent for long."""

    path: str
    """In aiohttp's notation, as ``/chat/{room}``."""
    kind: Kind
    at: Location | None = None
    """Its handler."""

    @property
    def prefix(self) -> str:
        """What it begins with, for ``proxy.streams``: up to the last slash before a variable."""
        fixed, variable, _ = self.path.partition("{")
        return fixed[: fixed.rfind("/") + 1] if variable else fixed


@dataclass(frozen=True, slots=True)
class Facts:
    """What an application says of itself."""

    static: tuple[Static, ...] = ()
    routes: tuple[Route, ...] = ()
    body_limit: int | None = None
    """Its ``client_max_size`` in bytes, 0 for none; None where it is not known."""

    def __str__(self) -> str:
        kinds = [route.kind for route in self.routes]
        counts = {"static route": len(self.static), **{kind: kinds.count(kind) for kind in ("websocket", "stream")}}
        found = [f"{count} {what}{'s'[: count != 1]}" for what, count in counts.items() if count]
        return ", ".join([*found, *([f"bodies up to {size(self.body_limit)}"] if self.body_limit else [])])


class FailedError(Exception):
    """The application cannot be imported; the text says why."""

    def __init__(self, what: str, *, of_interpreter: bool = False) -> None:
        super().__init__(what)
        self.of_interpreter = of_interpreter
        """Whether it was the interpreter that could not."""


@dataclass(frozen=True, slots=True)
class Subject:
    """An application, and how to import it."""

    app: str
    python: str
    directory: Path
    """Where an instance runs, and imports from."""
    arguments: tuple[str, ...] = ()
    environment: Mapping[str, str] | None = None
    """Variables beside those of this program."""
    limit: float = 30.0
    """Seconds that the import, and a factory, may take together."""


def ask(subject: Subject) -> Facts:
    """Import an application in a process of its own, and return what it says of itself.

    Raises FailedError.
    """
    command = (subject.python, "-P", "-m", "aiosystemd.runtime.introspection")
    environment = {**os.environ, **(subject.environment or {})}
    done = _run((*command, f"{subject.limit:g}", subject.app, *subject.arguments), subject, environment)
    try:
        told = json.loads(done.stdout)
    except ValueError:
        raise _unanswered(subject, done, environment) from None
    if "failure" in told:
        place = f" ({told['file']}:{told['line']})" if told["file"] else ""
        raise FailedError(_without_secrets(str(told["failure"]), environment) + place)
    return _facts(told)


def look(built: Build) -> tuple[tuple[Problem, ...], str]:
    """Compare the application of a deployment with its file; return the problems, and what was found."""
    d, here = built.deployment, _Here(built)
    subject = Subject(d.app, here.python, here.directory, d.arguments, d.service.environment, d.timeouts.start)
    try:
        facts = ask(subject)
    except FailedError as error:
        if error.of_interpreter:
            mend = f"{here.python} -m pip install 'aiosystemd[serve]=={version('aiosystemd')}'"
            return (_problem(built, str(error), mend, ("python",), ("app",)),), here.note
        # Which only systemd reads, in its own syntax and with its own rights.
        hint = "environment_files and credentials are not passed here: aiosystemd doctor imports it as systemd does"
        unread = d.service.environment_files or d.service.credentials
        return (_problem(built, f"app: {error}", hint if unread else "", ("app",)),), here.note
    found = replace(facts, static=tuple(replace(each, directory=here.there(each.directory)) for each in facts.static))
    warnings = tuple(replace(problem, severity="warning") for problem in _differences(found, built))
    return tuple(sorted(warnings)), ", ".join(filter(None, (str(facts), here.note)))


class _Here:
    """Where a deployment's application and interpreter are on this machine, which may not be the one it is for."""

    def __init__(self, built: Build) -> None:
        d = built.deployment
        self._wanted = d.directory
        is_here = d.directory is not None and Path(d.directory).is_dir()
        self.directory = Path(d.directory) if d.directory and is_here else _found(d, built.file.absolute().parent)
        self.python = next((path for path in self._interpreters(d) if os.access(path, os.X_OK)), sys.executable)
        self.note = "" if self.python == d.python else f"with {self.python} in place of {d.python}"

    def _interpreters(self, d: Deployment) -> Iterator[str]:
        if "python" in d.model_fields_set:
            yield d.python
            if d.directory and PurePosixPath(d.python).is_relative_to(d.directory):
                yield str(self.directory / PurePosixPath(d.python).relative_to(d.directory))
        elif self._wanted == str(self.directory):  # the host that it is for
            yield d.python

    def there(self, path: str) -> str:
        """Return where a path of this machine is on the one that the deployment is for."""
        if self._wanted and Path(path).is_relative_to(self.directory):
            return str(PurePosixPath(self._wanted, PurePosixPath(path).relative_to(self.directory)))
        return path


def _found(d: Deployment, folder: Path) -> Path:
    """Return where below the deployment file the application is: ``src`` for a directory ``/srv/example/src``."""
    parts = PurePosixPath(d.directory or "/").parts[1:]
    first = d.app.partition(":")[0].partition(".")[0]
    places = (folder, *(folder.joinpath(*parts[start:]) for start in range(len(parts))))
    return next((each for each in places if (each / first).is_dir() or (each / f"{first}.py").is_file()), folder)


def _run(argv: Sequence[str], subject: Subject, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    try:
        with subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            cwd=subject.directory,
            env=environment,
            start_new_session=True,
        ) as process:
            try:
                out, err = _output(process, subject.limit + _SPARE)
            finally:
                _end(process)
    except OSError as error:
        raise FailedError(f"{subject.python} cannot be run: {error.strerror}", of_interpreter=True) from None
    return subprocess.CompletedProcess(argv, process.returncode, out, err)


def _output(process: subprocess.Popen[str], patience: float) -> tuple[str, str]:
    deadline = time.monotonic() + patience
    while True:
        try:
            return process.communicate(timeout=_LOOK)
        except subprocess.TimeoutExpired:
            # A process that the import has started may keep its output open.
            if process.poll() is not None or time.monotonic() > deadline:
                _end(process)


def _end(process: subprocess.Popen[str]) -> None:
    """End what the import has started, too: it is all in a session of its own."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _unanswered(s: Subject, done: subprocess.CompletedProcess[str], environment: Mapping[str, str]) -> FailedError:
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    if any(line.startswith("Timeout (") for line in lines):  # faulthandler; the innermost frame comes first
        frames = [line for line in lines if line.startswith('File "/')]
        own = next((line for line in frames if not re.search(r"/lib(?:64)?/python3", line)), "")
        waits = f": it waits in {own}" if own else ""
        return FailedError(f"importing {s.app} does not end within {s.limit:g} s (timeouts.start){waits}")
    if done.returncode == -signal.SIGKILL:
        return FailedError(f"importing {s.app} does not end within {s.limit:g} s (timeouts.start)")
    last = _without_secrets(lines[-1] if lines else f"exit status {done.returncode}", environment)
    # What runs before any line of the application's own, of an interpreter that is too old or lacks a library.
    if "aiosystemd" in last or "unknown option" in done.stderr.lower():
        return FailedError(f"{s.python} cannot look at an application: {last}", of_interpreter=True)
    return FailedError(f"importing {s.app} ends the process: {last}")


def _without_secrets(text: str, environment: Mapping[str, str]) -> str:
    """Return a message with values of variables replaced by their names; a path that exists is none's secret."""
    for name, value in sorted(environment.items(), key=lambda item: -len(item[1])):
        if len(value) >= _SHORT and value in text and not os.path.exists(value):  # noqa: PTH110 (a value may be anything)
            text = text.replace(value, f"${name}")
    return text


def _facts(told: Mapping[str, Any]) -> Facts:
    static = dict.fromkeys(Static(each["prefix"], each["directory"]) for each in told["static"])
    routes = dict.fromkeys(
        Route(each["path"], each["kind"], Location(each["file"], each["line"]) if each["file"] else None)
        for each in told["routes"]
    )
    return Facts(tuple(static), tuple(routes), int(told["body_limit"] or 0))


def _problem(built: Build, what: str, hint: str, *concerns: KeyPath) -> Problem:
    """Return a problem with the first of these keys, or of the tables that they stand in, that was written."""
    at = (built.source.problem(concern, what, hint) for concern in (*concerns, ("app",)))
    return next(problem for problem in at if problem.at.line)


def _differences(facts: Facts, built: Build) -> Iterator[Problem]:
    if built.deployment.proxy.kind != "none":
        yield from _static(facts, built)
        yield from _streams(facts, built)
        yield from _bodies(facts, built)


def _static(facts: Facts, built: Build) -> Iterator[Problem]:
    proxy = built.deployment.proxy
    served = {location(prefix): (prefix, directory) for prefix, directory in proxy.static.items()}
    for each in facts.static:
        prefix = location(each.prefix)
        if prefix in served:
            written, directory = served[prefix]
            if os.path.normpath(directory) != os.path.normpath(each.directory):
                what = f"the proxy serves {prefix} from {directory}, the application from {each.directory}"
                yield _problem(built, what, f'write "{each.directory}"', ("proxy", "static", written))
        # "/" cannot be left to the proxy, and what is not below the prefix of a joined site does not come here.
        elif prefix != "/" and prefix.startswith(location(proxy.prefix or "/")) and not prefix.startswith((*served,)):
            what = f"the application serves {prefix} itself, from {each.directory}: the proxy could, for less"
            hint = f"write {_quoted(prefix)} = {_quoted(each.directory)} into [proxy.static]"
            yield _problem(built, what, hint, ("proxy", "static"))


def _streams(facts: Facts, built: Build) -> Iterator[Problem]:
    d = built.deployment
    named = tuple(map(location, d.proxy.streams))
    sockets = [route for route in facts.routes if route.kind == "websocket"]
    if sockets and not d.proxy.websockets:
        paths = ", ".join(dict.fromkeys(map(_shown, sockets)))
        yield _problem(
            built, f"the proxy passes no websockets on, and the application has: {paths}",
            "remove websockets = false", ("proxy", "websockets"),
        )  # fmt: skip
    for route in dict.fromkeys(facts.routes):
        if location(route.prefix).startswith(named) or (route.kind == "websocket" and not d.proxy.websockets):
            continue
        what = f"{_shown(route)} is a {route.kind}: the proxy ends it after {d.timeouts.request:g} s of silence"
        hint = f"add {_quoted(route.prefix)} to proxy.streams"
        if route.prefix == "/" and route.path != "/":
            hint = f"{hint}, which is every path, or give it a path that does not begin with a variable"
        yield _problem(built, what, hint, ("proxy", "streams"))


def _bodies(facts: Facts, built: Build) -> Iterator[Problem]:
    d, own = built.deployment, facts.body_limit or 0
    chosen, of_proxy = d.server.body_limit, d.body_size
    if chosen is not None:
        if own > chosen:
            what = f"the application would take bodies of {size(own)} (client_max_size), and is kept to {size(chosen)}"
            yield _problem(built, what, f'write "{size(own)}", or remove it', ("server", "body_limit"))
    elif of_proxy < own:
        what = f"the proxy refuses bodies above {size(of_proxy)}, the application above {size(own)} (client_max_size)"
        yield _problem(built, what, f'write body_size = "{size(own)}" into [proxy]', ("proxy", "body_size"))
    elif of_proxy > own > 0:
        what = f"the proxy accepts bodies of {size(of_proxy)}, the application up to {size(own)} (client_max_size)"
        yield _problem(built, what, f'write "{size(own)}", or set server.body_limit', ("proxy", "body_size"))
    elif facts.body_limit == 0 and d.proxy.body_size is None:
        what = f"the proxy refuses bodies above {size(of_proxy)}, the application none (client_max_size)"
        yield _problem(built, what, "write the size of the largest as body_size into [proxy]", ("proxy", "body_size"))


def size(value: int) -> str:
    """Return a number of bytes as the deployment file may have it: ``"50M"``, or as it is."""
    return next((f"{value // unit}{name}" for name, unit in _UNITS if value and value % unit == 0), str(value))


def _shown(route: Route) -> str:
    return f"{route.path} ({route.at})" if route.at else route.path


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
