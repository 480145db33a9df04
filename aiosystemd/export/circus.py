"""Circus: a socket for each instance, which circusd keeps, and a watcher that is passed it."""

from collections.abc import Iterator
from pathlib import PurePosixPath

from aiosystemd.export import File, header, instance_address, tcp_address
from aiosystemd.export.serve import process_command, process_environment, process_names
from aiosystemd.host import Host
from aiosystemd.model import Deployment
from aiosystemd.render.ini import Circus, Ini, Value, raw


def path(d: Deployment) -> PurePosixPath:
    """Return where the watchers go: circusd reads the directory that ``include_dir`` of its own file names."""
    return PurePosixPath(f"/etc/circus/conf.d/{d.name}.ini")


def export(d: Deployment, host: Host, source: str) -> Iterator[File]:
    """Yield the sockets and watchers of ``d``."""
    file = Ini(header(source))
    for instance, name in process_names(d, host).items():
        for key, value in _socket(d, instance):
            file.add(f"socket:{name}", key, value)
        for key, value, comment in _watcher(d, name):
            file.add(f"watcher:{name}", key, value, comment=comment)
        for key, variable in process_environment(d, instance).items():
            file.add(f"env:{name}", key, Circus.variable(variable))
    yield File(path(d), file)


def _socket(d: Deployment, instance: str) -> Iterator[tuple[str, Value]]:
    if d.listen.port is None:
        yield "path", Circus.text(instance_address(d, instance))
        # CircusSocket.load_from_config takes it for a decimal number (0.19).
        yield "umask", raw(str(~int(d.listen.mode, 8) & 0o777))
        yield "replace", raw("True")
    else:
        host, _, port = tcp_address(d, instance).rpartition(":")
        yield "host", Circus.text(host.strip("[]"))
        yield "port", raw(port)
        if ":" in host:
            yield "family", raw("AF_INET6")
    yield "backlog", raw(str(d.listen.backlog))


def _watcher(d: Deployment, name: str) -> Iterator[tuple[str, Value, str | None]]:
    listening = (raw(f"--fd=$(circus.sockets.{name})"),)
    yield "cmd", Circus.command(process_command(d, *listening)), None
    yield "use_sockets", raw("True"), "circusd keeps the socket: what comes while the process restarts waits in it."
    if d.directory:
        yield "working_dir", Circus.text(d.directory), None
    if d.service.user:
        yield "uid", Circus.text(d.service.user), None
    if d.service.group:
        yield "gid", Circus.text(d.service.group), None
    if "open_files" in d.service.model_fields_set:  # where circusd may not raise it that far, nothing starts
        yield "rlimit_nofile", raw(str(d.service.open_files)), None
    yield "graceful_timeout", raw(f"{d.stop:g}"), f"Requests have {d.drain:g} s to end, clean-up the rest."
    yield "max_retry", raw("-1"), "As systemd does: a release that fails is tried again until it is mended."
    yield "stdout_stream.class", raw("StdoutStream"), None
    yield "stderr_stream.class", raw("StdoutStream"), None
