"""The processes: identity, environment, limits, logs."""

import re
from collections.abc import Iterator

from aiosystemd.contract import INSTANCE_VARIABLE, PREDECESSOR_VARIABLE
from aiosystemd.known import NAMES, OWNED, SINCE
from aiosystemd.model import Deployment
from aiosystemd.rules.rule import Violation, rule
from aiosystemd.values import MAX_ARG_STRLEN


@rule
def _name_is_free(d: Deployment) -> Iterator[Violation]:
    """``name`` is not that of a user, a directory or a unit of the system."""
    if d.name in NAMES or d.name.startswith("systemd-"):
        what = f'"{d.name}" is the name of a user, a directory or a unit of the system'
        yield Violation((("name",),), what, f'choose another one, as in "{d.name}-site"')


@rule
def _identity(d: Deployment) -> Iterator[Violation]:
    """``service.user`` and ``service.group`` are not root's or nobody's; a group needs a user."""
    for key, value in (("user", d.service.user), ("group", d.service.group)):
        if value in {"root", "nobody", "nogroup"}:
            hint = f"remove it: systemd makes a {key} for the application"
            yield Violation((("service", key),), f"service.{key} is {value}", hint)
    if d.service.user is None and d.service.dynamic_user is False:
        concerns = (("service", "dynamic_user"), ("service", "user"))
        yield Violation(concerns, "no user is named", "set service.user")
    if d.dynamic_user and d.service.user is None and d.service.group is not None:
        concerns = (("service", "group"), ("service", "user"))
        yield Violation(concerns, "service.group needs a user", "set service.user")


_PROCESS = 48 << 20
"""Bytes of memory that a small application needs: aiohttp and uvloop alone are resident with 35 MiB."""


@rule
def _memory_has_room_for_a_reload(d: Deployment) -> Iterator[Violation]:
    """``service.memory_max`` has room for two processes, or there is a warning."""
    limit = d.service.memory_max
    if limit is not None and limit < 2 * _PROCESS:
        what = (
            f"{limit >> 20} MiB may be too little for a reload: the old and the new process run at once, and even a "
            f"small application needs about {_PROCESS >> 20} MiB"
        )
        yield Violation((("service", "memory_max"),), what, f'raise it to "{2 * _PROCESS >> 20}M" or more', "warning")


_RESERVED = (
    rf"{INSTANCE_VARIABLE}|{PREDECESSOR_VARIABLE}|LISTEN_(?:FDS|PID|FDNAMES|PIDFDID)|NOTIFY_SOCKET"
    r"|WATCHDOG_(?:PID|USEC)|MAINPID|FDSTORE"
)
_SENSITIVE = r"(?:^|_)(?:PASSWORD|PASSWD|SECRET|TOKEN|APIKEY|API_KEY|PRIVATE_KEY)(?:_|$)|_DSN$"


@rule
def _variables(d: Deployment) -> Iterator[Violation]:
    """``service.environment`` has no variable of systemd's own; what looks like a secret there is warned of."""
    for name, value in d.service.environment.items():
        key = ("service", "environment", name)
        if len(f"{name}={value}".encode()) > MAX_ARG_STRLEN:
            yield Violation((key,), f"{name} is longer than {MAX_ARG_STRLEN} bytes", "put it into a file")
        if re.fullmatch(_RESERVED, name):
            yield Violation((key,), f"{name} is set by systemd or by the unit itself", "use another name")
        elif re.search(_SENSITIVE, name.upper()):
            hint = "use service.credentials, or service.environment_files"
            yield Violation((key,), f"{name} looks like a secret, and unit files are world-readable", hint, "warning")


@rule
def _directives_are_not_ours(d: Deployment) -> Iterator[Violation]:
    """``service.directives`` has none that is written from other keys."""
    for name in d.service.directives:
        if hint := OWNED.get(name):
            key = ("service", "directives", name)
            yield Violation((key,), f"{name}= is written from the rest of this file", f"use {hint}")


def unknown_to(systemd: int, d: Deployment) -> Iterator[Violation]:
    """Yield the directives of ``d`` that a version of systemd does not know yet."""
    for name in d.service.directives:
        if (since := SINCE.get(name, 0)) > systemd:
            what = f"service.directives: systemd {systemd} does not know {name}= (since {since})"
            yield Violation((("service", "directives", name),), what)


@rule
def _format_needs_a_log(d: Deployment) -> Iterator[Violation]:
    """``server.access_log_format`` needs ``server.access_log = "text"``."""
    if "access_log_format" in d.server.model_fields_set and d.server.access_log != "text":
        hint = 'set server.access_log = "text", or remove it'
        concerns = (("server", "access_log_format"), ("server", "access_log"))
        yield Violation(concerns, "no access log is written in this format", hint)
