"""The command lines of ``aiosystemd-serve`` for a deployment."""

from collections.abc import Iterator
from typing import TypeVar

from aiosystemd import contract
from aiosystemd.export import instance_address, instance_names, proxy_source, tcp_address
from aiosystemd.host import Host
from aiosystemd.model import Deployment

T = TypeVar("T")


def serve_command(d: Deployment) -> tuple[str, ...]:
    """Return the words of ``ExecStart=``.

    What decides whether a request is lost stands there even where it is the default; the rest is left out then.
    """
    return (*_program(d), *_options(d), d.app, *d.arguments)


def reload_command(d: Deployment) -> tuple[str, ...]:
    """Return the words of ``ExecReload=``: what a start would run now, to take the place of what runs."""
    return (*_program(d), "--reload", *_options(d), d.app, *d.arguments)


def process_command(d: Deployment, *listening: T) -> tuple[str | T, ...]:
    """Return the words with which another manager starts a process; ``listening`` are those that say where it serves.

    Such a process has no other one that would reload it, and no systemd that knows of its watchdog.
    """
    return (*_program(d), *_options(d), *listening, d.app, *d.arguments)


def process_environment(d: Deployment, instance: T) -> dict[str, str | T]:
    """Return the variables that a process has under another manager, those of systemd's units among them."""
    state = state_directory(d)
    own: dict[str, str | T] = {contract.INSTANCE_VARIABLE: instance, "HOME": state, "STATE_DIRECTORY": state}
    return {**own, **d.service.environment}


def state_directory(d: Deployment) -> str:
    """Return where the application may keep what lasts."""
    return f"/var/lib/{d.name}"


def process_names(d: Deployment, host: Host) -> dict[str, str]:
    """Return what each instance is called where it is a program of its own: ``NAME``, ``NAME-1`` of several."""
    names = instance_names(d, host)
    return {name: f"{d.name}-{name}" if len(names) > 1 else d.name for name in names}


def own_address(d: Deployment, name: str) -> tuple[str, ...]:
    """Return the options by which an instance opens its socket itself."""
    if d.listen.port is not None:
        address, _, port = tcp_address(d, name).rpartition(":")
        return (f"--host={address.strip('[]')}", f"--port={port}")
    return (f"--path={instance_address(d, name)}", *own_mode(d))


def own_mode(d: Deployment) -> tuple[str, ...]:
    """Return the option for the mode of a unix socket, where it is not the default."""
    return (f"--mode={d.listen.mode}",) if d.listen.mode != "0660" else ()


def _program(d: Deployment) -> tuple[str, ...]:
    # python(1), -P: the working directory is not searched for aiosystemd itself, whatever modules it holds.
    return (d.python, "-P", "-m", "aiosystemd.runtime")


def _options(d: Deployment) -> Iterator[str]:
    server = d.server
    yield f"--start={d.timeouts.start:g}"
    yield f"--drain={d.drain:g}"
    yield f"--stop={d.stop:g}"
    # nginx looks at its timers after it has served what is ready: half a second more than it was told.
    yield f"--idle={d.idle + 0.5:g}"
    yield f"--keepalive={server.keepalive:g}"
    yield f"--backlog={d.listen.backlog}"
    if d.listen.tls is not None:
        yield f"--tls-certificate={contract.TLS_CERTIFICATE}"
        yield f"--tls-key={contract.TLS_KEY}"
    if d.direct:
        yield "--direct"
    if d.instances == 1:
        yield "--alone"
    if server.loop != "auto":
        yield f"--loop={server.loop}"
    if server.body_limit is not None:
        yield f"--body-limit={server.body_limit}"
    if server.forwarded and d.proxy.kind != "none":
        yield from (f"--forwarded-from={peer}" for peer in _proxy_peers(d))
    if server.access_log != "off":
        yield f"--access-log={server.access_log}"
    if server.access_log_format != contract.ACCESS_LOG_FORMAT:
        yield f"--access-log-format={server.access_log_format}"


def _proxy_peers(d: Deployment) -> tuple[str, ...]:
    return ("unix",) if d.listen.port is None else (proxy_source(d),)
