"""Where everything is measured: one Debian 13 machine with what each contender needs, and aiosystemd's own wheel."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.container.machine import Machine
from tests.container.roots import ROADS, install, root, wheel

APP: Final = "/srv/example"
"""Directory of the application, in the machine."""

LOAD: Final = "/srv/load.py"
"""The strict client, in the machine."""

DEBIANS_NGINX: Final = "/srv/nginx.conf"
"""What the package ``nginx`` has installed as ``/etc/nginx/nginx.conf``."""

_HERE: Final = Path(__file__).parent
_OTHERS: Final = ("haproxy", "nginx", "supervisor")


@contextmanager
def place() -> Iterator[Machine]:
    """Boot the machine, with the application in it and nothing at work; it ends with the context."""
    lower = root(ROADS)
    with tempfile.TemporaryDirectory(prefix="aiosystemd-", dir="/var/tmp") as name:
        layer = Path(name, "layer")
        layer.mkdir(mode=0o755)
        install(layer, lower, wheel(_HERE.parent, Path(name)))
        with Machine(layer, lower) as machine:
            _prepare(machine)
            yield machine


def _prepare(machine: Machine) -> None:
    machine.systemctl("stop", *_OTHERS)
    # It claims to be the default site.
    machine.run("rm", "/etc/nginx/sites-enabled/default")
    machine.write(DEBIANS_NGINX, machine.read("/etc/nginx/nginx.conf"))
    for app in ("my_app_module.py", "aiohttp_example.py"):
        machine.copy(_HERE / app, f"{APP}/{app}")
    machine.run("chmod", "+x", f"{APP}/aiohttp_example.py")
    machine.copy(_HERE.parent / "tests" / "load.py", LOAD)
