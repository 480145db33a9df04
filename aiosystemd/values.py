"""The kinds of value a deployment file holds, each with the rule that makes it safe to pass on."""

import ipaddress
import re
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

MAX_ARG_STRLEN: Final = 131_071
"""Bytes of one argument or ``NAME=value`` that execve(2) accepts."""

PATH_MAX: Final = 1024
"""Bytes of a path that we accept: below PATH_MAX (4096) and below nginx's longest parameter, quoting included."""

MAX_SHOWN: Final = 60
"""Characters of a wrong value that an error message repeats."""

_UNITS: Final = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
# Patterns as text: re compiles one when a file needs it, and most files need two or three.
_SIZE: Final = r"(\d{1,15}) ?([KMGT]?)(?:i?B)?"
NAME: Final = r"[a-z][a-z0-9_-]{0,30}"
_USER: Final = r"[a-z_][a-z0-9_-]{0,30}"
_VARIABLE: Final = r"[A-Za-z_][A-Za-z0-9_]*"
_DIRECTIVE: Final = r"[A-Z][A-Za-z0-9]*"
_CREDENTIAL: Final = r"(?!\.\.?$)[A-Za-z0-9_.-]{1,255}"
_HEADER: Final = r"[A-Za-z0-9!#%&'*+.^_`|~-]+"
_HOST: Final = r"(?=.{1,253}$)(?:\*\.)?[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*"
_MODE: Final = r"0?[0-7]{3}"
_LISTEN: Final = r"(?:(?P<host>\*|[0-9.]+|\[[0-9A-Fa-f:.]+\]|localhost):)?(?P<port>[0-9]{1,5})"

_CONTROL: Final = r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]"  # Unicode's Cc, Zl, Zp and Cs


def refuse(what: str, hint: str = "") -> PydanticCustomError:
    """Return the error to raise for a value: what is wrong with it, and what to do."""
    return PydanticCustomError("value", "{what}", {"what": what, "hint": hint})


def control_character(text: str) -> str | None:
    """Return the first control character or line separator of ``text``, by its code point, or None."""
    return _first(text, lambda char: re.match(_CONTROL, char) is not None)


def _noncharacter(text: str) -> str | None:
    # systemd ignores a line with one of Unicode's noncharacters, or a surrogate, for not being UTF-8.
    return _first(text, lambda char: "\ufdd0" <= char <= "\ufdef" or ord(char) & 0xFFFE == 0xFFFE)  # noqa: PLR2004


def _first(text: str, matches: Callable[[str], bool]) -> str | None:
    if text.isprintable():  # none that is asked for is
        return None
    return next((f"U+{ord(char):04X}" for char in text if matches(char)), None)


def _shown(text: str) -> str:
    return f'"{text}"' if len(text) <= MAX_SHOWN else f'"{text[:MAX_SHOWN]}…"'


def _line(text: str) -> str:
    if found := control_character(text):
        raise refuse(f"has the control character {found}", "write it on one line, of printable characters")
    if found := _noncharacter(text):
        raise refuse(f"has the noncharacter {found}", "take it out")
    if len(text.encode()) > MAX_ARG_STRLEN:
        raise refuse(f"is longer than {MAX_ARG_STRLEN} bytes")
    return text


def _argument(text: str) -> str:
    if "\0" in text:
        raise refuse("has a NUL character", "no argument or variable of a process can hold one")
    if found := _noncharacter(text):
        raise refuse(f"has the noncharacter {found}", "take it out")
    if len(text.encode()) > MAX_ARG_STRLEN:
        raise refuse(f"is longer than {MAX_ARG_STRLEN} bytes", "put it into a file")
    return text


def _path(text: str) -> str:
    _line(text)
    if not text.startswith("/"):
        raise refuse(f"{_shown(text)} is not an absolute path", "begin it with /")
    if ".." in PurePosixPath(text).parts:
        raise refuse(f'{_shown(text)} has a ".." in it', "write the path it leads to")
    if len(text.encode()) > PATH_MAX:
        raise refuse(f"is longer than {PATH_MAX} bytes")
    path = str(PurePosixPath("/", *PurePosixPath(text).parts[1:]))
    if path.endswith((" ", "\\")):
        # systemd.syntax(7): the one is stripped, the other joins the next line.
        raise refuse(f"{_shown(path)} ends with a space or backslash", "rename it")
    return path


def _program(text: str) -> str:
    # systemd.exec(5) knows no spelling for them in the path of a program.
    if any(char in text for char in "\"'\\") or "${" in text or "$$" in text or text == "/":
        raise refuse(f"{_shown(text)} is not a program that systemd can start", 'as in "/srv/example/venv/bin/python"')
    return text


def _device(text: str) -> str:
    if not text.startswith("/dev/"):
        raise refuse(f"{_shown(text)} is not a device node", 'as in "/dev/dri/renderD128"')
    return text


def _credential_path(text: str) -> str:
    if " " in text or "\\" in text:
        raise refuse(f"{_shown(text)} has a space or backslash", "rename it: systemd loads no credential from there")
    return text


def _directive_value(text: str) -> str:
    if text != text.strip(" ") or text.endswith("\\"):
        raise refuse("begins or ends with a space, or ends with a backslash", "quote it, as systemd.syntax(7) says")
    return text


def _seconds(value: float) -> float:
    if value != round(value, 3):
        raise refuse(f"{value:g} is finer than a millisecond", "nginx counts in milliseconds")
    return value


def _environment_file(text: str) -> str:
    optional = text.startswith("-")
    return "-" * optional + _path(text[optional:])


def _app(text: str) -> str:
    module, colon, attribute = text.partition(":")
    if "(" in attribute:
        raise refuse(f"{_shown(text)} calls its factory", "leave out the parentheses: a factory is called by itself")
    names = [*module.split("."), *attribute.split(".")]
    if not colon or not all(name.isidentifier() for name in names):
        raise refuse(f"{_shown(text)} is not of the form MODULE:ATTRIBUTE", 'as in "my_app_module:my_web_app"')
    return text


def _size(value: Any) -> Any:  # noqa: ANN401 (a validator that runs before the type is known)
    if isinstance(value, str):
        match = re.fullmatch(_SIZE, value.strip())
        if match is None:
            raise refuse(f"{_shown(value)} is not a size", 'a number of bytes, or as in "512M" or "2GiB"')
        return int(match[1]) * _UNITS[match[2]]
    return value


def _listen(text: str) -> str:
    match = re.fullmatch(_LISTEN, text)
    if match is None or not 0 < int(match["port"]) < 1 << 16:
        raise refuse(f"{_shown(text)} is not an address to listen on", 'as in "80", "[::]:80" or "192.0.2.1:8080"')
    if (host := match["host"]) and (host[0] == "[" or host.replace(".", "").isdigit()):
        _address(host.strip("[]"))
    return text


def _address(text: str) -> str:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise refuse(f"{_shown(text)} is not an IP address") from None
    if "%" in text:  # any text may follow, and in a unit file it would be a specifier
        raise refuse(f"{_shown(text)} names a network interface", "use an address without one")
    return str(address)


def _network(text: str) -> str:
    if text in {"localhost", "link-local", "multicast"}:
        return text
    try:
        network = ipaddress.ip_network(text)
    except ValueError as error:
        raise refuse(f"{error}", 'as in "10.0.0.0/8", "2001:db8::/32" or "localhost"') from None
    if "%" in text:
        raise refuse(f"{_shown(text)} names a network interface", "use addresses without one")
    return str(network)


def _prefix(text: str) -> str:
    _line(text)
    if not text.startswith("/") or "//" in text or "/../" in f"{text}/" or set(text) & set("?#$"):
        raise refuse(f"{_shown(text)} is not a path prefix", 'as in "/static/"')
    if len(text.encode()) > PATH_MAX:
        raise refuse(f"is longer than {PATH_MAX} bytes")
    return text


def _no_variable(text: str) -> str:
    if "$" in text:
        raise refuse(f'{_shown(text)} has a "$"', "nginx would read it as a variable and cannot escape it")
    if len(text.encode()) > PATH_MAX:
        raise refuse(f"is longer than {PATH_MAX} bytes")
    return text


def _environment_value(text: str) -> str:
    # systemd drops an assignment with any other control character, systemd.exec(5), Environment=.
    if found := control_character(text.replace("\n", "").replace("\t", "")):
        raise refuse(f"has the control character {found}", "put it into a file, as service.credentials does")
    return _argument(text)


def _matching(pattern: str, what: str, hint: str) -> AfterValidator:
    def check(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise refuse(f"{_shown(text)} is not {what}", hint)
        return text

    return AfterValidator(check)


# What is said below each kind stands in aiosystemd.toml(5).
Line = Annotated[str, AfterValidator(_line)]
"""Text on one line, without control characters."""
Argument = Annotated[str, AfterValidator(_argument)]
"""Any text that an argument of a process can be: of up to 131071 bytes, without NUL."""
AbsolutePath = Annotated[str, AfterValidator(_path)]
"""A path that begins with ``/``, without ``..`` in it."""
Program = Annotated[str, AfterValidator(_path), AfterValidator(_program)]
"""The path of a program, without quotes and backslashes."""
DevicePath = Annotated[str, AfterValidator(_path), AfterValidator(_device)]
"""A path below ``/dev``."""
CredentialPath = Annotated[str, AfterValidator(_path), AfterValidator(_credential_path)]
"""A path that begins with ``/``, without spaces and backslashes."""
DirectiveValue = Annotated[str, AfterValidator(_line), AfterValidator(_directive_value)]
"""A value as systemd.syntax(7) has it, on one line."""
EnvironmentFile = Annotated[str, AfterValidator(_environment_file)]
"""A path that begins with ``/``, or with ``-/`` for a file that may be missing."""
App = Annotated[str, AfterValidator(_app)]
"""``MODULE:ATTRIBUTE``, in which both may have dots."""
Seconds = Annotated[float, Field(gt=0, le=604_800, allow_inf_nan=False), AfterValidator(_seconds)]
"""A number of seconds, to the millisecond."""
SecondsOrNever = Annotated[float, Field(ge=0, le=604_800, allow_inf_nan=False), AfterValidator(_seconds)]
"""A number of seconds, to the millisecond, or 0."""
Size = Annotated[
    int,
    BeforeValidator(_size),
    Field(gt=0, le=1 << 50),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 1}, {"type": "string", "pattern": _SIZE}]}),
]
"""A number of bytes, or a string with a unit, K, M, G or T, which are powers of 1024: ``"512M"``, ``"2 GiB"``."""
ListenAddress = Annotated[str, AfterValidator(_listen)]
"""``"PORT"`` or ``"ADDRESS:PORT"``, as in ``"[::]:80"``."""
Address = Annotated[str, AfterValidator(_address)]
"""An IP address."""
Network = Annotated[str, AfterValidator(_network)]
"""An IP address or network, as in ``"10.0.0.0/8"``; ``"localhost"``, ``"link-local"`` or ``"multicast"``."""
Prefix = Annotated[str, AfterValidator(_prefix)]
"""A path of URLs, and all that is below it: it begins with ``/``, and has no ``?``, ``#`` or ``$``."""
HeaderValue = Annotated[str, AfterValidator(_line), AfterValidator(_no_variable)]
"""Text on one line, without ``$``."""
ProxyPath = Annotated[str, AfterValidator(_path), AfterValidator(_no_variable)]
"""A path that begins with ``/``, without ``$``."""
EnvironmentValue = Annotated[str, AfterValidator(_environment_value)]
"""Text, without control characters but newline and tab."""
Name = Annotated[
    str,
    _matching(NAME, "a name", "begin with a lower-case letter; then up to 30 of a-z, 0-9, - and _"),
]
"""A lower-case letter, then up to 30 of them, digits, ``-`` and ``_``."""
User = Annotated[
    str,
    _matching(_USER, "a user or group name", "up to 31 of a-z, 0-9, - and _; not beginning with a digit"),
]
"""A lower-case letter or ``_``, then up to 30 of them, digits and ``-``."""
Variable = Annotated[str, _matching(_VARIABLE, "a variable's name", "letters, digits and _, as in DATABASE_URL")]
"""Letters, digits and ``_``, not beginning with a digit."""
DirectiveName = Annotated[str, _matching(_DIRECTIVE, "a directive's name", "as systemd.exec(5) writes it: Nice")]
"""The name of a directive, as in systemd.exec(5) and systemd.service(5)."""
Credential = Annotated[str, _matching(_CREDENTIAL, "a credential's name", "letters, digits, _, . and -")]
"""Letters, digits, ``_``, ``.`` and ``-``, up to 255 of them."""
HeaderName = Annotated[str, _matching(_HEADER, "a header's name", "RFC 9110, section 5.6.2: a token")]
"""The name of a header of HTTP."""
ServerName = Annotated[str, _matching(_HOST, "a server name", 'as in "example.com" or "*.example.com"')]
"""The name of a host; one that begins with ``*.`` stands for all below it."""
Mode = Annotated[str, _matching(_MODE, "a file mode", 'as in "0660"')]
"""A file mode in octal, as a string."""
