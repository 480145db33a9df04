"""As much of systemd as a rollout talks to: real instances of the runtime, and a ``systemctl`` that knows them.

The real one is in the container tests; this one tells in seconds, on any machine, whether the parts fit.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from tests.runtime.lab import HERE, PATIENCE, PYTHON, RUNTIME, Manager

_PROGRAM: Final = """\
#!{python} -IS
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as systemd:
    systemd.connect({address!r})
    systemd.sendall(json.dumps([os.getppid(), os.path.basename(sys.argv[0]), *sys.argv[1:]]).encode())
    systemd.shutdown(socket.SHUT_WR)
    status, output, errors = json.loads(b"".join(iter(lambda: systemd.recv(65536), b"")))
sys.stdout.write(output)
sys.stderr.write(errors)
sys.exit(status)
"""

_OPTIONS: Final = ("--loop=asyncio", "--idle=0.2", "--drain=5", "--stop=10", "--start=20")

Reply = tuple[int, str, str]
"""Exit status, output and errors of a command."""


class Instance:
    """A service and its socket."""

    def __init__(self, directory: Path, name: str) -> None:
        self.name = name
        self.state, self.sub, self.result = "inactive", "dead", "success"
        self.socket_state = "inactive"
        self.restarts = 0
        self.stale = False
        self.listener: socket.socket | None = None
        self.started = 0.0
        self._directory = directory
        self._manager = Manager(directory / f"{name}.notify")
        self._heard = 0
        self._main = 0
        self._processes: list[subprocess.Popen[bytes]] = []
        self._reload: subprocess.Popen[bytes] | None = None

    def open(self, path: Path, backlog: int = 128) -> None:
        """Listen."""
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen(backlog)
        self.socket_state = "active"

    @property
    def pid(self) -> int:
        """The main process, 0 without one."""
        messages = self._manager.messages[self._heard :]
        self._heard += len(messages)
        for message in messages:
            if message.startswith("MAINPID="):
                self._main = int(message.removeprefix("MAINPID="))
        if self._main and self.state in ("active", "reloading") and _is_gone(self._main):
            self.state, self.sub, self.result, self._main = "activating", "auto-restart", "exit-code", 0
            self.restarts += 1
        return self._main

    def start(self) -> bool:
        """Start the process; return whether it got ready."""
        self.started, self.restarts, self.stale = time.time(), 0, False
        self.state, self.sub, self.result = "activating", "start", "success"
        begin = len(self._manager.messages)
        assert self.listener
        fd = self.listener.fileno()
        process = self._run([str(PYTHON), str(HERE / "activate.py"), str(fd), *self.command("ExecStart")], [fd])
        self._main = process.pid
        while not any(each.startswith("READY=1") for each in self._manager.messages[begin:]):
            if process.poll() is not None:
                self.state, self.sub, self.result, self._main = "activating", "auto-restart", "exit-code", 0
                return False
            time.sleep(0.005)
        self.state, self.sub = "active", "running"
        return True

    def stop(self) -> None:
        """End the main process in order."""
        if pid := self.pid:
            self.state, self.sub = "deactivating", "stop-sigterm"
            os.kill(pid, signal.SIGTERM)
            _wait(pid)
        self._main = 0
        self.state, self.sub = "inactive", "dead"

    def reload(self) -> bool:
        """Run the command in ``ExecReload=``; return whether it succeeded."""
        self.state, self.sub = "reloading", "reload"
        self._reload = self._run(self.command("ExecReload"))
        done = self._reload.wait(PATIENCE)
        if self.state == "reloading":
            self.state, self.sub = "active", "running"
        return done == 0

    def cut(self) -> None:
        """Kill the command in ``ExecReload=``."""
        if self._reload:
            self._reload.kill()

    def log(self) -> Path:
        return self._directory / f"{self.name}.log"

    def runtime(self) -> Path:
        return self._directory / "shop" / self.name

    def close(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait()
        with suppress(ProcessLookupError):
            if pid := self.pid:
                os.kill(pid, signal.SIGKILL)
        self._manager.close()
        if self.listener:
            self.listener.close()

    def command(self, directive: str) -> list[str]:
        """Return the command that the unit has for a start or a reload."""
        reload = ["--reload"] if directive == "ExecReload" else []
        return [str(PYTHON), *RUNTIME, *reload, *_OPTIONS, "app:create"]

    def where(self) -> Path:
        """Return the directory in which it runs."""
        return self._directory / "app"

    def _run(self, argv: Sequence[str], fds: Sequence[int] = ()) -> subprocess.Popen[bytes]:
        self.runtime().mkdir(parents=True, exist_ok=True)
        with self.log().open("ab") as log:
            process = subprocess.Popen(
                argv,
                cwd=self.where(),
                env={
                    "PATH": os.defpath,
                    "PYTHONPATH": os.pathsep.join(sys.path),
                    "NOTIFY_SOCKET": str(self._manager.path),
                    "RUNTIME_DIRECTORY": str(self.runtime()),
                    "AIOSYSTEMD_INSTANCE": self.name,
                },
                pass_fds=fds,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._processes.append(process)
        return process


class Programs:
    """Stands behind programs, in ``directory``/bin, that say what it lets them say."""

    def __init__(self, directory: Path, *names: str) -> None:
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(directory / "systemd"))
        self._listener.listen()
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()
        (directory / "bin").mkdir()
        for name in names:
            program = directory / "bin" / name
            program.write_text(_PROGRAM.format(python=sys.executable, address=str(directory / "systemd")))
            program.chmod(0o755)

    def reply(self, caller: int, program: str, argv: list[str]) -> Reply:
        """Return what ``program`` does when the process ``caller`` starts it."""
        raise NotImplementedError

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self._threads.append(threading.Thread(target=self._answer, args=(connection,)))
                self._threads[-1].start()

    def _answer(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as stream:
            caller, program, *argv = json.loads(stream.read())
            reply = self.reply(caller, program, argv)
            with suppress(OSError):
                connection.sendall(json.dumps(reply).encode())


class Systemd(Programs):
    """Knows the instances of the deployment ``shop``, and answers ``systemctl`` and ``journalctl``."""

    def __init__(self, directory: Path, names: Sequence[str]) -> None:
        self.unit = directory / "shop@.service"
        self.unit.write_text("[Service]\n")
        time.sleep(0.05)  # A start in the same tick of the kernel's clock would be one before the unit was written.
        self.environment_file = directory / "environment"
        self.commands: list[list[str]] = []
        """What systemctl was told to do, in order."""
        self.instances = {name: Instance(directory, name) for name in names}
        for name, instance in self.instances.items():
            instance.open(directory / f"{name}.sock")
        super().__init__(directory, "systemctl", "journalctl")

    def pids(self) -> dict[str, int]:
        return {name: instance.pid for name, instance in self.instances.items()}

    def close(self) -> None:
        for instance in self.instances.values():
            instance.close()
        super().close()

    def reply(self, caller: int, program: str, argv: list[str]) -> Reply:
        del caller
        return self._journal(argv) if program == "journalctl" else self._systemctl(argv)

    def _journal(self, argv: list[str]) -> Reply:
        unit = next((word for word in argv if word.startswith("_SYSTEMD_UNIT=shop@")), "")
        name = unit.partition("@")[2].removesuffix(".service")
        return (0, self.instances[name].log().read_text() if name else "", "")

    def _systemctl(self, argv: list[str]) -> Reply:
        argv.remove("--no-ask-password")
        if argv[0] == "show":
            units = argv[argv.index("--") + 1 :]
            return (0, "\n".join(self._show(units)), "")
        self.commands.append(argv)
        if argv == ["daemon-reload"]:
            for each in self.instances.values():
                each.stale = False
            return (0, "", "")
        *verb, unit = argv
        instance = self.instances[unit.removeprefix("shop@").removesuffix(".service")]
        return _obey(instance, verb, unit)

    def _show(self, units: list[str]) -> Iterator[str]:
        if units == ["shop@*.service"]:
            units = [f"shop@{name}.service" for name in self.instances]
        for unit in units:
            name, _, kind = unit.removeprefix("shop@").rpartition(".")
            instance = self.instances.get(name)
            if instance is None:
                yield f"Id={unit}\nLoadState=not-found\nActiveState=inactive\nSubState=dead\n"
            elif kind == "socket":
                yield f"Id={unit}\nLoadState=loaded\nActiveState={instance.socket_state}\nSubState=running\n"
            else:
                yield self._service(unit, instance)

    def _service(self, unit: str, instance: Instance) -> str:
        pid = instance.pid
        started = datetime.fromtimestamp(instance.started, UTC).strftime("%a %Y-%m-%d %H:%M:%S.%f UTC")
        return (
            f"Id={unit}\nLoadState=loaded\nActiveState={instance.state}\nSubState={instance.sub}\n"
            f"Result={instance.result}\nMainPID={pid}\nNRestarts={instance.restarts}\nCanReload=yes\n"
            f"FragmentPath={self.unit}\nDropInPaths=\nNeedDaemonReload={'yes' if instance.stale else 'no'}\n"
            f"EnvironmentFiles={self.environment_file} (ignore_errors=yes)\n"
            f"InactiveExitTimestamp={started}\n"
            f"InactiveExitTimestampMonotonic={int((instance.started - time.time() + time.monotonic()) * 1_000_000)}\n"
        )


def _obey(instance: Instance, verb: list[str], unit: str) -> Reply:
    match verb:
        case ["reload"]:
            done = instance.reload()
        case ["restart"]:
            instance.stop()
            done = instance.start()
        case ["kill", "--kill-whom=control"]:
            instance.cut()
            done = True
        case _:
            return (1, "", f"Unknown command verb {verb}.\n")
    return (0, "", "") if done else (1, "", f"Job for {unit} failed.\nSee more.\n")


def _is_gone(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return True
    return stat.rpartition(")")[2].split()[0] == "Z"


def _wait(pid: int) -> None:
    end = time.monotonic() + PATIENCE
    while not _is_gone(pid):
        assert time.monotonic() < end
        time.sleep(0.005)
