"""What nginx's directives mean for a deployment, and which mistakes are made with them."""

from collections.abc import Mapping
from typing import Final

from pydantic import TypeAdapter

from aiosystemd import values
from aiosystemd.migrate import nginx_tls, roles
from aiosystemd.migrate.nginx_place import Place, Role, same
from aiosystemd.migrate.nginx_syntax import Directive, walk
from aiosystemd.migrate.nginx_values import seconds, size, span

_NAME: Final = TypeAdapter[str](values.ServerName)
_ADDRESS: Final = TypeAdapter[str](values.ListenAddress)
_NETWORK: Final = TypeAdapter[str](values.Network)
_LONGEST: Final = 300.0
"""Seconds beyond which an answer is a stream."""
REDIRECTED: Final = "plain HTTP is redirected (proxy.tls.redirect)"
"""What is said of a redirect to HTTPS."""
_HARMLESS: Final = frozenset({"return", "rewrite"})


def tell(place: Place, each: Directive, kind: str = "") -> None:
    """Say what becomes of a directive, and of those in it; ``kind`` is the block's where names mean something else."""
    role = (_UPSTREAM if kind == "upstream" else ROLES).get(each.name, "no key of a deployment file holds it")
    if isinstance(role, str):
        place.draft.drop(each.setting, role)
    elif not each.words and each.name not in _SWITCHES:
        place.draft.drop(each.setting, "says nothing")
    else:
        role(place, each)
    if each.name not in {"if", "location"}:
        for inner in walk(each.block or ()):
            place.draft.drop(inner.setting, f"in a block that has no place in a deployment file: {each.name}")


def _server_name(place: Place, each: Directive) -> None:
    names: list[str] = []
    for word in each.words:
        found = [word[1:], f"*{word}"] if word.startswith(".") else [word]
        if word == "_":
            place.draft.warn(each.setting, "_ is no name for all: the first site of an address, or default_server, is")
        elif all(roles.fits(_NAME, name) for name in found):
            names += found
        else:
            place.draft.warn(each.setting, f"{word} is no name that proxy.server_names holds: add those that are meant")
    if names:
        place.draft.keep(each.setting, ("proxy", "server_names"), tuple(names))
    else:
        place.draft.drop(each.setting, "no name: by default it is the machine's host name")


def _listen(place: Place, each: Directive) -> None:
    address, flags = each.words[0], set(each.words[1:])
    address = address.removeprefix("*:").removeprefix("0.0.0.0:")
    if not address.rpartition("]")[2].rpartition(":")[2].isdigit():
        address = f"{address}:80"
    draft = place.draft
    if "quic" in flags:
        nginx_tls.quic(place, each)
        return
    if not roles.fits(_ADDRESS, address):
        draft.drop(each.setting, "no address that proxy.listen holds")
        return
    says = ""
    if "proxy_protocol" in flags:
        draft.warn(
            each.setting, "what is in front speaks the PROXY protocol, and proxy.listen does not: it must stop that"
        )
        says = "without proxy_protocol"
    if flags & {"default_server", "default"}:
        draft.keep(each.setting, ("proxy", "default_server"), True)  # noqa: FBT003 (a value, no switch)
    secure = "ssl" in flags or any(other.name == "ssl" and other.words == ("on",) for other in place.around)
    key = ("proxy", "tls", "listen") if secure else ("proxy", "listen")
    if says:
        draft.change(each.setting, key, (address,), says)
    else:
        draft.keep(each.setting, key, (address,))


def _return(place: Place, each: Directive) -> None:
    if each.words[-1].startswith("https://") and each.words[0] in {"301", "302", "307", "308"}:
        place.draft.replaced(each.setting, REDIRECTED)
    else:
        place.draft.drop(each.setting, "no key holds an answer: the application gives them")


def _if(place: Place, each: Directive) -> None:
    inside = each.block or ()
    if not all(inner.name in _HARMLESS for inner in inside):
        place.draft.warn(each.setting, "if does not do what it seems to but with return and rewrite in it (IfIsEvil)")
    redirects = bool(inside) and all(inner.name == "return" and inner.words[-1:] for inner in inside)
    if redirects and all(inner.words[-1].startswith("https://") for inner in inside):
        place.draft.replaced(each.setting, REDIRECTED)
    else:
        place.draft.drop(each.setting, "no key holds a condition: the application decides")
    for inner in walk(inside):
        if redirects:
            tell(place, inner)
        else:
            place.draft.drop(inner.setting, "of that condition")


def _include(place: Place, each: Directive) -> None:
    if each.block is None:
        place.draft.drop(each.setting, "no such file: what it says is not known")
    else:
        place.draft.replaced(each.setting, "its directives are told where they stand")


def _body_size(place: Place, each: Directive) -> None:
    given = size(each.words[0])
    if given is None:
        place.draft.drop(each.setting, "not a size")
    elif not place.whole:
        place.draft.drop(each.setting, "of one path alone: proxy.body_size is of all of them")
    elif not given:
        place.draft.warn(each.setting, "a request without end fills the disk")
        place.draft.drop(each.setting, "any size: by default it is 1 MiB, set proxy.body_size")
    else:
        place.draft.keep(each.setting, ("proxy", "body_size"), given)


def _read_timeout(place: Place, each: Directive) -> None:
    given = seconds(each.words[0])
    if given is None or not given:
        place.draft.drop(each.setting, "not a time")
    elif given > _LONGEST:
        says = "longer than a request lasts: streams, of proxy.streams, have proxy.stream_timeout"
        if not place.whole:
            place.draft.keep(each.setting, ("proxy", "stream_timeout"), given)
        else:
            place.draft.drop(each.setting, says)
    elif not place.whole:
        place.draft.drop(each.setting, "of one path alone: timeouts.request is of all of them")
    else:
        place.draft.keep(each.setting, ("timeouts", "request"), given)


def _buffering(place: Place, each: Directive) -> None:
    if each.words == ("off",) and place.whole:
        place.draft.drop(
            each.setting, "a slow client would hold the instance: proxy.streams names the paths that stream"
        )
    else:
        place.draft.replaced(each.setting, "answers are buffered, but for proxy.streams")


def _proxy_pass(place: Place, each: Directive) -> None:
    target = each.words[0].partition("://")[2]
    path = ":/" in target.removeprefix("unix:") if target.startswith("unix:") else "/" in target
    if place.path != "/" and place.path.startswith("/") and path:
        says = f"cuts {place.path} off: now requests reach the application with their whole path"
        place.draft.warn(each.setting, says)
    place.draft.replaced(each.setting, "the sockets of the instances")


def _request_header(place: Place, each: Directive) -> None:
    name, value = each.words[0].lower(), " ".join(each.words[1:])
    if name == "host" and value == "$http_host":
        place.draft.warn(each.setting, "$http_host is whatever the client wrote, $host the name of the site")
    if name == "x-forwarded-for" and value in {"$proxy_add_x_forwarded_for", "$http_x_forwarded_for"}:
        says = "a client writes what it likes in front: who believes the first address believes the client"
        place.draft.warn(each.setting, says)
    if name in {"host", "x-forwarded-for", "x-forwarded-proto", "x-real-ip", "upgrade", "connection"}:
        place.draft.replaced(each.setting, "what the instances are told and believe (server.forwarded, proxy.trusted)")
    else:
        place.draft.drop(each.setting, "of requests: proxy.headers are of responses")


def _response_header(place: Place, each: Directive) -> None:
    if len(each.words) < 2:  # noqa: PLR2004 (name and value)
        place.draft.drop(each.setting, "without a value")
        return
    lost = [other for other in place.outer if other.name == "add_header"]
    if place.outer and lost:
        says = f"with it the headers of line {lost[0].at.line} on are not sent here: add_header replaces them all"
        place.draft.warn(each.setting, says)
    if not place.whole:
        place.draft.drop(each.setting, "of one path alone: proxy.headers are of every response")
    elif "always" in each.words[2:]:
        place.draft.keep(each.setting, ("proxy", "headers", each.words[0]), each.words[1])
    else:
        place.draft.change(each.setting, ("proxy", "headers", each.words[0]), each.words[1], "of errors, too")


def _next_upstream(place: Place, each: Directive) -> None:
    if "non_idempotent" in each.words:
        place.draft.warn(each.setting, "a POST that failed half-way is sent again: an order is made twice")
    place.draft.replaced(
        each.setting, "a connection that fails is tried at another instance, and no POST is sent twice"
    )


def _gzip(place: Place, each: Directive) -> None:
    place.draft.keep(each.setting, ("proxy", "gzip"), each.words[0] == "on")


def _gzip_static(place: Place, each: Directive) -> None:
    key = ("proxy", "precompressed")
    if each.words[0] in {"on", "always"} and key not in place.draft.values:
        place.draft.keep(each.setting, key, True)  # noqa: FBT003 (a value, no switch)
    elif each.words[0] in {"on", "always"}:
        place.draft.replaced(each.setting, "proxy.precompressed is of all static files")
    else:
        place.draft.replaced(each.setting, "the default (proxy.precompressed)")


def _expires(place: Place, each: Directive) -> None:
    given = span(each.words[0])
    if given is None or not place.outer:
        place.draft.drop(each.setting, "no number of seconds of static files: set proxy.static_age")
    else:
        place.draft.keep(each.setting, ("proxy", "static_age"), int(min(given, 31_536_000)))


def _trusted(place: Place, each: Directive) -> None:
    network = each.words[0]
    if network in {"0.0.0.0/0", "::/0"}:
        place.draft.warn(each.setting, "everyone is believed: any client may say which address it has")
        place.draft.drop(each.setting, "proxy.trusted names the proxies in front")
    elif roles.fits(_NETWORK, network):
        place.draft.keep(each.setting, ("proxy", "trusted"), (network,))
    else:
        place.draft.drop(each.setting, "no network that proxy.trusted holds")


def _tokens(place: Place, each: Directive) -> None:
    if each.words[0] == "on":
        place.draft.warn(each.setting, "tells everyone the version of nginx")
    place.draft.replaced(each.setting, "off")


def _access(place: Place, each: Directive) -> None:
    if each.words not in {("all",), ("off",)} or each.name == "deny":
        place.draft.warn(each.setting, "keeps people out, and no key does: the site is open to everyone without it")
    place.draft.drop(each.setting, "no key holds it: the application decides")


def _autoindex(place: Place, each: Directive) -> None:
    if each.words[0] == "on":
        place.draft.warn(each.setting, "shows everyone the names of all files")
    place.draft.replaced(each.setting, "off")


def _upstream_server(place: Place, each: Directive) -> None:
    used = sum(other.name == "server" and "backup" not in other.words for other in place.around)
    if (
        used > 1
        and "backup" not in each.words
        and not any(word.startswith(("max_fails=", "fail_timeout=")) for word in each.words)
    ):
        place.draft.warn(each.setting, "without max_fails=0 a single connection that fails takes it out for 10 s")
    place.draft.replaced(each.setting, "an instance's socket, which systemd opens")


def _idle(place: Place, each: Directive) -> None:
    given = seconds(each.words[0])
    if given:
        place.draft.keep(each.setting, ("proxy", "keepalive"), given)
    else:
        place.draft.drop(each.setting, "not a time")


def _connections(place: Place, each: Directive) -> None:
    given = roles.number(each.words[0])
    if given:
        place.draft.keep(each.setting, ("proxy", "connections"), given)
    else:
        place.draft.drop(each.setting, "not a whole number from 1 on")


def _internal(place: Place, each: Directive) -> None:
    place.draft.replaced(each.setting, "proxy.internal")


_AS_GZIP: Final = same("as proxy.gzip has it")
_SWITCHES: Final = frozenset({"internal", "ip_hash", "least_conn", "random"})
_MODERN: Final = "settings that browsers of today speak"
_LOGS: Final = "nginx.conf has the logs of all sites"
_FILES: Final = "proxy.static names what is served as files, and all else is the application's"
_FIXED: Final = "set as the instances' drain needs it, by timeouts.request"
_OWN: Final = "the application's: no key holds it"

ROLES: Final[Mapping[str, Role | str]] = {
    "server_name": _server_name,
    "listen": _listen,
    "ssl": nginx_tls.ssl,
    "ssl_certificate": nginx_tls.certificate("certificate"),
    "ssl_certificate_key": nginx_tls.certificate("key"),
    "ssl_protocols": nginx_tls.protocols,
    **dict.fromkeys(
        "ssl_ciphers ssl_prefer_server_ciphers ssl_session_cache ssl_session_tickets ssl_session_timeout "
        "ssl_ecdh_curve ssl_dhparam ssl_conf_command".split(),
        same(_MODERN),
    ),
    "http2": same("HTTP/2 is spoken wherever TLS is"),
    "http3": same("proxy.tls.http3 has it, where listen says quic"),
    "return": _return,
    "if": _if,
    "include": _include,
    "client_max_body_size": _body_size,
    "proxy_pass": _proxy_pass,
    "proxy_read_timeout": _read_timeout,
    "proxy_send_timeout": same(_FIXED),
    "proxy_connect_timeout": same(_FIXED),
    "proxy_buffering": _buffering,
    "proxy_http_version": same("1.1"),
    "proxy_redirect": same("off: the application knows its own addresses"),
    "proxy_set_header": _request_header,
    "proxy_next_upstream": _next_upstream,
    "add_header": _response_header,
    "gzip": _gzip,
    **dict.fromkeys("gzip_types gzip_min_length gzip_vary gzip_proxied gzip_comp_level".split(), _AS_GZIP),
    "gzip_static": _gzip_static,
    "expires": _expires,
    "set_real_ip_from": _trusted,
    "real_ip_header": same("X-Forwarded-For (proxy.trusted)"),
    "real_ip_recursive": same("on (proxy.trusted)"),
    "server_tokens": _tokens,
    "allow": "no key holds it: the application decides",
    "deny": _access,
    "auth_basic": _access,
    "auth_basic_user_file": "no key holds it: the application decides",
    "autoindex": _autoindex,
    "internal": _internal,
    "access_log": _LOGS,
    "error_log": _LOGS,
    "log_not_found": _LOGS,
    "root": _FILES,
    "alias": _FILES,
    "index": _FILES,
    "try_files": _FILES,
    "error_page": "proxy.maintenance shows a page while no instance answers",
    "limit_req": "set proxy.rate_limit and proxy.rate_burst",
    "rewrite": _OWN,
}  # fmt: skip
"""Of servers and locations."""

_UPSTREAM: Final[Mapping[str, Role | str]] = {
    "server": _upstream_server,
    "keepalive": _connections,
    "keepalive_timeout": _idle,
    "least_conn": same("the instance with the fewest connections"),
    "ip_hash": "an instance holds nothing that another one lacks: any may answer",
    "hash": "an instance holds nothing that another one lacks: any may answer",
    "zone": same("the proxy's workers know the instances together"),
}
