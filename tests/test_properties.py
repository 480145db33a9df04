"""Any deployment, with values that break naive quoting, is refused where it stands or accepted by the real programs."""

import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from aiosystemd import load
from aiosystemd.errors import Problem, ProblemsError
from aiosystemd.export import haproxy
from aiosystemd.export.serve import reload_command, serve_command
from aiosystemd.model import Deployment
from aiosystemd.plan import plan, render
from aiosystemd.probe import probe
from aiosystemd.rules import location
from aiosystemd.rules.haproxy import NOT_THERE
from tests import deployments, toml
from tests.render import manager, server
from tests.render.hostile import texts
from tests.tools import require

# Each example is many deployments: what takes the time is starting the checkers.
SLOW = settings(max_examples=60, suppress_health_check=list(HealthCheck))
MANY = st.lists(deployments.accepted(), min_size=1, max_size=12)

HOST = probe()
FILES = [
    path.read_bytes().decode()
    for folder in ("golden", "errors", "../units")
    for path in sorted((Path(__file__).parent / folder).glob("*.toml"))
]


def named(datas: Iterable[deployments.Data]) -> dict[str, Deployment]:
    """Return the deployments of ``datas``, each under another name, taken through TOML."""
    found = {}
    for number, data in enumerate(datas):
        name = f"d{number}"
        deployment, warnings = load.validate(load.parse(name, toml.dumps({**data, "name": name})))
        assert warnings == ()
        found[name] = deployment
    return found


@given(deployments.any_data(valid=False))
def test_what_cannot_be_written_is_refused_where_it_stands(data: deployments.Data) -> None:
    _accepted_or_located(toml.dumps(data))


@given(deployments.any_data(valid=True))
def test_what_contradicts_itself_is_refused_where_it_stands(data: deployments.Data) -> None:
    _accepted_or_located(toml.dumps(data))


@given(st.text() | texts)
@example("=")
@example("a = " + "[" * 500 + "]" * 500)
@example("a" + ".a" * 2000 + " = 1")
@example("a = " + "9" * 5000)
@example("instances = 0x" + "f" * 5000)
def test_any_text_is_a_deployment_or_has_problems(text: str) -> None:
    _accepted_or_located(text)


@settings(max_examples=300)
@given(st.sampled_from(FILES), st.data())
def test_any_damaged_file_is_a_deployment_or_has_problems(text: str, data: st.DataObject) -> None:
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(text)))
        end = data.draw(st.integers(start, min(len(text), start + 20)))
        text = text[:start] + data.draw(texts) + text[end:]
    _accepted_or_located(text)


def _accepted_or_located(text: str) -> None:
    try:
        deployment, problems = load.validate(load.parse("any.toml", text))
    except ProblemsError as error:
        problems = error.problems
        assert problems
    else:
        render(plan(deployment.model_copy(update={"instances": 1}), HOST, "any.toml"))
    for problem in problems:
        _check_located(problem, text)


def _check_located(problem: Problem, text: str) -> None:
    assert str(problem).isprintable()
    if not problem.at.line:
        assert problem.what.endswith((" is missing", " nested too deeply")), problem
        return
    lines = text.replace("\r\n", "\n").split("\n")
    assert 1 <= problem.at.column <= len(lines[problem.at.line - 1]) + 1


@SLOW
@given(MANY)
def test_systemd_reads_what_was_written(datas: list[deployments.Data]) -> None:
    found = {name: d.model_copy(update={"python": "/bin/true"}) for name, d in named(datas).items()}
    units: dict[str, Any] = {}
    for name, d in found.items():
        files = plan(d, HOST, f"{name}.toml").files
        units |= {
            file.path.name: file.content for file in files if file.path.suffix in {".service", ".socket", ".target"}
        }
    with tempfile.TemporaryDirectory(prefix="aiosystemd-") as directory:
        read = manager.dump(Path(directory), units)
    for name, d in found.items():
        _check_service(d, read[f"{name}@an-instance.service"])
        _check_sockets(d, read)


def _check_service(d: Deployment, read: dict[str, list[str]]) -> None:
    # The dump shows what will be executed after $$ has become $ at the start.
    commands = [[word.replace("$", "$$") for word in command(d)] for command in (serve_command, reload_command)]
    assert [manager.split(line) for line in read["Command Line"]] == commands
    variables = {"AIOSYSTEMD_INSTANCE": "an-instance", **d.service.environment}
    if d.dynamic_user:
        variables.setdefault("HOME", f"/var/lib/{d.name}")
    # A line end in a variable ends the line of the dump, too.
    shown = {f"{name}={value}".partition("\n")[0] for name, value in variables.items()}
    assert shown <= set(read["Environment"])
    assert read["WorkingDirectory"] == [d.directory or "/"]
    files = [manager.unescape(file) for file in read["EnvironmentFile"]]
    assert files == list(d.service.environment_files)
    writable = [*d.sandbox.writable, *(("/tmp", "/var/tmp") if d.sandbox.shared_tmp else ())]  # noqa: S108
    assert read["ReadWritePaths"] == ([" ".join(writable)] if writable else [])
    devices = {line for line in read["DeviceAllow"] if not line.startswith("char-")}
    assert devices == {f"{path} rw" for path in d.sandbox.devices}
    assert read["User"] == [d.service.user or d.name]
    assert read["DynamicUser"] == ["yes" if d.dynamic_user else "no"]
    assert read["Restart"] == [d.service.restart]
    assert read["LimitNOFILE"] == [str(d.service.open_files)]
    assert read["MemoryMax"] == [str(d.service.memory_max or (1 << 64) - 1)]


def _check_sockets(d: Deployment, read: dict[str, dict[str, list[str]]]) -> None:
    if d.listen.port is None:
        (path,) = read[f"{d.name}@an-instance.socket"]["ListenStream"]
        assert manager.unescape(path) == f"{d.socket_directory}/an-instance.sock"
        return
    assert isinstance(d.instances, int)
    for number in range(d.instances):
        (address,) = read[f"{d.name}@{number + 1}.socket"]["ListenStream"]
        assert address.endswith(f":{d.listen.port + number}")


@SLOW
@given(MANY)
def test_nginx_reads_what_was_written(certificate: tuple[str, str], datas: list[deployments.Data]) -> None:
    # Those that join a site have no server of their own: tests/test_joined_sites.py has them.
    found = {name: d for name, d in named(datas).items() if d.proxy.kind == "nginx" and not d.proxy.site}
    with server.scratch() as directory:
        for name, d in found.items():
            _check_site(d, server.parse(directory, f"http {{\n{_site(d)}}}")[0].block or ())
            relocated = _site(_relocated(d, directory, certificate))
            (directory / f"{name}.site").write_text(relocated, newline="")
        done = _nginx(directory)
    assert (done.stdout + done.stderr, done.returncode) == ("", 0), done.stderr


@SLOW
@given(MANY)
def test_haproxy_reads_what_was_written(certificate: tuple[str, str], datas: list[deployments.Data]) -> None:
    found = {name: d for name, d in named(map(_with_haproxy, datas)).items() if d.proxy.kind == "haproxy"}
    with server.scratch() as directory:
        main, *pair = (directory / name for name in ("haproxy.cfg", "c.pem", "c.pem.key"))
        main.write_text("global\n    log stderr local0\n")
        for path, text in zip(pair, map(Path, certificate), strict=True):
            path.write_bytes(text.read_bytes())
        for name, d in found.items():
            tls = d.proxy.tls and d.proxy.tls.model_copy(update={"certificate": str(pair[0]), "key": str(pair[1])})
            relocated = d.model_copy(update={"proxy": d.proxy.model_copy(update={"tls": tls})})
            site = next(haproxy.export(relocated, HOST, "x.toml")).content.render()
            (directory / f"{name}.cfg").write_text(site, newline="")
        files = [word for path in (main, *directory.glob("d*.cfg")) for word in ("-f", str(path))]
        done = subprocess.run([require("haproxy"), "-c", *files], capture_output=True, text=True, check=False)
    said = [line for line in done.stderr.splitlines() if "[NOTICE]" not in line]
    assert (said, done.returncode) == ([], 0 if found else 2)


def _with_haproxy(data: deployments.Data) -> deployments.Data:
    """Return the same behind HAProxy, without what it cannot have."""
    kept = {key: value for key, value in data.get("proxy", {}).items() if key not in NOT_THERE}
    if "tls" in kept:
        kept["tls"] = {key: value for key, value in kept["tls"].items() if key not in {"http3", "reuseport"}}
    return data if kept.get("kind") == "none" else {**data, "proxy": {**kept, "kind": "haproxy"}}


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Return the paths of a certificate and its key."""
    directory = tmp_path_factory.mktemp("tls")
    new = ("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=test")
    paths = str(directory / "certificate.pem"), str(directory / "key.pem")
    subprocess.run((require("openssl"), *new, "-out", paths[0], "-keyout", paths[1]), check=True, capture_output=True)
    return paths


def _site(d: Deployment) -> str:
    (site,) = (
        file
        for file in plan(d, HOST, f"{d.name}.toml").files
        if file.path.suffix == ".conf" and "nginx" in file.path.parts
    )
    return site.content.render()


def _relocated(d: Deployment, directory: Path, certificate: tuple[str, str]) -> Deployment:
    """Return ``d`` with addresses and a certificate that this machine can use."""
    update: dict[str, Any] = {"listen": (f"unix:{directory}/{d.name}.sock",)}
    if d.proxy.tls:
        listen = (f"unix:{directory}/{d.name}-tls.sock",)
        update["tls"] = d.proxy.tls.model_copy(
            update={"certificate": certificate[0], "key": certificate[1], "listen": listen}
        )
    return d.model_copy(update={"proxy": d.proxy.model_copy(update=update)})


def _nginx(directory: Path) -> subprocess.CompletedProcess[str]:
    temporary = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    http = " ".join(f'{name}_temp_path "{directory}/{name}";' for name in temporary)
    main = f'pid "{directory}/pid"; error_log stderr; events {{}} http {{ {http} include "{directory}/*.site"; }}'
    (directory / "nginx.conf").write_text(main)
    command = (require("nginx"), "-t", "-q", "-e", "stderr", "-p", directory, "-c", directory / "nginx.conf")
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def _check_site(d: Deployment, read: tuple[server.Read, ...]) -> None:
    (upstream,) = _blocks(read, "upstream")
    assert upstream.args == (d.name,)
    if d.listen.port is None:
        servers = [each.args[0] for each in _blocks(upstream.block or (), "server")]
        assert isinstance(d.instances, int)
        assert servers == [f"unix:{d.socket_directory}/{number + 1}.sock" for number in range(d.instances)]
    site = _blocks(read, "server")[-1].block or ()
    if d.proxy.server_names:
        assert [each.args for each in _blocks(site, "server_name")] == [d.proxy.server_names]
    added = {each.args[0]: each.args[1] for each in _blocks(site, "add_header")}
    assert {name: value for name, value in added.items() if not value.startswith("$aio_")} == d.proxy.headers
    if d.proxy.tls:
        assert [each.args for each in _blocks(site, "ssl_certificate")] == [(d.proxy.tls.certificate,)]
        assert [each.args for each in _blocks(site, "ssl_certificate_key")] == [(d.proxy.tls.key,)]
    aliases = {each.args[-1]: _blocks(each.block or (), "alias") for each in _blocks(site, "location")}
    expected = {
        location(prefix): f"{path.rstrip('/')}/" for prefix, path in {**d.proxy.static, **d.proxy.internal}.items()
    }
    assert {prefix: found[0].args[0] for prefix, found in aliases.items() if found} == expected
    assert {location(prefix) for prefix in d.proxy.streams} <= set(aliases)


def _blocks(directives: Sequence[server.Read], name: str) -> list[server.Read]:
    return [each for each in directives if each.name == name]
