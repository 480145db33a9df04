"""systemd units that run gunicorn, aiohttp or aiosystemd-serve already."""

import re
import shlex
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import PurePosixPath
from typing import Final

from pydantic import TypeAdapter

from aiosystemd.errors import Location, Problem, ProblemsError
from aiosystemd.known import OWNED
from aiosystemd.migrate import roles
from aiosystemd.migrate.command import command
from aiosystemd.migrate.directives import SERVICE
from aiosystemd.migrate.found import Draft, Given, KeyPath, Setting, Text
from aiosystemd.migrate.roles import Role
from aiosystemd.values import DirectiveName

_SPECIFIER: Final = re.compile(r"%(.)")
_UNITS: Final = {
    **dict.fromkeys(("us", "usec"), 1e-6),
    **dict.fromkeys(("ms", "msec"), 1e-3),
    **dict.fromkeys(("", "s", "sec", "second", "seconds"), 1),
    **dict.fromkeys(("m", "min", "minute", "minutes"), 60),
    **dict.fromkeys(("h", "hr", "hour", "hours"), 3600),
    **dict.fromkeys(("d", "day", "days"), 86_400),
    **dict.fromkeys(("w", "week", "weeks"), 604_800),
}
_SPAN: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]*)\s*")
_SANDBOX: Final = re.compile(
    r"(Protect|Private|Restrict|SystemCall|NoNewPrivileges|Capability|AmbientCapabilities|MemoryDeny|LockPersonality"
    r"|RemoveIPC|UMask|DevicePolicy|DeviceAllow|ReadOnly|Inaccessible|NoExec|ProcSubset|IPAddress|KeyringMode|Secure)"
)


def drafts(texts: tuple[Text, ...], given: Given) -> Iterator[Draft]:
    """Yield a draft for each service; a socket of the same name goes with it. Raises ProblemsError."""
    services = [each for each in texts if not each.file.endswith(".socket")]
    sockets = [each for each in texts if each.file.endswith(".socket")]
    taken: set[str] = set()
    for service in services:
        draft = given.draft(PurePosixPath(service.file).name, Location(service.file), _stem(service))
        settings = list(read(service))
        for socket in sockets:
            if _stem(socket) == _stem(service) or len(services) == 1:
                settings += read(socket)
                taken.add(socket.file)
        _service(draft, settings, given)
        yield draft
    for socket in (each for each in sockets if each.file not in taken):
        draft = Draft(PurePosixPath(socket.file).name, Location(socket.file), left_out="a socket without its service")
        for each in read(socket):
            draft.drop(each, "")
        yield draft


def _stem(text: Text) -> str:
    return PurePosixPath(text.file).stem.rstrip("@")


def read(text: Text) -> list[Setting]:
    """Return the assignments of a unit, called ``[Section] Name``, as systemd.syntax(7) has them.

    Raises ProblemsError with every line that is none.
    """
    section, settings = "", []
    problems: list[Problem] = []
    for at, line in _joined(text):
        name, equals, value = line.partition("=")
        if line.startswith("[") and line.endswith("]"):
            section = line[1:-1]
        elif not equals or not section:
            what = "no section begins before it" if equals else "neither a [Section] nor an assignment"
            problems.append(Problem(at, what, "write NAME=VALUE below a section", source=line[:200]))
        else:
            settings.append(Setting(at, f"[{section}] {name.strip()}", value.strip()))
    if problems:
        raise ProblemsError(*problems[:20])
    return settings


def _joined(text: Text) -> Iterator[tuple[Location, str]]:
    begun: tuple[Location, str] | None = None
    for number, line in enumerate(text.text.split("\n"), 1):
        stripped = line.strip()
        if not stripped or stripped[0] in "#;":  # a comment inside of a continued line is left out of it
            continue
        at = begun[0] if begun else Location(text.file, number, len(line) - len(line.lstrip()) + 1)
        whole = f"{begun[1]} {stripped}" if begun else stripped
        begun = (at, whole[:-1].rstrip()) if whole.endswith("\\") else None
        if begun is None:
            yield at, whole
    if begun:
        yield begun


def _service(draft: Draft, settings: list[Setting], given: Given) -> None:
    starts = [each for each in settings if each.name == "[Service] ExecStart"]
    later = [each for each in settings if each.name != "[Service] ExecStart"]
    for each in later:
        _setting(draft, each)
    started = [each for each in starts if each.value]
    for each in starts:
        if each not in started[-1:]:
            draft.drop(each, "another ExecStart= counts")
    if started:
        shown = Setting(started[-1].at, started[-1].name, _specifiers(draft, started[-1]).lstrip("@-:+!"))
        if not any(each.name == "[Service] User" or "DynamicUser" in each.name for each in settings):
            draft.warn(started[-1], "there is no User=: the application ran as root")
        command(draft, started[-1], roles.filled(draft, shown), given=given)
        roles.compare_stops(draft, "systemd", _STOP)
    else:
        draft.leave("it starts nothing")


def _setting(draft: Draft, setting: Setting) -> None:
    section, name = setting.name[1:].split("] ", 1)
    expanded = Setting(setting.at, setting.name, _specifiers(draft, setting))
    role = _SERVICE.get(name) if section == "Service" else _SOCKET.get(name) if section == "Socket" else None
    if section not in {"Unit", "Service", "Socket", "Install"} and not section.startswith("X-"):
        draft.warn(setting, f"systemd knows no [{section}] in this unit and ignores it")
        draft.drop(setting, "of a section that is ignored")
    elif section != "Service" and role is None:
        draft.drop(setting, _UNIT if section in {"Unit", "Install"} else "sockets have settings of their own (listen)")
    elif isinstance(role, str):
        draft.drop(setting, role)
    elif role:
        role(draft, expanded)
    else:
        _directive(draft, expanded, name)


def _directive(draft: Draft, setting: Setting, name: str) -> None:
    known = {*OWNED, *_SERVICE}
    key = ("service", "directives", name)
    if name not in known and name not in SERVICE:
        same = [each for each in sorted(SERVICE) if each.lower() == name.lower()]
        close = same or get_close_matches(name, sorted(SERVICE), n=1, cutoff=0.75)
        meant = f": was {close[0]}= meant?" if close else ""
        draft.warn(setting, f"systemd knows no {name}= here and ignores it{meant}")
        draft.drop(setting, "ignored by systemd")
    elif _SANDBOX.match(name):
        draft.replaced(setting, "the sandbox is closed unless it is opened by name (sandbox)")
    elif name in OWNED or not roles.fits(_DIRECTIVE, name):
        draft.drop(setting, f"written from {OWNED.get(name, 'nothing')}")
    elif not setting.value:
        draft.without(key, f"{setting.place} takes it back")
        draft.drop(setting, "takes back what was set before")
    elif (before := draft.values.get(key)) is not None:
        values = (*(before if isinstance(before, tuple) else (str(before),)), setting.value)
        draft.combine(setting, key, values, "one more")
    else:
        draft.keep(setting, key, setting.value)


def _specifiers(draft: Draft, setting: Setting) -> str:
    """Return a value with ``%%`` as one percent sign, and the instance's specifiers told of."""
    for letter in dict.fromkeys(_SPECIFIER.findall(setting.value)):
        if letter != "%":
            more = ": $AIOSYSTEMD_INSTANCE is the instance's number" if letter == "i" else ""
            draft.warn(setting, f"%{letter} stands for itself in a deployment file{more}")
    return setting.value.replace("%%", "%")


def _span(text: str) -> float | None:
    """Return the seconds of a time span, systemd.time(7), or None."""
    parts = _SPAN.findall(text.strip())
    if not parts or _SPAN.sub("", text.strip()) or any(unit not in _UNITS for _, unit in parts):
        return None
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


def _seconds(role: Role) -> Role:
    def spans(draft: Draft, setting: Setting) -> None:
        given = _span(setting.value)
        if given is None:
            draft.drop(setting, "no time span that is known here")
        else:
            role(draft, Setting(setting.at, setting.name, f"{given:g}"))

    return spans


def _time(key: KeyPath) -> Role:
    def role(draft: Draft, setting: Setting) -> None:
        given = roles.seconds(setting.value)
        if given is None:
            draft.drop(setting, "longer than a week")
        else:
            draft.keep(setting, key, given)

    return _seconds(role)


def _environment(draft: Draft, setting: Setting) -> None:
    try:
        words = shlex.split(setting.value)
    except ValueError:
        words = []
    words = [word for word in words if word]
    if not words:
        draft.drop(setting, "empty, or a quote in it is never closed")
    for word in words:
        name, equals, value = word.partition("=")
        if equals:
            roles.variable(draft, Setting(setting.at, setting.name), name, value)
        else:
            draft.warn(setting, f"systemd ignores what is no NAME=value: is a quote missing around {name}?")
            draft.drop(Setting(setting.at, f"{setting.name} {name}"), "ignored by systemd")


def _working_directory(draft: Draft, setting: Setting) -> None:
    roles.directory(draft, Setting(setting.at, setting.name, setting.value.removeprefix("-")))


def _many(key: KeyPath) -> Role:
    return lambda draft, setting: draft.keep(setting, key, tuple(setting.value.split()) or ("",))


def _file(draft: Draft, setting: Setting) -> None:
    draft.keep(setting, ("service", "environment_files"), (setting.value,))


def _restart(draft: Draft, setting: Setting) -> None:
    if setting.value in {"always", "on-failure"}:
        draft.keep(setting, ("service", "restart"), setting.value)
    else:
        draft.replaced(setting, "always, so that the sockets are served (service.restart)")


def _size(draft: Draft, setting: Setting) -> None:
    draft.keep(setting, ("service", "memory_max"), setting.value)


def _percent(draft: Draft, setting: Setting) -> None:
    given = roles.number(setting.value.removesuffix("%"))
    if given and setting.value.endswith("%"):
        draft.keep(setting, ("service", "cpu_quota"), given)
    else:
        draft.drop(setting, "not a whole number of percent")


def _type(draft: Draft, setting: Setting) -> None:
    if setting.value in {"simple", "exec", "forking"}:
        draft.warn(setting, "systemd took it for started before it served: a broken version looked like a good one")
    draft.replaced(setting, "notify: an instance says itself when it serves")


def _kill_mode(draft: Draft, setting: Setting) -> None:
    if setting.value in {"process", "none"}:
        draft.warn(setting, "left processes behind that no one ends")
    draft.replaced(setting, "mixed: SIGTERM is for the server, SIGKILL for all that is left")


_STOP: Final = 90.0
"""Seconds, systemd's own ``TimeoutStopSec=``."""
_DIRECTIVE: Final = TypeAdapter[str](DirectiveName)
_UNIT: Final = "the units of a deployment have an order and targets of their own; a drop-in adds to it"
_NEVER: Final = "systemd does not give up: the sockets stay open and requests wait"
_OWN_DIRECTORY: Final = "an instance has a state directory and a runtime directory of its own"

_SERVICE: Final[Mapping[str, Role | str]] = {
    "User": roles.user,
    "Group": roles.group,
    "SupplementaryGroups": _many(("service", "groups")),
    "WorkingDirectory": _working_directory,
    "Environment": _environment,
    "EnvironmentFile": _file,
    "Restart": _restart,
    "MemoryMax": _size,
    "MemoryLimit": _size,
    "CPUQuota": _percent,
    "TasksMax": roles.whole(("service", "tasks_max")),
    "LimitNOFILE": roles.whole(("service", "open_files"), 64),
    "TimeoutStopSec": _seconds(roles.stop),
    "TimeoutSec": _seconds(roles.stop),
    "TimeoutStartSec": _time(("timeouts", "start")),
    "WatchdogSec": _time(("timeouts", "watchdog")),
    "KillSignal": roles.stop_signal,
    "KillMode": _kill_mode,
    "Type": _type,
    "NotifyAccess": "main: the server notifies",
    "PIDFile": "systemd knows the process",
    "ExecReload": "systemctl reload puts new code in the place of the old, without a gap",
    "ExecStop": "requests in flight are answered on SIGTERM",
    "RestartSec": "half a second: requests wait in the socket meanwhile",
    **dict.fromkeys(("StartLimitInterval", "StartLimitBurst", "StartLimitAction"), _NEVER),
    **dict.fromkeys(
        "GuessMainPID RemainAfterExit ExitType SendSIGKILL SendSIGHUP".split(), "the server is the service"
    ),
    "RuntimeDirectory": _OWN_DIRECTORY,
    "RuntimeDirectoryMode": _OWN_DIRECTORY,
    "RuntimeDirectoryPreserve": _OWN_DIRECTORY,
    "StateDirectory": _OWN_DIRECTORY,
    "StandardOutput": roles.JOURNAL,
    "StandardError": roles.JOURNAL,
    "SyslogIdentifier": roles.JOURNAL,
    "DynamicUser": "a user is made up unless service.user is set",
    "ExecStart": "",
}


def _listen_mode(draft: Draft, setting: Setting) -> None:
    if setting.value[-1:] in {"2", "3", "6", "7"}:
        draft.warn(setting, "everyone on the machine may connect to the socket")
        draft.replaced(setting, "0660: the proxy's group and nobody else (listen.mode)")
    else:
        draft.keep(setting, ("listen", "mode"), setting.value)


def _listen(draft: Draft, setting: Setting) -> None:
    # systemd.socket(5): a number alone is a port of every address.
    address = f":{setting.value}" if roles.number(setting.value) is not None else setting.value
    roles.bind(draft, Setting(setting.at, setting.name, address))


def _socket_group(draft: Draft, setting: Setting) -> None:
    draft.keep(setting, ("listen", "group"), setting.value)


_SOCKET: Final[Mapping[str, Role | str]] = {
    "ListenStream": _listen,
    "SocketMode": _listen_mode,
    "SocketGroup": _socket_group,
    "SocketUser": "root owns the sockets, and the proxy's group may connect",
    "Backlog": roles.whole(("listen", "backlog")),
}
