"""aiohttp's own command line, ``python -m aiohttp.web``, and that of the server here."""

from collections.abc import Mapping
from typing import Final

from aiosystemd.migrate import roles
from aiosystemd.migrate.found import Draft, KeyPath, Setting
from aiosystemd.migrate.roles import Role
from aiosystemd.migrate.target import target

_WEB: Final[Mapping[str, str]] = {
    "-H": "--hostname", "--hostname": "--hostname", "-P": "--port", "--port": "--port", "-U": "--path",
    "--path": "--path",
}  # fmt: skip
_SWITCHES: Final = frozenset({"--alone", "--direct", "--reload"})


def web(draft: Draft, setting: Setting, words: list[str]) -> None:
    """Take the words behind ``python -m aiohttp.web``: where to listen, the factory, and what it is given."""
    rest, app = list(words), False
    arguments: list[str] = []
    while rest:
        word = rest.pop(0)
        option, equals, value = word.partition("=")
        if option in _WEB:
            value = value if equals else rest.pop(0) if rest else ""
            roles.bind(draft, Setting(setting.at, _WEB[option], _address(_WEB[option], value)))
        elif not app and not word.startswith("-"):
            app = True
            target(draft, Setting(setting.at, "aiohttp.web", word), word, attribute="")
        else:  # aiohttp hands on whatever it does not know, wherever it stands
            arguments.append(word)
    if not any(each.startswith(("localhost:", "unix:")) for each in draft.bound):
        draft.bound.append("localhost:8080")  # its default
    _finish(draft, setting, arguments, app=app)


def runtime(draft: Draft, setting: Setting, words: list[str]) -> None:
    """Take the words behind ``aiosystemd-serve``."""
    rest = list(words)
    found: list[Setting] = []
    while rest and rest[0].startswith("-") and rest[0] != "--":
        option, equals, value = rest.pop(0).partition("=")
        if not equals and option not in _SWITCHES and rest:
            value = rest.pop(0)
        found.append(Setting(setting.at, option, value))
    rest = rest[1:] if rest[:1] == ["--"] else rest
    roles.apply(draft, found, _OPTIONS, "aiosystemd-serve")
    if rest:
        target(draft, Setting(setting.at, "aiosystemd-serve", rest[0]), rest[0], attribute="")
    arguments = rest[2:] if rest[1:2] == ["--"] else rest[1:]
    _finish(draft, setting, arguments, app=bool(rest))


def _finish(draft: Draft, setting: Setting, arguments: list[str], *, app: bool) -> None:
    if arguments:
        draft.keep(Setting(setting.at, "arguments", " ".join(arguments)), ("arguments",), tuple(arguments))
    if not app or ("app",) not in draft.values:
        draft.leave("its command names no application")


def _address(option: str, value: str) -> str:
    return f"unix:{value}" if option == "--path" else value if option == "--hostname" else f"localhost:{value}"


def _seconds(key: KeyPath) -> Role:
    def role(draft: Draft, setting: Setting) -> None:
        given = roles.seconds(setting.value)
        if given is None:
            draft.drop(setting, "not a number of seconds")
        else:
            draft.keep(setting, key, given)

    return role


def _text(key: KeyPath) -> Role:
    return lambda draft, setting: draft.keep(setting, key, setting.value)


def _path(draft: Draft, setting: Setting) -> None:
    roles.bind(draft, Setting(setting.at, setting.name, _address(setting.name, setting.value)))


_OPTIONS: Final[Mapping[str, Role | str]] = {
    "--path": _path,
    "--fd": "systemd passes the sockets",
    "--port": _path,
    "--host": roles.bind,
    "--mode": _text(("listen", "mode")),
    "--backlog": roles.whole(("listen", "backlog")),
    "--keepalive": _seconds(("server", "keepalive")),
    "--drain": _seconds(("timeouts", "drain")),
    "--stop": _seconds(("timeouts", "stop")),
    "--start": _seconds(("timeouts", "start")),
    "--idle": "follows from proxy.keepalive",
    "--forwarded-from": "follows from server.forwarded and listen",
    "--body-limit": roles.whole(("server", "body_limit")),
    "--access-log": _text(("server", "access_log")),
    "--access-log-format": _text(("server", "access_log_format")),
    "--loop": _text(("server", "loop")),
    "--alone": "follows from instances",
    "--tls-certificate": "set listen.tls",
    "--tls-key": "set listen.tls",
    "--direct": "follows from proxy.kind and listen.address",
    "--reload": "is for ExecReload=",
}
