"""Several deployments on one host: what they cannot both be or have, told at its place in the later file."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

import pytest

from aiosystemd import scope
from aiosystemd.build import attempt, build_all
from aiosystemd.errors import ProblemsError
from aiosystemd.host import Host

JOIN = 'proxy.site = "a"\nproxy.prefix = "/api/"'
TLS = 'proxy.tls = { certificate = "/a", key = "/b", listen = ["%s"] }'
HTTP3 = 'proxy.tls = { certificate = "/a", key = "/b", listen = ["%s"], http3 = true%s }'
OTHER = 'proxy.server_names = ["other.example"]'


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a directory of its own, on a host whose deployment files are in another."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "host").mkdir()
    monkeypatch.setattr(scope, "_current", replace(scope.SYSTEM, files=PurePosixPath(tmp_path, "host")))
    return tmp_path


def write(name: str, more: str = "", file: str = "") -> str:
    path = Path(file or f"{name}.toml")
    path.write_text(f'name = "{name}"\napp = "app:app"\n{more}\n')
    return str(path)


def found(names: Sequence[str]) -> list[str]:
    host = Host(nginx=(1, 26))
    return [str(problem) for each in attempt(names, host) for problem in each.problems]


def of_two(first: str, second: str) -> list[str]:
    """Return what is wrong with deployments ``a`` and ``b`` together; each is fine alone, apart from warnings."""
    for more in (first, second):
        (alone,) = attempt([write("c", more)], Host())
        assert not alone.failed
    problems = found([write("a", first), write("b", second)])
    assert all(problem.startswith("b.toml:") for problem in problems)
    return [problem.removeprefix("b.toml:") for problem in problems]


@pytest.mark.parametrize(
    ("first", "second", "problem"),
    [
        ("", "", " the machine's host name on 80 is claimed by a.toml too (set proxy.server_names in one of them)"),
        (
            'proxy.server_names = ["X.example", "y.example"]',
            'proxy.server_names = ["z.example", "x.Example"]',
            "3:36: the server name x.example on 80 is claimed by a.toml too (change it in one of them)",
        ),
        (
            'proxy.listen = ["0.0.0.0:80"]',
            'proxy.listen = ["*:80"]',
            "3:1: the machine's host name on 80 is claimed by a.toml too (set proxy.server_names in one of them)",
        ),
        (
            'proxy.listen = ["[0::0]:81"]',
            'proxy.listen = ["[::]:81"]',
            "3:1: the machine's host name on [::]:81 is claimed by a.toml too",
        ),
        (
            "proxy.default_server = true",
            f"{OTHER}\nproxy.default_server = true",
            "4:24: the default server on 80 is claimed by a.toml too",
        ),
        (
            "listen.port = 8000",
            f"{OTHER}\nlisten.port = 8003",
            "4:15: an instance listens on 127.0.0.1:8003, and an instance of a.toml (change it in one of them)",
        ),
        (
            'listen = { port = 8000, address = "::" }',
            f"{OTHER}\nlisten.port = 8003",
            "4:15: an instance listens on 127.0.0.1:8003, and an instance of a.toml",
        ),
        (
            "listen.port = 8000",
            f'{OTHER}\nproxy.listen = ["*:8001"]',
            "4:17: nginx without TLS listens on *:8001, and an instance of a.toml",
        ),
        (
            TLS % "*:443",
            f'{OTHER}\nproxy.listen = ["80", "0.0.0.0:443"]',
            "4:23: nginx without TLS listens on 0.0.0.0:443, and nginx with TLS of a.toml",
        ),
        (
            'listen.directory = "/run/x"',
            f'{OTHER}\nlisten.directory = "/var/run//x/"',
            "4:20: the directory /run/x of sockets is claimed by a.toml too",
        ),
        (
            'listen.directory = "/run/b"',
            OTHER,
            "1:8: the directory /run/b of sockets is claimed by a.toml too",
        ),
        (
            'proxy.static = { "/api" = "/srv/a" }',
            JOIN,
            "4:16: the path prefix /api/ of a is claimed by a.toml too",
        ),
        ('proxy.internal = { "/api" = "/srv" }', JOIN, "4:16: the path prefix /api/ of a is claimed by a.toml too"),
        ('proxy.streams = ["/api/"]', JOIN, "4:16: the path prefix /api/ of a is claimed by a.toml too"),
        (
            'proxy.kind = "none"',
            JOIN,
            '3:14: a has no site to join: its proxy.kind is "none" (a.toml) (set it to nginx there, o',
        ),
        (
            'proxy.kind = "haproxy"',
            'proxy = { kind = "haproxy", listen = ["*:80"] }',
            "3:39: HAProxy's address 80 is claimed by a.toml too (give each site an address of its own",
        ),
        (
            HTTP3 % ("443", ""),
            f"{OTHER}\n{HTTP3 % ('*:443', '')}",
            "4:75: reuseport on 443 is claimed by a.toml too (set proxy.tls.reuseport = false in one of them)",
        ),
        (
            'proxy.kind = "haproxy"',
            'proxy.listen = ["127.0.0.1:80"]',
            "3:17: nginx without TLS listens on 127.0.0.1:80, and haproxy without TLS of a.toml",
        ),
    ],
)
def test_two_deployments_cannot_claim_the_same(first: str, second: str, problem: str) -> None:
    assert [each[: len(problem)] for each in of_two(first, second)] == [problem]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("", OTHER),
        ("", JOIN),
        ("", 'proxy.listen = ["81"]'),
        ("", 'proxy.listen = ["127.0.0.1:80"]'),
        ("", 'proxy.kind = "none"'),
        ("", 'proxy = { kind = "haproxy", listen = ["81"] }'),
        ('proxy.kind = "haproxy"', 'proxy = { kind = "haproxy", listen = ["81"] }'),
        ('proxy.static = { "/api/static/" = "/srv/a" }\nproxy.streams = ["/"]', JOIN),
        ("listen.port = 8000", f"{OTHER}\nlisten.port = 8004"),
        ("listen.port = 8000", f'{OTHER}\nlisten = {{ port = 8000, address = "::1" }}'),
        ("listen.port = 8000", f'{OTHER}\nproxy.listen = ["[::]:8000"]'),
        (TLS % "443", f"{OTHER}\n{TLS % '443'}"),
        (TLS % "443", f'{OTHER}\nproxy.listen = ["192.0.2.1:443"]'),
        (HTTP3 % ("443", ""), f"{OTHER}\n{HTTP3 % ('443', ', reuseport = false')}"),
        (HTTP3 % ("443", ""), f"{OTHER}\n{HTTP3 % ('8443', '')}"),
        (HTTP3 % ("443", ""), f"{OTHER}\n{TLS % '443'}"),
        ("proxy.default_server = true", f'{OTHER}\nproxy.default_server = true\nproxy.listen = ["81"]'),
    ],
)
def test_two_deployments_share_what_can_be_shared(first: str, second: str) -> None:
    assert of_two(first, second) == []


def test_two_files_cannot_describe_the_same_deployment() -> None:
    again = write("a", OTHER, "b.toml")
    assert 'b.toml:1:8: the name "a" is claimed by a.toml too (change it in one of them)' in found([write("a"), again])


def test_who_joins_a_site_has_none_to_join() -> None:
    names = [write("z"), write("a", 'proxy.site = "z"\nproxy.prefix = "/a/"'), write("b", JOIN)]
    assert found(names) == [
        'b.toml:3:14: a has no site of its own, it joins z (a.toml) (set proxy.site = "z")',
    ]


def test_two_cannot_join_a_site_at_one_prefix() -> None:
    names = [write("a"), write("b", JOIN), write("c", JOIN.replace("/api/", "/api"))]
    assert found(names) == [
        "c.toml:4:16: the path prefix /api/ of a is claimed by b.toml too (change it in one of them)"
    ]


def test_prefixes_within_one_another_are_fine() -> None:
    assert found([write("a"), write("b", JOIN), write("c", JOIN.replace("/api/", "/api/v2/"))]) == []


def test_who_joins_has_no_addresses() -> None:
    streams = f'{JOIN}\nproxy.streams = ["/api/"]'
    assert found([write("a"), write("b", streams), write("c", JOIN.replace("api", "c"))]) == []


def test_a_site_that_nobody_knows_is_a_warning() -> None:
    (build,) = build_all([write("b", JOIN)], Host())
    (warning,) = build.warnings
    assert str(warning).startswith("b.toml:3:14: warning: no deployment a is known, so nobody would reach this one (")


def test_a_site_of_the_host_is_known() -> None:
    write("a", file="host/a.toml")
    assert found([write("b", JOIN)]) == []
    write("a", 'proxy.streams = ["/api"]', file="host/a.toml")
    assert found([write("b", JOIN)])[0].startswith("b.toml:4:16: the path prefix /api/ of a is claimed by /")


@pytest.mark.parametrize("text", ["nonsense", 'name = "another"\napp = "a:a"\n'])
def test_a_file_of_the_host_that_is_wrong_is_no_site(text: str) -> None:
    Path("host/a.toml").write_text(text)
    assert "no deployment a is known" in found([write("b", JOIN)])[0]


def test_a_directory_stands_for_its_files_in_order() -> None:
    Path("many").mkdir()
    for name in ("b", "a", "c"):
        write(name, f'proxy.server_names = ["{name}.example"]', f"many/{name}.toml")
    for other in (".b.toml", "b.toml~", "readme.md", "b.toml.orig"):
        Path("many", other).write_text("nonsense")
    assert [str(each.file) for each in build_all(["many"], Host())] == ["many/a.toml", "many/b.toml", "many/c.toml"]


def test_a_file_that_is_named_twice_is_one() -> None:
    Path("many").mkdir()
    write("a", file="many/a.toml")
    assert [str(each.file) for each in build_all(["many/a.toml", "many", "./many/"], Host())] == ["many/a.toml"]


def test_a_name_comes_before_a_directory() -> None:
    Path("a").mkdir()
    write("a", file="host/a.toml")
    assert [each.file.name for each in build_all(["a"], Host())] == ["a.toml"]
    with pytest.raises(ProblemsError, match="a: no deployment file is in it"):
        build_all(["./a"], Host())


def test_everything_that_is_wrong_is_told_at_once() -> None:
    Path("empty").mkdir()
    write("b", "instances = 0")
    problems = found([write("a"), "empty", "b.toml", "missing.toml", write("c")])
    assert [problem.partition(":")[0] for problem in problems] == ["empty", "b.toml", "missing.toml", "c.toml"]


def test_a_directive_is_refused_where_it_stands() -> None:
    text = 'service.directives.RestartMode = "direct"'
    assert found([write("a", text)]) == [
        "a.toml:3:34: service.directives: systemd 252 does not know RestartMode= (since 254)"
    ]
    assert build_all([write("a", text)], Host(systemd=254))


def test_http3_without_reuseport_anywhere_is_warned_of() -> None:
    alone = write("b", HTTP3 % ("*:443", ", reuseport = false"))
    what = "b.toml:3:93: warning: no deployment that is known says reuseport on 443 (check it together with the fi"
    assert [problem[: len(what)] for problem in found([alone])] == [what]
    assert found([alone, write("a", f"{OTHER}\n{HTTP3 % ('443', '')}")]) == []
