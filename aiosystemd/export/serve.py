"""The command lines of ``aiosystemd-serve`` for a deployment."""

from collections.abc import Iterator

from aiosystemd import contract
from aiosystemd.export import proxy_source
from aiosystemd.model import Deployment


def serve_command(d: Deployment) -> tuple[str, ...]:
    """Return the words of ``ExecStart=``.

    What decides whether a request is lost stands there even where it is the default; the rest is left out then.
    """
    return (*_program(d), *_options(d), d.app, *d.arguments)


def reload_command(d: Deployment) -> tuple[str, ...]:
    """Return the words of ``ExecReload=``: what a start would run now, to take the place of what runs."""
    return (*_program(d), "--reload", *_options(d), d.app, *d.arguments)


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
