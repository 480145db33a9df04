"""nginx: an upstream of the instances' sockets, and the site in front of it."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from aiosystemd.export import File, header, instance_names, proxy_target, tcp_address
from aiosystemd.host import Host
from aiosystemd.model import Deployment, Proxy, Tls
from aiosystemd.render.nginx import Directive, Value, block, directive, entry, raw, render
from aiosystemd.rules import location

_HTTP2_DIRECTIVE = (1, 25, 1)
"""First version with ``http2 on;``; older ones want a parameter of ``listen``, which newer ones warn about."""


@dataclass(frozen=True, slots=True)
class Configuration:
    """An nginx configuration file."""

    directives: tuple[Directive, ...]
    header: tuple[str, ...] = ()

    def render(self) -> str:
        """Return the file's text."""
        return render(self.directives, header=self.header)


def site_path(d: Deployment) -> PurePosixPath:
    """Return where the site goes: nginx packages of Debian and of nginx itself both read ``conf.d``."""
    return PurePosixPath(f"/etc/nginx/conf.d/{d.name}.conf")


def locations_path(d: Deployment) -> PurePosixPath:
    """Return where the locations of a deployment go that joins a site; each has a file of its own there."""
    return PurePosixPath(f"/etc/nginx/aiosystemd/{d.proxy.site}/{d.name}.conf")


def export(d: Deployment, host: Host, source: str, also: tuple[str, ...] = ()) -> Iterator[File]:
    """Yield the site of ``d``, unless it has another proxy or none; ``also`` are more addresses of its instances."""
    if d.proxy.kind != "nginx":
        return
    shared = (*_maps(d), _upstream(d, host, also))
    if d.proxy.prefix is None:
        yield File(site_path(d), Configuration((*shared, *_servers(d, host)), header(source)))
    else:
        yield File(site_path(d), Configuration(shared, header(source)))
        yield File(locations_path(d), Configuration((_joined(d, location(d.proxy.prefix)),), header(source)))


def _servers(d: Deployment, host: Host) -> Iterator[Directive]:
    tls = d.proxy.tls
    if tls is None:
        yield block("server", body=(*_listen(d, host, d.proxy), *_server(d)))
        return
    https = (*_listen(d, host, tls, *_tls_parameters(host)), *_http2(host), *_tls(d, tls))
    if tls.redirect:
        yield block("server", body=(*_listen(d, host, d.proxy), _names(d), _redirect(tls)))
        yield block("server", body=(*https, *_server(d)))
    else:
        yield block("server", body=(*_listen(d, host, d.proxy), *https, *_server(d)))


def _variable(d: Deployment, name: str) -> str:
    # With a prefix, since a deployment may be called as one of nginx's own variables begins; a short one, since a name
    # has 46 characters at most (variables_hash_bucket_size, 64 by default).
    return f"$aio_{d.name.replace('-', '_')}_{name}"


def _maps(d: Deployment) -> Iterator[Directive]:
    if d.proxy.websockets:
        yield block(
            "map",
            raw("$http_upgrade"),
            raw(_variable(d, "connection")),
            body=(entry(raw("default"), "upgrade"), entry("", "")),
            comment="An upgrade is passed on; any other request leaves the connection open for the next one.",
        )
    yield block(
        "map",
        raw("$http_host"),
        raw(_variable(d, "port")),
        body=(entry(raw("default"), ""), entry(raw('"~(:[0-9]+)$"'), raw("$1"))),
        comment="The port that the client asked for, which $host leaves out.",
    )


def _port(address: str) -> str:
    return address.rpartition(":")[2]


def _upstream(d: Deployment, host: Host, also: tuple[str, ...]) -> Directive:
    names = instance_names(d, host)
    addresses = (*(server_address(d, name) for name in names), *also)
    never = "max_fails=0: an instance that restarts is asked again at once, and never are all of them banned."
    servers = [
        directive("server", address, raw("max_fails=0"), comment=None if index else never)
        for index, address in enumerate(addresses)
    ]
    return block(
        "upstream",
        d.name,
        body=(
            # A peer takes less than 1 KiB of it, measured with nginx -t; the least is eight pages, of up to 64 KiB.
            directive("zone", d.name, raw(f"{max(1024, 64 + 2 * len(addresses))}k"), comment="Shared by the workers."),
            directive("least_conn"),
            *servers,
            directive("keepalive", raw(str(d.proxy.connections))),
            directive(
                "keepalive_timeout",
                raw(_seconds(d.proxy.keepalive)),
                comment="nginx closes idle connections, never the instance: so no request meets a closing one.",
            ),
        ),
    )


def server_address(d: Deployment, name: str) -> str:
    """Return where the proxy finds an instance (``server`` in ngx_http_upstream_module)."""
    if d.listen.port is None:
        return f"unix:{d.socket_directory}/{name}.sock"
    return tcp_address(d, int(name), proxy_target(d))


def _seconds(value: float) -> str:
    return f"{value:.0f}s" if value == int(value) else f"{value * 1000:.0f}ms"


def _listen(d: Deployment, host: Host, table: Proxy | Tls, *parameters: Value) -> Iterator[Directive]:
    default = (raw("default_server"),) if d.proxy.default_server else ()
    # nginx does not start when it cannot open an address: without IPv6 the default ones of it are left out.
    wanted = "listen" in table.model_fields_set
    for address in table.listen:
        if wanted or host.ipv6 or not address.startswith("["):
            yield directive("listen", address, *parameters, *default)


def _names(d: Deployment) -> Directive:
    return directive("server_name", *(d.proxy.server_names or (raw("$hostname"),)))


def _tls_parameters(host: Host) -> tuple[Value, ...]:
    return (raw("ssl"),) if host.nginx >= _HTTP2_DIRECTIVE else (raw("ssl"), raw("http2"))


def _http2(host: Host) -> Iterator[Directive]:
    if host.nginx >= _HTTP2_DIRECTIVE:
        yield directive("http2", raw("on"))


def _tls(d: Deployment, tls: Tls) -> Iterator[Directive]:
    yield directive("ssl_certificate", tls.certificate)
    yield directive("ssl_certificate_key", tls.key)
    yield directive("ssl_protocols", raw("TLSv1.2"), raw("TLSv1.3"))
    yield directive("ssl_session_cache", raw(f"shared:{d.name}_TLS:1m"))
    yield directive("ssl_session_tickets", raw("off"))


def _redirect(tls: Tls) -> Directive:
    port = _port(tls.listen[0])
    suffix = f":{port}" if port.isdigit() and port != "443" else ""
    return directive("return", raw("301"), raw(f"https://$host{suffix}$request_uri"))


def _server(d: Deployment) -> Iterator[Directive]:
    yield _names(d)
    yield from _settings(d)
    yield from _locations(d)
    if "/" not in map(location, d.proxy.streams):
        yield block("location", "/", body=(_pass(d),))
    yield directive(
        "include",
        # Below the directory of nginx.conf, so that a copy of this file reads nothing of the host's own.
        (f"aiosystemd/{d.name}/", raw("*.conf")),
        comment="Other deployments that join this site.",
    )


def _joined(d: Deployment, prefix: str) -> Directive:
    """Return the location that a joined site leaves to this deployment."""
    return block("location", raw("^~"), prefix, body=(*_settings(d), _pass(d), *_locations(d)))


def _settings(d: Deployment) -> Iterator[Directive]:
    yield directive("client_max_body_size", raw(str(d.body_size)))
    for name, value in d.proxy.headers.items():
        yield directive("add_header", name, value, raw("always"))
    yield from _to_the_instances(d)


def _locations(d: Deployment) -> Iterator[Directive]:
    for prefix, directory in d.proxy.static.items():
        alias = directive("alias", f"{directory.rstrip('/')}/")
        yield block("location", raw("^~"), location(prefix), body=(alias,))
    for prefix in d.proxy.streams:
        yield from _stream(d, location(prefix))


def _pass(d: Deployment) -> Directive:
    return directive("proxy_pass", f"http://{d.name}")


def _stream(d: Deployment, prefix: str) -> Iterator[Directive]:
    silence = raw(_seconds(d.proxy.stream_timeout))
    body = (
        _pass(d),
        directive("proxy_buffering", raw("off")),
        directive("proxy_read_timeout", silence),
        directive("proxy_send_timeout", silence),
    )
    if prefix != location(d.proxy.prefix or "/"):
        # For a proxied location that ends in a slash nginx redirects the path without it, and no websocket follows.
        yield block("location", raw("="), prefix.removesuffix("/"), body=body)
    yield block("location", raw("^~"), prefix, body=body)


def _to_the_instances(d: Deployment) -> Iterator[Directive]:
    request = raw(_seconds(d.timeouts.request))
    yield directive("proxy_http_version", raw("1.1"))
    yield from _request_headers(d)
    yield directive("proxy_redirect", raw("off"))
    yield directive(
        "proxy_buffering",
        raw("on"),
        comment="aiosystemd-serve turns it off for each response that is streamed (X-Accel-Buffering).",
    )
    yield directive("proxy_connect_timeout", raw("5s"))
    yield directive("proxy_send_timeout", request)
    yield directive("proxy_read_timeout", request)
    yield directive(
        "proxy_next_upstream",
        raw("error"),
        comment="The next instance is asked when one cannot answer; not when it is slow, or each would be in turn.",
    )


def _request_headers(d: Deployment) -> Iterator[Directive]:
    host = raw(f"$host{_variable(d, 'port')}")
    # Each header that a client could have sent itself is set anew: what arrives is what nginx saw.
    headers = {
        "Host": host,
        "Connection": raw(_variable(d, "connection")) if d.proxy.websockets else "",
        **({"Upgrade": raw("$http_upgrade")} if d.proxy.websockets else {}),
        "X-Forwarded-For": raw("$remote_addr"),
        "X-Forwarded-Proto": raw("$scheme"),
        "X-Forwarded-Host": host,
        "X-Real-IP": raw("$remote_addr"),
        "Forwarded": "",
    }
    for name, value in headers.items():
        yield directive("proxy_set_header", name, value)


def standalone(
    site: PurePosixPath, directory: PurePosixPath, mime_types: PurePosixPath | None, *servers: Directive
) -> Configuration:
    """Return an ``nginx.conf`` that reads ``site`` and nothing of the host's own nginx.

    Everything it writes goes to ``directory``, so that it needs no privileges; ``mime_types`` is the host's
    ``mime.types``, where it has one; ``servers`` are more of them.
    """
    modules = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = (directive(f"{module}_temp_path", f"{directory}/{module}") for module in modules)
    types = (directive("include", str(mime_types)),) if mime_types else ()
    http = (*types, directive("access_log", raw("off")), *temporary, directive("include", str(site)), *servers)
    return Configuration(
        (
            directive("daemon", raw("off")),
            directive("pid", f"{directory}/nginx.pid"),
            directive("error_log", raw("stderr")),
            block("events", body=()),
            block("http", body=http),
        )
    )


def server_around(locations: PurePosixPath, listen: str) -> Directive:
    """Return the least server that the locations of a deployment that joins a site can stand in."""
    return block("server", body=(directive("listen", listen), directive("include", str(locations))))
