"""gunicorn with aiohttp's workers, on one socket that systemd opens: a service, a socket, and gunicorn's own file.

Facts about gunicorn: https://gunicorn.org, "Settings" and "Deploying"; about the workers: aiohttp/worker.py.
"""

from collections.abc import Iterator
from itertools import chain
from math import ceil
from pathlib import PurePosixPath

from aiosystemd import contract
from aiosystemd.export import File, header, instance_names, processes, service, tcp_address
from aiosystemd.export.sandbox import Directive, sandbox
from aiosystemd.export.targets import wanted_by
from aiosystemd.host import Host
from aiosystemd.model import Deployment
from aiosystemd.render.python import Module, call
from aiosystemd.render.unit import UnitFile, command, path, raw, seconds, text

_WORKER = "aiohttp.GunicornWebWorker"
_HANG_UP = "import os, signal, sys; os.kill(int(sys.argv[1]), signal.SIGHUP)"
"""Not kill(1): Debian has it in a package of its own (procps), which may not be there."""
_UVLOOP = "aiohttp.GunicornUVLoopWebWorker"


def settings_path(d: Deployment, host: Host) -> PurePosixPath:
    """Return where gunicorn's own file goes."""
    return (host.scope.files.parent if host.scope.user else PurePosixPath("/etc")) / "gunicorn" / f"{d.name}.conf.py"


def export(d: Deployment, host: Host, source: str) -> Iterator[File]:
    """Yield the service, the socket and the settings of ``d``."""
    units = host.scope.units
    yield File(units / f"{d.name}.service", _service(d, host, source))
    yield File(units / f"{d.name}.socket", _socket(d, host, source))
    yield File(settings_path(d, host), _settings(d, host, source))


def _service(d: Deployment, host: Host, source: str) -> UnitFile:
    unit = UnitFile(header(source))
    unit.add("Unit", "Description", text(d.name, ", gunicorn"))
    unit.add("Unit", "Requires", raw(f"{d.name}.socket"))
    if not host.scope.user:  # whose systemd has no such unit
        unit.add("Unit", "After", raw("network.target"))
    why = "Never give up: a start limit would close the socket too, and keep it closed when the code is mended."
    unit.add("Unit", "StartLimitIntervalSec", raw("0"), comment=why)
    limits = service.limits(d, memory="The workers of before and after need room in a reload.")
    life = (_process(d, host), service.surroundings(d), service.identity(d, host), _life(d), limits, sandbox(d, host))
    service.add(unit, chain(*life), d)
    unit.add("Install", "WantedBy", wanted_by(host))
    return unit


def _process(d: Deployment, host: Host) -> Iterator[Directive]:
    yield "Type", raw("notify"), "gunicorn says so before its workers have imported the application."
    yield "NotifyAccess", raw("main"), None
    # python(1), -P: the working directory is not searched for gunicorn itself; gunicorn adds it for the application.
    words = (d.python, "-P", "-m", "gunicorn", "--config", str(settings_path(d, host)), d.app)
    yield "ExecStart", command(words), None
    why = "New workers with new code; the old ones are told to end before the new ones serve."
    yield "ExecReload", command((d.python, "-I", "-S", "-c", _HANG_UP, raw("$MAINPID"))), why


def _life(d: Deployment) -> Iterator[Directive]:
    yield from service.restart(d)
    yield "TimeoutStartSec", seconds(d.timeouts.start), None
    why = f"gunicorn grants its workers {ceil(d.drain)} s (graceful_timeout)."
    yield "TimeoutStopSec", seconds(d.stop), why
    yield "KillMode", raw("mixed"), "SIGTERM is for the main process, which tells the workers."


def _socket(d: Deployment, host: Host, source: str) -> UnitFile:
    unit = UnitFile(header(source))
    unit.add("Unit", "Description", text(d.name, ", socket of gunicorn"))
    (name,) = instance_names(d, host)
    address = raw(tcp_address(d, name)) if d.listen.port is not None else path(d.socket_directory, f"/{name}.sock")
    for key, value, comment in service.socket(d, host, address):
        unit.add("Socket", key, value, comment=comment)
    unit.add("Install", "WantedBy", raw("sockets.target"))
    return unit


def _settings(d: Deployment, host: Host, source: str) -> Module:
    file = Module(header(source))
    worker = _UVLOOP if d.server.loop == "uvloop" else _WORKER
    if d.server.loop == "auto":
        file.add_import("importlib.util", "find_spec")
        file.choose("worker_class", _UVLOOP, call("find_spec", "uvloop"), _WORKER)
    else:
        file.set("worker_class", worker)
    file.set("workers", processes(d, host))
    file.set("keepalive", ceil(d.server.keepalive), comment="Longer than the proxy's, which closes first.")
    file.set("graceful_timeout", ceil(d.drain))
    why = "Seconds of a blocked event loop, after which a worker is killed." if d.timeouts.watchdog else ""
    file.set("timeout", ceil(d.timeouts.watchdog), comment=why)
    if d.server.access_log == "text":
        file.set("accesslog", "-", comment="The journal.")
        if d.server.access_log_format != contract.ACCESS_LOG_FORMAT:
            file.set("access_log_format", d.server.access_log_format)
    return file
