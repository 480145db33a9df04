"""The proxy that is trusted speaks for the client, and nobody else does."""

import inspect
import json
import socket

import pytest
import yarl
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict, CIMultiDictProxy

from aiosystemd.runtime import forwarded
from tests.runtime.lab import Client, Lab, MakeServer, Server

PROXY = (
    "X-Forwarded-For: 203.0.113.9, 192.0.2.7",
    "X-Forwarded-Proto: https",
    "X-Forwarded-Host: shop.example:8443",
)
CLIENT = {
    "remote": "192.0.2.7",
    "scheme": "https",
    "host": "shop.example:8443",
    "url": "https://shop.example:8443/client",
}
NOBODY = {"remote": "", "scheme": "http", "host": "shop.example", "url": "http://shop.example/client"}


def seen(server: Server, *headers: str, path: str = "/client") -> dict[str, str]:
    answer: dict[str, str] = json.loads(server.ask(path, *headers).body)
    return answer


def test_trusted_unix_peer_speaks_for_client(make_server: MakeServer) -> None:
    server = make_server("--forwarded-from", "unix").ready()
    assert seen(server, *PROXY) == CLIENT
    assert seen(server, *PROXY, path="/below/client")["remote"] == "192.0.2.7"
    assert seen(server) == NOBODY


@pytest.mark.parametrize("options", [[], ["--forwarded-from", "127.0.0.0/8", "--forwarded-from", "::/0"]])
def test_untrusted_unix_peer_changes_nothing(make_server: MakeServer, options: list[str]) -> None:
    assert seen(make_server(*options).ready(), *PROXY) == NOBODY


@pytest.mark.parametrize(
    ("source", "trusted"),
    [("127.0.0.1", True), ("127.0.0.0/8", True), ("127.0.0.2", False), ("10.0.0.0/8", False), ("unix", False)],
)
def test_tcp_peer_is_trusted_by_address(lab: Lab, loop: str, source: str, trusted: bool) -> None:  # noqa: FBT001
    server = lab.run("--loop", loop, "--forwarded-from", source, "shop:app", listeners=[lab.tcp()]).ready()
    assert seen(server, *PROXY) == (CLIENT if trusted else NOBODY | {"remote": "127.0.0.1"})


def test_ipv4_peer_of_socket_for_both_families_is_known(lab: Lab, loop: str) -> None:
    try:
        listener = socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
    except OSError as error:
        pytest.skip(f"no IPv6 here: {error}")
    lab.listeners.append(listener)
    lab.run("--loop", loop, "--forwarded-from", "127.0.0.1", "shop:app", listeners=[listener]).ready()
    with Client(("127.0.0.1", listener.getsockname()[1])) as client:
        client.get("/client", *PROXY)
        response = client.response()
        assert response
        assert json.loads(response.body) == CLIENT


ODD: dict[str, dict[str, str]] = {
    "X-Forwarded-For: unix:": {},
    "X-Forwarded-For: 192.0.2.7, unix:": {},
    "X-Forwarded-For: 2001:DB8::1": {"remote": "2001:db8::1"},
    "X-Forwarded-For: fe80::1%<script>": {},
    "X-Forwarded-For: 192.0.2.7:80": {},
    "X-Forwarded-For: 192.0.2.256": {},
    "X-Forwarded-For: ,": {},
    "X-Forwarded-For: " + "1" * 5000: {},
    "X-Forwarded-For: 203.0.113.9\r\nX-Forwarded-For: 192.0.2.7": {"remote": "192.0.2.7"},
    "X-Forwarded-Proto: HTTPS": {"scheme": "https", "url": "https://shop.example/client"},
    "X-Forwarded-Proto: javascript": {},
    "X-Forwarded-Host: evil.example/path": {},
    "X-Forwarded-Host: evil.example:99999": {},
    "X-Forwarded-Host: user@evil.example": {},
    "X-Forwarded-Host: [::1": {},
    "X-Forwarded-Host: ..": {},
    "X-Forwarded-Host: [2001:db8::1]:80": {"host": "[2001:db8::1]:80", "url": "http://[2001:db8::1]/client"},
}


def test_malformed_value_is_ignored(lab: Lab) -> None:
    server = lab.run("--forwarded-from", "unix", "shop:app", listeners=[lab.unix()]).ready()
    for header, changes in ODD.items():
        assert seen(server, header) == NOBODY | changes, header
    server.signal()
    assert server.exit() == 0
    assert server.errors == ""


def test_absolute_request_line_names_the_host(lab: Lab) -> None:
    server = lab.run("--forwarded-from", "unix", "shop:app", listeners=[lab.unix()]).ready()
    assert seen(server, *PROXY, path="http://other.example/client")["remote"] == "192.0.2.7"


def test_unparsable_request_is_answered(make_server: MakeServer) -> None:
    server = make_server("--forwarded-from", "unix").ready()
    with server.client() as client:
        client.send("NONSENSE\r\n\r\n")
        response = client.response()
        assert response
        assert response.status == 400


@given(st.text(st.characters(min_codepoint=32, max_codepoint=255)) | st.from_regex(r"[a-z0-9.:\[\]-]+", fullmatch=True))
def test_any_header_gives_a_request_with_a_url(value: str) -> None:
    headers = CIMultiDictProxy(CIMultiDict({name: value for name, _, _ in (line.partition(":") for line in PROXY)}))
    said = forwarded.client(headers)
    yarl.URL.build(scheme=said.get("scheme", "http"), authority=said.get("host", "shop.example"), path="/")


def test_body_limit_overrides_the_applications(make_server: MakeServer) -> None:
    server = make_server("--body-limit", "3000000").ready()
    # aiohttp 3.11 refuses a body that reaches its limit, 3.14 one that exceeds it.
    for size, status in ((3_000_000, 200), (3_000_002, 413)):
        with server.client() as client:
            client.send(f"POST /echo HTTP/1.1\r\nHost: shop.example\r\nContent-Length: {size}\r\n\r\n")
            client.send(bytes(size))
            response = client.response()
            assert response
            assert response.status == status


def test_every_keyword_of_a_request_is_known() -> None:
    """The runtime builds requests itself: what aiohttp takes from the application must not be lost."""
    parameters = inspect.signature(web.Request).parameters.values()
    keywords = {parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY}
    ours, limits = {"scheme", "host", "remote"}, {"client_max_size", "client_max_fields"}
    assert keywords - ours - limits == {"state"}


def test_applications_own_limit_is_kept(make_server: MakeServer) -> None:
    server = make_server("--forwarded-from", "unix").ready()
    with server.client() as client:
        client.send(f"POST /echo HTTP/1.1\r\nHost: shop.example\r\nContent-Length: {2**20 + 2}\r\n\r\n")
        client.send(bytes(2**20 + 2))
        response = client.response()
        assert response
        assert response.status == 413


def accel(server: Server, path: str) -> str | None:
    with server.client() as client:
        client.get(path)
        found = [line.partition(":")[2].strip() for line in client.head() if line.startswith("X-Accel-Buffering")]
        return found[0] if found else None


def test_stream_asks_trusted_proxy_not_to_buffer(make_server: MakeServer) -> None:
    server = make_server("--forwarded-from", "unix").ready()
    assert accel(server, "/stream") == "no"
    assert accel(server, "/below/stream") == "no"
    assert accel(server, "/stream?buffering=yes") == "yes"
    for path in ("/", "/file", "/nowhere", "/fail"):
        assert accel(server, path) is None


def test_stream_asks_nothing_of_others(make_server: MakeServer) -> None:
    assert accel(make_server().ready(), "/stream") is None
