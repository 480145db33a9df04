"""Who the client is, as told by a proxy that is trusted, and by nobody else."""

import asyncio
import ipaddress
import re
from collections.abc import Callable, Iterable
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Final, TypedDict

from aiohttp import StreamReader, hdrs, web
from aiohttp.abc import AbstractStreamWriter
from propcache.api import under_cached_property as reify
from yarl import URL

if TYPE_CHECKING:
    from aiohttp.http import RawRequestMessage
    from aiohttp.web_protocol import _RequestFactory
    from multidict import CIMultiDictProxy

_LONGEST_ADDRESS: Final = 45
"""Length of the longest textual IPv6 address, ``INET6_ADDRSTRLEN`` less its end."""

_LONGEST_HOST: Final = 259
"""Length of the longest DNS name, and a port."""

# RFC 3986 host, narrowed to what can stand in a URL without quoting, and a port.
_HOST: Final = re.compile(r"(?:[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*\.?|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")


class _Said(TypedDict, total=False):
    remote: str
    scheme: str
    host: str


class _Limits(TypedDict, total=False):
    client_max_size: int
    client_max_fields: int  # aiohttp >= 3.14


class Trust:
    """Decides whether the peer of a connection may speak for the client."""

    def __init__(self, sources: Iterable[str]) -> None:
        """Take ``unix`` and networks, as the command line has checked them."""
        names = set(sources)
        self._unix = "unix" in names
        networks = tuple(map(ipaddress.ip_network, names - {"unix"}))
        self._has_networks = bool(networks)

        @lru_cache(maxsize=64)
        def trusted(address: str) -> bool:
            peer = ipaddress.ip_address(address.partition("%")[0])
            # A socket for both families shows IPv4 peers as ::ffff:192.0.2.1.
            peer = getattr(peer, "ipv4_mapped", None) or peer
            return any(peer in network for network in networks)

        self._trusted = trusted

    def __bool__(self) -> bool:
        return self._unix or self._has_networks

    def __call__(self, peer: object) -> bool:
        """Whether ``peer``, the "peername" of a connection's transport, is to be believed."""
        if isinstance(peer, tuple):
            return self._has_networks and self._trusted(peer[0])
        return self._unix and peer is not None


def install(server: web.Server, trust: Trust, body_limit: int | None) -> None:
    """Make ``server`` build requests with the client that a trusted peer names, and the given body limit in bytes.

    Here and not in a middleware: the access log, HTTP exceptions and what runs before any middleware shall see the
    client too. Must be called before the first connection.
    """
    if trust or body_limit is not None:
        server.request_factory = _factory(server.request_factory, _request_class(trust), body_limit)


def _factory(make: "_RequestFactory", kind: type[web.Request], body_limit: int | None) -> "_RequestFactory":
    loop = asyncio.get_running_loop()
    known: list[Callable[..., web.BaseRequest]] = []

    def make_request(
        message: "RawRequestMessage",
        payload: StreamReader,
        protocol: web.RequestHandler,
        writer: AbstractStreamWriter,
        task: "asyncio.Task[None]",
    ) -> web.BaseRequest:
        if not known:
            # The first request tells what limits the application has.
            limits = _limits(make(message, payload, protocol, writer, task), body_limit)
            known.append(partial(kind, loop=loop, **limits))
        return known[0](message, payload, protocol, writer, task)

    return make_request


def _request_class(trust: Trust) -> type[web.Request]:
    """Return a request that looks for the client when it is asked, which most handlers never do."""

    class Request(web.Request):
        @reify
        def remote(self) -> str | None:
            return self._said.get("remote") or super().remote

        @reify
        def scheme(self) -> str:
            return self._said.get("scheme") or super().scheme

        @reify
        def host(self) -> str:
            # The request line may name the host, RFC 9112 3.2.2; nothing but a proxy could have written it there.
            absolute = self._message.url.absolute
            return (not absolute and self._said.get("host")) or super().host

        @reify
        def _said(self) -> _Said:
            # Not get_extra_info(): the access log is written when the client may have gone. And a request that could
            # not be parsed has no headers.
            return client(self.headers) if self.headers and trust(self._transport_peername) else {}

    return Request


def _limits(request: web.BaseRequest, body_limit: int | None) -> _Limits:
    """Return what aiohttp took from the application for ``request``, with our body limit."""
    # A proxy's limit is the largest body that passes; aiohttp 3.11 refuses one that reaches client_max_size.
    limits: _Limits = {"client_max_size": request.client_max_size if body_limit is None else body_limit + 1}
    fields: int | None = getattr(request, "client_max_fields", None)
    if fields is not None:
        limits["client_max_fields"] = fields
    return limits


def client(headers: "CIMultiDictProxy[str]") -> _Said:
    """Return what the headers of a trusted proxy say; a malformed value says nothing."""
    said: _Said = {}
    # Only the last element was written by the proxy that we trust; what stands before it came with the request.
    if remote := _address(_last(headers, hdrs.X_FORWARDED_FOR)):
        said["remote"] = remote
    scheme = _last(headers, hdrs.X_FORWARDED_PROTO).lower()
    if scheme in ("http", "https"):
        said["scheme"] = scheme
    host = _last(headers, hdrs.X_FORWARDED_HOST)
    if 0 < len(host) <= _LONGEST_HOST and _is_host(host):
        said["host"] = host
    return said


@lru_cache(maxsize=256)
def _is_host(text: str) -> bool:
    # The second, because request.url raises on what yarl refuses, such as a port above 65535.
    try:
        return bool(_HOST.fullmatch(text) and URL.build(scheme="http", authority=text).host)
    except ValueError:
        return False


def _last(headers: "CIMultiDictProxy[str]", name: str) -> str:
    values = headers.getall(name, ())
    return values[-1].rpartition(",")[2].strip() if values else ""


def _address(text: str) -> str:
    # The length first: what a client sends must not fill the cache. nginx writes "unix:" for a client of its own on
    # a unix socket, which is no address.
    return _canonical(text) if 0 < len(text) <= _LONGEST_ADDRESS else ""


@lru_cache(maxsize=1024)
def _canonical(text: str) -> str:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return ""
    # A scope ("%eth0") may hold anything and means nothing on another host.
    return "" if "%" in text else str(address)
