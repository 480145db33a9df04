"""Two deployments behind one server name, in a real nginx: who is asked for what, and with which settings."""

import json
import socketserver
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path, PurePosixPath

import pytest

from aiosystemd.build import build
from aiosystemd.host import Host
from aiosystemd.load import parse, validate
from aiosystemd.model import Deployment
from aiosystemd.plan import plan, render
from aiosystemd.render.nginx import directive, raw
from aiosystemd.up.place import place
from tests.render import server

WEB = """
name = "web"
app = "web:app"
instances = 1

[proxy]
server_names = ["www.example.com"]
static = { "/static/" = "DIRECTORY/web", "/api/shared/" = "DIRECTORY/web" }
streams = ["/ws"]
body_size = 10
headers = { X-Web = "web" }
"""

API = """
name = "zoo"
app = "zoo:app"
instances = 1

[proxy]
site = "web"
prefix = "/api"
"""


class _Application(BaseHTTPRequestHandler):
    """Answers with its name and what it was asked."""

    def do_GET(self) -> None:
        said = json.dumps({"name": Path(str(self.server.server_address)).parent.name, "path": self.path})
        self.send_response(200)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said.encode())

    def address_string(self) -> str:
        return "unix"

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def application(directory: Path) -> Iterator[None]:
    directory.mkdir()
    with socketserver.ThreadingUnixStreamServer(str(directory / "1.sock"), _Application) as serving:
        thread = threading.Thread(target=serving.serve_forever)
        thread.start()
        try:
            yield
        finally:
            serving.shutdown()
            thread.join()


def deployment(text: str, directory: Path) -> Deployment:
    d, warnings = validate(parse("x.toml", text.replace("DIRECTORY", str(directory))))
    assert warnings == ()
    sockets = d.listen.model_copy(update={"directory": str(directory / d.name)})
    # Not written for one that joins: it has no address of its own.
    here = {} if d.proxy.site else {"listen": (f"unix:{directory}/site.sock",)}
    return d.model_copy(update={"listen": sockets, "proxy": d.proxy.model_copy(update=here)})


def write(d: Deployment, directory: Path) -> None:
    for path, rendered in render(plan(d, Host(), "x.toml")).items():
        if path.is_relative_to("/etc/nginx"):
            file = directory / path.relative_to("/etc/nginx")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(rendered.content)


@contextmanager
def running(*texts: str) -> Iterator[server.Server]:
    """Run nginx with the sites of deployments, and an application behind each."""
    with server.scratch() as directory, ExitStack() as stack:
        for name in ("web", "zoo"):
            (directory / name).mkdir()
            (directory / name / "file").write_text(f"file of {name}")
            (directory / name).rename(directory / f"{name}.files")
        for text in texts:
            d = deployment(text.replace("DIRECTORY/web", "DIRECTORY/web.files"), directory)
            stack.enter_context(application(directory / d.name))
            write(d, directory)
        everything = directive("include", (f"{directory}/conf.d/", raw("*.conf")))
        stack.enter_context(server.running(directory, [], http=[everything]))
        yield server.Server(directory / "site.sock")


def asked(nginx: server.Server, path: str) -> tuple[str, str]:
    answer = nginx.get(path, host="www.example.com")
    assert answer.status == "200", answer
    return json.loads(answer.body)["name"], json.loads(answer.body)["path"]


def test_each_prefix_reaches_its_own_application_with_the_whole_path() -> None:
    with running(WEB, API) as nginx:
        for path in ("/", "/apis", "/apis/x", "/ws", "/ws/x", "/x/api/"):
            assert asked(nginx, path) == ("web", path)
        for path in ("/api/", "/api/x", "/api/ws", "/api/x/../y"):
            assert asked(nginx, path) == ("zoo", path)
        assert nginx.get("/api", host="www.example.com").status == "301"


def test_a_site_works_alone_before_and_after_others_join_it() -> None:
    with running(WEB) as nginx:
        assert asked(nginx, "/api/x") == ("web", "/api/x")


def test_files_are_served_for_the_one_that_names_them() -> None:
    api = f'{API}static = {{ "/api/static" = "DIRECTORY/zoo.files" }}\n'
    with running(WEB, api) as nginx:
        assert nginx.get("/static/file", host="www.example.com").body == "file of web"
        assert nginx.get("/api/shared/file", host="www.example.com").body == "file of web"
        assert nginx.get("/api/static/file", host="www.example.com").body == "file of zoo"


def test_headers_of_a_site_are_those_of_who_joins_it_unless_it_has_its_own() -> None:
    with running(WEB, API) as nginx:
        assert nginx.get("/api/", host="www.example.com").headers["X-Web"] == "web"
    with running(WEB, f'{API}headers = {{ X-Zoo = "zoo" }}\n') as nginx:
        own, others = (nginx.get(path, host="www.example.com").headers for path in ("/api/", "/"))
    assert ("X-Zoo" in own, "X-Web" in own) == (True, False)
    assert ("X-Zoo" in others, "X-Web" in others) == (False, True)


@pytest.mark.parametrize("streams", ["/api/", "/api", "/api/events"])
def test_a_stream_may_be_part_of_what_is_joined_or_all_of_it(streams: str) -> None:
    with running(WEB, f'{API}streams = ["{streams}"]\n') as nginx:
        for path in ("/api/", "/api/x", "/api/events", "/api/events/x"):
            assert asked(nginx, path) == ("zoo", path)


def locations(more: str) -> str:
    d, _ = validate(parse("x.toml", API + more))
    return render(plan(d, Host(), "x.toml"))[PurePosixPath("/etc/nginx/aiosystemd/web/zoo.conf")].content.decode()


def test_a_stream_of_everything_needs_no_path_of_its_own() -> None:
    text = locations('streams = ["/api/"]\nstream_timeout = 77\n')
    assert text.count("proxy_read_timeout 77s;") == 1
    assert "location = " not in text


def test_limits_are_those_of_who_joins() -> None:
    text = locations("body_size = 5\n[timeouts]\nrequest = 7\n")
    assert "    client_max_body_size 5;\n" in text
    assert "    proxy_read_timeout 7s;\n" in text


def test_up_takes_files_from_where_the_application_is(tmp_path: Path) -> None:
    file = tmp_path / "zoo.toml"
    proxy = API.partition("[proxy]")[2].partition("site")[0]
    maintenance = 'maintenance = { page = "/nowhere/zoo/down.html", switch = "/nowhere/zoo/switch" }\n'
    internal = 'internal = { "/private/" = "/nowhere/zoo/private" }\n'
    top = API.partition("[proxy]")[0]
    file.write_text(f'{top}directory = "/nowhere/zoo"\n[proxy]{proxy}{maintenance}{internal}')
    with place(build(str(file), Host()), Host(), 8080, "nginx") as here:
        moved = here.deployment.proxy
    assert moved.maintenance
    assert (moved.maintenance.page, moved.maintenance.switch) == (f"{tmp_path}/down.html", f"{tmp_path}/switch")
    assert moved.internal == {"/private/": f"{tmp_path}/private"}


def test_up_shows_who_joins_a_site_alone(tmp_path: Path) -> None:
    file = tmp_path / "zoo.toml"
    file.write_text(API)
    with place(build(str(file), Host()), Host(), 8080, "nginx") as here:
        text = render(plan(here.deployment, Host(), "x.toml"))[PurePosixPath("/etc/nginx/conf.d/zoo.conf")].content
        assert b"listen 127.0.0.1:8080 default_server;" in text
        assert b"location / {" in text
        assert here.deployment.health.path == "/api/"
        assert any("without the site of web" in note for note in here.notes)
