"""What stands beside the servers: the instances, and variables that are made from each request."""

from collections.abc import Iterator
from typing import Final

from aiosystemd.export import instance_names, proxy_target, tcp_address
from aiosystemd.host import Host
from aiosystemd.model import Deployment
from aiosystemd.render.nginx import Directive, Value, block, directive, entry, raw

LOCAL: Final = ("localhost", "127.0.0.1", "[::1]")
"""What a machine calls itself."""

CONNECTION: Final = "$aio_connection"
PORT: Final = "$aio_port"
_FAR: Final = "$aio_far"
"""Variables that are the same in each site, where nginx takes the last definition: with some of its own for each, a
dozen sites would fill the hash of variables (``variables_hash_max_size``, 1024 by default), and nginx would warn."""

_WORDS: Final = frozenset(("default", "hostnames", "include", "volatile"))
"""Parameters of a map; a value of that name is written with a backslash (ngx_http_map_module)."""

_NETWORKS: Final = {
    "localhost": ("127.0.0.0/8", "::1/128"),
    "link-local": ("169.254.0.0/16", "fe80::/64"),
    "multicast": ("224.0.0.0/4", "ff00::/8"),
}
"""systemd's words for networks (systemd.resource-control(5)), which nginx does not know."""


def around(d: Deployment, host: Host, also: tuple[str, ...]) -> Iterator[Directive]:
    """Yield what ``d`` needs in the context ``http``; ``also`` are more addresses of its instances."""
    yield from _connection(d)
    yield _port()
    yield from _scheme(d)
    if d.proxy.site is None and not d.proxy.default_server:
        yield from _strangers(d)
    yield from _rate(d)
    yield _upstream(d, host, also)


def variable(d: Deployment, name: str) -> str:
    """Return a variable of this deployment's own; ``name`` has ten characters at most.

    With a prefix, since a deployment may be called as one of nginx's own variables begins; a short one, since a name
    has 46 characters at most (``variables_hash_bucket_size``, 64 by default).
    """
    return f"$aio_{d.name.replace('-', '_')}_{name}"


def networks(d: Deployment) -> Iterator[str]:
    """Yield the networks of the proxies in front of this one, as nginx writes them, each once."""
    yield from dict.fromkeys(each for network in d.proxy.trusted for each in _NETWORKS.get(network, (network,)))


def seconds(value: float) -> Value:
    """Return a time."""
    return raw(f"{value:.0f}s" if value == int(value) else f"{value * 1000:.0f}ms")


def server_address(d: Deployment, name: str) -> str:
    """Return where the proxy finds an instance (``server`` in ngx_http_upstream_module)."""
    if d.listen.port is None:
        return f"unix:{d.socket_directory}/{name}.sock"
    return tcp_address(d, name, proxy_target(d))


def rate_zone(d: Deployment) -> str:
    """Return what the memory is called in which requests of each client are counted."""
    return f"{d.name}_RATE"


def _connection(d: Deployment) -> Iterator[Directive]:
    if d.proxy.websockets:
        yield block(
            "map",
            raw("$http_upgrade"),
            raw(CONNECTION),
            body=(entry(raw("default"), "upgrade"), entry("", "")),
            comment="An upgrade is passed on; any other request leaves the connection open for the next one.",
        )


def _port() -> Directive:
    return block(
        "map",
        raw('"$http_host $server_protocol $server_port"'),
        raw(PORT),
        body=(
            entry(raw("default"), ""),
            entry(raw('"~^\\S*(:[0-9]+) "'), raw("$1")),
            entry(raw('"~^ HTTP/3\\S* (?!443$)([0-9]+)$"'), raw(":$1")),
        ),
        comment="The port that the client asked for, which $host leaves out; HTTP/3 has no header Host.",
    )


def _scheme(d: Deployment) -> Iterator[Directive]:
    if not d.proxy.trusted:
        return
    trusted = variable(d, "trusted")
    believed = (entry(network, "1") for network in networks(d))
    # Not $remote_addr, which is the client by then (ngx_http_realip_module).
    yield block("geo", raw("$realip_remote_addr"), raw(trusted), body=(entry(raw("default"), "0"), *believed))
    yield block(
        "map",
        raw(f'"{trusted}:$http_x_forwarded_proto"'),
        raw(variable(d, "scheme")),
        body=(entry(raw("default"), raw("$scheme")), entry("1:https", "https"), entry("1:http", "http")),
        comment="How the client came to the outermost proxy; believed if a trusted one says so.",
    )


def _strangers(d: Deployment) -> Iterator[Directive]:
    """Yield a variable that is 1 for a request for somebody else, and one that is 1 if it is from elsewhere."""
    far, stranger = raw(variable(d, "far") if d.proxy.trusted else _FAR), raw(variable(d, "stranger"))
    here = (entry(raw(address), "0") for address in ("127.0.0.1", "::1", "unix:"))
    # Not every nginx has the module that knows the first one.
    peer = raw("$realip_remote_addr" if d.proxy.trusted else "$remote_addr")
    yield block("map", peer, far, body=(entry(raw("default"), "1"), *here))
    why = "1 for a name that is not ours: nginx gives requests that no site claims to the first one that it has read."
    names = d.proxy.server_names
    if names:
        ours = (entry(raw(f"\\{name}" if name in _WORDS else name), "0") for name in names)
        lower = {name.lower() for name in names}
        others = (entry(raw(name), far) for name in LOCAL if name not in lower)
        body = (directive("hostnames"), entry(raw("default"), "1"), *ours, *others)
        yield block("map", raw("$host"), stranger, body=body, comment=why)
    else:
        local = entry(raw(r'"~^(localhost|127\.0\.0\.1|\[::1]) "'), far)
        body = (entry(raw("default"), "1"), entry(raw(r'"~^(\S+) \1$"'), "0"), local)
        yield block("map", raw('"$host $hostname"'), stranger, body=body, comment=why)


def _rate(d: Deployment) -> Iterator[Directive]:
    if d.proxy.rate_limit:
        yield directive(
            "limit_req_zone",
            raw("$binary_remote_addr"),
            raw(f"zone={rate_zone(d)}:10m"),
            raw(f"rate={d.proxy.rate_limit}r/s"),
            # ngx_http_limit_req_module(): 128 bytes each; the oldest are forgotten when it is full.
            comment="Room for 80000 clients.",
        )


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
                seconds(d.proxy.keepalive),
                comment="nginx closes idle connections, never the instance: so no request meets a closing one.",
            ),
        ),
    )
