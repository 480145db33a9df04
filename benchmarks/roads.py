"""The same deployment on every road: each process manager and proxy that it can be generated for, restarted under load.

What systemd's own sockets save shows beside what the others lose, or do not.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from benchmarks.contenders import NGINX, Contender
from benchmarks.deploys import Event
from benchmarks.place import APP, DEBIANS_NGINX
from tests.container.machine import Machine

COUNT: Final = 4
_FILE: Final = "/etc/aiosystemd/example.toml"
_TREE: Final = "/srv/tree"
_UNITS: Final = "/etc/systemd/system"
_NUMBERS: Final = range(1, COUNT + 1)
_LOAD: Final = ("--clients", "16", "--pause", "0.005")
_REQUESTS: Final = 10_000

_TOML: Final = f"""
name = "example"
app = "my_app_module:my_web_app"
directory = "{APP}"
instances = {COUNT}
service.user = "www-data"
"""
_APP: Final = tuple(f"example@{number}.service" for number in _NUMBERS)
_TARGET: Final = "example.target"
_TMPFILES: Final = "ExecStartPre=systemd-tmpfiles --create example.conf\n"
_CIRCUSD: Final = (
    "import sys; from circus.circusd import main; sys.argv = ['circusd', '/etc/circus/circusd.ini']; main()"
)
_CIRCUSCTL: Final = "import sys; from circus.circusctl import main; main()"


def roads(machine: Machine) -> Iterator[tuple[Contender, Sequence[Event]]]:
    """Yield each, and what is done to it under load."""
    yield _systemd(machine), (_one_by_one(_systemctl), _all(_every_unit), _update(_rollout))
    yield _haproxy(machine), (_one_by_one(_systemctl), _all(_every_unit), _update(_rollout))
    yield _supervisord(machine), (_one_by_one(_supervisorctl), _all(_supervisor_all))
    yield _circus(machine), (_one_by_one(_circusctl), _all(_circus_all))
    yield _runit(machine), (_one_by_one(_sv), _all(_sv_all))
    yield _one_port(machine), (_one_by_one(_systemctl), _all(_every_unit))
    yield _gunicorn(machine), (Event("reload", _hang_up, _LOAD, _REQUESTS), _all(_every_unit))


def _gunicorn(machine: Machine) -> Contender:
    return _contender("gunicorn", generated(machine, f'{_TOML}server.kind = "gunicorn"\n'), "example.service")


def _hang_up(machine: Machine, contender: Contender) -> None:
    machine.systemctl("reload", *contender.app)
    time.sleep(3)  # it does not tell when it is done


Act = Callable[[Machine, Contender], None]


def _one_by_one(restart: Callable[[Machine, int], None]) -> Event:
    def act(machine: Machine, _: Contender) -> None:
        for number in _NUMBERS:
            restart(machine, number)

    return Event("restart, one after the other", act, _LOAD, _REQUESTS)


def _all(act: Act) -> Event:
    return Event("restart of all at once", act, _LOAD, _REQUESTS)


def _update(act: Act) -> Event:
    return Event("rollout", act, _LOAD, _REQUESTS)


def generated(machine: Machine, toml: str, *options: str) -> Mapping[str, str]:
    """Return a deployment's file, those that ``generate`` writes for it in the machine, and Debian's ``nginx.conf``."""
    machine.write(_FILE, toml)
    machine.run("rm", "-rf", _TREE)
    machine.run("aiosystemd", "generate", "example", "--output", _TREE, *options)
    paths = machine.run("find", _TREE, "-type", "f").stdout.split()
    more = {NGINX: machine.read(DEBIANS_NGINX), _FILE: toml}
    return {path.removeprefix(_TREE): machine.read(path) for path in paths} | more


def _contender(name: str, files: Mapping[str, str], *app: str) -> Contender:
    return Contender(name, COUNT, files, app, (*app, "nginx.service"), "nginx.service")


def _systemd(machine: Machine) -> Contender:
    return Contender("systemd", COUNT, generated(machine, _TOML), _APP, (_TARGET, "nginx.service"), "nginx.service")


def _haproxy(machine: Machine) -> Contender:
    files = generated(machine, f'{_TOML}proxy = {{ kind = "haproxy", default_server = true }}\n')
    return Contender("systemd, HAProxy", COUNT, files, _APP, (_TARGET, "haproxy.service"), "haproxy.service")


def _one_port(machine: Machine) -> Contender:
    listen = 'listen = { port = 80, address = "0.0.0.0", shared = true }\nproxy.kind = "none"\n'
    return Contender("systemd, one port, no proxy", COUNT, generated(machine, _TOML + listen), _APP, (_TARGET,))


def _systemctl(machine: Machine, number: int) -> None:
    machine.systemctl("restart", f"example@{number}.service")


def _every_unit(machine: Machine, contender: Contender) -> None:
    machine.systemctl("restart", *contender.app)


def _rollout(machine: Machine, _: Contender) -> None:
    machine.run("aiosystemd", "rollout", "example", "--pause", "0")


def _supervisord(machine: Machine) -> Contender:
    drop_in = {f"{_UNITS}/supervisor.service.d/directories.conf": f"[Service]\n{_TMPFILES}"}
    files = {**generated(machine, _TOML, "--manager", "supervisord"), **drop_in}
    return _contender("supervisord", files, "supervisor.service")


def _supervisorctl(machine: Machine, number: int) -> None:
    machine.run("supervisorctl", "restart", f"example:example-{number}")


def _supervisor_all(machine: Machine, _: Contender) -> None:
    machine.run("supervisorctl", "restart", "example:*")


def _circus(machine: Machine) -> Contender:
    unit = f"[Service]\n{_TMPFILES}ExecStart=/usr/bin/python3 -c {json.dumps(_CIRCUSD)}\n"
    more = {
        "/etc/circus/circusd.ini": "[circus]\ninclude_dir = /etc/circus/conf.d\n",
        f"{_UNITS}/circus.service": unit,
    }
    return _contender("circus", {**generated(machine, _TOML, "--manager", "circus"), **more}, "circus.service")


def _circusctl(machine: Machine, number: int) -> None:
    machine.run("python3", "-c", _CIRCUSCTL, "restart", f"example-{number}", "--waiting")


def _circus_all(machine: Machine, _: Contender) -> None:
    machine.run("python3", "-c", _CIRCUSCTL, "restart", "example-*", "--waiting", "--match=glob")


def _runit(machine: Machine) -> Contender:
    names = [f"example-{number}" for number in _NUMBERS]
    links = "".join(f"ExecStartPre=ln -sfn /etc/sv/{name} /run/services/{name}\n" for name in names)
    unit = f"[Service]\nExecStartPre=mkdir -p /run/services\n{links}ExecStart=runsvdir /run/services\n"
    # runsvdir(8): SIGHUP ends the services in order, SIGTERM leaves them.
    files = {f"{_UNITS}/runit-example.service": f"{unit}KillSignal=SIGHUP\nTimeoutStopSec=60\n"}
    return _contender("runit", {**generated(machine, _TOML, "--manager", "runit"), **files}, "runit-example.service")


def _sv(machine: Machine, number: int) -> None:
    machine.run("sv", "-w", "60", "restart", f"/run/services/example-{number}")


def _sv_all(machine: Machine, _: Contender) -> None:
    machine.run("sv", "-w", "60", "restart", *(f"/run/services/example-{number}" for number in _NUMBERS))
