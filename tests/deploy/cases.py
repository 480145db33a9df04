"""Changes of a deployment, what they come to, and what may fail on the way."""

from collections.abc import Mapping
from typing import Final, NamedTuple

from tests.deploy.conftest import Shop
from tests.rollout.systemd import Reply


class Case(NamedTuple):
    """A change of the deployment file, and what it comes to."""

    lines: tuple[str, ...] = ()
    instances: int = 2
    commands: tuple[str, ...] = ()
    """What systemctl is told, in order."""
    renewed: tuple[str, ...] = ()
    """Instances that have another process then."""


READ: Final = "daemon-reload"
PROXY: Final = "reload nginx.service"

CASES: Final[Mapping[str, Case]] = {
    "nothing that runs": Case(("health.path = '/health'",)),
    "what systemd looks at": Case(("service.restart = 'on-failure'",), commands=(READ,)),
    "command": Case(
        ("server.keepalive = 80",),
        commands=(READ, "reload shop@1.service", "reload shop@2.service"),
        renewed=("1", "2"),
    ),
    "environment": Case(
        ("service.environment = {A = 'b'}",),
        commands=(READ, "restart shop@1.service", "restart shop@2.service"),
        renewed=("1", "2"),
    ),
    "socket": Case(
        ("listen.mode = '0666'",),
        commands=(READ, "restart shop@1.socket shop@1.service", "restart shop@2.socket shop@2.service"),
        renewed=("1", "2"),
    ),
    "site": Case(("proxy.server_names = ['shop.example']",), commands=(PROXY,)),
    "environment, and one more": Case(
        ("service.environment = {A = 'b'}",),
        instances=3,
        commands=(
            *(READ, "start shop@3.socket shop@3.service", "restart shop@1.service", "restart shop@2.service"),
            PROXY,
        ),
        renewed=("1", "2"),
    ),
    "more instances": Case(
        instances=3,
        commands=(READ, "start shop@3.socket shop@3.service", PROXY),
    ),
    "fewer instances": Case(
        instances=1,
        commands=(READ, PROXY, "stop shop@2.socket shop@2.service"),
        renewed=("2",),
    ),
    "place of the sockets, and one more": Case(
        ("service.environment = {A = 'b'}", "listen.directory = '/run/elsewhere'"),
        instances=3,
        commands=(
            *(READ, PROXY, "start shop@3.socket shop@3.service"),
            *("restart shop@1.socket shop@1.service", "restart shop@2.socket shop@2.service", PROXY),
        ),
        renewed=("1", "2"),
    ),
}


def acts(call: list[str]) -> bool:
    """Tell whether a call is to change something."""
    return call[0] not in ("show", "nginx", "systemd-analyze")


def told(shop: Shop) -> tuple[str, ...]:
    return tuple(" ".join(command) for command in shop.host.commands())


class Fault:
    """Lets one call that changes something fail: the one of a number, whether done all the same or not."""

    def __init__(self, shop: Shop, number: int, *, done: bool) -> None:
        self.call: list[str] = []
        self._host, self._left, self._done = shop.host, number, done
        shop.host.interfere = self

    def __call__(self, _: int, call: list[str]) -> Reply | None:
        if not (acts(call) or call[0] == "nginx"):
            return None
        self._left -= 1
        if self._left:
            return None
        self.call, self._host.interfere = call, lambda *_: None
        if self._done and call[0] != "nginx":
            self._host._systemctl(call)
        return (1, "", "No luck.\n")
