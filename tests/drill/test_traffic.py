"""Traffic that notices everything, and what it adds up to."""

import contextlib
import http.server
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from aiosystemd.drill.figures import Phase, answers, phases, ratio, table
from aiosystemd.drill.traffic import Sample, Target, Traffic, target
from aiosystemd.load import parse, validate
from tests.tools import require


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers as it is told; remembers what it was asked."""

    port: int
    asked: list[tuple[str, str, str | None, bytes]]
    behave: Callable[["Handler"], None]

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.asked.append((self.command, self.path, self.headers["Host"], body))
        type(self).behave(self)

    do_POST = do_GET  # noqa: N815

    def log_message(self, *_: object) -> None:
        pass


def fine(handler: Handler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "2")
    handler.end_headers()
    handler.wfile.write(b"ok")


def error(handler: Handler) -> None:
    handler.send_error(502)


def nothing(handler: Handler) -> None:
    handler.close_connection = True


def part(handler: Handler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "20")
    handler.end_headers()
    handler.wfile.write(b"ok")


def rubbish(handler: Handler) -> None:
    handler.wfile.write(b"rubbish\r\n\r\n")


def late(handler: Handler) -> None:
    time.sleep(0.5)
    fine(handler)


@contextlib.contextmanager
def serving(behave: Callable[[Handler], None], context: ssl.SSLContext | None = None) -> Iterator[type[Handler]]:
    class Told(Handler):
        asked: list[tuple[str, str, str | None, bytes]] = []  # noqa: RUF012

    Told.behave = behave
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Told) as server:
        if context:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        Told.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield Told
        finally:
            server.shutdown()
            thread.join()


def at(port: int, *, tls: bool = False, timeout: float = 5) -> Target:
    paths = {"GET": "/health é", "POST": "/echo"}
    return Target(("127.0.0.1", port), "shop.example", f"shop.example:{port}", tls, paths, timeout)


def asked(target: Target, count: int = 8) -> list[Sample]:
    """Return the samples of traffic that lasted for at least ``count`` requests."""
    with Traffic(target) as traffic:
        while len(traffic.samples) < count:
            time.sleep(0.01)
    return traffic.samples


def test_both_methods_are_asked_of_the_named_server() -> None:
    with serving(fine) as server:
        port = server.port
        samples = asked(at(port))
        assert {(each.method, each.answer, each.phase) for each in samples} == {
            ("GET", "200", "steady"),
            ("POST", "200", "steady"),
        }
        assert set(server.asked) == {
            ("GET", "/health%20%C3%A9", f"shop.example:{port}", b""),
            ("POST", "/echo", f"shop.example:{port}", b"aiosystemd drill\n"),
        }


@pytest.mark.parametrize(
    ("behave", "answer"),
    [
        (error, "502"),
        (nothing, "connection lost"),
        (part, "connection lost"),
        (rubbish, "broken answer (BadStatusLine)"),
        (late, "no answer in time"),
    ],
)
def test_whatever_goes_wrong_has_a_name(behave: Callable[[Handler], None], answer: str) -> None:
    with serving(behave) as server:
        samples = asked(at(server.port, timeout=0.2))
    assert {each.answer for each in samples} == {answer}


def test_nobody_there_is_a_refused_connection() -> None:
    with serving(fine) as server:
        port = server.port
    assert {each.answer for each in asked(at(port))} == {"connection refused"}


def test_tls_is_spoken_with_a_certificate_that_nobody_knows(tmp_path: Path) -> None:
    key, certificate = tmp_path / "key", tmp_path / "certificate"
    new = ("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=x")
    argv = (require("openssl"), *new, "-days", "1", "-keyout", key, "-out", certificate)
    subprocess.run(argv, check=True, capture_output=True)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    names = []
    context.sni_callback = lambda _, name, __: names.append(name)
    with serving(fine, context) as server:
        samples = asked(at(server.port, tls=True))
    assert {each.answer for each in samples} == {"200"}
    assert set(names) == {"shop.example"}


def test_request_belongs_to_the_phase_in_which_it_began() -> None:
    with serving(late) as server, Traffic(at(server.port)) as traffic:
        while len(server.asked) < 4:
            time.sleep(0.01)
        traffic.phase = "reload"
        while len(traffic.samples) < 8:
            time.sleep(0.01)
    assert [each.phase for each in traffic.samples[:4]] == ["steady"] * 4
    assert {each.phase for each in traffic.samples[4:]} == {"reload"}


def deployment(*lines: str) -> str:
    return "\n".join(('name = "shop"', 'app = "shop:app"', 'proxy.server_names = ["*.shop.example"]', *lines, ""))


@pytest.mark.parametrize(
    ("lines", "address", "host", "tls"),
    [
        ((), ("127.0.0.1", 80), "drill.shop.example", False),
        (('proxy.listen = ["[::]:8080"]',), ("::1", 8080), "drill.shop.example:8080", False),
        (('proxy.listen = ["192.0.2.1:80"]',), ("192.0.2.1", 80), "drill.shop.example", False),
        (('proxy.tls = { certificate = "/c", key = "/k" }',), ("127.0.0.1", 443), "drill.shop.example", True),
        (
            ('proxy.tls = { certificate = "/c", key = "/k", listen = ["*:8443"] }',),
            ("127.0.0.1", 8443),
            "drill.shop.example:8443",
            True,
        ),
    ],
)
def test_site_is_asked_where_its_proxy_listens(
    lines: tuple[str, ...], address: tuple[str, int], host: str, *, tls: bool
) -> None:
    d, _ = validate(parse("shop.toml", deployment('health.path = "/health"', *lines)))
    found = target(d, "/echo", d.proxy)
    assert (found.address, found.name, found.host, found.tls) == (address, "drill.shop.example", host, tls)
    assert found.paths == {"GET": "/health", "POST": "/echo"}


def test_who_joins_a_site_is_asked_there() -> None:
    site, _ = validate(parse("web.toml", 'name = "web"\napp = "a:a"\nproxy.server_names = ["www.example"]'))
    d, _ = validate(parse("api.toml", 'name = "api"\napp = "a:a"\nproxy = { site = "web", prefix = "/api" }'))
    found = target(d, "", site.proxy)
    assert (found.name, found.paths) == ("www.example", {"GET": "/api/", "POST": "/api/"})


SAMPLES = [
    *(Sample("steady", "GET", "200", 0.001 * n) for n in range(1, 101)),
    *(Sample("steady", "POST", "405", 0.001) for _ in range(100)),
    *(Sample("reload", "GET", "200", 0.002) for _ in range(9)),
    Sample("reload", "POST", "200", 0.2),
    Sample("reload", "POST", "connection lost", 0.1),
    Sample("reload", "GET", "502", 0.1),
    Sample("reload", "GET", "502", 0.1),
]
EXPECTED = {"GET": "200", "POST": "405"}


def test_figures_are_those_of_the_requests() -> None:
    steady, reload = phases(SAMPLES, ("steady", "reload"), EXPECTED)
    assert steady == Phase("steady", 200, {}, 1.0, 99.0, 100.0)
    assert reload == Phase("reload", 13, {"POST 200": 1, "POST connection lost": 1, "GET 502": 2}, 2.0, 200.0, 200.0)
    assert (steady.failed, reload.failed, ratio(reload, steady)) == (0, 4, 2.02)


def test_answers_are_counted_by_method() -> None:
    assert answers(SAMPLES[:200]) == {"GET": {"200": 100}, "POST": {"405": 100}}


def test_phase_without_a_request_has_figures() -> None:
    assert phases([], ("steady",), {}) == (Phase("steady", 0, {}, 0.0, 0.0, 0.0),)


def test_table_shows_the_failures_with_their_reasons() -> None:
    lines = list(table(phases(SAMPLES, ("steady", "reload"), EXPECTED)))
    assert lines[2].split() == "reload 13 4 2.0 ms 200.0 ms 200.0 ms 2.02".split()
    assert lines[3:] == ["reload: 1 times POST 200", "reload: 1 times POST connection lost", "reload: 2 times GET 502"]
