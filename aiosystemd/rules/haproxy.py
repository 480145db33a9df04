"""What HAProxy does not do, and what this program has nothing for there."""

from collections.abc import Iterator
from typing import Final

from aiosystemd.model import Deployment
from aiosystemd.rules.rule import Violation, rule

_FILES: Final = "HAProxy serves no files"
_SERVE: Final = 'have the application or another web server do it, or set proxy.kind = "nginx"'
_NGINX: Final = 'remove it, or set proxy.kind = "nginx"'

NOT_THERE: Final = {
    "static": (_FILES, _SERVE),
    "static_age": (_FILES, _SERVE),
    "immutable": (_FILES, _SERVE),
    "precompressed": (_FILES, _SERVE),
    "internal": (f"{_FILES}, and does not know X-Accel-Redirect", _SERVE),
    "maintenance": (f"{_FILES}: its error pages are in its memory", "set errorfile in haproxy.cfg; " + _NGINX),
    "site": ("a site that several deployments share is written for nginx only", _NGINX),
    "prefix": ("a site that several deployments share is written for nginx only", _NGINX),
    "rate_limit": ("a limit of requests is written for nginx only", _NGINX),
    "rate_burst": ("a limit of requests is written for nginx only", _NGINX),
    "trusted": ("proxies in front of it are written for nginx only", _NGINX),
    "keepalive": ("HAProxy is told to keep no connection to an instance", "remove it"),
    "connections": ("HAProxy is told to keep no connection to an instance", "remove it"),
}
"""Keys of ``[proxy]``: why not, and what instead."""


@rule
def _no_files(d: Deployment) -> Iterator[Violation]:
    """``proxy.kind = "haproxy"`` goes without static files and what else is written for nginx only."""
    if d.proxy.kind != "haproxy":
        return
    for key, (what, hint) in NOT_THERE.items():
        if key in d.proxy.model_fields_set:
            yield Violation((("proxy", key), ("proxy", "kind")), f"proxy.{key}: {what}", hint)
    if d.proxy.tls and d.proxy.tls.http3:
        what = "proxy.tls.http3: HTTP/3 is written for nginx only"
        yield Violation((("proxy", "tls", "http3"), ("proxy", "kind")), what, _NGINX)


def unknown_to_haproxy(version: tuple[int, ...], d: Deployment) -> Iterator[Violation]:
    """Yield what a version of HAProxy cannot do yet."""
    tls = d.proxy.tls if d.proxy.kind == "haproxy" else None
    if tls and version < (3, 0) and tls.key not in (tls.certificate, f"{tls.certificate}.key"):
        shown = ".".join(map(str, version))
        what = f"HAProxy {shown} looks for the key in {tls.certificate}.key, or in the same file; 3.0 takes any"
        hint = f'ln -s {tls.key} {tls.certificate}.key, and key = "{tls.certificate}.key"'
        yield Violation((("proxy", "tls", "key"),), what, hint)
