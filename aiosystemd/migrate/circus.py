"""Circus: watchers, the environment of each, and sockets."""

import re
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from typing import Final

from aiosystemd.errors import Location
from aiosystemd.migrate import ini, roles
from aiosystemd.migrate.command import command
from aiosystemd.migrate.found import Draft, Given, Setting, Text
from aiosystemd.migrate.ini import Section
from aiosystemd.migrate.roles import Role

_VARIABLE: Final = re.compile(r"\$\(circus\.(?P<gnu>[a-zA-Z0-9_.-]+)\)|\(\(circus\.(?P<old>[a-zA-Z0-9_.-]+)\)\)")
_NAME: Final = "circusd"


def includes(text: Text) -> list[str]:
    """Return the patterns of the files that a configuration includes, from its directory on; raises ProblemsError."""
    directory = PurePosixPath(text.file).parent
    patterns: list[str] = []
    for section in ini.read(text, circus=True):
        if section.name == "circus":
            settings = ini.first_of_each(section)
            patterns += [str(directory / each) for each in _value(settings, "include").split()]
            patterns += [str(directory / each / "*.ini") for each in _value(settings, "include_dir").split()]
    return patterns


def drafts(texts: tuple[Text, ...], given: Given) -> Iterator[Draft]:
    """Yield a draft for each watcher, and one of everything else; raises ProblemsError."""
    sections = ini.merged(section for text in texts for section in ini.read(text, circus=True))
    told: set[Location] = set()
    for section in sections:
        if section.name.startswith("watcher:"):
            draft = _watcher(section, sections, given)
            told |= {each.setting.at for each in draft.findings}
            yield draft
    rest = Draft(_NAME, Location(texts[0].file), left_out="circusd's own settings")
    for section in sections:
        for each in (each for each in section.settings if each.at not in told):
            rest.drop(Setting(each.at, f"[{section.name}] {each.name}", each.value), "of circusd itself")
    if rest.findings:
        yield rest


def _watched(section: Section) -> str:
    return section.name.partition(":")[2].strip()


def _is_for(section: Section, name: str) -> bool:
    kind, _, names = section.name.partition(":")
    return kind == "env" and any(fnmatchcase(name, each.strip() or "*") for each in names.split(","))


def _watcher(section: Section, sections: list[Section], given: Given) -> Draft:
    name = _watched(section)
    draft = given.draft(section.name, section.at, name)
    draft.sources[("name",)] = [Setting(section.at, f"[{section.name}]")]
    settings = ini.first_of_each(section)
    for each in section.settings:
        if settings[each.name].at != each.at:
            draft.warn(each, f"{each.name} is set in line {settings[each.name].at.line} already, and that one counts")
            draft.drop(each, "set above")
    for each in (each for other in sections if _is_for(other, name) for each in other.settings):
        roles.variable(draft, Setting(each.at, f"[env:{name}]"), each.name, each.value)
    sockets = {_watched(each): each for each in sections if each.name.startswith("socket:")}
    started, arguments = settings.pop("cmd", None), settings.pop("args", None)
    roles.apply(draft, settings.values(), _table(settings), _NAME)
    _command(draft, started, arguments, sockets, given, shelled=roles.is_true(_value(settings, "shell")))
    roles.compare_stops(draft, _NAME, _STOP)
    return draft


def _table(settings: Mapping[str, Setting]) -> Mapping[str, Role | str]:
    """Return the roles of all settings, those among them of which only the beginning is known."""
    table = dict(_SETTINGS)
    for prefix, role in _PREFIXES.items():
        table |= dict.fromkeys((name for name in settings if name.startswith(prefix)), role)
    return table


def _command(  # noqa: PLR0913 (each is another part of it)
    draft: Draft,
    started: Setting | None,
    arguments: Setting | None,
    sockets: Mapping[str, Section],
    given: Given,
    *,
    shelled: bool,
) -> None:
    if started is None:
        draft.leave("it has no cmd")
        return
    value = f"{started.value} {arguments.value}" if arguments else started.value
    if arguments:
        draft.replaced(arguments, "in the command")
    for match in _VARIABLE.finditer(value):
        _socket(draft, started, (match["gnu"] or match["old"]).lower(), sockets)
    filled = _VARIABLE.sub("0", value)
    command(draft, started, filled, given=given, shelled=shelled)


def _socket(draft: Draft, command: Setting, name: str, sockets: Mapping[str, Section]) -> None:
    section = sockets.get(name.removeprefix("sockets."))
    for each in section.settings if section and name.startswith("sockets.") else ():
        shown = Setting(each.at, f"[{section.name}] {each.name}" if section else each.name, each.value)
        if each.name in {"path", "host"}:
            address = f"unix:{each.value}" if each.name == "path" else each.value
            roles.bind(draft, Setting(shown.at, shown.name, address))
        elif each.name == "umask" and (number := roles.number(each.value)) is not None:
            _umask(draft, shown, number)
        else:
            draft.replaced(shown, "systemd opens the sockets (listen)")
    if not section:
        draft.drop(Setting(command.at, f"$(circus.{name})"), "filled in by circusd: the number is $AIOSYSTEMD_INSTANCE")


def _umask(draft: Draft, setting: Setting, number: int) -> None:
    if f"{number:o}" != (setting.value.strip().lstrip("0") or "0"):
        draft.warn(setting, f"Circus takes it for a decimal number, which is {number:03o} in octal")
    roles.socket_mode(draft, setting, f"{~number & 0o777:04o}")


def _value(settings: Mapping[str, Setting], name: str) -> str:
    return settings[name].value if name in settings else ""


def _virtualenv(draft: Draft, setting: Setting) -> None:
    draft.change(setting, ("python",), f"{setting.value.rstrip('/')}/bin/python", "its interpreter")


def _respawn(draft: Draft, setting: Setting) -> None:
    draft.replaced(setting, "instances are started again when they end (service.restart)")


def _open_files(draft: Draft, setting: Setting) -> None:
    roles.whole(("service", "open_files"), 64)(draft, setting)


_STOP: Final = 30.0
"""Seconds, Circus's own ``graceful_timeout``."""
_ENVIRONMENT: Final = "an instance has the variables of service.environment, and none of the one who starts it"
_FLAPPING: Final = "systemd does not give up: the sockets stay open and requests wait"
_WHOLE_GROUP: Final = "systemd ends every process of an instance, those that it has started too"

_SETTINGS: Final[Mapping[str, Role | str]] = {
    "numprocesses": roles.instances,
    "working_dir": roles.directory,
    "uid": roles.user,
    "gid": roles.group,
    "graceful_timeout": roles.stop,
    "stop_signal": roles.stop_signal,
    "respawn": _respawn,
    "autostart": "the targets are enabled by aiosystemd apply",
    "virtualenv": _virtualenv,
    "virtualenv_py_ver": "the interpreter is named: python",
    "copy_env": _ENVIRONMENT,
    "copy_path": _ENVIRONMENT,
    "shell": "no shell is between systemd and the instances",
    "shell_args": "no shell is between systemd and the instances",
    "executable": "the interpreter is named: python",
    "use_sockets": "systemd passes the sockets",
    "singleton": "set instances = 1",
    "stop_children": _WHOLE_GROUP,
    "send_hup": "aiosystemd rollout puts a new version in place",
    "warmup_delay": "an instance says itself when it serves (sd_notify)",
    "priority": "instances do not wait for one another; After= in a drop-in orders units",
    "max_retry": _FLAPPING,
    "max_age": "instances do not end by age",
    "max_age_variance": "instances do not end by age",
    "on_demand": "systemd starts an instance for a connection too, when it was stopped and its socket is open",
    "close_child_stdin": roles.JOURNAL,
    "close_child_stdout": roles.JOURNAL,
    "close_child_stderr": roles.JOURNAL,
    "check_flapping": _FLAPPING,
    "cmd": "",
    "args": "",
}

_PREFIXES: Final[Mapping[str, Role | str]] = {
    "stdout_stream": roles.JOURNAL,
    "stderr_stream": roles.JOURNAL,
    "rlimit_": "a limit of systemd.exec(5): Limit…= in service.directives",
    "rlimit_nofile": _open_files,
    "hooks.": "code of circusd: on_startup and cleanup_ctx of the application, or ExecStartPre= in service.directives",
}
