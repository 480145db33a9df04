"""The real checkers' word on what would be generated."""

import subprocess
from pathlib import Path

import pytest

from aiosystemd.errors import Problem
from aiosystemd.export.nginx import standalone
from aiosystemd.host import Host
from aiosystemd.load import load
from aiosystemd.probe import probe, program
from aiosystemd.render.nginx import directive
from aiosystemd.verify import Verdict, verify
from tests.test_golden import CASES, UNITS
from tests.test_load import validated
from tests.tools import require
from tests.unprivileged import unprivileged

HERE = probe()
"""Checkers of other versions than the target's may know less, or warn of what is deprecated since."""

CHECKERS = ["systemd-analyze verify", "systemd-analyze security", "nginx -t"]


@pytest.fixture(autouse=True)
def _checkers() -> None:
    for name in ("systemd-analyze", "nginx", "haproxy", "openssl"):
        require(name)


def verdicts(more: str = "", host: Host | None = None) -> list[Verdict]:
    return list(verify(validated(more), host or HERE, "shop.toml"))


def problems(more: str) -> list[Problem]:
    return [problem for verdict in verdicts(more) for problem in verdict.problems]


@pytest.mark.parametrize("file", [*CASES, UNITS / "example.toml"], ids=lambda file: file.stem)
def test_the_checkers_agree_with_everything_that_is_generated(file: Path) -> None:
    deployment, _ = load(file)
    found = list(verify(deployment, HERE, file.name))
    assert [problem for verdict in found for problem in verdict.problems] == []
    of_proxy = {"nginx": ["nginx -t"], "haproxy": ["haproxy -c"], "none": []}
    assert [each.checker for each in found if each.ran] == [*CHECKERS[:2], *of_proxy[deployment.proxy.kind]]


def test_the_same_is_said_without_privileges() -> None:
    more = 'service.directives.Nonsense = 1\nproxy.tls = { certificate = "/a", key = "/b" }\n'
    assert unprivileged(lambda: verdicts(more)) == verdicts(more)
    assert [verdict.said for verdict in unprivileged(verdicts)] == ["passed"] * 3


def test_what_haproxy_refuses_is_reported_with_file_and_line(tmp_path: Path) -> None:
    certificate = tmp_path / "c.pem"
    for path in (certificate, tmp_path / "c.pem.key"):
        path.write_text("nonsense")
    tls = f'{{ certificate = "{certificate}", key = "{certificate}.key" }}'
    (first, *_) = problems(f'proxy = {{ kind = "haproxy", tls = {tls} }}\n')
    assert (first.at.file, first.at.line > 0) == ("/etc/haproxy/conf.d/shop.cfg", True)
    assert "unable to load certificate" in first.what


def test_an_older_haproxy_does_not_judge_for_a_newer_one() -> None:
    last = verdicts('proxy.kind = "haproxy"\n', Host(haproxy=(99, 0)))[-1]
    assert (last.ran, "99.0 asked for" in last.note) == (False, True)


def test_an_unknown_directive_is_reported_with_file_and_line() -> None:
    (problem,) = problems("service.directives = { Nice = 5, Nonsense = 1 }\n")
    assert problem.at.file == "/etc/systemd/system/shop@.service"
    assert problem.at.line > 10
    assert problem.what.startswith("Unknown key ")
    assert "Nonsense" in problem.what


@pytest.mark.parametrize("directive", ["Nice = 50", 'KeyringMode = "public"', 'Slice = "a b"', "ReadOnlyPaths = ['a']"])
def test_a_value_that_systemd_ignores_is_a_problem(directive: str) -> None:
    (problem,) = problems(f"service.directives = {{ {directive} }}\n")
    assert problem.at.file == "/etc/systemd/system/shop@.service"
    assert problem.at.line > 10


def test_more_exposure_than_allowed_is_a_problem() -> None:
    (problem,) = problems("sandbox.max_exposure = 0.1\n")
    assert problem.at.file == "/etc/systemd/system/shop@.service"
    assert problem.what.endswith("is above sandbox.max_exposure (0.1)")
    assert problems("sandbox.max_exposure = 10\n") == []


def test_exposure_is_told_and_low() -> None:
    security = verdicts()[1]
    figure = float(security.note.removeprefix("exposure "))
    assert 0 < figure < 2
    opened = "sandbox = { home = true, host_users = true, executable_memory = true, resources = true }\n"
    assert float(verdicts(opened)[1].note.removeprefix("exposure ")) > figure


def test_each_instance_on_tcp_has_a_unit_to_check() -> None:
    assert [verdict.said for verdict in verdicts("listen.port = 8000\n")] == ["passed"] * 3


def test_what_nginx_refuses_is_reported_with_file_and_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def with_a_site_of_its_own(site: object, *rest: object) -> object:
        Path(str(site)).write_text("server {\n    nonsense on;\n}\n")
        return standalone(site, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr("aiosystemd.verify.standalone", with_a_site_of_its_own)
    (problem,) = problems("")
    assert (problem.at.file, problem.at.line) == ("/etc/nginx/conf.d/shop.conf", 2)
    assert problem.what == 'unknown directive "nonsense"'


def test_nginx_is_not_asked_where_there_is_none() -> None:
    assert [verdict.checker for verdict in verdicts('proxy.kind = "none"\n')] == CHECKERS[:2]


def test_a_newer_systemd_than_this_one_is_not_judged_by_it() -> None:
    found = verdicts(host=Host(systemd=999))
    assert [verdict.said for verdict in found] == ["not run", "not run", "passed"]
    assert "999 asked for" in found[0].note
    assert str(found[0]).startswith("systemd-analyze verify: not run, systemd ")


def test_a_checker_that_is_missing_is_said_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr("aiosystemd.probe._SBIN", "/nowhere")
    assert [(verdict.said, verdict.note) for verdict in verdicts()] == [("not run", "not installed")] * 3


def test_the_longest_name_fits_what_nginx_hashes() -> None:
    deployment = validated().model_copy(update={"name": "a" * 31})
    assert [verdict.said for verdict in verify(deployment, HERE, "shop.toml")] == ["passed"] * 3


@pytest.mark.parametrize("name", ["server", "remote", "proxy-protocol", "http"])
def test_a_name_cannot_collide_with_a_variable_of_nginx(name: str) -> None:
    deployment = validated().model_copy(update={"name": name})
    assert [verdict.said for verdict in verify(deployment, HERE, "shop.toml")] == ["passed"] * 3


def test_what_a_newer_nginx_only_warns_of_is_no_error() -> None:
    """``listen … http2`` is right before 1.25.1 and deprecated since."""
    more = 'proxy.tls = { certificate = "/nowhere/a.pem", key = "/nowhere/a.key" }\n'
    last = verdicts(more, Host(nginx=(1, 22)))[-1]
    assert last.said == "passed"
    assert {problem.severity for problem in last.problems} <= {"warning"}
    assert bool(last.problems) is (HERE.nginx >= (1, 25, 1))


def test_a_certificate_that_is_not_here_is_replaced_for_the_check() -> None:
    more = 'proxy.tls = { certificate = "/nowhere/a.pem", key = "/nowhere/a.key" }\n'
    assert [verdict.said for verdict in verdicts(more)] == ["passed"] * 3


def test_a_certificate_that_is_here_is_checked(tmp_path: Path) -> None:
    for name in ("a.pem", "a.key"):
        (tmp_path / name).write_text("not a certificate\n")
    (problem,) = problems(f'proxy.tls = {{ certificate = "{tmp_path}/a.pem", key = "{tmp_path}/a.key" }}\n')
    assert f'cannot load certificate "{tmp_path}/a.pem"' in problem.what


def test_a_certificate_cannot_be_made_without_openssl(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aiosystemd.verify.program", lambda name: None if name == "openssl" else program(name))
    found = verdicts('proxy.tls = { certificate = "/a", key = "/b" }\n')[-1]
    assert (found.checker, found.said, found.note) == ("nginx -t", "not run", "no certificate to test with")


def test_a_checker_that_hangs_is_a_problem(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    sleeper = tmp_path / "nginx"
    sleeper.write_text("#!/bin/sh\nexec sleep 60\n")
    sleeper.chmod(0o755)
    monkeypatch.setattr("aiosystemd.verify._TIMEOUT", 0.1)
    monkeypatch.setattr(
        "aiosystemd.verify.program", lambda name: str(sleeper) if name == "nginx" else program("nowhere")
    )
    (problem,) = problems("")
    assert "timed out" in problem.what


def test_a_checker_that_dies_without_a_word_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aiosystemd.verify.program", lambda name: "/bin/false" if name == "nginx" else None)
    (problem,) = problems("")
    assert problem.what.startswith("failed with status 1")


def test_nothing_is_left_behind(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    verdicts('proxy.tls = { certificate = "/a", key = "/b" }\n')
    assert list(tmp_path.iterdir()) == []


def test_the_checkers_of_this_machine_hear_of_a_mistake(tmp_path: Path) -> None:
    # What the verdicts rest on: a clean unit is silent, a wrong one is not.
    (tmp_path / "x.service").write_text("[Service]\nExecStart=/bin/true\nNonsense=1\n")
    command = (require("systemd-analyze"), "verify", "--man=no", str(tmp_path / "x.service"))
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "Nonsense" in done.stderr


JOINED = 'proxy.site = "web"\nproxy.prefix = "/api"\n'


def test_locations_of_a_site_that_is_joined_are_checked() -> None:
    assert [verdict.said for verdict in verdicts(f'{JOINED}proxy.streams = ["/api/"]\n')] == ["passed"] * 3
    assert [verdict.said for verdict in unprivileged(lambda: verdicts(JOINED))] == ["passed"] * 3


def test_a_mistake_in_locations_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "aiosystemd.export.nginx.locations._pass", lambda _: directive("proxy_pass", "http://nobody.invalid")
    )
    (problem,) = problems(JOINED)
    assert problem.at.file == "/etc/nginx/aiosystemd/web/shop.conf"
    assert "nobody.invalid" in problem.what
