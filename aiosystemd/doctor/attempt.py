"""Whether the application can be imported as the instances would: their user, their sandbox, their environment."""

import json
import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from inspect import getsource
from pathlib import Path
from typing import Final

from aiosystemd import contract
from aiosystemd.doctor import trial
from aiosystemd.doctor.finding import Finding, edit
from aiosystemd.doctor.identity import exists_statically, group_exists
from aiosystemd.doctor.interpreter import libraries, obstacles
from aiosystemd.doctor.programs import installed, run
from aiosystemd.doctor.subject import Subject, fine, last_line, unseen
from aiosystemd.export.sandbox import sandbox
from aiosystemd.model import Deployment
from aiosystemd.render.unit import words

_PLACE: Final = re.compile(r" \((/.*):(\d+)\)$|File \"(/.*)\", line (\d+)")
"""Where the application fails, or waits."""
_ANSWER: Final = re.compile(rf'{trial.MARK}(?:null|"(?:[^"\\]|\\.)*")')
"""What the trial prints, as JSON; the application may print whatever it likes."""
_LIBRARY: Final = re.compile(r"/lib(?:64)?/python3")
_SPARE: Final = 20.0
"""Seconds that systemd may take to set the sandbox up and take it down."""


class NotTriedError(Exception):
    """The import could not be tried; the text says why."""


def imports(s: Subject) -> Iterator[Finding]:
    """Import the application, and look whether its attribute is what an instance can serve."""
    if any(finding.severity == "error" for look in (obstacles, libraries) for finding in look(s)):
        return  # it has been told what is wrong
    d = s.deployment
    try:
        wrong = _attempt(s)
    except NotTriedError as error:
        yield unseen(f"whether {d.app} can be imported: {error}")
        return
    if wrong:
        place = _PLACE.search(wrong)
        mend = edit(place[1] or place[3], int(place[2] or place[4])) if place else ""
        yield s.error(("app",), f"as {s.user.name}: {wrong}", mend)
    else:
        where = f"{s.user.name}, in the sandbox" if _in_sandbox(s) else s.user.name
        yield fine(f"{d.app} can be imported as {where}")


def _in_sandbox(s: Subject) -> bool:
    return s.root and s.systemd_runs and installed("systemd-run")


def _attempt(s: Subject) -> str:
    """Return what is wrong with the application, or nothing."""
    d = s.deployment
    wanted = json.dumps({"app": d.app, "directory": d.directory or "", "limit": d.timeouts.start})
    script = f"{getsource(trial)}\ngo({wanted!r})\n"
    if _in_sandbox(s):
        return _with_systemd(s, script)
    if not s.user.can_be_taken:
        raise NotTriedError(f"only root can become {s.user.name}")
    if d.service.credentials or d.service.environment_files:
        raise NotTriedError("its credentials and environment files are passed by systemd, which does not run here")
    try:
        environment = _environment(d, f"/var/lib/{d.name}")
        patience = d.timeouts.start + _SPARE
        done = s.user.run(d.python, "-P", "-", stdin=script, environment=environment, patience=patience)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    answer = _answer(done)
    return f"it cannot be run: {last_line(done.stderr)}" if answer is None else answer


def _environment(d: Deployment, state: str) -> dict[str, str]:
    own = {contract.INSTANCE_VARIABLE: "1", "HOME": f"/var/lib/{d.name}", "STATE_DIRECTORY": state}
    return {**own, **d.service.environment}


def _answer(done: subprocess.CompletedProcess[str]) -> str | None:
    """Return what the trial found wrong, "" for nothing, and None when it did not even begin."""
    answers = [
        json.loads(line.removeprefix(trial.MARK)) for line in done.stdout.splitlines() if _ANSWER.fullmatch(line)
    ]
    if not answers:
        return None
    if answers[-1] is not None:
        return str(answers[-1])
    if "Timeout (" in done.stderr:  # faulthandler, dump_traceback_later(); the innermost frame comes first
        frames = [line.strip() for line in done.stderr.splitlines() if line.strip().startswith('File "/')]
        own = next((frame for frame in frames if not _LIBRARY.search(frame)), next(iter(frames), ""))
        return "the import does not end within timeouts.start" + (f": it waits in {own}" if own else "")
    why = last_line(done.stderr) or f"exit status {done.returncode}"
    return f"the import ends the process: {why}"


def _with_systemd(s: Subject, script: str) -> str:
    """Import in a transient service that has all that makes an instance's view of the host, systemd-run(1)."""
    d = s.deployment
    unit = f"aiosystemd-doctor-{os.getpid()}"
    has_state = Path(f"/var/lib/{d.name}").exists()
    properties = [
        *_identity(d),
        *_view(s),
        f"RuntimeMaxSec={d.timeouts.start + _SPARE:g}",
        # An instance's own state, for there may be what the import reads; none is made for a deployment without.
        f"StateDirectory={d.name}" if has_state else f"RuntimeDirectory={unit}",
        "StateDirectoryMode=0700" if has_state else "RuntimeDirectoryMode=0700",
    ]
    environment = _environment(d, f"/var/lib/{d.name}" if has_state else f"/run/{unit}")
    options = [f"--property={each}" for each in properties]
    options += [f"--setenv={name}={value}" for name, value in environment.items()]
    argv = ("systemd-run", "--quiet", "--wait", "--pipe", "--collect", f"--unit={unit}", *options)
    try:
        done = run(*argv, "--", d.python, "-P", "-", stdin=script, patience=d.timeouts.start + 2 * _SPARE)
    finally:
        run("systemctl", "stop", f"{unit}.service")  # after a Ctrl-C it would go on
    answer = _answer(done)
    return _not_begun(done, unit) if answer is None else answer


def _not_begun(done: subprocess.CompletedProcess[str], unit: str) -> str:
    if words := last_line(done.stderr):
        raise NotTriedError(f"systemd-run: {words}")
    run("journalctl", "--sync")
    journal = run("journalctl", f"--unit={unit}", "--output=cat", "--quiet", "--no-pager", "--priority=warning").stdout
    why = next(iter(journal.splitlines()), f"exit status {done.returncode}")
    return f"systemd cannot start it: {why}"


def _identity(d: Deployment) -> Iterator[str]:
    """Yield the user, who is the instances' own: under that name systemd gives the same number again."""
    user, group = d.service.user or d.name, d.service.group
    yield f"User={user}"
    if d.dynamic_user or not exists_statically(user):
        yield "DynamicUser=yes"
    elif group and group_exists(group):
        yield f"Group={group}"
    if groups := [name for name in d.service.groups if group_exists(name)]:
        yield f"SupplementaryGroups={shlex.join(groups)}"


_OWN_SPELLING: Final = ("ReadWritePaths", "DeviceAllow")


def _view(s: Subject) -> Iterator[str]:
    """Yield what decides what the import sees, as systemd-run(1) wants it: without specifiers."""
    d = s.deployment
    for name, value, _ in sandbox(d, s.host):
        if name not in _OWN_SPELLING:
            yield f"{name}={value.spelling}"
    writable = (*d.sandbox.writable, *(("/tmp", "/var/tmp") if d.sandbox.shared_tmp else ()))  # noqa: S108
    for path in writable:  # "-": it may not be there yet
        yield f"ReadWritePaths={words([f'-{path}']).spelling.replace('%%', '%')}"
    yield from (f"DeviceAllow={device} rw" for device in d.sandbox.devices)
    yield from (f"EnvironmentFile={file}" for file in d.service.environment_files)
    yield from (f"LoadCredential={name}:{path}" for name, path in d.service.credentials.items())
    if d.service.memory_max is not None:
        yield f"MemoryMax={d.service.memory_max}"
    if d.service.tasks_max is not None:
        yield f"TasksMax={d.service.tasks_max}"
    for name, given in d.service.directives.items():
        if not name.startswith("Exec"):
            yield from (f"{name}={_spelt(each)}" for each in (given if isinstance(given, tuple) else (given,)))


def _spelt(value: str | int | bool) -> str:  # noqa: FBT001 (a value of TOML)
    return str(value) if not isinstance(value, bool) else "yes" if value else "no"
