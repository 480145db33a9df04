"""HAProxy: a frontend for the site's addresses and names, and a backend of the instances' sockets."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

from aiosystemd.export import File, header, instance_address, instance_names, proxy_target, tcp_address
from aiosystemd.export.proxy import CIPHERS, TEXT
from aiosystemd.host import Host
from aiosystemd.model import Deployment, Tls
from aiosystemd.render.haproxy import Line, Section, line, logged, raw, render, section
from aiosystemd.render.text import quoted
from aiosystemd.render.unit import UnitFile, environment, mount
from aiosystemd.rules import location

CONFIGURATION: Final = PurePosixPath("/etc/haproxy/conf.d")
"""Directory of the sites. HAProxy reads each ``*.cfg`` of a directory that it is given with ``-f``, haproxy(1)."""

STORES: Final = (3, 0)
"""First version with ``crt-store``; older ones look for the key of ``FILE`` in ``FILE.key``, or in ``FILE`` itself."""

_CHROOT: Final = "/var/lib/haproxy"
"""What Debian's ``haproxy.cfg`` confines it to."""

_NAMES: Final = 20
"""Names of one ``acl``: a line has room for 64 words, and for 2 KiB."""


@dataclass(frozen=True, slots=True)
class Configuration:
    """A file of HAProxy's."""

    sections: tuple[Section, ...]
    header: tuple[str, ...] = ()

    def render(self) -> str:
        """Return the file's text."""
        return render(self.sections, header=self.header)


def site_path(d: Deployment) -> PurePosixPath:
    """Return where the site goes."""
    return CONFIGURATION / f"{d.name}.cfg"


def drop_in_path(d: Deployment) -> PurePosixPath:
    """Return where it is said to HAProxy's own unit that there are sites and sockets."""
    return PurePosixPath(f"/etc/systemd/system/haproxy.service.d/{d.name}.conf")


def export(d: Deployment, host: Host, source: str, also: tuple[str, ...] = ()) -> Iterator[File]:
    """Yield the site of ``d``, unless it has another proxy or none; ``also`` are more addresses of its instances."""
    if d.proxy.kind != "haproxy":
        return
    addresses = {name: server_address(d, name) for name in instance_names(d, host)}
    addresses |= {f"old-{index}": address for index, address in enumerate(also, 1)}
    sections = (*_store(d, host), _frontend(d, host), _backend(d, addresses))
    yield File(site_path(d), Configuration(sections, header(source)))
    yield File(drop_in_path(d), _drop_in(addresses, source))


def server_address(d: Deployment, name: str) -> str:
    """Return where the proxy finds an instance (``server``, section 5.2 of its configuration manual)."""
    return f"unix@{instance_address(d, name)}" if d.listen.port is None else tcp_address(d, name, proxy_target(d))


def _drop_in(addresses: dict[str, str], source: str) -> UnitFile:
    unit = UnitFile(header(source))
    # systemd.exec(5): a later assignment wins, so that each of several deployments may say it.
    options = environment("EXTRAOPTS", f"-S /run/haproxy-master.sock -f {CONFIGURATION}")
    why = f"The packages' own options, and every file in {CONFIGURATION}."
    unit.add("Service", "Environment", options, comment=why)
    paths = (address.removeprefix("unix@") for address in addresses.values() if address.startswith("unix@"))
    why = "Where HAProxy finds the sockets once it has confined itself (chroot)."
    for directory in dict.fromkeys(str(PurePosixPath(path).parent) for path in paths):
        unit.add("Service", "BindReadOnlyPaths", mount(directory, f"{_CHROOT}{directory}"), comment=why)
    return unit


def _store(d: Deployment, host: Host) -> Iterator[Section]:
    if (tls := d.proxy.tls) and host.haproxy >= STORES:
        load = line("load crt", tls.certificate, raw("key"), tls.key, raw("alias"), raw("site"))
        yield section("crt-store", d.name, body=(load,))


def _frontend(d: Deployment, host: Host) -> Section:
    request = _seconds(d.timeouts.request)
    return section(
        "frontend",
        d.name,
        body=(
            line("mode http"),
            *_binds(d, host),
            line("log global"),
            line("option httplog"),
            line("timeout client", request),
            line("timeout http-request", request),
            line("timeout http-keep-alive 75s"),
            line(
                "option idle-close-on-response",
                comment="When HAProxy is reloaded, a client's connection ends after a response, never between two.",
            ),
            *(() if d.proxy.default_server else _strangers(d)),
            *_redirect(d),
            *_request(d),
            *_response(d),
            line("default_backend", d.name),
        ),
    )


def _binds(d: Deployment, host: Host) -> Iterator[Line]:
    yield from _bind(host, d.proxy.listen, wanted="listen" in d.proxy.model_fields_set)
    if tls := d.proxy.tls:
        certificate = raw(f"@{d.name}/site") if host.haproxy >= STORES else tls.certificate
        # RFC 9325, section 4.2: see the ciphers. A ticket would be sealed with one key for as long as HAProxy runs.
        words = map(raw, ("alpn h2,http/1.1 ssl-min-ver TLSv1.2 ciphers", CIPHERS, "no-tls-tickets"))
        options = (raw("ssl crt"), certificate, *words)
        yield from _bind(host, tls.listen, *options, wanted="listen" in tls.model_fields_set)


def _bind(host: Host, addresses: tuple[str, ...], *options: str, wanted: bool) -> Iterator[Line]:
    # HAProxy does not start when it cannot open an address: without IPv6 the default ones of it are left out.
    for address in addresses:
        if wanted or host.ipv6 or not address.startswith("["):
            family = (raw("v6only"),) if address.startswith("[") else ()
            yield line("bind", address if ":" in address else f":{address}", *family, *options)


def _strangers(d: Deployment) -> Iterator[Line]:
    asked = "req.hdr(host),host_only"
    yield line("acl here src 127.0.0.0/8 ::1")
    yield line(f"acl local {asked} -i -- localhost 127.0.0.1 [::1]")
    yield line("acl nameless req.hdr_cnt(host) eq 0")
    names = d.proxy.server_names
    exact = [name for name in names if not name.startswith("*.")]
    for few in (exact[first : first + _NAMES] for first in range(0, len(exact), _NAMES)):
        yield line(f"acl ours {asked} -i --", *few)
    for name in names:
        if name.startswith("*."):
            yield line(f"acl ours {asked} -i -m end --", name[1:])
    if not names:
        yield line("http-request set-var(txn.machine) hostname,lower")
        yield line(f"acl ours {asked},lower,strcmp(txn.machine) eq 0")
    yield line(
        "http-request deny deny_status 421 unless ours || here local || nameless",
        comment="RFC 9110, 15.5.20: for a server that was not meant.",
    )


def _redirect(d: Deployment) -> Iterator[Line]:
    if d.proxy.tls and d.proxy.tls.redirect:
        secure = raw(f"https://%[req.hdr(host),host_only]{_port(d.proxy.tls)}%[capture.req.uri]")
        yield line("http-request redirect code 301 location", secure, raw("unless { ssl_fc }"))


def _port(tls: Tls) -> str:
    port = tls.listen[0].rpartition(":")[2]
    return "" if port == "443" else f":{port}"


def _request(d: Deployment) -> Iterator[Line]:
    limit = raw(f"deny_status 413 if {{ req.body_size gt {d.body_size} }}")
    yield line("http-request deny", limit, comment="By Content-Length; without one the application counts itself.")
    if not d.proxy.websockets:
        yield line("http-request del-header Upgrade")
    # Each header that a client could have sent itself is set anew: what arrives is what HAProxy saw.
    for name, value in (
        ("X-Forwarded-For", "%[src]"),
        ("X-Real-IP", "%[src]"),
        ("X-Forwarded-Proto", "%[ssl_fc,iif(https,http)]"),
        ("X-Forwarded-Host", "%[req.hdr(host)]"),
    ):
        yield line("http-request set-header", raw(name), raw(value))
    yield line("http-request del-header Forwarded")


def _response(d: Deployment) -> Iterator[Line]:
    for name, value in d.proxy.headers.items():
        if value:  # As nginx has it: an empty one is not sent.
            yield line("http-after-response add-header", logged(name), logged(value))
    if d.proxy.gzip:
        yield line("compression algo gzip")
        yield line("compression type", raw("text/html"), *map(raw, TEXT))


def _backend(d: Deployment, addresses: dict[str, str]) -> Section:
    request = _seconds(d.timeouts.request)
    return section(
        "backend",
        d.name,
        body=(
            line("mode http"),
            line("balance leastconn"),
            line("timeout connect 5s"),
            line("timeout server", request),
            line("timeout tunnel", request),
            *_streams(d),
            line("option http-server-close", comment="No connection is kept that an instance might be closing."),
            line("retry-on conn-failure", comment="Only what no instance has read: no request is made twice."),
            line("retries", raw(str(max(3, len(addresses))))),
            line("option redispatch 1", comment="At once to the next instance."),
            *_checks(d),
            *_servers(addresses),
        ),
    )


def _streams(d: Deployment) -> Iterator[Line]:
    for prefix in map(location, d.proxy.streams):
        yield line("acl stream path,url_dec -m beg --", prefix)
        if prefix != "/":
            yield line("acl stream path,url_dec -m str --", prefix.rstrip("/"))
    if d.proxy.streams:
        silence = _seconds(d.proxy.stream_timeout)
        yield line("http-request set-timeout server", silence, raw("if stream"))
        yield line("http-request set-timeout tunnel", silence, raw("if stream"))


def _checks(d: Deployment) -> Iterator[Line]:
    health = d.health_check
    name = next((name.replace("*.", "", 1) for name in d.proxy.server_names), "localhost")
    yield line("option httpchk")
    yield line("http-check send meth GET uri", quoted(health.path), raw("ver HTTP/1.1 hdr Host"), name)
    yield line("http-check expect status", raw(str(health.status)))
    yield line("timeout check", _seconds(health.timeout))


def _servers(addresses: dict[str, str]) -> Iterator[Line]:
    yield line("default-server inter 5s downinter 1s fall 3 rise 1")
    for name, address in addresses.items():
        yield line("server", name, address, raw("check"))
    # A socket keeps what comes while its instance restarts: even with all of them down at once nothing is lost.
    why = "When no instance is well, requests wait in the sockets, in place of an error 503."
    yield line("option allbackups", comment=why)
    for name, address in addresses.items():
        yield line("server", f"{name}-unchecked", address, raw("backup"))


def _seconds(value: float) -> str:
    return f"{value:.0f}s" if value == int(value) else f"{value * 1000:.0f}ms"
