"""How each manager is started, and told to start one process anew; the rest is on its page."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

_BLOCK: Final = re.compile(r"(?:^<!-- file (\S+) -->\n)?^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
PAGES: Final = Path(__file__).parents[2] / "docs"


@dataclass(frozen=True, slots=True)
class Manager:
    """A program that runs processes."""

    name: str
    start: tuple[str, ...]
    """It stays in the foreground."""
    restart: tuple[str, ...] = ()
    """Starts ``shop-N`` anew, for ``{}`` its number; nothing where there is no way."""
    stop: tuple[str, ...] = ()
    """Stops that one."""
    files: Mapping[str, str] = field(default_factory=dict)
    """What it needs of its own."""
    needs: str = ""
    """Its program."""

    def page(self) -> Iterator[tuple[str, str]]:
        """Yield what its page tells: the text of a file by its name, a command by nothing."""
        page = (PAGES / f"{self.name}.md").read_text()
        for file, language, text in _BLOCK.findall(page):
            if file:
                yield file, text
            elif language == "sh":
                yield from (("", line) for line in text.splitlines())


_SUPERVISORD: Final = """\
[supervisord]
nodaemon = true
user = root
logfile = /var/log/supervisor/supervisord.log
pidfile = /run/supervisord.pid

[unix_http_server]
file = /run/supervisor.sock

[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface

[supervisorctl]
serverurl = unix:///run/supervisor.sock

[include]
files = /etc/supervisor/conf.d/*.conf
"""

_CIRCUS: Final = """\
[circus]
endpoint = tcp://127.0.0.1:5555
pubsub_endpoint = tcp://127.0.0.1:5556
include_dir = conf.d
"""

SUPERVISORD: Final = Manager(
    "supervisord",
    ("supervisord", "-c", "/etc/supervisor/supervisord.conf"),
    ("supervisorctl", "restart", "shop:shop-{}"),
    ("supervisorctl", "stop", "shop:shop-{}"),
    {"/etc/supervisor/supervisord.conf": _SUPERVISORD},
    "supervisord",
)
CIRCUS: Final = Manager(
    "circus",
    ("circusd", "/etc/circus/circusd.ini"),
    ("circusctl", "restart", "--waiting", "shop-{}"),
    ("circusctl", "stop", "--waiting", "shop-{}"),
    {"/etc/circus/circusd.ini": _CIRCUS},
    "circusd",
)
RUNIT: Final = Manager(
    "runit",
    ("runsvdir", "/etc/service"),
    ("sv", "-w", "60", "restart", "/etc/service/shop-{}"),
    ("sv", "-w", "60", "stop", "/etc/service/shop-{}"),
    {},
    "runsvdir",
)
HONCHO: Final = Manager(
    "procfile",
    ("runuser", "--user", "shop", "--", "honcho", "--procfile", "/srv/shop/Procfile", "start"),
    stop=("pkill", "-TERM", "honcho"),
    needs="honcho",
)
SUPERVISORS: Final = (SUPERVISORD, CIRCUS, RUNIT)
"""Those that start again what has ended; a Procfile's readers end the others too."""


def name(manager: Manager) -> str:
    """Return what the tests call it."""
    return manager.name
