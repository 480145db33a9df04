"""Rules between the keys of a deployment: each is right on its own, and together they would fail."""

import re
from collections.abc import Callable, Iterable, Iterator
from ipaddress import ip_address
from typing import Literal, NamedTuple

from aiosystemd.contract import CLEANUP_RESERVE, INSTANCE_VARIABLE, PREDECESSOR_VARIABLE
from aiosystemd.known import NAMES, OWNED, SINCE
from aiosystemd.model import Deployment
from aiosystemd.values import MAX_ARG_STRLEN

SUN_PATH = 107
"""Bytes of a unix socket's path: unix(7) gives ``sun_path`` 108, the last one is NUL."""

HASHED_NAME = 46
"""Characters of a server name that fit nginx's ``server_names_hash_bucket_size`` of 64; measured with nginx -t."""

_KeyPath = tuple[str | int, ...]


class Violation(NamedTuple):
    """A rule that does not hold, and the keys that it concerns, the one to point at first."""

    concerns: tuple[_KeyPath, ...]
    what: str
    hint: str = ""
    severity: Literal["error", "warning"] = "error"


Rule = Callable[[Deployment], Iterator[Violation]]
_RULES: list[Rule] = []


def violations(deployment: Deployment) -> Iterator[Violation]:
    """Yield every rule that ``deployment`` breaks."""
    for rule in _RULES:
        yield from rule(deployment)


def described() -> Iterator[str]:
    """Yield what each rule asks for, for the manual page."""
    yield from (rule.__doc__ or "" for rule in _RULES)


def _rule(rule: Rule) -> Rule:
    _RULES.append(rule)
    return rule


@_rule
def _drain_covers_requests(d: Deployment) -> Iterator[Violation]:
    """``timeouts.drain`` covers ``timeouts.request`` and then ``proxy.keepalive``, or a stop would cut requests off."""
    if d.drain < (least := round(d.timeouts.request + d.idle, 3)):
        yield Violation(
            (("timeouts", "drain"), ("timeouts", "request"), ("proxy", "keepalive")),
            f"drain ({d.drain:g} s) is shorter than a request ({d.timeouts.request:g} s) and the time in which "
            f"the proxy closes idle connections ({d.idle:g} s)",
            f"raise timeouts.drain to at least {least:g}",
        )


@_rule
def _stop_covers_drain(d: Deployment) -> Iterator[Violation]:
    """``timeouts.stop`` leaves time for the application's clean-up after ``timeouts.drain``."""
    if d.stop < (least := round(d.drain + CLEANUP_RESERVE / 2, 3)):
        yield Violation(
            (("timeouts", "drain"), ("timeouts", "stop"), ("timeouts", "request")),
            f"drain ({d.drain:g} s) is longer than stop ({d.stop:g} s) leaves: systemd would kill what still drains",
            f"raise timeouts.stop to at least {least:g}",
        )


@_rule
def _proxy_closes_first(d: Deployment) -> Iterator[Violation]:
    """``proxy.keepalive`` is shorter than ``server.keepalive``: idle connections are the proxy's to close."""
    if d.idle >= d.server.keepalive:
        yield Violation(
            (("server", "keepalive"), ("proxy", "keepalive")),
            f"the server closes idle connections after {d.server.keepalive:g} s, not after the proxy "
            f"({d.idle:g} s): a request could be sent on a connection that is being closed",
            f"raise server.keepalive above {d.idle:g}",
        )


@_rule
def _body_fits_the_application(d: Deployment) -> Iterator[Violation]:
    """``proxy.body_size`` is not above ``server.body_limit``."""
    proxy, application = d.proxy.body_size, d.server.body_limit
    if proxy and application and proxy > application:
        yield Violation(
            (("proxy", "body_size"), ("server", "body_limit")),
            f"the proxy would accept bodies of {proxy} bytes, which the application refuses above {application}",
            "raise server.body_limit, or leave proxy.body_size out: it follows",
        )


@_rule
def _socket_path_fits(d: Deployment) -> Iterator[Violation]:
    """Unix sockets have paths of at most 107 bytes: unix(7)."""
    count = 1000 if d.instances == "auto" else d.instances
    length = len(f"{d.socket_directory}/{count}.sock".encode())
    if d.listen.port is None and length > SUN_PATH:
        yield Violation(
            (("listen", "directory"), ("name",)),
            f"the path of a socket would be {length} bytes long; unix(7) allows {SUN_PATH}",
            "use a shorter listen.directory",
        )


@_rule
def _one_kind_of_socket(d: Deployment) -> Iterator[Violation]:
    """``listen.address`` needs ``listen.port``; ``listen.directory``, ``mode`` and ``group`` are for unix sockets."""
    unix = {"directory", "mode", "group"} & d.listen.model_fields_set
    if d.listen.port is not None:
        for key in sorted(unix):
            yield Violation((("listen", key),), f"listen.{key} is for unix sockets, not for TCP ports", "remove it")
        last = d.listen.port + (1 if d.instances == "auto" else d.instances) - 1
        if last >= 1 << 16:
            yield Violation(
                (("listen", "port"), ("instances",)), f"the last port would be {last}", "use a lower listen.port"
            )
    elif "address" in d.listen.model_fields_set:
        concerns = (("listen", "address"), ("listen", "port"))
        yield Violation(concerns, "listen.address is for TCP ports", "set listen.port, or remove it")


@_rule
def _name_is_free(d: Deployment) -> Iterator[Violation]:
    """``name`` is not that of a user, a directory or a unit of the system."""
    if d.name in NAMES or d.name.startswith("systemd-"):
        what = f'"{d.name}" is the name of a user, a directory or a unit of the system'
        yield Violation((("name",),), what, f'choose another one, as in "{d.name}-site"')


@_rule
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


def _is_under(path: str, *directories: str) -> bool:
    return any(f"{path}/".startswith(f"{directory}/") for directory in directories)


def _read_paths(d: Deployment) -> Iterator[tuple[_KeyPath, str]]:
    """Paths that the application itself must reach once the sandbox is up."""
    if d.directory:
        yield ("directory",), d.directory
    yield ("python",), d.python
    for index, path in enumerate(d.sandbox.writable):
        yield ("sandbox", "writable", index), path


@_rule
def _sandbox_shows_its_paths(d: Deployment) -> Iterator[Violation]:
    """``directory``, ``python`` and ``sandbox.writable`` are where the sandbox lets the application see them."""
    for key, path in _read_paths(d):
        if not d.sandbox.home and _is_under(path, "/home", "/root", "/run/user"):
            # systemd.exec(5), ProtectHome=: these three are made inaccessible and empty.
            hint = f"move it, as to /srv/{d.name}, or set sandbox.home = true"
            yield Violation((key,), f"{path} is in a home directory, which the sandbox hides", hint)
        if not d.sandbox.shared_tmp and _is_under(path, "/tmp", "/var/tmp"):  # noqa: S108 (a rule about them)
            hint = f"move it, as to /srv/{d.name}, or set sandbox.shared_tmp = true"
            yield Violation((key,), f"{path} is in a directory of which instances get an empty one of their own", hint)
        if _is_under(path, "/dev", "/proc", "/sys"):
            yield Violation((key,), f"{path} is in a file system of the kernel", "use another directory")


_SYSTEM_TREES = ("/bin", "/boot", "/etc", "/lib", "/lib32", "/lib64", "/root", "/sbin", "/usr")
_SYSTEM_DIRECTORIES = frozenset(
    "/ /home /media /mnt /opt /run /srv /tmp /var /var/backups /var/cache /var/lib /var/lock /var/log /var/mail "
    "/var/opt /var/run /var/spool /var/tmp /var/www".split()
)


@_rule
def _writable_paths(d: Deployment) -> Iterator[Violation]:
    """``sandbox.writable`` needs ``service.user``, and directories of the application's own."""
    state = f"/var/lib/{d.name}"
    for index, path in enumerate(d.sandbox.writable):
        key = ("sandbox", "writable", index)
        if _is_under(path, state, f"/var/lib/private/{d.name}"):
            yield Violation((key,), f"{path} is in the state directory", "remove it: that is writable anyway")
        elif d.dynamic_user:
            hint = f"set service.user, or write to $STATE_DIRECTORY ({state})"
            yield Violation((key, ("service", "user")), f"a dynamic user cannot own {path}", hint)
        elif path in _SYSTEM_DIRECTORIES or _is_under(path, *_SYSTEM_TREES):
            yield Violation((key,), f"{path} belongs to the whole system", "name a directory of the application's own")
        if path in d.sandbox.writable[:index]:
            yield Violation((key,), f"{path} is named twice", "remove one")


@_rule
def _sockets_are_where_sockets_live(d: Deployment) -> Iterator[Violation]:
    """``listen.directory`` is neither the whole system's nor writable for everyone."""
    directory, shown = d.socket_directory, ("listen", "directory")
    if d.listen.port is not None:
        return
    if _is_under(directory, "/tmp", "/var/tmp", "/dev/shm"):  # noqa: S108 (a rule about them)
        hint = f"remove it: the default is /run/{d.name}"
        yield Violation((shown,), f"{directory} is writable for everyone: anyone could take a socket's place", hint)
    elif directory in {"/run", "/", "/var/run", "/etc"} or _is_under(
        directory, "/run/systemd", "/dev", "/proc", "/sys"
    ):
        yield Violation(
            (shown,), f"{directory} belongs to the whole system", f"remove it: the default is /run/{d.name}"
        )


@_rule
def _shared_tmp_needs_a_static_user(d: Deployment) -> Iterator[Violation]:
    """``sandbox.shared_tmp`` needs ``service.user``."""
    # systemd.exec(5), DynamicUser=: PrivateTmp= is implied and cannot be turned off, since the user's number is reused.
    if d.sandbox.shared_tmp and d.dynamic_user:
        concerns = (("sandbox", "shared_tmp"), ("service", "user"), ("service", "dynamic_user"))
        yield Violation(concerns, "a dynamic user always has a /tmp of its own", "set service.user, or remove it")


@_rule
def _addresses_need_a_network(d: Deployment) -> Iterator[Violation]:
    """``sandbox.addresses`` needs ``sandbox.network`` to be ``"outbound"``."""
    if d.sandbox.addresses and d.sandbox.network == "none":
        hint = 'remove them, or set sandbox.network = "outbound"'
        yield Violation((("sandbox", "addresses"),), "addresses are allowed, but no network", hint)


_PROCESS = 48 << 20
"""Bytes of memory that a small application needs: aiohttp and uvloop alone are resident with 35 MiB."""


@_rule
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


@_rule
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


@_rule
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


def _twice(items: Iterable[tuple[_KeyPath, str]], what: str) -> Iterator[Violation]:
    seen: set[str] = set()
    for key, item in items:
        if item in seen:
            yield Violation((key,), f'{what} "{item}" is given twice', "remove one")
        seen.add(item)


def location(prefix: str) -> str:
    """Return the nginx location of a path prefix: with a slash at its end, or ``/staticx`` would match ``/static``."""
    return prefix.rstrip("/") + "/"


@_rule
def _prefixes(d: Deployment) -> Iterator[Violation]:
    """``proxy.static`` and ``proxy.streams`` name a prefix once, and static files are not the whole site."""
    static = [(("proxy", "static", prefix), location(prefix)) for prefix in d.proxy.static]
    streams = [(("proxy", "streams", i), location(prefix)) for i, prefix in enumerate(d.proxy.streams)]
    yield from _twice([*static, *streams], "the path prefix")
    for key, prefix in static:
        if prefix == location(d.proxy.prefix or "/"):
            yield Violation((key,), "every path would be a static file", 'use a prefix, as in "/static/"')


@_rule
def _joined_sites(d: Deployment) -> Iterator[Violation]:
    """``proxy.site`` and ``proxy.prefix`` go together, without keys that only a site of its own has."""
    site, prefix, both = d.proxy.site, d.proxy.prefix, (("proxy", "site"), ("proxy", "prefix"))
    if prefix is None and site is None:
        return
    if prefix is None:
        yield Violation(both, "proxy.site needs proxy.prefix", 'set proxy.prefix, as in "/api/"')
    elif site is None:
        yield Violation(both[::-1], "proxy.prefix needs proxy.site", "set proxy.site, or remove it")
    elif location(prefix) == "/":
        hint = "use a longer prefix, or leave out proxy.site and proxy.prefix"
        yield Violation(both[1:], "every path of the site would be this application's", hint)
    if site == d.name:
        yield Violation(both, "a deployment cannot join its own site", "name another one, or remove it")
    for key in ("server_names", "listen", "default_server", "tls"):
        if key in d.proxy.model_fields_set:
            hint = f"remove it, or set it in the file of {site}" if site else "remove it"
            yield Violation((("proxy", key),), f"proxy.{key} is for a site, and this deployment joins one", hint)


@_rule
def _joined_prefixes(d: Deployment) -> Iterator[Violation]:
    """Below ``proxy.prefix`` are the prefixes of ``proxy.static`` and ``proxy.streams``, if it is set."""
    if d.proxy.prefix is None:
        return
    below = location(d.proxy.prefix)
    paths: list[tuple[_KeyPath, str]] = [(("proxy", "static", path), path) for path in d.proxy.static]
    paths += [(("proxy", "streams", i), path) for i, path in enumerate(d.proxy.streams)]
    for key, path in paths:
        if not location(path).startswith(below):
            what = f"{path} is not below proxy.prefix ({d.proxy.prefix})"
            yield Violation((key, ("proxy", "prefix")), what, "write the whole path, prefix included")


def normal_address(address: str) -> str:
    """Return the one spelling of an address to listen on, as nginx compares them."""
    host, _, port = address.rpartition(":")
    try:
        host = str(ip_address(host.strip("[]")))
    except ValueError:
        host = host.lower()
    host = {"0.0.0.0": "", "*": ""}.get(host, host)  # noqa: S104 (compared, not bound)
    host = f"[{host}]:" if ":" in host else f"{host}:" if host else ""
    return f"{host}{int(port)}"


@_rule
def _addresses_and_names(d: Deployment) -> Iterator[Violation]:
    """No address and no server name is given twice; very long server names are warned of."""
    proxy = d.proxy
    listen: list[tuple[_KeyPath, str]] = [(("proxy", "listen", i), address) for i, address in enumerate(proxy.listen)]
    if proxy.tls:
        listen += [(("proxy", "tls", "listen", i), address) for i, address in enumerate(proxy.tls.listen)]
    yield from _twice(((key, normal_address(address)) for key, address in listen), "the address")
    names = ((("proxy", "server_names", i), name.lower()) for i, name in enumerate(proxy.server_names))
    yield from _twice(names, "the server name")
    for i, name in enumerate(proxy.server_names):
        if len(name) > HASHED_NAME:
            what = f"nginx takes server names of up to {HASHED_NAME} characters as it comes, and refuses this one"
            hint = "set server_names_hash_bucket_size to 128 or more in nginx.conf"
            yield Violation((("proxy", "server_names", i),), what, hint, "warning")


@_rule
def _proxy_keys_need_a_proxy(d: Deployment) -> Iterator[Violation]:
    """``proxy.kind = "none"`` stands alone in its table."""
    if d.proxy.kind == "none":
        for key in sorted(d.proxy.model_fields_set - {"kind"}):
            yield Violation((("proxy", key),), f'proxy.{key} is set, but proxy.kind is "none"', "remove one of them")


@_rule
def _format_needs_a_log(d: Deployment) -> Iterator[Violation]:
    """``server.access_log_format`` needs ``server.access_log = "text"``."""
    if "access_log_format" in d.server.model_fields_set and d.server.access_log != "text":
        hint = 'set server.access_log = "text", or remove it'
        concerns = (("server", "access_log_format"), ("server", "access_log"))
        yield Violation(concerns, "no access log is written in this format", hint)
