"""As much of a host as ``apply`` talks to: units that are read from their files, enabled and started, and an nginx.

What runs are real instances of the runtime, by the commands of their units. The real systemd is in the container tests;
this one can fail at any call, and tells in seconds whether all goes back.
"""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from tests.rollout.systemd import Instance, Programs, Reply
from tests.runtime.lab import PYTHON

UNITS: Final = "etc/systemd/system"
SITE: Final = "etc/nginx/conf.d/shop.conf"

_NGINX: Final = """\
import os, signal
def worker(*_):
    global child
    before, child = child, os.fork()
    if child:
        os.write(1, b".")
        if before:
            os.kill(before, signal.SIGKILL)
            os.waitpid(before, 0)
    else:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        while True:
            signal.pause()
child = 0
signal.signal(signal.SIGHUP, worker)
worker()
while True:
    signal.pause()
"""
"""A main process with a worker, and another worker after a reload."""

_OTHERS: Final = ("systemd-analyze", "systemd-sysusers", "systemd-tmpfiles")

_FINE: Final = (0, "", "")


class Managed(Instance):
    """A service and its socket, as their units say."""

    def __init__(self, host: "Host", name: str) -> None:
        super().__init__(host.directory, name)
        self._host = host
        self.address = ""
        self.socket_started = 0.0
        self.job = threading.Lock()
        """Held while it is started; who asks for the same waits for that."""
        self.stops = 0
        """How often it was to stop; systemd.unit(5): that takes the place of a start that has not begun."""

    def command(self, directive: str) -> list[str]:
        words = shlex.split(self._settings("service")[directive])
        return [str(PYTHON), *(word.replace("%i", self.name).replace("%%", "%") for word in words[1:])]

    def where(self) -> Path:
        return self._host.root / self._settings("service")["WorkingDirectory"].lstrip("/")

    def runtime(self) -> Path:
        return self._host.root / "run" / "shop" / self.name

    def stop(self) -> None:
        self.stops += 1
        if self.job.locked() and (pid := self.pid):
            os.kill(pid, signal.SIGTERM)  # It is being started, which ends with that.
        with self.job:
            super().stop()
        shutil.rmtree(self.runtime(), ignore_errors=True)

    def begin_listening(self) -> None:
        """Start the socket, unless it is."""
        if self.socket_state != "active":
            settings = self._settings("socket")
            self.address = settings["ListenStream"].replace("%i", self.name)
            path = Path(self.address)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)  # systemd.socket(5): one that was left there is replaced.
            self.open(path, int(settings["Backlog"]))
            path.chmod(int(settings["SocketMode"], 8))
            self.socket_started = time.time()

    def end_listening(self) -> None:
        """Stop the socket; systemd.socket(5), RemoveOnStop=: its file stays."""
        self.socket_state = "inactive"
        if self.listener:
            self.listener.close()

    def _settings(self, kind: str) -> dict[str, str]:
        lines = self._host.text(f"shop@{self.name}.{kind}").splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))


class Host(Programs):
    """Answers ``systemctl``, ``journalctl`` and ``nginx`` for the deployment ``shop`` below ``root``."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.root = directory / "root"
        self.units = self.root / UNITS
        self.units.mkdir(parents=True)
        (self.root / SITE).parent.mkdir(parents=True)
        self.instances: dict[str, Managed] = {}
        self.targets: set[str] = set()
        """Those that are active."""
        self.calls: list[list[str]] = []
        """What systemctl and nginx were told to do, in order."""
        self.interfere: Callable[[int, list[str]], Reply | None] = lambda _, __: None
        """What a call, of a process, is answered instead; None for as it should be."""
        self.loads: dict[str, str] = {}
        """Units that are not loaded as they should be, and what they are instead."""
        self.refusal = ""
        """What nginx has against its configuration."""
        self.obeys = True
        """Whether nginx takes a new configuration."""
        self.site: bytes | None = None
        """What nginx works by."""
        self._loaded: dict[str, str] = {}
        self._nginx: subprocess.Popen[bytes] | None = None
        self.complaint = ""
        """What systemd-analyze says of the units."""
        super().__init__(directory, "systemctl", "journalctl", "nginx", *_OTHERS)
        self.start_nginx()

    def start_nginx(self) -> None:
        command = (sys.executable, "-IS", "-c", _NGINX)
        self._nginx = subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True)
        self._read_site()

    def stop_nginx(self) -> None:
        if self._nginx:
            os.killpg(self._nginx.pid, signal.SIGKILL)
            self._nginx.communicate()
        self._nginx = None

    def close(self) -> None:
        self.stop_nginx()
        for instance in self.instances.values():
            instance.close()
        super().close()

    def pids(self) -> dict[str, int]:
        return {name: each.pid for name, each in sorted(self.instances.items()) if each.pid}

    def addresses(self) -> dict[str, str]:
        return {name: each.address for name, each in self.instances.items()}

    def listening(self) -> set[str]:
        return {name for name, each in self.instances.items() if each.socket_state == "active"}

    def commands(self) -> list[list[str]]:
        """Return the calls that were to change something."""
        return [call for call in self.calls if call[0] not in ("show", "nginx", "systemd-analyze")]

    def text(self, unit: str) -> str:
        """Return a unit as systemd has read it."""
        return self._loaded.get(unit) or self._file(unit).read_text()

    def stale(self, unit: str) -> bool:
        """Tell whether a unit has changed since it was read."""
        return unit in self._loaded and (
            not self._file(unit).exists() or self.text(unit) != self._file(unit).read_text()
        )

    def reply(self, caller: int, program: str, argv: list[str]) -> Reply:
        if program == "journalctl":
            return self._journal(argv)
        call = [each for each in argv if each != "--no-ask-password"] if program == "systemctl" else [program, *argv]
        self.calls.append(call)
        if (instead := self.interfere(caller, call)) is not None:
            return instead
        if program == "systemd-analyze":
            return (0, "", self.complaint)
        if program == "nginx":
            return (1, "", f"{self.refusal}\n") if self.refusal else _FINE
        return self._systemctl(call) if program == "systemctl" else _FINE

    def _journal(self, argv: list[str]) -> Reply:
        unit = next((word for word in argv if word.startswith("_SYSTEMD_UNIT=shop@")), "")
        name = unit.partition("@")[2].removesuffix(".service")
        log = self.instances[name].log() if name else None
        return (0, log.read_text() if log and log.exists() else "", "")

    def _systemctl(self, argv: list[str]) -> Reply:
        verb, *units = argv
        if verb.startswith("--root="):  # The real one does that, without any systemd that runs.
            done = subprocess.run(("/usr/bin/systemctl", *argv), capture_output=True, text=True, check=False)
            return done.returncode, done.stdout, done.stderr
        verbs: Mapping[str, Callable[[list[str]], Reply]] = {
            "show": lambda units: (0, "\n".join(self._show(units[units.index("--") + 1 :])), ""),
            "daemon-reload": self._read_units,
            "enable": lambda units: self._enable(units, wanted=True),
            "disable": lambda units: self._enable(units, wanted=False),
            "reload": self._reload,
            "start": self._start,
            "stop": self._stop,
            "restart": lambda units: max(self._stop(units), self._start(units)),
            "kill": lambda units: self._each(units[1:], lambda unit: self._instance(unit).cut()),
        }
        return verbs[verb](units)

    def _read_units(self, _: list[str]) -> Reply:
        for unit in [each for each in self._loaded if self._file(each).exists()]:
            self._loaded[unit] = self._file(unit).read_text()
        return _FINE

    def _reload(self, units: list[str]) -> Reply:
        if units == ["nginx.service"]:
            return self._reload_nginx()
        return self._each(units, lambda unit: self._instance(unit).reload())

    def _each(self, units: Iterable[str], do: Callable[[str], object]) -> Reply:
        failed = [unit for unit in units if do(unit) is False]
        return (1, "", f"Job for {failed[0]} failed.\nSee more.\n") if failed else _FINE

    def _start(self, units: list[str]) -> Reply:
        if units[0] == "--job-mode=ignore-dependencies":
            self.targets.update(units[1:])
            return _FINE
        if missing := [unit for unit in units if not self._file(unit).exists()]:
            return (5, "", f"Failed to start {missing[0]}: Unit {missing[0]} not found.\n")
        for unit in units:
            if unit.endswith(".target"):
                self.targets.add(unit)
                wanted = re.findall(r"^Wants=(.*@.*)$", self._file(unit).read_text(), re.MULTILINE)
                self._start(" ".join(wanted).split())
        asked = {unit: self._instance(unit).stops for unit in sorted(units) if "@" in unit}
        return self._each(asked, lambda unit: self._start_one(unit, asked[unit]))

    def _start_one(self, unit: str, stops: int) -> bool:
        instance = self._instance(unit)
        with instance.job:
            return instance.stops == stops and self._begin(unit, instance)

    def _begin(self, unit: str, instance: Managed) -> bool:
        if unit.endswith(".socket") or instance.socket_state != "active":
            socket_unit = f"shop@{instance.name}.socket"
            self._loaded.setdefault(socket_unit, self._file(socket_unit).read_text())
            instance.begin_listening()
        if unit.endswith(".socket") or instance.pid:
            return True
        self._loaded.setdefault(unit, self._file(unit).read_text())
        return instance.start()

    def _stop(self, units: list[str]) -> Reply:
        if "shop.target" in units:
            self.targets.discard("shop.target")
            units = [f"shop@{name}.socket" for name in self.instances]
        # systemd.unit(5): a service that requires its socket stops with it, and before.
        for unit in units:
            instance = self._instance(unit)
            instance.stop()
            self._loaded.pop(f"shop@{instance.name}.service", None)
        for unit in units:
            if unit.endswith(".socket"):
                self._instance(unit).end_listening()
                self._loaded.pop(unit, None)
        return _FINE

    def _enable(self, units: list[str], *, wanted: bool) -> Reply:
        if missing := [unit for unit in units if not self._file(unit).exists()]:
            return (1, "", f"Failed to enable or disable unit: Unit file {missing[0]} does not exist.\n")
        for unit in units:
            link = self.units / "multi-user.target.wants" / unit
            if wanted:
                link.parent.mkdir(exist_ok=True)
                link.symlink_to(f"/{UNITS}/{unit}")
            else:
                link.unlink(missing_ok=True)
                with suppress(OSError):
                    link.parent.rmdir()
        return _FINE

    def _reload_nginx(self) -> Reply:
        if self.refusal:
            return (1, "", "Job for nginx.service failed.\n")
        if self._nginx and self.obeys:
            self._nginx.send_signal(signal.SIGHUP)
            self._read_site()
        return _FINE

    def _read_site(self) -> None:
        assert self._nginx
        assert self._nginx.stdout
        assert self._nginx.stdout.read(1) == b"."
        site = self.root / SITE
        self.site = site.read_bytes() if site.exists() else None

    def _instance(self, unit: str) -> Managed:
        name = re.sub(r"^shop@(.*)\..*$", r"\1", unit)
        if name not in self.instances:
            self.instances[name] = Managed(self, name)
        return self.instances[name]

    def _file(self, unit: str) -> Path:
        return self.units / re.sub(r"@.*\.", "@.", unit)

    def _show(self, units: list[str]) -> Iterator[str]:
        if units == ["shop@*.service"]:
            used = (name for name, each in self.instances.items() if each.state != "inactive")
            units = [f"shop@{name}.service" for name in used]
        for unit in units:
            if unit == "nginx.service":
                state, pid = ("active", self._nginx.pid) if self._nginx else ("inactive", 0)
                yield f"Id={unit}\nActiveState={state}\nMainPID={pid}\n"
            elif not self._file(unit).exists() and unit not in self._loaded:
                yield f"Id={unit}\nLoadState=not-found\nActiveState=inactive\nSubState=dead\nUnitFileState=\n"
            else:
                yield f"Id={unit}\n{self._properties(unit)}"

    def _properties(self, unit: str) -> str:
        enabled = os.path.lexists(self.units / "multi-user.target.wants" / unit)
        load = self.loads.get(unit, "loaded" if self._file(unit).exists() else "not-found")
        common = (
            f"LoadState={load}\nUnitFileState={'enabled' if enabled else 'disabled'}\n"
            f"FragmentPath={self._file(unit)}\nDropInPaths=\nNeedDaemonReload={'yes' if self.stale(unit) else 'no'}\n"
        )
        if unit.endswith(".target"):
            return f"{common}ActiveState={'active' if unit in self.targets else 'inactive'}\n"
        instance = self._instance(unit)
        if unit.endswith(".socket"):
            state = f"ActiveState={instance.socket_state}\nSubState=running\n"
            return f"{common}{state}{_since(instance.socket_started)}"
        pid = instance.pid
        return (
            f"{common}ActiveState={instance.state}\nSubState={instance.sub}\nResult={instance.result}\n"
            f"MainPID={pid}\nNRestarts={instance.restarts}\nCanReload=yes\n{_since(instance.started)}"
        )


def _since(started: float) -> str:
    text = datetime.fromtimestamp(started, UTC).strftime("%a %Y-%m-%d %H:%M:%S.%f UTC")
    since_boot = int((started - time.time() + time.monotonic()) * 1_000_000) if started else 0
    return f"InactiveExitTimestamp={text}\nInactiveExitTimestampMonotonic={since_boot}\n"
