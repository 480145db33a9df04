"""runit: a service directory for each instance, with run, finish and log scripts."""

from collections.abc import Iterator
from pathlib import PurePosixPath

from aiosystemd.export import File, header
from aiosystemd.export.serve import own_address, process_command, process_environment, process_names, state_directory
from aiosystemd.host import Host
from aiosystemd.model import Deployment
from aiosystemd.render.shell import Script, assignment, command, raw


def directory(name: str) -> PurePosixPath:
    """Return the service directory of the process ``name``; runsvdir(8) starts those that are linked to."""
    return PurePosixPath("/etc/sv", name)


def export(d: Deployment, host: Host, source: str) -> Iterator[File]:
    """Yield the scripts of ``d``."""
    for instance, name in process_names(d, host).items():
        yield File(directory(name) / "run", _run(d, instance, source), 0o755)
        yield File(directory(name) / "finish", _finish(d, source), 0o755)
        yield File(directory(name) / "log/run", _log(name, source), 0o755)


def _run(d: Deployment, instance: str, source: str) -> Script:
    user, group = d.service.user or "root", d.service.group or d.service.user or "root"
    script = Script(header(source))
    script.add(raw("exec 2>&1"))
    why = "The sockets get the group of their directory, the proxy's."
    made = (("2750", user, d.socket_group, d.socket_directory), ("0700", user, group, state_directory(d)))
    for mode, owner, owners, path in made if d.listen.port is None else made[1:]:
        script.add(command(("install", "-d", "-m", mode, "-o", owner, "-g", owners, path)), comment=why)
        why = ""
    script.add(command(("cd", d.directory or "/")))
    for name, value in process_environment(d, instance).items():
        script.add(raw(f"export {assignment(name, value).spelling}"))
    why = "As many as this may be raised to."
    script.add(raw(f'ulimit -n {d.service.open_files} 2>/dev/null || ulimit -n "$(ulimit -Hn)"'), comment=why)
    groups = ":".join((user, group, *d.service.groups))
    script.add(command(("exec", "chpst", "-u", groups, *process_command(d, *own_address(d, instance)))))
    return script


def _finish(d: Deployment, source: str) -> Script:
    script = Script(header(source))
    # runsv(8): the exit status of run, -1 for a signal, and then the signal's number.
    script.add(raw('echo "ended with status $1, signal $2"'))
    if d.service.restart == "on-failure":
        script.add(raw('test "$1" != 0 || exec sv down .'), comment="It has ended by itself, and in order.")
    return script


def _log(name: str, source: str) -> Script:
    script = Script(header(source))
    script.add(command(("install", "-d", "-m", "0750", f"/var/log/{name}")))
    script.add(command(("exec", "svlogd", "-tt", f"/var/log/{name}")))
    return script
