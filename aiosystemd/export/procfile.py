"""A Procfile: a process for each instance, as honcho, foreman and their like start them."""

from collections.abc import Iterator
from pathlib import PurePosixPath

from aiosystemd.export import File, header
from aiosystemd.export.serve import own_address, process_command, process_environment, process_names
from aiosystemd.host import Host
from aiosystemd.model import Deployment
from aiosystemd.render.shell import Procfile, Value, assignment, command, raw


def path(d: Deployment) -> PurePosixPath:
    """Return where the file goes: to the application, whose directory its readers start in."""
    return PurePosixPath(d.directory or f"/srv/{d.name}", "Procfile")


def export(d: Deployment, host: Host, source: str) -> Iterator[File]:
    """Yield the Procfile of ``d``."""
    file = Procfile(header(source))
    for instance, name in process_names(d, host).items():
        file.add(name, _line(d, instance))
    yield File(path(d), file)


def _line(d: Deployment, instance: str) -> Value:
    # exec: the signal to stop is for the server, and a shell would not hand it on.
    variables = (assignment(name, value) for name, value in process_environment(d, instance).items())
    started = command((raw("exec"), "env", *variables, *process_command(d, *own_address(d, instance))))
    return command((raw("cd"), d.directory, raw("&&"), started)) if d.directory else started
