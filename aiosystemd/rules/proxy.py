"""The proxy's addresses, names and paths."""

from collections.abc import Iterator
from ipaddress import ip_address

from aiosystemd.model import Deployment
from aiosystemd.rules.rule import KeyPath, Violation, rule, twice

HASHED_NAME = 46
"""Characters of a server name that fit nginx's ``server_names_hash_bucket_size`` of 64; measured with nginx -t."""

HTTP3 = (1, 25)
"""The first nginx that speaks HTTP/3, if it is built with ngx_http_v3_module as Debian's and nginx.org's are."""


def location(prefix: str) -> str:
    """Return the nginx location of a path prefix: with a slash at its end, or ``/staticx`` would match ``/static``."""
    return prefix.rstrip("/") + "/"


@rule
def _prefixes(d: Deployment) -> Iterator[Violation]:
    """``proxy.static``, ``.internal`` and ``.streams`` name a prefix once; static files are not the whole site."""
    static = [(("proxy", "static", prefix), location(prefix)) for prefix in d.proxy.static]
    internal = [(("proxy", "internal", prefix), location(prefix)) for prefix in d.proxy.internal]
    streams = [(("proxy", "streams", i), location(prefix)) for i, prefix in enumerate(d.proxy.streams)]
    yield from twice([*static, *internal, *streams], "the path prefix")
    for key, prefix in [*static, *internal]:
        if prefix == location(d.proxy.prefix or "/"):
            what = "a static file" if key[1] == "static" else "internal"
            yield Violation((key,), f"every path would be {what}", 'use a prefix, as in "/static/"')


@rule
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


@rule
def _joined_prefixes(d: Deployment) -> Iterator[Violation]:
    """Below ``proxy.prefix`` are the prefixes of ``proxy.static``, ``.internal`` and ``.streams``, if it is set."""
    if d.proxy.prefix is None:
        return
    below = location(d.proxy.prefix)
    paths: list[tuple[KeyPath, str]] = [(("proxy", "static", path), path) for path in d.proxy.static]
    paths += [(("proxy", "internal", path), path) for path in d.proxy.internal]
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


@rule
def _addresses_and_names(d: Deployment) -> Iterator[Violation]:
    """No address and no server name is given twice; very long server names are warned of."""
    proxy = d.proxy
    listen: list[tuple[KeyPath, str]] = [(("proxy", "listen", i), address) for i, address in enumerate(proxy.listen)]
    if proxy.tls:
        listen += [(("proxy", "tls", "listen", i), address) for i, address in enumerate(proxy.tls.listen)]
    yield from twice(((key, normal_address(address)) for key, address in listen), "the address")
    names = ((("proxy", "server_names", i), name.lower()) for i, name in enumerate(proxy.server_names))
    yield from twice(names, "the server name")
    for i, name in enumerate(proxy.server_names):
        if len(name) > HASHED_NAME and proxy.kind == "nginx":
            what = f"nginx takes server names of up to {HASHED_NAME} characters as it comes, and refuses this one"
            hint = "set server_names_hash_bucket_size and map_hash_bucket_size to 128 or more in nginx.conf"
            yield Violation((("proxy", "server_names", i),), what, hint, "warning")


@rule
def _static_keys_need_static(d: Deployment) -> Iterator[Violation]:
    """``proxy.immutable`` names prefixes of ``proxy.static``, which ``.precompressed`` and ``.static_age`` need too."""
    prefixes = set(map(location, d.proxy.static))
    for i, prefix in enumerate(d.proxy.immutable):
        if location(prefix) not in prefixes:
            yield Violation((("proxy", "immutable", i),), f"{prefix} is not in proxy.static", "add it there, too")
    immutable = ((("proxy", "immutable", i), location(prefix)) for i, prefix in enumerate(d.proxy.immutable))
    yield from twice(immutable, "the path prefix")
    for key in ("precompressed", "static_age"):
        if key in d.proxy.model_fields_set and not prefixes:
            yield Violation(
                (("proxy", key),), f"proxy.{key} is set, but proxy.static is empty", "set it, or remove this"
            )


@rule
def _burst_needs_a_rate(d: Deployment) -> Iterator[Violation]:
    """``proxy.rate_burst`` needs ``proxy.rate_limit``."""
    if "rate_burst" in d.proxy.model_fields_set and d.proxy.rate_limit is None:
        yield Violation((("proxy", "rate_burst"),), "proxy.rate_burst needs proxy.rate_limit", "set it, or remove this")


@rule
def _reuseport_is_for_http3(d: Deployment) -> Iterator[Violation]:
    """``proxy.tls.reuseport`` needs ``proxy.tls.http3``."""
    tls = d.proxy.tls
    if tls and "reuseport" in tls.model_fields_set and not tls.http3:
        what = "proxy.tls.reuseport is for HTTP/3"
        yield Violation((("proxy", "tls", "reuseport"),), what, "set proxy.tls.http3, or remove this")


def unknown_to_nginx(version: tuple[int, ...], d: Deployment) -> Iterator[Violation]:
    """Yield what a version of nginx cannot do yet."""
    if d.proxy.kind == "nginx" and d.proxy.tls and d.proxy.tls.http3 and version < HTTP3:
        shown = ".".join(map(str, version))
        what = f"nginx {shown} has no HTTP/3, so that it is left out; 1.25 has"
        yield Violation((("proxy", "tls", "http3"),), what, "generate again with a newer one", "warning")


@rule
def _proxy_keys_need_a_proxy(d: Deployment) -> Iterator[Violation]:
    """``proxy.kind = "none"`` stands alone in its table."""
    if d.proxy.kind == "none":
        for key in sorted(d.proxy.model_fields_set - {"kind"}):
            yield Violation((("proxy", key),), f'proxy.{key} is set, but proxy.kind is "none"', "remove one of them")
