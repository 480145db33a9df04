"""What nginx does with the site that is generated, asked over sockets: files, errors, limits, names, other proxies."""

import gzip
import http.client
import json
import socket
import socketserver
import threading
import time
import zlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import ClassVar

import pytest

from aiosystemd.load import parse, validate
from aiosystemd.model import Deployment
from aiosystemd.render.nginx import directive, raw
from tests.render import server
from tests.test_joined_sites import write

NAME = "www.example.com"

WEB = f"""
name = "web"
app = "web:app"
instances = 1

[proxy]
server_names = ["{NAME}", "*.example.org"]
headers = {{ X-Web = "web" }}
"""

JOINED = """
name = "zoo"
app = "zoo:app"
instances = 1

[proxy]
site = "web"
prefix = "/zoo/"
"""

FILES = 'static = { "/static/" = "DIRECTORY/files", "/static/hashed" = "DIRECTORY/files" }\n'


class Application(BaseHTTPRequestHandler):
    """Answers as its path says."""

    released: ClassVar = threading.Event()

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        match path.rpartition("/")[2]:
            case "file":
                self._say(200, "", {"X-Accel-Redirect": query})
            case "503":
                self._say(503, "the application's own")
            case "long":
                self._say(200, "long " * 1000, {"Content-Type": query})
            case "slow":
                time.sleep(1)
                self._say(200, "slow")
            case "stream":
                self._stream()
            case _:
                self._say(200, json.dumps(dict(self.headers)))

    def do_POST(self) -> None:
        self.do_GET()

    def _say(self, status: int, said: str, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(said)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(said.encode())

    def _stream(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("X-Accel-Buffering", "no")
        self.end_headers()
        self.wfile.write(b"first")
        self.released.wait(20)
        self.wfile.write(b"second")

    def address_string(self) -> str:
        return "unix"

    def log_message(self, *_: object) -> None:
        pass


@dataclass(frozen=True, slots=True)
class Answer:
    """A response."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes


@dataclass(frozen=True, slots=True)
class Site:
    """A site at work, and the directory of its files."""

    directory: Path
    port: int | None = None

    def connection(self) -> http.client.HTTPConnection:
        """Return a connection to it."""
        connection = http.client.HTTPConnection(NAME)
        if self.port is None:
            connection.sock = socket.socket(socket.AF_UNIX)
            connection.sock.settimeout(20)
            connection.sock.connect(str(self.directory / "http.sock"))
        else:
            connection.sock = socket.create_connection(("127.0.0.1", self.port), 20)
        return connection

    def ask(self, path: str, method: str = "GET", **headers: str) -> Answer:
        """Return its answer to a request of its own connection."""
        connection = self.connection()
        try:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, headers={"Connection": "close", **named})
            answer = connection.getresponse()
            return Answer(answer.status, answer.headers, answer.read())
        finally:
            connection.close()


def moved(text: str, directory: Path, port: int | None = None) -> Deployment:
    """Return a deployment whose files, sockets and addresses are in ``directory``."""
    d, warnings = validate(parse("x.toml", text.replace("DIRECTORY", str(directory))))
    assert warnings == ()
    sockets = d.listen.model_copy(update={"directory": str(directory / d.name)})
    listen = (f"unix:{directory}/http.sock", *([f"127.0.0.1:{port}"] if port else []))
    proxy: dict[str, object] = {} if d.proxy.site else {"listen": listen}
    if d.proxy.tls:
        proxy["tls"] = d.proxy.tls.model_copy(update={"listen": (f"unix:{directory}/https.sock",)})
    return d.model_copy(update={"listen": sockets, "proxy": d.proxy.model_copy(update=proxy)})


@contextmanager
def application(directory: Path, handler: type[Application] = Application) -> Iterator[None]:
    directory.mkdir()
    with socketserver.ThreadingUnixStreamServer(str(directory / "1.sock"), handler) as serving:
        thread = threading.Thread(target=serving.serve_forever)
        thread.start()
        try:
            yield
        finally:
            serving.shutdown()
            thread.join()


@contextmanager
def running(*texts: str, expected: str = r"(?!)", answering: bool = True, port: int | None = None) -> Iterator[Site]:
    """Run nginx with sites, and an application behind each that is ``answering``."""
    with server.scratch() as directory:
        files = directory / "files"
        (files / ".git" / "x").mkdir(parents=True)
        (files / ".well-known").mkdir()
        for name in ("a.js", ".env", ".git/config", ".git/x/y", ".well-known/z", "down.html"):
            (files / name).write_text(f"this is {name} " * 100)
        (files / "a.js.gz").write_bytes(gzip.compress(b"precompressed"))
        types = directive("default_type", raw("text/plain"))
        everything = directive("include", (f"{directory}/conf.d/", raw("*.conf")))
        with ExitStack() as stack:
            for d in (moved(text, directory, port) for text in texts):
                write(d, directory)
                if answering:
                    stack.enter_context(application(directory / d.name))
            stack.enter_context(server.running(directory, [], http=[types, everything], expected=expected))
            yield Site(directory, port)


NO_FILE = r"No such file|is forbidden"


def test_static_files_are_asked_for_again_unless_they_never_change() -> None:
    with running(f'{WEB}{FILES}immutable = ["/static/hashed/"]\n') as site:
        plain, hashed = site.ask("/static/a.js"), site.ask("/static/hashed/a.js")
        again = site.ask("/static/hashed/a.js", If_None_Match=hashed.headers["ETag"])
    assert plain.headers["Cache-Control"] == "no-cache"
    assert (plain.status, hashed.status, again.status) == (200, 200, 304)
    assert hashed.headers["Cache-Control"] == again.headers["Cache-Control"] == "public, max-age=31536000, immutable"


def test_an_age_is_that_of_all_static_files_and_of_no_error() -> None:
    with running(f"{WEB}{FILES}static_age = 60\n", expected=NO_FILE) as site:
        assert site.ask("/static/a.js").headers["Cache-Control"] == "public, max-age=60"
        missing = site.ask("/static/missing.js")
    assert (missing.status, missing.headers["Cache-Control"]) == (404, None)


def test_static_files_keep_the_headers_of_the_site_and_add_theirs_once() -> None:
    with running(WEB + FILES) as site:
        file, other = site.ask("/static/a.js").headers, site.ask("/").headers
    assert (file["X-Web"], file["X-Content-Type-Options"]) == ("web", "nosniff")
    assert (other["X-Web"], other["X-Content-Type-Options"], other["Cache-Control"]) == ("web", None, None)


def test_a_header_of_ones_own_takes_the_place_of_ours() -> None:
    own = WEB.replace('X-Web = "web"', 'cache-control = "private"')
    with running(own + FILES) as site:
        assert site.ask("/static/a.js").headers.get_all("Cache-Control") == ["private"]


@pytest.mark.parametrize("headers", ["", 'headers = { X-Zoo = "zoo" }\n'])
def test_files_of_who_joins_a_site_have_their_headers_and_the_right_others(headers: str) -> None:
    joined = f'{JOINED}{headers}static = {{ "/zoo/static/" = "DIRECTORY/files" }}\n'
    with running(WEB, joined) as site:
        file = site.ask("/zoo/static/a.js").headers
    assert (file["X-Content-Type-Options"], file["Cache-Control"]) == ("nosniff", "no-cache")
    assert (file["X-Web"], file["X-Zoo"]) == ((None, "zoo") if headers else ("web", None))


def test_a_malformed_request_is_no_reason_to_complain() -> None:
    with running(WEB + FILES) as site:
        assert site.ask("/", Host="a b").status == 400


def test_hidden_files_are_not_served() -> None:
    with running(WEB + FILES) as site:
        hidden = ("/static/.env", "/static/.git/config", "/static/.git/x/y", "/static/hashed/.env", "/static/%2eenv")
        assert [site.ask(path).status for path in hidden] == [404] * 5
        assert site.ask("/static/.well-known/z").status == 200


def test_a_hidden_prefix_is_served_when_it_is_asked_for() -> None:
    with running(f'{WEB}static = {{ "/.well-known/" = "DIRECTORY/files", "/.x+(y)/" = "DIRECTORY/files" }}\n') as site:
        assert site.ask("/.well-known/a.js").status == site.ask("/.x+(y)/a.js").status == 200
        assert site.ask("/.well-known/.env").status == site.ask("/.x+(y)/.env").status == 404


def test_a_file_compressed_before_is_sent_to_who_takes_it() -> None:
    with running(f"{WEB}{FILES}precompressed = true\n") as site:
        packed, plain = site.ask("/static/a.js", Accept_Encoding="gzip"), site.ask("/static/a.js")
    assert gzip.decompress(packed.body) == b"precompressed"
    assert plain.body.startswith(b"this is a.js")
    assert packed.headers["Vary"] == plain.headers["Vary"] == "Accept-Encoding"


def packed(site: Site, path: str) -> bool:
    answer = site.ask(path, Accept_Encoding="gzip", Via="1.1 outer")
    assert answer.headers["Content-Encoding"] in ("gzip", None)
    return answer.headers["Content-Encoding"] == "gzip"


def test_text_is_compressed_and_nothing_else() -> None:
    with running(WEB) as site:
        assert all(packed(site, f"/long?{kind}") for kind in ("text/html", "application/json", "image/svg+xml"))
        assert not any(packed(site, f"/long?{kind}") for kind in ("image/png", "text/event-stream"))
        assert not packed(site, "/short")
        assert site.ask("/long?text/html").headers["Vary"] == "Accept-Encoding"


def test_nothing_is_compressed_when_it_is_off() -> None:
    with running(f"{WEB}gzip = false\n") as site:
        assert not packed(site, "/long?text/html")


def test_what_is_streamed_arrives_at_once_though_compressed() -> None:
    Application.released.clear()
    with running(WEB) as site:
        connection = site.connection()
        try:
            connection.request("GET", "/stream", headers={"Accept-Encoding": "gzip"})
            answer = connection.getresponse()
            assert answer.headers["Content-Encoding"] == "gzip"
            unpacked = zlib.decompressobj(31)
            said = b""
            while said != b"first":
                said += unpacked.decompress(answer.read1(100))
            Application.released.set()
            assert unpacked.decompress(answer.read()) == b"second"
        finally:
            Application.released.set()
            connection.close()


INTERNAL = 'internal = { "/private" = "DIRECTORY/files" }\n'


def test_an_internal_file_is_sent_by_the_application_alone() -> None:
    with running(WEB + INTERNAL, expected=NO_FILE) as site:
        assert site.ask("/file?/private/a.js").body.startswith(b"this is a.js")
        assert site.ask("/private/a.js").status == 404


def test_an_internal_file_of_who_joins_a_site() -> None:
    with running(WEB, f'{JOINED}internal = {{ "/zoo/private/" = "DIRECTORY/files" }}\n') as site:
        assert site.ask("/zoo/file?/zoo/private/a.js").body.startswith(b"this is a.js")
        assert site.ask("/zoo/private/a.js").status == 404


def maintenance(page: str = "down.html") -> str:
    return f'maintenance = {{ page = "DIRECTORY/files/{page}", switch = "DIRECTORY/the switch", retry_after = 77 }}\n'


DOWN = r"connect\(\) to|while connecting"


def assert_down(answer: Answer, status: int) -> None:
    assert (answer.status, answer.headers["Retry-After"]) == (status, "77")
    assert answer.body.startswith(b"this is down.html")
    assert answer.headers["Content-Type"] == "text/html"


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_the_switch_shows_the_page_and_files_are_served_all_the_same(method: str) -> None:
    with running(f'{WEB}{FILES}streams = ["/ws/"]\n{maintenance()}') as site:
        assert site.ask("/", method).status == 200
        (site.directory / "the switch").touch()
        for path in ("/", "/x", "/ws", "/ws/x"):
            assert_down(site.ask(path, method), 503)
        assert site.ask("/static/a.js").status == 200
        assert site.ask("/x").headers["X-Web"] == "web"
        (site.directory / "the switch").unlink()
        assert (answer := site.ask("/", method)).status == 200
        assert answer.headers["Retry-After"] is None


def test_the_page_is_shown_when_no_instance_answers() -> None:
    with running(WEB + maintenance(), answering=False, expected=DOWN) as site:
        assert_down(site.ask("/"), 502)
        assert_down(site.ask("/x", "POST"), 502)


def test_an_error_of_the_application_is_its_own() -> None:
    with running(WEB + maintenance()) as site:
        answer = site.ask("/503")
    assert (answer.status, answer.body, answer.headers["Retry-After"]) == (503, b"the application's own", None)


def test_a_page_that_is_missing_leaves_the_status_as_it_is() -> None:
    with running(WEB + maintenance("missing.html")) as site:
        (site.directory / "the switch").touch()
        assert (answer := site.ask("/")).status == 503
        assert answer.headers["Retry-After"] == "77"


@pytest.mark.parametrize("headers", ["", 'headers = { X-Zoo = "zoo" }\n'])
def test_the_page_of_who_joins_a_site_is_shown_below_its_prefix(headers: str) -> None:
    with running(WEB, JOINED + headers + maintenance()) as site:
        (site.directory / "the switch").touch()
        assert_down(site.ask("/zoo/"), 503)
        assert site.ask("/").status == 200


def test_the_page_of_a_site_is_that_of_who_joins_it() -> None:
    with running(WEB + maintenance(), JOINED, answering=False, expected=DOWN) as site:
        assert_down(site.ask("/zoo/"), 502)


LIMIT = "rate_limit = 1\nrate_burst = 2\n"
LIMITED = "limiting requests"


def test_requests_beyond_the_limit_are_refused_and_files_are_not_counted() -> None:
    with running(WEB + FILES + LIMIT, expected=LIMITED) as site:
        assert [site.ask("/static/a.js").status for _ in range(10)] == [200] * 10
        counted = [site.ask("/").status for _ in range(10)]
        assert counted[:3] == [200] * 3
        assert 429 in counted[3:]
        assert site.ask("/static/a.js").status == 200


def test_the_limit_of_who_joins_a_site_is_for_it_alone() -> None:
    joined = f'{JOINED}{LIMIT}static = {{ "/zoo/static/" = "DIRECTORY/files" }}\n'
    with running(WEB, joined, expected=LIMITED) as site:
        assert 429 in [site.ask("/zoo/").status for _ in range(10)]
        assert {site.ask(path).status for path in ("/", "/zoo/static/a.js") for _ in range(9)} == {200}
        assert site.ask("/zoo").status == 301


def test_a_limit_without_a_burst_refuses_the_second_at_once() -> None:
    with running(WEB + "rate_limit = 1\nrate_burst = 0\n", expected=LIMITED) as site:
        assert [site.ask("/").status for _ in range(2)] == [200, 429]
