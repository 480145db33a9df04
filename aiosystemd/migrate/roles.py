"""What settings mean here, whatever the program that they were written for called them."""

import re
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from pathlib import PurePosixPath
from typing import Final

from pydantic import TypeAdapter, ValidationError

from aiosystemd import contract, values
from aiosystemd.migrate import words
from aiosystemd.migrate.found import Draft, KeyPath, Setting

Role = Callable[[Draft, Setting], None]
"""Says of a setting what becomes of it."""

JOURNAL: Final = "what the application prints goes to the journal: aiosystemd logs"
_DIRECTORY: Final = TypeAdapter[str](values.AbsolutePath)
_USER: Final = TypeAdapter[str](values.User)
_VARIABLE: Final = TypeAdapter[str](values.Variable)
_VALUE: Final = TypeAdapter[str](values.EnvironmentValue)
_OF_UNITS: Final = ("HOME", "STATE_DIRECTORY")
_TRUE: Final = frozenset({"1", "true", "yes", "on", "t", "y"})
_OPEN: Final = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108 (compared)

_REFERENCE: Final = re.compile(r"\$\{?(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\}?")
_NEEDED_STOP: Final = contract.REQUEST_TIMEOUT + contract.PROXY_KEEPALIVE + 5 + contract.CLEANUP_RESERVE
"""Seconds to stop in, by default: a drain and the clean-up."""


def apply(draft: Draft, settings: Iterable[Setting], table: Mapping[str, Role | str], program: str) -> None:
    """Let each setting play its role; a text in ``table`` says why there is none, and what is unknown is told."""
    for each in settings:
        role = table.get(each.name)
        if role is None:
            unknown(draft, each, table, program)
        elif isinstance(role, str):
            draft.drop(each, role)
        else:
            role(draft, each)


def unknown(draft: Draft, setting: Setting, known: Iterable[str], program: str) -> None:
    """Tell of a setting that nothing is known of, and of the one that it may have been meant to be."""
    close = get_close_matches(setting.name, known, n=1, cutoff=0.75)
    if close:
        draft.warn(setting, f"{program} knows no {setting.name} and ignores it: was {close[0]} meant?")
    draft.drop(setting, f"no setting of {program} that is known here")


def fits(kind: TypeAdapter[str], value: str) -> bool:
    """Tell whether a value is of a kind that a deployment file may hold."""
    try:
        kind.validate_python(value, strict=True)
    except ValidationError:
        return False
    return True


def number(text: str) -> int | None:
    """Return the whole number that ``text`` is, or None."""
    return int(text) if re.fullmatch(r"\s*\d{1,15}\s*", text, re.ASCII) else None


def is_true(text: str) -> bool:
    """Tell whether a switch is on, as the programs here spell that."""
    return text.strip().lower() in _TRUE


def whole(key: KeyPath, least: int = 1) -> Role:
    """Return the role of a setting whose number is kept."""

    def role(draft: Draft, setting: Setting) -> None:
        given = number(setting.value)
        if given is None or given < least:
            draft.drop(setting, f"not a whole number from {least} on")
        else:
            draft.keep(setting, key, given)

    return role


instances = whole(("instances",))


def directory(draft: Draft, setting: Setting) -> None:
    """Keep the working directory, and show it to the instances where their sandbox would hide it."""
    if not fits(_DIRECTORY, setting.value):
        draft.drop(setting, "not an absolute path: set directory")
        return
    draft.keep(setting, ("directory",), str(PurePosixPath(setting.value)))


def user(draft: Draft, setting: Setting) -> None:
    """Keep the user, unless it is root."""
    _identity(draft, setting, "user")


def group(draft: Draft, setting: Setting) -> None:
    """Keep the group, unless it is root's."""
    _identity(draft, setting, "group")


def _identity(draft: Draft, setting: Setting, kind: str) -> None:
    value = setting.value
    if value in {"root", "0"}:
        draft.warn(setting, f"the application ran as {kind} root: whoever takes it over has the machine")
        draft.drop(setting, f"systemd makes a {kind} for it; files that it writes belong in its $STATE_DIRECTORY")
    elif value in {"nobody", "nogroup"}:
        draft.drop(setting, f"systemd makes a {kind} for it: {value} is shared with others")
    elif not fits(_USER, value):
        draft.drop(setting, f"no name of a {kind}: set service.{kind}")
    else:
        draft.keep(setting, ("service", kind), value)


def variable(draft: Draft, setting: Setting, name: str, value: str) -> None:
    """Keep a variable of the environment."""
    # The name alone: what it holds may be nobody else's business.
    shown = Setting(setting.at, f"{setting.name} {name}")
    if name == contract.INSTANCE_VARIABLE or (name in _OF_UNITS and value == _state(draft)):
        draft.replaced(shown, "the unit sets it")
    elif not fits(_VARIABLE, name) or not fits(_VALUE, value):
        draft.drop(shown, "no variable that a unit can hold")
    else:
        draft.keep(shown, ("service", "environment", name), value)


def _state(draft: Draft) -> str:
    """Return the directory that systemd makes for the deployment, of which a program may be one instance."""
    return f"/var/lib/{re.sub('-[1-9][0-9]*$', '', draft.name)}"


def seconds(text: str) -> float | None:
    """Return a number of seconds that a deployment file may hold, or None."""
    try:
        given = round(float(text), 3)
    except ValueError:
        return None
    return given if 0 <= given <= 604_800 else None  # noqa: PLR2004 (a week)


def stop(draft: Draft, setting: Setting) -> None:
    """Keep the time from SIGTERM to SIGKILL where it is long enough for what is in flight."""
    given = seconds(setting.value)
    draft.stopped = (setting, given) if given is not None else None
    if given is None:
        draft.drop(setting, "not a number of seconds: set timeouts.stop")
    elif given < _NEEDED_STOP:
        says = f"{_NEEDED_STOP:g} s: the longest request ({contract.REQUEST_TIMEOUT:g} s) is answered before SIGKILL"
        draft.replaced(setting, says)
    else:
        draft.keep(setting, ("timeouts", "stop"), given)


def drain(draft: Draft, setting: Setting) -> None:
    """Keep the time in which requests may end where it is long enough for them."""
    given, least = seconds(setting.value), contract.REQUEST_TIMEOUT + contract.PROXY_KEEPALIVE + 5
    draft.drained = (setting, given) if given is not None else None
    if given is None:
        draft.drop(setting, "not a number of seconds: set timeouts.drain")
    elif given < least:
        draft.replaced(setting, f"{least:g} s: the longest request, and the proxy's idle connections (timeouts.drain)")
    else:
        draft.keep(setting, ("timeouts", "drain"), given)


def compare_stops(draft: Draft, program: str, default: float) -> None:
    """Tell when the old program was killed before its requests had ended; ``default`` is when it says nothing."""
    (drained, drain), (stopped, stop) = draft.drained or (None, 0.0), draft.stopped or (None, default)
    keeps = stop >= _NEEDED_STOP
    if drained and stop < drain:
        says = f"{program} kills it after {stop:g} s, but its requests have {drain:g} s to end: those were lost"
        draft.warn(stopped or drained, says)
        if keeps and stopped:
            draft.without(("timeouts", "drain"), f"{stopped.place} ends it before that")
    if keeps and stopped and ("timeouts", "drain") not in draft.values:
        says = "10 s before SIGKILL requests still in flight are cancelled"
        draft.change(stopped, ("timeouts", "drain"), stop - contract.CLEANUP_RESERVE, says)


def filled(draft: Draft, setting: Setting) -> str:
    """Return a command with the variables that are known, and say which are not."""

    def value(match: re.Match[str]) -> str:
        known = draft.values.get(("service", "environment", match["name"]))
        if isinstance(known, str):
            return known
        shown = Setting(setting.at, f"${match['name']}")
        if match["name"] == "PORT":
            draft.replaced(shown, "systemd opens the sockets: no instance needs a port")
            return "5000"
        if match["default"] is not None:
            draft.replaced(shown, f"{match['default']}, as if it were not set")
            return str(match["default"])
        draft.drop(shown, "not set in a file that was named: taken as it stands")
        return match[0]

    return _REFERENCE.sub(value, words.shielded(setting.value))


def stop_signal(draft: Draft, setting: Setting) -> None:
    """Say that the runtime drains on SIGTERM."""
    name = setting.value.strip().upper().removeprefix("SIG")
    if name in {"KILL", "9"}:
        draft.warn(setting, "SIGKILL leaves no time to answer: every stop lost the requests in flight")
    if name in {"TERM", "15"}:
        draft.replaced(setting, "SIGTERM is what systemd sends anyway")
    else:
        draft.drop(setting, "requests in flight are answered on SIGTERM, and that is what systemd sends")


def socket_mode(draft: Draft, setting: Setting, mode: str) -> None:
    """Keep the mode of a unix socket, unless everyone may connect to it."""
    if mode[-1:] in {"2", "3", "6", "7"}:
        draft.warn(setting, "everyone on the machine may connect to the socket")
        draft.replaced(setting, "0660: the proxy's group and nobody else (listen.mode)")
    elif mode == "0660":
        draft.replaced(setting, "the default (listen.mode)")
    else:
        draft.keep(setting, ("listen", "mode"), mode)


def bind(draft: Draft, setting: Setting) -> None:
    """Say that systemd opens the sockets, and what was wrong with the old ones."""
    for address in re.split(r"[\s,]+", setting.value.strip()):
        _address(draft, setting, address)
    draft.replaced(setting, "systemd opens a unix socket for each instance in /run/NAME, as the proxy's site knows")


def _address(draft: Draft, setting: Setting, address: str) -> None:
    draft.bound.append(address)
    path = address.removeprefix("unix:").removeprefix("//") if address.startswith(("unix:", "/")) else ""
    if path.startswith(tuple(f"{each}/" for each in _OPEN)):
        draft.warn(setting, f"{path} is in a directory that everyone may write: anyone could take the socket's place")
    if re.match(r"(0\.0\.0\.0|\[::\]|\*|:\d)", address) and not path:
        draft.warn(setting, "every address of the machine: clients could go past the proxy")
