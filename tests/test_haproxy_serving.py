"""What HAProxy does with the site that is generated, asked over sockets: names, TLS, limits, headers, the sick."""

import gzip
import http.client
import json
import re
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from aiosystemd.export import haproxy
from aiosystemd.host import Host
from aiosystemd.load import parse, validate
from aiosystemd.model import Deployment
from aiosystemd.probe import haproxy_version
from tests.render import server
from tests.test_nginx_serving import Answer, Application, application
from tests.tools import require
from tests.up.program import free_ports

NAME = "www.example.com"
WEB = f"""
name = "web"
app = "web:app"
instances = 2

[proxy]
kind = "haproxy"
server_names = ["{NAME}", "*.example.org"]
"""
TLS = 'tls = { certificate = "/DIRECTORY/c.pem", key = "/DIRECTORY/c.pem.key" }\n'
FOR_OTHERS = 421


class _Newer(Application):
    protocol_version = "HTTP/1.1"  # HAProxy compresses no older answer


@dataclass(frozen=True, slots=True)
class Site:
    """A site at work: the ports of HTTP and HTTPS, and its directory."""

    port: int
    secure: int
    directory: Path

    def ask(self, path: str = "/", body: bytes | None = None, *, tls: bool = False, **headers: str) -> Answer:
        """Return its answer to a request of its own connection; ``headers`` have ``_`` for ``-``."""
        method = "GET" if body is None else "POST"
        sock = socket.create_connection(("127.0.0.1", self.secure if tls else self.port), 20)
        connection = http.client.HTTPConnection(NAME)
        connection.sock = _unverified().wrap_socket(sock, server_hostname=NAME) if tls else sock
        try:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body, {"Host": NAME, **named})
            answer = connection.getresponse()
            return Answer(answer.status, answer.headers, answer.read())
        finally:
            connection.close()


def _unverified() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


@contextmanager
def running(text: str) -> Iterator[Site]:
    """Run HAProxy with a site, and an application behind it in place of its first instance."""
    with server.scratch() as directory, ExitStack() as stack:
        d, warnings = validate(parse("x.toml", text.replace("/DIRECTORY", str(directory))))
        assert warnings == ()
        site = Site(free_ports(), free_ports(), directory)
        stack.enter_context(application(directory / d.name, _Newer))
        main = directory / "haproxy.cfg"
        main.write_text("global\n    log stderr local0\n")
        _certificate(directory)
        written, _ = haproxy.export(_moved(d, site), Host(haproxy=haproxy_version() or ()), "x.toml")
        (directory / "site.cfg").write_text(written.content.render())
        command = [require("haproxy"), "-db", "-f", str(main), "-f", str(directory / "site.cfg")]
        with (directory / "log").open("w") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
            try:
                _wait(site, process, directory / "log")
                yield site
            finally:
                process.terminate()


def _moved(d: Deployment, site: Site) -> Deployment:
    proxy: dict[str, object] = {"listen": (f"127.0.0.1:{site.port}",)}
    if d.proxy.tls:
        proxy["tls"] = d.proxy.tls.model_copy(update={"listen": (f"127.0.0.1:{site.secure}",)})
    sockets = d.listen.model_copy(update={"directory": str(site.directory / d.name)})
    return d.model_copy(update={"listen": sockets, "proxy": d.proxy.model_copy(update=proxy)})


def _certificate(directory: Path) -> None:
    new = ("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=x")
    paths = ("-keyout", directory / "c.pem.key", "-out", directory / "c.pem")
    subprocess.run(("openssl", *new, *paths), check=True, capture_output=True)


def _wait(site: Site, process: "subprocess.Popen[bytes]", log: Path) -> None:
    while process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", site.port), 1).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    raise AssertionError(log.read_text())


def test_an_instance_that_is_not_there_costs_nothing() -> None:
    with running(WEB) as site:
        assert [site.ask().status for _ in range(10)] == [200] * 10


def test_requests_for_others_are_refused_but_from_the_machine_itself() -> None:
    with running(WEB) as site:
        ours = (
            NAME,
            NAME.upper(),
            f"{NAME}:8080",
            "a.example.org",
            "a.b.example.org",
            "localhost",
            "127.0.0.1:80",
            "[::1]",
        )
        assert {site.ask(Host=name).status for name in ours} == {200}
        assert {site.ask(Host=name).status for name in ("evil.test", "example.org", "xexample.org")} == {FOR_OTHERS}


def test_without_names_the_machines_own_is_answered() -> None:
    with running(re.sub("server_names.*", "", WEB)) as site:
        assert site.ask(Host=socket.gethostname().upper()).status == 200
        assert site.ask(Host="evil.test").status == FOR_OTHERS


def test_the_default_server_takes_every_name() -> None:
    with running(f"{WEB}default_server = true\n") as site:
        assert site.ask(Host="evil.test").status == 200


def test_many_names_fit() -> None:
    names = ", ".join(f'"{"x" * 50}{number}.example.com"' for number in range(200))
    with running(WEB.replace(f'"{NAME}"', f'{names}, "{NAME}"')) as site:
        assert site.ask(Host=f"{'x' * 50}199.example.com").status == 200


def test_what_the_application_is_told_of_the_client_is_what_haproxy_saw() -> None:
    lies = {"X_Forwarded_For": "6.6.6.6", "X_Forwarded_Proto": "https", "X_Real_IP": "6.6.6.6", "Forwarded": "for=6"}
    with running(WEB) as site:
        said = json.loads(site.ask("/", None, tls=False, **lies).body)
    assert {said[name] for name in ("x-forwarded-for", "x-real-ip")} == {"127.0.0.1"}
    assert (said["x-forwarded-proto"], said["x-forwarded-host"], said["host"]) == ("http", NAME, NAME)
    assert "forwarded" not in said


def test_plain_http_is_redirected_to_https_which_the_application_hears_of() -> None:
    with running(WEB + TLS) as site:
        plain = site.ask("/a?b")
        assert (plain.status, plain.headers["Location"]) == (301, f"https://{NAME}:{site.secure}/a?b")
        assert json.loads(site.ask(tls=True).body)["x-forwarded-proto"] == "https"
        with socket.create_connection(("127.0.0.1", site.secure), 20) as sock:
            context = _unverified()
            context.set_alpn_protocols(["h2", "http/1.1"])
            with context.wrap_socket(sock, server_hostname=NAME) as secured:
                assert (secured.selected_alpn_protocol(), secured.version()) == ("h2", "TLSv1.3")


def test_https_beside_http() -> None:
    with running(WEB + TLS.replace(" }", ", redirect = false }")) as site:
        assert (site.ask().status, site.ask(tls=True).status) == (200, 200)


def test_a_body_that_is_too_large_is_refused() -> None:
    with running(f'{WEB}body_size = "1K"\n') as site:
        assert site.ask("/", b"x" * 1024).status == 200
        assert site.ask("/", b"x" * 1025).status == 413


@pytest.mark.parametrize(("more", "upgrade"), [("", "websocket"), ("websockets = false\n", None)])
def test_upgrades_are_passed_on_unless_they_are_not_to_be(more: str, upgrade: str | None) -> None:
    with running(WEB + more) as site:
        said = json.loads(site.ask(Connection="Upgrade", Upgrade="websocket", Sec_WebSocket_Key="x" * 22 + "==").body)
    assert said.get("upgrade") == upgrade


def test_text_is_compressed_and_other_things_are_not() -> None:
    with running(WEB) as site:
        text = site.ask("/long?text/css", Accept_Encoding="gzip")
        events = site.ask("/long?text/event-stream", Accept_Encoding="gzip")
    assert (gzip.decompress(text.body), text.headers["Content-Encoding"]) == (b"long " * 1000, "gzip")
    assert (events.body, events.headers["Content-Encoding"]) == (b"long " * 1000, None)


def test_headers_of_ones_own_are_in_every_answer_as_they_were_written() -> None:
    value = """100% 'a' "b" \\ # {} é"""
    with running(f"{WEB}headers = {{ X-A = '''{value}''' }}\n") as site:
        for answer in (site.ask(), site.ask(Host="evil.test")):
            assert answer.headers["X-A"].encode("latin-1").decode() == value


def test_streams_may_be_silent_for_longer_than_a_request() -> None:
    streams = 'streams = ["/a stream/"]\nstream_timeout = 30\n[timeouts]\nrequest = 0.5\n'
    with running(WEB + streams) as site:
        assert site.ask("/slow").status == 504
        assert site.ask("/a%20stream/slow").body == b"slow"


def test_when_no_instance_is_well_they_are_asked_all_the_same() -> None:
    with running(f'{WEB}[health]\npath = "/503"\n') as site:
        deadline = time.monotonic() + 30
        while "0 active and 2 backup servers left" not in (site.directory / "log").read_text():
            assert time.monotonic() < deadline, (site.directory / "log").read_text()
            time.sleep(0.1)
        assert {site.ask().status for _ in range(4)} == {200}
