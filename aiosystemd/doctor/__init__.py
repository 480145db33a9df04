"""What would stop a deployment from working on this host: every check, in one run, and what mends each finding."""

import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

from aiosystemd.build import build_source, with_instances
from aiosystemd.doctor import (
    addresses,
    attempt,
    confinement,
    inputs,
    interpreter,
    machine,
    owners,
    proxy,
    tls,
)
from aiosystemd.doctor.finding import Finding, Severity, edit
from aiosystemd.doctor.subject import Subject, unseen
from aiosystemd.errors import Problem, ProblemsError
from aiosystemd.host import Host
from aiosystemd.load import find, read

Check = Callable[[Subject], Iterator[Finding]]

CHECKS: Final[Mapping[str, Check]] = {
    "systemd": machine.manager,
    "paths": interpreter.reach,
    "python": interpreter.libraries,
    "import": attempt.imports,
    "environment": inputs.environment_files,
    "credentials": inputs.credentials,
    "users": owners.users,
    "files": owners.units,
    "ports": addresses.ports,
    "proxy": proxy.server,
    "sockets": proxy.sockets,
    "names": proxy.names,
    "tls": tls.certificate,
    "kernel": machine.limits,
    "memory": machine.memory,
    "disks": machine.disks,
    "confinement": confinement.confinement,
}
"""Every check, by the name under which its findings are told."""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Everything that was found about one deployment."""

    file: str
    findings: tuple[Finding, ...]

    @property
    def failed(self) -> bool:
        """Whether something would stop it."""
        return any(finding.severity == "error" for finding in self.findings)

    def of(self, *severities: Severity) -> Iterator[Finding]:
        """Yield the findings of these severities."""
        return (finding for finding in self.findings if finding.severity in severities)

    def as_json(self) -> dict[str, object]:
        """Return what ``doctor --json`` prints."""
        return {"file": self.file, "findings": [finding.as_json() for finding in self.findings]}


def examine(name_or_file: str, host: Host) -> Diagnosis:
    """Look at this host with the eyes of one deployment.

    Raises ProblemsError when the deployment file cannot be read.
    """
    file = find(name_or_file)
    source = read(file)
    try:
        subject = Subject(source, with_instances(build_source(file, source, host)), host)
    except ProblemsError as error:
        # What is meant is not known, so there is nothing to look for.
        return Diagnosis(str(file), tuple(map(_of_file, error.problems)))
    found = [_of_file(problem) for problem in subject.build.warnings]
    for name, check in CHECKS.items():
        found += (replace(finding, check=name) for finding in _safely(check, subject))
    return Diagnosis(str(file), tuple(found))


def _of_file(problem: Problem) -> Finding:
    hint = f" ({problem.hint})" if problem.hint else ""
    mend = edit(problem.at.file, problem.at.line)
    return Finding(problem.severity, f"{problem.what}{hint}", problem.at, mend, problem.source, "file")


def _safely(check: Check, subject: Subject) -> Iterator[Finding]:
    try:
        yield from check(subject)
    # One thing that may not be looked at, or a file system that does not answer, keeps nothing else from being seen.
    except (OSError, subprocess.TimeoutExpired) as error:
        yield unseen(str(error))
