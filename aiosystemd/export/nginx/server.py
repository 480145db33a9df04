"""The servers of a site: addresses, names, TLS."""

from collections.abc import Iterator

from aiosystemd.export.nginx.locations import locations, settings, unset
from aiosystemd.export.nginx.upstream import networks, variable
from aiosystemd.export.proxy import CIPHERS
from aiosystemd.host import Host
from aiosystemd.model import Deployment, Proxy, Tls
from aiosystemd.render.nginx import Directive, Value, block, directive, raw
from aiosystemd.rules.proxy import HTTP3

_HTTP2_DIRECTIVE = (1, 25, 1)
"""First version with ``http2 on;``; older ones want a parameter of ``listen``, which newer ones warn about."""


def servers(d: Deployment, host: Host) -> Iterator[Directive]:
    """Yield the site of ``d``."""
    tls = d.proxy.tls
    if tls is None:
        yield block("server", body=(*_listen(d, host, d.proxy), *_server(d)))
        return
    addresses = (*_listen(d, host, tls, *_tls_parameters(host)), *_quic(d, host, tls))
    https = (*addresses, *_http2(host), *_tls(d, tls), *_http3(d, host, tls))
    if tls.redirect:
        plain = (*_listen(d, host, d.proxy), _names(d), _nameless(), *_no_strangers(d), _redirect(tls))
        yield block("server", body=plain)
        yield block("server", body=(*https, *_server(d)))
    else:
        yield block("server", body=(*_listen(d, host, d.proxy), *https, *_server(d)))


def _listen(d: Deployment, host: Host, table: Proxy | Tls, *parameters: Value) -> Iterator[Directive]:
    default = (raw("default_server"),) if d.proxy.default_server else ()
    # nginx does not start when it cannot open an address: without IPv6 the default ones of it are left out.
    wanted = "listen" in table.model_fields_set
    for address in table.listen:
        if wanted or host.ipv6 or not address.startswith("["):
            yield directive("listen", address, *parameters, *default)


def _names(d: Deployment) -> Directive:
    return directive("server_name", *(d.proxy.server_names or (raw("$hostname"),)))


def _nameless() -> Directive:
    return directive("server_tokens", raw("off"))


def _no_strangers(d: Deployment) -> Iterator[Directive]:
    if not d.proxy.default_server:
        # RFC 9110, 15.5.20: for a server that was not meant.
        refuse = directive("return", raw("421"))
        yield block("if", raw(f"({variable(d, 'stranger')})"), body=(refuse,))


def _tls_parameters(host: Host) -> tuple[Value, ...]:
    return (raw("ssl"),) if host.nginx >= _HTTP2_DIRECTIVE else (raw("ssl"), raw("http2"))


def _http2(host: Host) -> Iterator[Directive]:
    if host.nginx >= _HTTP2_DIRECTIVE:
        yield directive("http2", raw("on"))


def _quic(d: Deployment, host: Host, tls: Tls) -> Iterator[Directive]:
    if tls.http3 and host.nginx >= HTTP3:
        yield from _listen(d, host, tls, raw("quic"), *([raw("reuseport")] if tls.reuseport else []))


def _http3(d: Deployment, host: Host, tls: Tls) -> Iterator[Directive]:
    if tls.http3 and host.nginx >= HTTP3 and "alt-svc" not in map(str.lower, d.proxy.headers):
        port = tls.listen[0].rpartition(":")[2]
        told = "By which browsers come to know of HTTP/3: RFC 9114, 3.1.1."
        yield directive("add_header", raw("Alt-Svc"), f'h3=":{port}"; ma=86400', raw("always"), comment=told)


def _tls(d: Deployment, tls: Tls) -> Iterator[Directive]:
    yield directive("ssl_certificate", tls.certificate)
    yield directive("ssl_certificate_key", tls.key)
    yield directive("ssl_protocols", raw("TLSv1.2"), raw("TLSv1.3"))
    yield directive("ssl_ciphers", CIPHERS)
    yield directive("ssl_prefer_server_ciphers", raw("off"))
    yield directive("ssl_session_cache", raw(f"shared:{d.name}_TLS:1m"))
    yield directive("ssl_session_tickets", raw("off"))


def _redirect(tls: Tls) -> Directive:
    port = tls.listen[0].rpartition(":")[2]
    suffix = f":{port}" if port.isdigit() and port != "443" else ""
    return directive("return", raw("301"), raw(f"https://$host{suffix}$request_uri"))


def _server(d: Deployment) -> Iterator[Directive]:
    yield _names(d)
    yield _nameless()
    yield from unset()
    yield from _no_strangers(d)
    yield from _clients(d)
    yield from settings(d)
    yield from locations(d)
    yield directive(
        "include",
        # Below the directory of nginx.conf, so that a copy of this file reads nothing of the host's own.
        (f"aiosystemd/{d.name}/", raw("*.conf")),
        comment="Other deployments that join this site.",
    )


def _clients(d: Deployment) -> Iterator[Directive]:
    for network in networks(d):
        yield directive("set_real_ip_from", network)
    if d.proxy.trusted:
        yield directive("real_ip_header", raw("X-Forwarded-For"))
        hearsay = "The last address in it that is no trusted proxy's; those before it are hearsay."
        yield directive("real_ip_recursive", raw("on"), comment=hearsay)
