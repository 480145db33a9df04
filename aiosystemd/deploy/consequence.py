"""What a changed file means for what runs. Pure."""

import re
from collections.abc import Iterator, Mapping
from enum import IntEnum
from pathlib import PurePosixPath


class Consequence(IntEnum):
    """What a change needs, the gentlest first."""

    NOTHING = 0
    DAEMON_RELOAD = 1
    RELOAD = 2
    RESTART = 3
    SOCKETS = 4
    PROXY = 5
    PROXY_RESTART = 6

    def __str__(self) -> str:
        return _WORDS[self]


_WORDS = {
    Consequence.NOTHING: "nothing running is touched",
    Consequence.DAEMON_RELOAD: "daemon-reload",
    Consequence.RELOAD: "rolling reload",
    Consequence.RESTART: "restart instance by instance",
    Consequence.SOCKETS: "socket restart instance by instance",
    Consequence.PROXY: "proxy reload",
    Consequence.PROXY_RESTART: "proxy restart",
}

_OF_THE_MANAGER = frozenset(
    "Restart RestartSec TimeoutStartSec TimeoutStopSec KillMode FileDescriptorStoreMax OOMPolicy".split()
)
"""Directives of a service that systemd itself looks at when their time comes; a daemon-reload is enough."""

_OF_THE_COMMAND = frozenset("ExecStart ExecReload WorkingDirectory".split())
"""Directives that a reload resolves afresh: its command is ExecStart= anew, run where a start would run it."""

_AT_THE_NEXT_START = re.compile(r"(?<= --backlog=)(\d+) --alone(?= )")
"""An option that says whether there are other instances; only what a failing start does depends on it. With the one
before it, since the application may have an argument of that name."""

_Key = tuple[str, str]
"""Section, directive."""


def consequence(path: PurePosixPath, before: str | None, after: str | None) -> Consequence:
    """Return what it needs that the file at ``path`` was ``before`` and is ``after``; None stands for no file."""
    if path.suffix == ".service":
        return max(map(_of_a_service, _difference(before, after)), default=Consequence.NOTHING)
    if path.suffix == ".socket":
        return max(map(_of_a_socket, _difference(before, after)), default=Consequence.NOTHING)
    if path.suffix == ".target":
        return Consequence.DAEMON_RELOAD if any(_difference(before, after)) else Consequence.NOTHING
    if path.match("*.service.d/*.conf"):  # of the proxy: what it is started with; less is no hurry
        return Consequence.PROXY_RESTART if after and any(_difference(before, after)) else Consequence.DAEMON_RELOAD
    if path.is_relative_to("/etc/nginx") or path.is_relative_to("/etc/haproxy"):
        return Consequence.PROXY if _without_comments(before) != _without_comments(after) else Consequence.NOTHING
    return Consequence.NOTHING


def _of_a_service(key: _Key) -> Consequence:
    section, name = key
    if section != "Service" or name in _OF_THE_MANAGER:
        return Consequence.DAEMON_RELOAD
    return Consequence.RELOAD if name in _OF_THE_COMMAND else Consequence.RESTART


def _of_a_socket(key: _Key) -> Consequence:
    # systemd.socket(5): they are applied when it is started.
    return Consequence.SOCKETS if key[0] == "Socket" else Consequence.DAEMON_RELOAD


def _difference(before: str | None, after: str | None) -> Iterator[_Key]:
    """Yield the directives that two units do not have alike; of a unit that is new or gone, none runs yet."""
    if before is None or after is None:
        yield ("Unit", "")
        return
    # systemd.syntax(7): a directive that is repeated adds to a list, so the order counts among those of one name.
    old, new = _directives(before), _directives(after)
    yield from (key for key in {**old, **new} if old.get(key) != new.get(key))


def _directives(unit: str) -> Mapping[_Key, list[str]]:
    found: dict[_Key, list[str]] = {}
    section = ""
    for line in filter(None, _without_comments(unit)):
        if line.startswith("["):
            section = line.strip("[]")
            continue
        name, _, value = line.partition("=")
        values = found.setdefault((section, name), [])
        values.append(_without_alone(value) if name in ("ExecStart", "ExecReload") else value)
    return found


def _without_alone(command: str) -> str:
    return _AT_THE_NEXT_START.sub(r"\1", command, count=1)


def _without_comments(text: str | None) -> list[str]:
    return [line for line in (text or "").splitlines() if not line.lstrip().startswith("#")]
