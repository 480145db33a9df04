"""The locations of a site, or of a deployment that joins one: files, streams, everything else."""

import re
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Final

from aiosystemd.export.nginx.upstream import CONNECTION, PORT, rate_zone, seconds, variable
from aiosystemd.export.proxy import TEXT
from aiosystemd.model import Deployment, Maintenance
from aiosystemd.render.nginx import Directive, block, directive, raw
from aiosystemd.rules import location

_YEAR: Final = 31_536_000

_SWITCHED: Final = {
    "X-Content-Type-Options": ("$aio_sniff", True),
    "Cache-Control": ("$aio_cache", False),
    "Retry-After": ("$aio_retry", True),
}
"""Headers that some answers have: the variable of each, and whether errors have it too.

nginx leaves out an empty one. An ``add_header`` in a location would take away all that its server adds, and nobody
who writes one knows what that is when the site is another deployment's; to set a variable takes nothing away.
"""


def joined(d: Deployment, prefix: str) -> Directive:
    """Return the location that a joined site leaves to this deployment."""
    own = unset() if d.proxy.headers else ()
    body = (*own, *settings(d), *_all_of(d, prefix), *_inner(d))
    return block("location", raw("^~"), prefix, body=body)


def _all_of(d: Deployment, prefix: str) -> Iterator[Directive]:
    if d.proxy.rate_limit is None:
        yield from _passed(d)
        return
    # What is within a location inherits its limit, and nothing takes that away from the files.
    yield _pass(d)
    if prefix not in map(location, d.proxy.streams):
        yield block("location", prefix, body=_passed(d))


def unset() -> Iterator[Directive]:
    """Yield the variables of headers that only some answers have, empty."""
    why = "Headers of some answers: a location sets them, empty ones are not sent. An add_header there drops the rest."
    for name, _ in _SWITCHED.values():
        yield directive("set", raw(name), "", comment=why)
        why = ""
    why = "A request that is malformed is answered before any of them is set."
    yield directive("uninitialized_variable_warn", raw("off"), comment=why)


def settings(d: Deployment) -> Iterator[Directive]:
    """Yield what holds in every location of this deployment."""
    yield directive("client_max_body_size", raw(str(d.body_size)))
    yield from _headers(d)
    yield from _compression(d)
    yield from _error_pages(d)
    yield from _to_the_instances(d)


def locations(d: Deployment) -> Iterator[Directive]:
    """Yield the locations of a site."""
    yield from _inner(d)
    if "/" not in map(location, d.proxy.streams):
        yield block("location", "/", body=_passed(d))


def _inner(d: Deployment) -> Iterator[Directive]:
    for prefix, directory in d.proxy.static.items():
        yield block("location", raw("^~"), location(prefix), body=_files(d, location(prefix), directory))
    for prefix, directory in d.proxy.internal.items():
        yield block("location", raw("^~"), location(prefix), body=(directive("internal"), _alias(directory)))
    for prefix in d.proxy.streams:
        yield from _stream(d, location(prefix))
    if d.proxy.maintenance:
        yield _page(d, d.proxy.maintenance)


def _headers(d: Deployment) -> Iterator[Directive]:
    if d.proxy.site is not None and not d.proxy.headers:
        return
    for name, value in d.proxy.headers.items():
        yield directive("add_header", name, value, raw("always"))
    given = {name.lower() for name in d.proxy.headers}
    for name, (value, always) in _SWITCHED.items():
        if name.lower() not in given:
            yield directive("add_header", raw(name), raw(value), *([raw("always")] if always else []))


def _compression(d: Deployment) -> Iterator[Directive]:
    yield directive("gzip", raw("on" if d.proxy.gzip else "off"))
    if d.proxy.gzip:
        yield directive("gzip_types", *map(raw, TEXT))
        yield directive("gzip_min_length", raw("1024"))
        yield directive("gzip_proxied", raw("any"))
    if d.proxy.gzip or d.proxy.precompressed:
        yield directive("gzip_vary", raw("on"))


def _error_pages(d: Deployment) -> Iterator[Directive]:
    if d.proxy.maintenance:
        yield directive(
            "error_page",
            *map(raw, ("502", "503", "504")),
            _page_uri(d),
            comment="nginx's own errors; those of the application are its own (proxy_intercept_errors is off).",
        )
    if d.proxy.rate_limit:
        yield directive("limit_req_status", raw("429"))


def _page_uri(d: Deployment) -> str:
    return f"{location(d.proxy.prefix or '/')}.aiosystemd-maintenance"


def _page(d: Deployment, maintenance: Maintenance) -> Directive:
    page = PurePosixPath(maintenance.page)
    body = (
        directive("internal"),
        directive("set", raw("$aio_retry"), str(maintenance.retry_after)),
        directive("default_type", raw("text/html")),
        directive("root", str(page.parent)),
        # A missing page must not turn the error into a 404.
        directive("try_files", f"/{page.name}", raw("=503")),
    )
    return block("location", raw("="), _page_uri(d), body=body)


def _alias(directory: str) -> Directive:
    return directive("alias", f"{directory.rstrip('/')}/")


def _files(d: Deployment, prefix: str, directory: str) -> Iterator[Directive]:
    yield directive("set", raw("$aio_sniff"), "nosniff")
    yield directive("set", raw("$aio_cache"), _cache(d, prefix))
    if d.proxy.precompressed:
        yield directive("gzip_static", raw("on"))
    yield _alias(directory)
    hidden = rf"(?s)^{re.escape(prefix)}(?:.*/)?\.(?!well-known/)"
    yield block("location", raw("~"), hidden, body=(directive("return", raw("404")),))


def _cache(d: Deployment, prefix: str) -> str:
    if prefix in map(location, d.proxy.immutable):
        return f"public, max-age={_YEAR}, immutable"
    # RFC 9111, 5.2.2.4: it may be kept, and is asked for again, which costs a 304. Without it a browser guesses.
    return f"public, max-age={d.proxy.static_age}" if d.proxy.static_age else "no-cache"


def _passed(d: Deployment) -> Iterator[Directive]:
    if d.proxy.maintenance:
        test = (raw("(-f"), d.proxy.maintenance.switch, raw(")"))
        yield block("if", *test, body=(directive("return", raw("503")),))
    if d.proxy.rate_limit:
        # "burst=0" is refused by nginx, for which none is 0 (ngx_http_limit_req_module).
        burst = (raw(f"burst={d.proxy.rate_burst}"), raw("nodelay")) if d.proxy.rate_burst else ()
        yield directive("limit_req", raw(f"zone={rate_zone(d)}"), *burst)
    yield _pass(d)


def _pass(d: Deployment) -> Directive:
    return directive("proxy_pass", f"http://{d.name}")


def _stream(d: Deployment, prefix: str) -> Iterator[Directive]:
    silence = seconds(d.proxy.stream_timeout)
    body = (
        *_passed(d),
        directive("proxy_buffering", raw("off")),
        directive("proxy_read_timeout", silence),
        directive("proxy_send_timeout", silence),
    )
    if prefix != location(d.proxy.prefix or "/"):
        # For a proxied location that ends in a slash nginx redirects the path without it, and no websocket follows.
        yield block("location", raw("="), prefix.removesuffix("/"), body=body)
    yield block("location", raw("^~"), prefix, body=body)


def _to_the_instances(d: Deployment) -> Iterator[Directive]:
    request = seconds(d.timeouts.request)
    yield directive("proxy_http_version", raw("1.1"))
    yield from _request_headers(d)
    yield directive("proxy_redirect", raw("off"))
    turned_off = "aiosystemd-serve turns it off for each response that is streamed (X-Accel-Buffering)."
    yield directive("proxy_buffering", raw("on"), comment=turned_off if d.server.kind == "aiohttp" else "")
    yield directive("proxy_connect_timeout", raw("5s"))
    yield directive("proxy_send_timeout", request)
    yield directive("proxy_read_timeout", request)
    yield directive(
        "proxy_next_upstream",
        raw("error"),
        comment="The next instance is asked when one cannot answer; not when it is slow, or each would be in turn.",
    )


def _request_headers(d: Deployment) -> Iterator[Directive]:
    host = raw(f"$host{PORT}")
    # Each header that a client could have sent itself is set anew: what arrives is what nginx saw.
    headers = {
        "Host": host,
        "Connection": raw(CONNECTION) if d.proxy.websockets else "",
        **({"Upgrade": raw("$http_upgrade")} if d.proxy.websockets else {}),
        "X-Forwarded-For": raw("$remote_addr"),
        "X-Forwarded-Proto": raw(variable(d, "scheme") if d.proxy.trusted else "$scheme"),
        "X-Forwarded-Host": host,
        "X-Real-IP": raw("$remote_addr"),
        "Forwarded": "",
    }
    for name, value in headers.items():
        yield directive("proxy_set_header", name, value)
