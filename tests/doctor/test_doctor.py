"""What a container has not of its own, and a host on which no systemd runs: real files and processes."""

import json
import os
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest

from aiosystemd import cli
from aiosystemd.build import build_source
from aiosystemd.doctor import CHECKS, addresses, confinement, examine, interpreter, machine
from aiosystemd.doctor.configuration import parse
from aiosystemd.doctor.finding import Finding, append, command, edit, then
from aiosystemd.doctor.subject import Subject
from aiosystemd.host import Host
from aiosystemd.load import read
from tests.unprivileged import open_to_others, unprivileged

_BASE = 'name = "shop"\napp = "app:application"\n'
_APP = "from aiohttp import web\napplication = web.Application()\n"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    open_to_others(tmp_path)
    return tmp_path


def subject(directory: Path, toml: str = "", host: Host | None = None) -> Subject:
    file = directory / "shop.toml"
    file.write_text(toml if "name =" in toml else _BASE + toml)
    source = read(file)
    host = host or Host()
    return Subject(source, build_source(file, source, host), host)


def bad(found: Iterator[Finding]) -> list[str]:
    return [finding.what for finding in found if finding.severity in ("error", "warning")]


def test_required_versions_are_those_of_the_project() -> None:
    pyproject = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    least, most = (".".join(map(str, version)) for version in interpreter.AIOHTTP)
    assert f'"aiohttp >= {least}, < {most}"' in pyproject
    assert f'requires-python = ">={".".join(map(str, interpreter.OLDEST_PYTHON))}"' in pyproject


def test_selinux_that_keeps_nginx_from_the_sockets(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    enforce = directory / "enforce"
    enforce.write_text("1")
    monkeypatch.setattr(confinement, "_SELINUX", enforce)
    unix = subject(directory)
    assert bad(confinement.confinement(unix)) == [
        "SELinux is enforcing, and nginx may not use sockets in /run/shop as they are labelled"
    ]
    assert next(confinement.confinement(unix)).mend == (
        "semanage fcontext --add --type httpd_var_run_t '/run/shop(/.*)?' && restorecon -R /run/shop"
    )
    tcp = next(confinement.confinement(subject(directory, "listen.port = 9000\n")))
    assert (tcp.severity, tcp.mend) == ("error", "setsebool -P httpd_can_network_connect on")
    _program(directory, monkeypatch, "getsebool", "httpd_can_network_connect --> on")
    _program(directory, monkeypatch, "matchpathcon", "system_u:object_r:httpd_var_run_t:s0")
    assert bad(confinement.confinement(unix)) == []
    assert bad(confinement.confinement(subject(directory, "listen.port = 9000\n"))) == []


def _program(directory: Path, monkeypatch: pytest.MonkeyPatch, name: str, answer: str) -> None:
    (directory / name).write_text(f"#!/bin/sh\necho '{answer}'\n")
    (directory / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{directory}:{os.environ['PATH']}")


@pytest.mark.parametrize(
    ("profiles", "expected"),
    [("/usr/sbin/nginx (enforce)\n", 1), ("/usr/sbin/nginx (complain)\n", 0), ("man_groff (enforce)\n", 0), ("", 0)],
)
def test_apparmor_that_keeps_nginx_from_the_sockets(
    profiles: str, expected: int, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (directory / "profiles").write_text(profiles)
    (directory / "rules/local").mkdir(parents=True)
    monkeypatch.setattr(confinement, "_APPARMOR", directory / "profiles")
    monkeypatch.setattr(confinement, "_APPARMOR_RULES", directory / "rules")
    found = subject(directory)
    assert len(bad(confinement.confinement(found))) == expected
    for finding in confinement.confinement(found):
        os.system(finding.mend.partition(" && ")[0])  # noqa: S605 (the command is what is tested)
    assert bad(confinement.confinement(found)) == []


def test_instances_for_every_cpu_where_a_container_may_not_use_them(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "_CGROUP", directory)
    found = subject(directory, 'instances = "auto"\n', Host(cpus=8))
    (directory / "cpu.max").write_text("max 100000\n")
    assert bad(machine.memory(found)) == []
    (directory / "cpu.max").write_text("150000 100000\n")
    assert bad(machine.memory(found)) == ['"auto" means 8 instances here, where the container may use 1.5 CPUs']


@pytest.mark.parametrize(
    ("ours", "theirs", "collide"),
    [
        ("80", "0.0.0.0:80", True),
        ("80", "127.0.0.1:80", True),
        ("80", "[::]:80", False),
        ("80", "8080", False),
        ("[::]:80", "[::1]:80", True),
        ("192.0.2.1:80", "127.0.0.1:80", False),
        ("192.0.2.1:80", "80", True),
        ("localhost:80", "127.0.0.1:80", True),
    ],
)
def test_addresses_that_cannot_both_be_listened_on(ours: str, theirs: str, collide: bool) -> None:  # noqa: FBT001
    assert addresses._collide(addresses.endpoint(ours), addresses.endpoint(theirs)) is collide


def test_address_of_every_family_collides_with_both() -> None:
    everything = addresses.Endpoint("*", 80)
    assert all(addresses._collide(addresses.endpoint(ours), everything) for ours in ("80", "[::]:80", "127.0.0.1:80"))


def test_configuration_of_nginx_is_taken_apart() -> None:
    dump = (
        "# configuration file /etc/nginx/nginx.conf:\nuser  www-data;\n"
        "http {\n  # include no;\n  map $a $b { default \"x;}\"; 'y' ${z}z; }\n"
        '  server {\n    listen 80 default_server;\n    server_name a "b c";\n  }\n}\n\n'
        "# configuration file /etc/nginx/conf.d/x.conf:\nserver { listen [::]:80; }\n"
    )
    found = parse(dump)
    assert [each.words for each in found.directives if each.name == "user"] == [("user", "www-data")]
    first, second = found.all("server")
    assert (first.file, first.line, second.file, second.line) == (
        *("/etc/nginx/nginx.conf", 5),
        *("/etc/nginx/conf.d/x.conf", 1),
    )
    assert [each.words for each in first.body] == [("listen", "80", "default_server"), ("server_name", "a", "b c")]
    assert [each.words for each in next(found.all("map")).body] == [("default", "x;}"), ("y", "${z}z")]
    assert not list(found.all("include"))


def test_commands_are_quoted_for_a_shell() -> None:
    assert command("chmod", "o+x", "/srv/a b") == "chmod o+x '/srv/a b'"
    assert edit("/srv/$x", 3) == "\"${EDITOR:-vi}\" +3 '/srv/$x'"
    assert edit("shop.toml") == '"${EDITOR:-vi}" shop.toml'
    assert then(append("a 'b'", "/x y"), "c") == "echo 'a '\"'\"'b'\"'\"'' >> '/x y' && c"


def test_every_mistake_in_the_file_is_a_finding(directory: Path) -> None:
    file = directory / "shop.toml"
    file.write_text('name = "shop"\napp = "app"\ninstances = 0\n')
    found = examine(str(file), Host())
    assert found.failed
    assert [(each.check, each.severity, str(each.at), each.mend) for each in found.findings] == [
        ("file", "error", f"{file}:{line}:{column}", f'"${{EDITOR:-vi}}" +{line} {file}')
        for line, column in ((2, 7), (3, 13))
    ]


def test_directive_that_this_systemd_does_not_know(directory: Path) -> None:
    file = directory / "shop.toml"
    file.write_text(f"{_BASE}service.directives = {{ RestartRandomizedDelaySec = 5 }}\n")
    (finding,) = examine(str(file), Host(systemd=257)).findings
    assert finding.what == "service.directives: systemd 257 does not know RestartRandomizedDelaySec= (since 262)"


def test_file_that_does_not_exist_is_a_problem(
    directory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["aiosystemd", "doctor", str(directory / "none.toml")])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == 1
    assert "none.toml: no such file" in capsys.readouterr().err


def test_output_is_plain_lines_and_json_has_all_of_it(
    directory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = directory / "shop.toml"
    file.write_text(f'{_BASE}directory = "/nowhere/a b"\n')
    shown = {}
    for options in ((), ("--json",)):
        monkeypatch.setattr(sys, "argv", ["aiosystemd", "doctor", str(file), *options])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        assert caught.value.code == 1
        shown[options] = capsys.readouterr().out
    assert shown[()].startswith(
        f"{file}:3:13: error: /nowhere/a b does not exist\n"
        "    directory = \"/nowhere/a b\"\n                ^\n    mend: mkdir --parents '/nowhere/a b'\n"
    )
    findings = json.loads(shown["--json",])["findings"]
    assert findings[0]["check"] in {*CHECKS, "file"}
    (ours,) = (each for each in findings if each["message"] == "/nowhere/a b does not exist")
    assert ours == {
        "check": "paths",
        "severity": "error",
        "message": "/nowhere/a b does not exist",
        "mend": "mkdir --parents '/nowhere/a b'",
        "file": str(file),
        "line": 3,
        "column": 13,
    }


def test_without_rights_it_says_what_it_could_not_look_at(directory: Path) -> None:
    file = directory / "shop.toml"
    file.write_text(f'{_BASE}proxy.tls = {{ certificate = "/c", key = "/k" }}\nservice.user = "daemon"\n')
    (directory / "app.py").write_text(_APP)
    version("aiosystemd")  # what it needs is imported now: the interpreter may lie where nobody else may look
    found = unprivileged(lambda: [(each.check, each.severity) for each in examine(str(file), Host()).findings])
    assert {check for check, severity in found if severity == "unseen"} >= {"paths", "proxy", "tls"}
