"""Whom nginx answers and what it believes: names, addresses, proxies in front of it; and what gixy thinks of it all."""

import http.client
import json
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from aiosystemd.render.nginx import block, directive, raw, render
from tests.test_nginx_serving import JOINED, NAME, WEB, running
from tests.tools import own_command
from tests.up.program import free_ports


def test_a_name_that_is_not_ours_does_not_reach_the_application() -> None:
    with running(WEB) as site:
        for name in ("evil.test", "example.org", "www.example.com.evil.test", "192.0.2.1", "xwww.example.com"):
            assert site.ask("/", Host=name).status == 421
        for name in (NAME, NAME.upper(), f"{NAME}:8080", f"{NAME}.", "a.example.org", "a.b.example.org"):
            assert site.ask("/", Host=name).status == 200


@pytest.mark.parametrize("names", ["", WEB.partition("[proxy]\n")[2].splitlines()[0]])
def test_the_machine_itself_may_say_localhost(names: str) -> None:
    text = f"{WEB.partition('[proxy]')[0]}[proxy]\n{names}\n"
    with running(text) as site:
        for name in ("localhost", "localhost:8080", "127.0.0.1", "[::1]:80"):
            assert site.ask("/", Host=name).status == 200


def test_without_names_it_is_that_of_the_machine() -> None:
    with running(WEB.partition("[proxy]")[0]) as site:
        assert site.ask("/", Host=socket.gethostname()).status == 200
        assert site.ask("/", Host=f"x{socket.gethostname()}").status == 421


def test_a_name_may_be_a_word_of_nginx() -> None:
    with running(WEB.replace(f'"{NAME}"', '"default", "hostnames", "include", "volatile"')) as site:
        assert {site.ask("/", Host=name).status for name in ("default", "hostnames", "include", "volatile")} == {200}
        assert site.ask("/", Host=NAME).status == 421


def test_the_default_server_takes_every_name() -> None:
    with running(f"{WEB}default_server = true\n") as site:
        assert site.ask("/", Host="evil.test").status == 200


def test_a_redirect_leads_to_our_names_only(tmp_path: Path) -> None:
    new = ("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=x")
    paths = ("-keyout", f"{tmp_path}/key", "-out", f"{tmp_path}/certificate")
    subprocess.run(("openssl", *new, *paths), check=True, capture_output=True)
    tls = f'tls = {{ certificate = "{tmp_path}/certificate", key = "{tmp_path}/key" }}\n'
    with running(WEB + tls) as site:
        assert site.ask("/x").headers["Location"] == f"https://{NAME}/x"
        assert site.ask("/x", Host="evil.test").status == 421


OUTER = {"X_Forwarded_For": "6.6.6.6, 192.0.2.7, 10.0.0.9", "X_Forwarded_Proto": "https"}


def seen(more: str, headers: Mapping[str, str]) -> tuple[str, str]:
    """Return what the application is told of a client that comes over TCP."""
    with running(WEB + more, port=free_ports()) as site:
        said = json.loads(site.ask("/", **headers).body)
    return said["X-Forwarded-For"], said["X-Forwarded-Proto"]


def test_a_trusted_proxy_is_believed_and_what_it_was_told_is_not() -> None:
    assert seen('trusted = ["localhost", "10.0.0.0/8", "127.0.0.0/8"]\n', OUTER) == ("192.0.2.7", "https")


def test_any_other_client_is_not_believed() -> None:
    assert seen('trusted = ["10.0.0.0/8"]\n', OUTER) == ("127.0.0.1", "http")
    assert seen("", OUTER) == ("127.0.0.1", "http")


def test_a_scheme_that_is_none_is_not_believed() -> None:
    assert seen('trusted = ["localhost"]\n', {**OUTER, "X_Forwarded_Proto": "gopher"})[1] == "http"


def test_the_scheme_reaches_who_joins_a_site_and_trusts_the_same() -> None:
    trusted = 'trusted = ["localhost"]\n'
    with running(WEB + trusted, JOINED + trusted, port=free_ports()) as site:
        said = json.loads(site.ask("/zoo/", **OUTER).body)
    assert (said["X-Forwarded-For"], said["X-Forwarded-Proto"]) == ("10.0.0.9", "https")


def test_who_says_localhost_from_elsewhere_is_a_stranger() -> None:
    with running(WEB, port=free_ports()) as site:
        for source, status in (("127.0.0.1", 200), ("127.0.0.2", 421)):
            connection = http.client.HTTPConnection("127.0.0.1", site.port, 20, (source, 0))
            connection.request("GET", "/", headers={"Host": "localhost", "Connection": "close"})
            assert connection.getresponse().status == status
            connection.close()


GIXY_EXCEPTIONS = {
    # Its own stat(2) for each page, of which there are few: it keeps a 503 from becoming a 404.
    ("try_files_is_evil_too", "aiosystemd-maintenance"),
    # A promise to browsers that nobody can take back, about names that others may serve: for proxy.headers to give.
    ("hsts_header", ""),
}


@pytest.mark.parametrize("case", sorted(Path(__file__).parent.glob("golden/*/etc/nginx")), ids=lambda p: p.parts[-3])
def test_gixy_finds_nothing(case: Path, tmp_path: Path) -> None:
    sites, joined = (sorted(case.glob(pattern)) for pattern in ("conf.d/*.conf", "aiosystemd/*/*.conf"))
    around = [directive("include", str(file)) for file in sites]
    if joined:
        inside = (directive("server_tokens", raw("off")), *(directive("include", str(file)) for file in joined))
        around.append(block("server", body=inside))
    file = tmp_path / "nginx.conf"
    file.write_text(render([block("events", body=()), block("http", body=around)]))
    command = (own_command("gixy"), "-f", "json", str(file))
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = [
        (each["plugin"], each["summary"], each["config"])
        for each in json.loads(done.stdout)
        if not any(each["plugin"] == plugin and words in each["config"] for plugin, words in GIXY_EXCEPTIONS)
    ]
    assert found == [], done.stderr
