"""Reading a deployment file: what is accepted, and what cannot even be read."""

import os
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from aiosystemd import load, scope
from aiosystemd.errors import Location, Problem, ProblemsError
from aiosystemd.model import Deployment, Table, descriptions
from tests.test_golden import CASES, UNITS
from tests.unprivileged import open_to_others, unprivileged


def validated(more: str = "") -> Deployment:
    return load.validate(load.parse("shop.toml", f'name = "shop"\napp = "shop:app"\n{more}'))[0]


def refused(file: Path) -> Problem:
    with pytest.raises(ProblemsError) as caught:
        load.load(file)
    (problem,) = caught.value.problems
    return problem


@pytest.mark.parametrize("file", [*CASES, UNITS / "example.toml"], ids=lambda file: file.stem)
def test_a_good_file_has_no_problems(file: Path) -> None:
    deployment, warnings = load.load(file)
    assert deployment.name
    assert all(each.what.startswith("gunicorn says that it is ready") for each in warnings)  # of each such file


def test_what_is_not_written_is_the_default() -> None:
    assert validated() == Deployment(name="shop", app="shop:app")


@pytest.mark.parametrize(
    ("key", "written", "read"),
    [
        ("directory", '"/srv//a/./b/"', "/srv/a/b"),
        ("directory", '"//srv"', "/srv"),
        ("directory", "'/srv/it\"s {50%} \\ #;'", '/srv/it"s {50%} \\ #;'),
        ("python", '"/srv/a b/bin/python3.11"', "/srv/a b/bin/python3.11"),
        ("arguments", '["", "\\n\\t\\u001b", "a b"]', ("", "\n\t\x1b", "a b")),
        ("instances", '"auto"', "auto"),
        ("instances", "1000", 1000),
        ("service.memory_max", '"512M"', 512 << 20),
        ("service.memory_max", '" 2 GiB "', 2 << 30),
        ("service.memory_max", '"1TB"', 1 << 40),
        ("service.memory_max", '"100"', 100),
        ("service.memory_max", "100", 100),
        ("service.environment", '{ A = "a\\n\\tb" }', {"A": "a\n\tb"}),
        ("service.environment_files", '["-/etc//a", "/b/"]', ("-/etc/a", "/b")),
        ("service.directives", '{ Nice = 5, A = true, B = ["x", ""] }', {"Nice": 5, "A": True, "B": ("x", "")}),
        ("timeouts.request", "12", 12.0),
        ("timeouts.request", "0.001", 0.001),
        ("timeouts.watchdog", "0", 0.0),
        ("timeouts.stop", "604_800", 604800.0),
        (
            "sandbox.addresses",
            '["192.0.2.1", "2001:DB8::/32", "localhost"]',
            ("192.0.2.1/32", "2001:db8::/32", "localhost"),
        ),
        ("sandbox.max_exposure", "0", 0.0),
        ("proxy.listen", '["80", "*:83", "[::1]:81", "localhost:82"]', ("80", "*:83", "[::1]:81", "localhost:82")),
        ("proxy.server_names", '["*.example.com", "_", "a-b", "-a-"]', ("*.example.com", "_", "a-b", "-a-")),
        ("proxy.headers", '{ X-A = "" }', {"X-A": ""}),
        ("listen.mode", '"660"', "660"),
        ("health.path", '"/a%20b"', "/a%20b"),
    ],
)
def test_a_value_is_read_as_it_is_meant(key: str, written: str, read: object) -> None:
    found: Any = validated(f"{key} = {written}\n")
    for part in key.split("."):
        found = getattr(found, part)
    assert found == read
    assert type(found) is type(read)


def test_an_application_may_be_called_anything_that_python_can_import() -> None:
    text = 'name = "shop"\napp = "Überall.main:erzeugen.jetzt"\n'
    assert load.validate(load.parse("shop.toml", text))[0].app == "Überall.main:erzeugen.jetzt"


def test_a_number_of_instances_is_no_boolean() -> None:
    with pytest.raises(ProblemsError):
        validated("instances = true\n")
    assert validated("service.directives = { A = 1, B = true }\n").service.directives == {"A": 1, "B": True}


def test_a_deployment_cannot_be_changed() -> None:
    def tables(table: Table) -> list[Table]:
        inner = [value for name in type(table).model_fields if isinstance(value := getattr(table, name), Table)]
        return [table, *(each for table in inner for each in tables(table))]

    every = tables(validated('proxy.tls = { certificate = "/a", key = "/b" }'))
    assert len(every) == 9
    for table in every:
        with pytest.raises(ValueError, match="frozen"):
            setattr(table, next(iter(type(table).model_fields)), None)


def test_what_follows_from_other_keys() -> None:
    assert (validated().idle, validated().drain, validated().stop) == (5, 40, 50)
    short = validated("timeouts.request = 30.1\nproxy.keepalive = 5.2\n")
    assert (short.drain, short.stop) == (40.3, 50.3)
    alone = validated('proxy.kind = "none"\n')
    assert (alone.idle, alone.drain) == (0, 35)
    assert validated("timeouts = { drain = 60, stop = 90 }\n").stop == 90
    assert validated().socket_directory == "/run/shop"
    assert validated().body_size == 1 << 20
    assert validated("server.body_limit = 5\n").body_size == 5
    assert validated("server.body_limit = 5\nproxy.body_size = 4\n").body_size == 4
    assert validated().dynamic_user
    assert not validated('service.user = "shop"').dynamic_user
    assert validated('service = { user = "shop", dynamic_user = true }').dynamic_user


@pytest.mark.parametrize(
    ("more", "path"),
    [
        ("", "/"),
        ('proxy = { site = "web", prefix = "/api" }', "/api/"),
        ('proxy = { site = "web", prefix = "/api/" }\nhealth.timeout = 1', "/api/"),
        ('proxy = { site = "web", prefix = "/api/" }\nhealth.path = "/health"', "/health"),
    ],
)
def test_health_is_asked_for_below_the_prefix(more: str, path: str) -> None:
    d = validated(more)
    assert d.health_check.path == path
    assert d.health_check.timeout == d.health.timeout


def test_warnings_come_with_the_deployment() -> None:
    text = 'name = "shop"\napp = "shop:app"\nservice.environment = { B_TOKEN = "x", A_TOKEN = "y" }\n'
    _, warnings = load.validate(load.parse("shop.toml", text))
    assert [(warning.severity, warning.at.column) for warning in warnings] == [("warning", 35), ("warning", 50)]


@pytest.mark.parametrize("directory", ["/run/it's", "relative.d"])
def test_a_file_is_meant_by_its_path(directory: str) -> None:
    assert load.find(f"{directory}/shop") == Path(directory, "shop")
    assert load.find("shop.toml") == Path("shop.toml")


def test_a_name_means_a_file_of_the_host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert load.find("shop") == Path("/etc/aiosystemd/shop.toml")
    monkeypatch.setattr(scope, "_current", replace(scope.SYSTEM, files=PurePosixPath(tmp_path, "etc")))
    assert load.find("shop") == tmp_path / "etc/shop.toml"
    assert load.find("x" * 5000) == tmp_path / f"etc/{'x' * 5000}.toml"
    (tmp_path / "shop").touch()
    assert load.find("shop") == Path("shop")


@pytest.mark.parametrize(
    ("content", "line", "column", "what"),
    [
        (b"\xff", 1, 1, "not UTF-8"),
        (b"a = 1\nb = '\xc3\xa9\xe9'\n", 2, 8, "not UTF-8"),
        (b"a = 1\r\nb = \r\n", 2, 5, "not valid TOML: Invalid value"),
        (b"a = 1\rb = 2", 1, 6, "not valid TOML: Expected newline or end of document after a statement"),
        (b"\0", 1, 1, "not valid TOML: Invalid statement"),
        (b"a = 1\n\nb = -" + b"1_" * 5000 + b"1", 3, 6, "not valid TOML: a number of more than 4300 digits"),
        (b"a = " + b"[" * 100_000, 0, 0, "nested too deeply"),
        (b"a = " + b"[" * 40 + b"]" * 40, 0, 0, "a is nested too deeply"),
        (b'"a b".' + b"a." * 1000 + b"a = 1", 0, 0, '"a b" is nested too deeply'),
        (b"[a" + b".a" * 1000 + b"]", 0, 0, "a is nested too deeply"),
        (b"#" * ((1 << 17) + 1), 0, 0, "larger than 131072 bytes"),
    ],
)
def test_what_is_no_toml_is_refused_where_it_stands(
    content: bytes, line: int, column: int, what: str, tmp_path: Path
) -> None:
    file = tmp_path / "shop.toml"
    file.write_bytes(content)
    problem = refused(file)
    assert (problem.at, problem.what) == (Location(str(file), line, column), what)


def test_the_offending_line_is_shown_without_its_line_end() -> None:
    with pytest.raises(ProblemsError) as caught:
        load.validate(load.parse("shop.toml", 'name = "shop"\r\napp = 5\r\n'))
    assert [problem.source for problem in caught.value.problems] == ["app = 5"]


def test_a_file_of_the_greatest_size_is_read(tmp_path: Path) -> None:
    file = tmp_path / "shop.toml"
    start = 'name = "shop"\napp = "shop:app"\n#'
    file.write_text(start + "x" * ((1 << 17) - len(start)))
    assert load.load(file)[0].name == "shop"


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    problem = refused(tmp_path / "shop.toml")
    assert problem.what == "no such file"
    assert "/etc/aiosystemd" in problem.hint


def test_a_directory_is_no_file(tmp_path: Path) -> None:
    assert refused(tmp_path).what == "cannot be read: Is a directory"


def test_a_name_that_is_too_long_is_no_file() -> None:
    assert refused(Path("x" * 5000)).what == "cannot be read: File name too long"


def test_a_file_of_someone_else_is_not_read(tmp_path: Path) -> None:
    file = tmp_path / "shop.toml"
    file.touch(0)
    open_to_others(tmp_path)
    assert unprivileged(lambda: refused(file)).what == "cannot be read: Permission denied"


def test_a_closed_directory_holds_no_name(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir()
    (closed / "shop.toml").touch()
    closed.chmod(0o700 if os.geteuid() == 0 else 0)
    try:
        assert (
            unprivileged(lambda: refused(load.find(f"{closed}/shop.toml"))).what == "cannot be read: Permission denied"
        )
    finally:
        closed.chmod(0o700)


def test_every_field_is_described() -> None:
    for table in Table.__subclasses__():
        described = dict(descriptions(table))
        plain = [name for name, info in table.model_fields.items() if not load._table(info.annotation)]
        assert [name for name in plain if not described.get(name)] == [], table
        assert set(described) <= set(table.model_fields)
