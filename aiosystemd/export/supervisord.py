"""supervisord: one program with a process for each instance, each on a unix socket of its own."""

from collections.abc import Iterator
from math import ceil
from pathlib import PurePosixPath

from aiosystemd.export import File, header, instance_names
from aiosystemd.export.serve import own_mode, process_command, process_environment
from aiosystemd.host import Host
from aiosystemd.model import Deployment
from aiosystemd.render.ini import Ini, Supervisord, Value, Word, raw

_NUMBER = raw("%(process_num)s")


def path(d: Deployment) -> PurePosixPath:
    """Return where Debian's supervisord looks for programs."""
    return PurePosixPath(f"/etc/supervisor/conf.d/{d.name}.conf")


def export(d: Deployment, host: Host, source: str) -> Iterator[File]:
    """Yield the program of ``d``."""
    file = Ini(header(source))
    for name, value, comment in (*_processes(d, host), *_life(d), *_output(d)):
        file.add(f"program:{d.name}", name, value, comment=comment)
    yield File(path(d), file)


_Setting = tuple[str, Value, str | None]


def _processes(d: Deployment, host: Host) -> Iterator[_Setting]:
    path: Word = ("--path=", f"{d.socket_directory}/", _NUMBER, ".sock")
    yield "command", Supervisord.command(process_command(d, path, *own_mode(d))), None
    yield "numprocs", raw(str(len(instance_names(d, host)))), None
    yield "numprocs_start", raw("1"), None
    yield "process_name", raw("%(program_name)s-%(process_num)s"), None
    if d.directory:
        yield "directory", Supervisord.text(d.directory), None
    yield "environment", Supervisord.environment(process_environment(d, _NUMBER)), None
    if d.service.user:
        yield "user", Supervisord.text(d.service.user), None


def _life(d: Deployment) -> Iterator[_Setting]:
    yield "autorestart", raw("true" if d.service.restart == "always" else "unexpected"), None
    why = "As systemd does: a release that fails is tried again until it is mended."
    yield "startretries", raw("1000000"), why
    yield "stopsignal", raw("TERM"), None
    yield "stopwaitsecs", raw(str(ceil(d.stop))), f"Requests have {d.drain:g} s to end, clean-up the rest."
    why = "SIGTERM is for the server; its own processes may be at work for a request. SIGKILL is for all of them."
    yield "stopasgroup", raw("false"), why
    yield "killasgroup", raw("true"), None


def _output(d: Deployment) -> Iterator[_Setting]:
    yield "redirect_stderr", raw("true"), None
    yield "stdout_logfile", Supervisord.text("/var/log/supervisor/", d.name, "-", _NUMBER, ".log"), None
