"""supervisord's configuration: programs and fcgi-programs, with their expansions."""

import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

from aiosystemd.errors import Location
from aiosystemd.migrate import ini, roles
from aiosystemd.migrate.command import command
from aiosystemd.migrate.found import Draft, Given, Setting, Text
from aiosystemd.migrate.ini import Section
from aiosystemd.migrate.roles import Role

_EXPANSION: Final = re.compile(r"%(?:%|\((?P<name>[^)]*)\)(?P<format>[-+ #0]*\d*(?:\.\d+)?[sdioxXr]))")
_PROGRAMS: Final = ("program:", "fcgi-program:")
_SHOWN_OTHERS: Final[Mapping[str, str]] = {
    "eventlistener": "listens to supervisord's events, which systemd has none of",
    "group": "a group of programs: NAME.target is the group of a deployment's instances",
    "supervisord": "of supervisord itself",
    "supervisorctl": "of supervisorctl: aiosystemd status, logs and rollout take its place",
    "unix_http_server": "of supervisorctl: systemctl needs no server",
    "inet_http_server": "of supervisorctl: systemctl needs no server",
    "rpcinterface": "of supervisorctl: systemctl needs no server",
    "include": "its files were read too",
}


class _Unknown(Exception):  # noqa: N818 (nothing is wrong with it)
    """Raised for an expansion of which only supervisord knows the value."""


def includes(text: Text) -> list[str]:
    """Return the patterns of the files that a configuration includes, from its directory on; raises ProblemsError."""
    directory = PurePosixPath(text.file).parent
    patterns: list[str] = []
    for section in ini.read(text):
        if section.name == "include" and (files := ini.last_of_each(section).get("files")):
            patterns += [str(directory / each.replace("%(here)s", str(directory))) for each in files.value.split()]
    return patterns


def drafts(texts: tuple[Text, ...], given: Given) -> Iterator[Draft]:
    """Yield a draft for each program, and one of everything else; raises ProblemsError."""
    rest = Draft("supervisord", Location(texts[0].file), left_out="supervisord's own settings")
    for section in ini.merged(section for text in texts for section in ini.read(text)):
        if section.name.startswith(_PROGRAMS):
            yield _Program(section, given).draft()
        else:
            _other(rest, section)
    if rest.findings:
        yield rest


def _other(rest: Draft, section: Section) -> None:
    kind = section.name.partition(":")[0]
    why = _SHOWN_OTHERS.get(kind, "")
    if not why:
        heading = Setting(section.at, f"[{section.name}]")
        roles.unknown(rest, heading, [f"[{each}]" for each in (*_SHOWN_OTHERS, "program:x", "fcgi-program:x")], _NAME)
    for each in section.settings:
        rest.drop(Setting(each.at, f"[{section.name}] {each.name}", each.value), why or "of a section that is ignored")


@dataclass(slots=True)
class _Program:
    section: Section
    given: Given

    @property
    def name(self) -> str:
        return self.section.name.partition(":")[2].strip()

    @property
    def first(self) -> int:
        """The number of the first process."""
        given = ini.last_of_each(self.section).get("numprocs_start")
        return (roles.number(given.value) if given else None) or 0

    def draft(self) -> Draft:
        draft = self.given.draft(self.section.name, self.section.at, self.name)
        settings = ini.last_of_each(self.section)
        draft.sources[("name",)] = [Setting(self.section.at, f"[{self.section.name}]")]
        for each in self.section.settings:
            if settings[each.name].at != each.at:
                draft.warn(each, f"{each.name} is set again in line {settings[each.name].at.line}, and that one counts")
                draft.drop(each, "set again below")
        self.variables(draft, settings.pop("environment", None))
        started = settings.pop("command", None)
        # The directory before the command, which may be relative to it.
        for setting in settings.values():
            self.setting(draft, setting)
        self.command(draft, started)
        roles.compare_stops(draft, _NAME, _STOP)
        return draft

    def setting(self, draft: Draft, setting: Setting) -> None:
        try:
            dropped = isinstance(_SETTINGS.get(setting.name, ""), str)  # and reported as it stands
            value = setting.value if dropped else self.expanded(draft, setting.value)
            expanded = Setting(setting.at, setting.name, value)
        except _Unknown as unknown:
            draft.drop(setting, str(unknown))
            return
        roles.apply(draft, [expanded], _SETTINGS, _NAME)

    def command(self, draft: Draft, setting: Setting | None) -> None:
        if setting is None:
            draft.leave("it has no command, and supervisord does not start with it")
            return
        try:
            expanded = self.expanded(draft, setting.value)
        except _Unknown as unknown:
            draft.drop(setting, str(unknown))
            draft.leave(f"its command cannot be known: {unknown}")
            return
        command(draft, setting, expanded, given=self.given)

    def variables(self, draft: Draft, setting: Setting | None) -> None:
        if setting is None:
            return
        pairs = _pairs(setting.value)
        if pairs is None:
            draft.warn(setting, 'not KEY="value",KEY="value": supervisord does not start with it')
            draft.drop(setting, "cannot be read: set service.environment")
            return
        if not pairs:
            draft.drop(setting, "empty")
        for name, value in pairs:
            self.variable(draft, setting, name, value)

    def variable(self, draft: Draft, setting: Setting, name: str, value: str) -> None:
        shown = Setting(setting.at, f"{setting.name} {name}")
        if "%(process_num)" in value:
            draft.drop(shown, "differs from process to process: the instance's number is in $AIOSYSTEMD_INSTANCE")
            return
        try:
            roles.variable(draft, setting, name, self.expanded(draft, value))
        except _Unknown as unknown:
            draft.drop(shown, str(unknown))

    def expanded(self, draft: Draft, value: str) -> str:
        """Return a value with its expansions filled in; raises _Unknown."""
        own = {f"ENV_{key[-1]}": str(each) for key, each in draft.values.items() if key[1:2] == ("environment",)}
        return _EXPANSION.sub(lambda match: self.expansion(match, own), value)

    def expansion(self, match: re.Match[str], variables: Mapping[str, str]) -> str:
        name = match["name"]
        known: dict[str, str | int] = {
            **variables,
            "here": str(PurePosixPath(self.section.at.file).parent),
            "program_name": self.name,
            "group_name": self.name,
            "process_num": self.first,
            "numprocs": 1,
        }
        if name is None:
            return "%"
        if name not in known:
            where = "the environment of supervisord" if name.startswith("ENV_") else "supervisord"
            raise _Unknown(f"%({name}) is filled in from {where}, which is not known here")
        try:
            return str(f"%{match['format']}" % known[name])
        except (TypeError, ValueError, OverflowError, MemoryError):
            raise _Unknown(f"%({name}) has a format that does not fit it") from None


def _pairs(text: str) -> list[tuple[str, str]] | None:
    """Return the pairs of ``environment=``, by supervisord's own rules, or None."""
    lexer = shlex.shlex(text)
    lexer.wordchars += "/.+-():%"
    try:
        tokens = list(lexer)
    except ValueError:
        return None
    groups = [tokens[i : i + 4] for i in range(0, len(tokens), 4)]
    if any(len(each) < 3 or each[1] != "=" for each in groups):  # noqa: PLR2004 (KEY = value)
        return None
    return [(each[0], each[2].strip("'\"")) for each in groups]


def _restart(draft: Draft, setting: Setting) -> None:
    match setting.value.strip().lower():
        case "unexpected":
            draft.keep(setting, ("service", "restart"), "on-failure", "whatever ends with a status other than 0")
        case "false" | "no" | "0" | "off" | "f" | "n":
            draft.replaced(setting, "instances are started again when they end (service.restart)")
        case _:
            draft.replaced(setting, "always is the default (service.restart)")


def _autostart(draft: Draft, setting: Setting) -> None:
    if roles.is_true(setting.value):
        draft.replaced(setting, "the targets are enabled by aiosystemd apply")
    else:
        draft.drop(setting, "aiosystemd apply enables it: systemctl disable NAME.target keeps it from the boot")


def _socket(draft: Draft, setting: Setting) -> None:
    address = setting.value.replace("tcp://", "").replace("unix://", "unix:")
    roles.bind(draft, Setting(setting.at, setting.name, address))


def _mode(draft: Draft, setting: Setting) -> None:
    roles.socket_mode(draft, setting, setting.value.strip())


_NAME: Final = "supervisord"
_STOP: Final = 10.0
"""Seconds, supervisord's own ``stopwaitsecs``."""
_WHOLE_GROUP: Final = "systemd ends every process of an instance, those that it has started too"

_SETTINGS: Final[Mapping[str, Role | str]] = {
    "numprocs": roles.instances,
    "directory": roles.directory,
    "user": roles.user,
    "stopwaitsecs": roles.stop,
    "stopsignal": roles.stop_signal,
    "autorestart": _restart,
    "autostart": _autostart,
    "socket": _socket,
    "socket_mode": _mode,
    "socket_backlog": roles.whole(("listen", "backlog")),
    "socket_owner": "systemd opens the sockets: the proxy's group is listen.group",
    "process_name": "instances are called NAME@1, NAME@2, …",
    "numprocs_start": "instances are numbered from 1 on",
    "umask": "UMask= in service.directives sets it",
    "priority": "instances do not wait for one another; After= in a drop-in orders units",
    "startsecs": "an instance says itself when it serves (sd_notify)",
    "startretries": "systemd does not give up: the sockets stay open and requests wait",
    "exitcodes": "service.restart decides",
    "stopasgroup": _WHOLE_GROUP,
    "killasgroup": _WHOLE_GROUP,
    "serverurl": "of supervisord's own events",
    "command": "",
    "environment": "",
    **dict.fromkeys(
        (
            f"{stream}_{key}"
            for stream in ("stdout", "stderr")
            for key in "logfile logfile_maxbytes logfile_backups capture_maxbytes events_enabled syslog".split()
        ),
        roles.JOURNAL,
    ),
    "redirect_stderr": roles.JOURNAL,
}
