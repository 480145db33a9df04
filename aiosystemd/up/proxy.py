"""nginx, as the user who runs this, with the site that ``generate`` writes."""

import math
import os
import signal
import time
from pathlib import Path, PurePosixPath
from typing import Final

from aiosystemd import apply
from aiosystemd.compare import Change
from aiosystemd.export.nginx import site_path, standalone
from aiosystemd.host import Host
from aiosystemd.loop import Loop
from aiosystemd.plan import Rendered, plan, render
from aiosystemd.up.output import Output
from aiosystemd.up.place import Place
from aiosystemd.up.process import Child, Command, describe

_PID_FILE: Final = "nginx.pid"

_LOOK: Final = 0.02
"""Seconds between two looks at a file."""

_MIME_TYPES: Final = PurePosixPath("/etc/nginx/mime.types")


class Nginx:
    """One nginx, in the foreground."""

    def __init__(self, command: Command, loop: Loop, output: Output) -> None:
        """Start it, by the word of ``configured``."""
        self.name = "nginx"
        self.deadline = time.monotonic()
        self.listens = False
        """Whether it has opened its port."""
        self.ended = False
        self._asked = False
        self._output = output
        self._pid_file = command.directory / _PID_FILE
        self._child = Child(loop, command, self._write, self._end)

    def quit(self) -> None:
        """Accept nothing more, answer what was accepted, and end."""
        self._send(signal.SIGQUIT)

    def terminate(self, seconds: float) -> None:
        """End now; after ``seconds`` it is killed."""
        self._send(signal.SIGTERM)
        self.deadline = time.monotonic() + seconds

    def kill(self) -> None:
        """End at once, the workers too: what a ``Child`` leaves behind is killed."""
        self._send(signal.SIGKILL)

    def close(self) -> None:
        """Leave nothing behind."""
        if not self.ended:
            self._child.destroy()

    def late(self) -> None:
        """Look whether it listens, or kill it after ``terminate``."""
        if self._asked:
            self.deadline = math.inf
            self.kill()
        elif not self.listens:
            # It writes its number to a file once its port is open, and tells it nobody.
            self.listens = self._pid_file.exists()
            self.deadline = math.inf if self.listens else time.monotonic() + _LOOK

    def _send(self, number: signal.Signals) -> None:
        self._asked = True
        self.deadline = math.inf
        if not self.ended:
            self._child.send(number)

    def _write(self, line: bytes) -> None:
        self._output.write(self.name, line)

    def _end(self, status: int) -> None:
        self.ended = True
        self.deadline = math.inf
        self._output.say(f"nginx {'has stopped' if self._asked and status == 0 else describe(status)}")


def configured(program: str, here: Place, host: Host, source: str) -> Command:
    """Write nginx's files and return how to start it; ``source`` is what they call the deployment file."""
    d = here.deployment
    site, main = here.root / "site.conf", here.root / "nginx.conf"
    written = render(plan(d, host, source))[site_path(d)]
    types = _MIME_TYPES if Path(_MIME_TYPES).is_file() else None
    configuration = standalone(PurePosixPath(site), PurePosixPath(here.root), types)
    # Nobody else's can be in the way: the directory is new.
    apply.write(
        (
            Change(site, "create", written),
            Change(main, "create", Rendered(0o600, configuration.render().encode())),
        )
    )
    argv = (program, "-e", "stderr", "-p", str(here.root), "-c", str(main))
    # Workers of a master run by root become nobody, who may not enter the temporary directory. Here all are one user.
    user = ("-g", "user root;") if os.geteuid() == 0 else ()
    # Its workers would outlive a master that is killed; one that is told to end takes them along.
    return Command((*argv, *user), here.root, here.environment, orphaned=signal.SIGTERM)
