"""nginx with a configuration of the test's own, and stand-ins for versions and services that the host has not."""

import getpass
import os
import socket
import subprocess
from pathlib import Path

import pytest

from aiosystemd import probe
from aiosystemd.doctor import proxy
from aiosystemd.doctor.subject import Subject
from aiosystemd.model import Deployment
from tests.doctor.hosts import editor, nothing_installed, says, seen_by_root, stand_in, subject, told
from tests.unprivileged import open_to_others

needs_nginx = pytest.mark.skipif(probe.program("nginx") is None, reason="needs nginx")

_TEMPORARY = "".join(f"{name}_temp_path {{0}}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
_CONFIGURATION = "pid {0}/pid;\n{1}\nevents {{}}\nhttp {{\n" + _TEMPORARY + "access_log off;\n{2}\n}}\n"
_INCLUDES = "include /etc/nginx/conf.d/shop*.conf;"
_ME = getpass.getuser() if os.geteuid() else "daemon"
"""As whom nginx runs: somebody whom the test may be."""


@pytest.fixture(autouse=True)
def _everything_can_be_seen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen_by_root(monkeypatch)
    open_to_others(tmp_path)


def _nginx(directory: Path, monkeypatch: pytest.MonkeyPatch, http: str = "", main: str = f"user {_ME};") -> Path:
    """Let nginx read these lines in place of its own configuration; return their file."""
    file = directory / "nginx.conf"
    file.write_text(_CONFIGURATION.format(directory, main, http))
    program = probe.program("nginx")
    stand_in(directory, monkeypatch, "nginx", f'exec {program} -c {file} -e {directory}/log "$@"')
    return file


def _dump(directory: Path, monkeypatch: pytest.MonkeyPatch, dump: str, compiled: str = "") -> None:
    """Let an nginx be configured in a way that this host's cannot be."""
    script = (
        f'case "$1" in -T) {says(dump)};; -V) {says(compiled, 2)};; -v) {says("nginx version: nginx/1.26.3", 2)};; esac'
    )
    stand_in(directory, monkeypatch, "nginx", script)


@needs_nginx
def test_right_configuration_is_fine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    s = subject(tmp_path)
    _nginx(tmp_path, monkeypatch, _INCLUDES)
    expected = ("fine", "nginx runs, finds its configuration right and reads conf.d", "")
    assert list(map(told, proxy.server(s))) == [expected]


def test_no_proxy_is_not_looked_at(tmp_path: Path) -> None:
    s = subject(tmp_path, 'proxy.kind = "none"\n')
    assert not [*proxy.server(s), *proxy.sockets(s), *proxy.names(s)]


def test_nginx_that_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    s = subject(tmp_path)
    nothing_installed(tmp_path, monkeypatch)
    assert list(map(told, proxy.server(s))) == [("error", "nginx is not installed", "apt-get install nginx")]
    assert not [*proxy.sockets(s), *proxy.names(s)]


def test_nginx_that_is_too_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(tmp_path, monkeypatch, "nginx", 'test "$1" != -v || ' + says("nginx version: nginx/1.18.0", 2))
    found = told(next(proxy.server(subject(tmp_path))))
    assert found == (
        "error",
        "is version 1.18.0; 1.22 is the oldest supported",
        "apt-get install --only-upgrade nginx",
    )


@needs_nginx
@pytest.mark.parametrize("status", [0, 3])
def test_nginx_that_does_not_run(status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen_by_root(monkeypatch, systemd=True)
    s = subject(tmp_path)
    _nginx(tmp_path, monkeypatch, _INCLUDES)
    stand_in(tmp_path, monkeypatch, "systemctl", f'test "$*" = "is-active nginx" && exit {status}')
    (finding,) = proxy.server(s)
    expected = ("error", "is not running", "systemctl enable --now nginx")
    assert finding.severity == "fine" if status == 0 else told(finding) == expected


@needs_nginx
def test_mistake_in_the_configuration_is_shown_where_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = _nginx(tmp_path, monkeypatch, "nonsense 1;")
    (finding,) = proxy.server(subject(tmp_path))
    what = f'nginx -t: unknown directive "nonsense" in {file}:6'
    assert told(finding) == ("error", what, f'"${{EDITOR:-vi}}" +6 {file}')
    assert finding.at
    assert (finding.at.file, finding.at.line) == (str(file), 6)


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ("nginx: [warn] x\nnginx: [emerg] bind() to 0.0.0.0:80 failed", "bind() to 0.0.0.0:80 failed"),
        ("nginx: cannot\nnginx: be loaded", "nginx: be loaded"),
    ],
)
def test_failure_of_nginx_that_names_no_file(
    words: str, shown: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(tmp_path, monkeypatch, "nginx", f'test "$1" = -v || {{ {says(words, 2)}; exit 1; }}')
    assert list(map(told, proxy.server(subject(tmp_path)))) == [("error", f"nginx -t: {shown}", "nginx -t")]


@needs_nginx
def test_site_that_is_not_included_and_what_includes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = _nginx(tmp_path, monkeypatch)
    (finding,) = proxy.server(subject(tmp_path))
    assert (finding.severity, finding.what) == ("error", "does not include /etc/nginx/conf.d/shop.conf")
    assert finding.at
    assert finding.at.file == str(file)
    subprocess.run(finding.mend, shell=True, check=True)  # noqa: S602 (the command is what is tested)
    assert "http {\n\tinclude /etc/nginx/conf.d/*.conf;\n" in file.read_text()
    assert [each.severity for each in proxy.server(subject(tmp_path))] == ["fine"]


def test_empty_configuration_includes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _dump(tmp_path, monkeypatch, "")
    (finding,) = proxy.server(subject(tmp_path))
    assert str(finding) == "/etc/nginx/nginx.conf: error: does not include /etc/nginx/conf.d/shop.conf"


def test_only_root_is_told_about_the_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(tmp_path, monkeypatch, "nginx", ":")
    monkeypatch.setattr(Subject, "root", property(lambda _: False))
    s = subject(tmp_path)
    expected = ("unseen", "what nginx is configured to do: only root may ask it", "")
    assert list(map(told, proxy.server(s))) == [expected]
    assert not [*proxy.sockets(s), *proxy.names(s)]


@needs_nginx
def test_sockets_that_everybody_may_use_are_fine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _nginx(tmp_path, monkeypatch)
    s = subject(tmp_path, 'listen.mode = "0666"\n')
    assert list(map(told, proxy.sockets(s))) == [("fine", f"nginx can reach the instances as {_ME}", "")]


@needs_nginx
def test_sockets_of_a_group_that_nginx_is_not_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _nginx(tmp_path, monkeypatch, main="user daemon;")
    s = subject(tmp_path, 'listen.group = "mail"\n')
    what = "nginx runs as daemon, who is not in the group mail of the sockets"
    mend = "usermod --append --groups mail daemon && systemctl restart nginx"
    assert list(map(told, proxy.sockets(s))) == [("error", what, mend)]


@needs_nginx
@pytest.mark.parametrize("group", ["daemon", "nosuchgroup"])
def test_group_of_nginx_or_one_that_is_yet_to_be_made_is_fine(
    group: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _nginx(tmp_path, monkeypatch, main="user daemon daemon;")
    assert [each.severity for each in proxy.sockets(subject(tmp_path, f'listen.group = "{group}"\n'))] == ["fine"]


@needs_nginx
def test_sockets_that_only_root_may_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _nginx(tmp_path, monkeypatch, main="user daemon;")
    s = subject(tmp_path, 'listen.group = "daemon"\nlisten.mode = "0640"\n')
    what = "mode 0640 lets only root connect, and nginx runs as daemon"
    assert list(map(told, proxy.sockets(s))) == [("error", what, editor(s, 4))]


@needs_nginx
def test_directories_that_nginx_may_not_enter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("closed", "static"):
        (tmp_path / name).mkdir(mode=0)
    _nginx(tmp_path, monkeypatch)
    toml = 'listen.mode = "0666"\n'
    toml += f'[proxy.static]\n"/a/" = "{tmp_path}/static"\n"/b/" = "{tmp_path}/none"\n"/c/" = "{tmp_path}"\n'
    toml += f'[proxy.internal]\n"/d/" = "{tmp_path}/missing"\n'
    s = subject(tmp_path, toml)
    # The file may not say so: everybody could put something where tests have their directories.
    monkeypatch.setattr(Deployment, "socket_directory", property(lambda _: f"{tmp_path}/closed"))
    assert list(map(told, proxy.sockets(s))) == [
        ("error", f"{tmp_path}/closed cannot be entered by {_ME}, as whom nginx runs", f"chmod o+x {tmp_path}/closed"),
        (
            "error",
            f"{tmp_path}/static cannot be entered by {_ME}, as whom nginx runs: it would answer 403",
            f"chmod o+rx {tmp_path}/static",
        ),
        ("error", f"{tmp_path}/none does not exist: nginx would answer 404", f"mkdir --parents {tmp_path}/none"),
        ("error", f"{tmp_path}/missing does not exist: nginx would answer 404", f"mkdir --parents {tmp_path}/missing"),
    ]


@pytest.mark.parametrize(
    ("compiled", "user"),
    [("configure arguments: --user=daemon --group=daemon", "daemon"), ("configure arguments:", "nobody")],
)
def test_user_that_nginx_was_compiled_with(
    compiled: str, user: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _dump(tmp_path, monkeypatch, "", compiled)
    s = subject(tmp_path, "listen.port = 9000\n")
    assert list(map(told, proxy.sockets(s))) == [("fine", f"nginx can reach the instances as {user}", "")]


def test_user_of_nginx_that_does_not_exist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _dump(tmp_path, monkeypatch, "", "--user=nosuchuser")
    assert not list(proxy.sockets(subject(tmp_path)))


_OURS = (
    'proxy = { listen = ["127.0.0.1:18473"], server_names = ["a.example", "Shop.example"], default_server = true }\n'
)


@needs_nginx
def test_other_site_with_the_same_name_and_the_default_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tmp_path / "other.conf"
    other.write_text("\nserver {\n  listen 127.0.0.1:18473 default_server;\n  server_name shop.example b.example;\n}\n")
    _nginx(tmp_path, monkeypatch, f"include {other};")
    s = subject(tmp_path, _OURS)
    mend = f'"${{EDITOR:-vi}}" +2 {other}'
    found = list(proxy.names(s))
    assert list(map(told, found)) == [
        ("error", f"{other} answers to Shop.example too: nginx ignores one of them", mend),
        ("error", f"{other} is the default server already", mend),
    ]
    assert [each.at.line if each.at else 0 for each in found] == [3, 3]


@needs_nginx
@pytest.mark.parametrize(
    "server",
    ["listen 127.0.0.1:18474; server_name shop.example;", "listen 127.0.0.1:18473; server_name c.example;"],
)
def test_other_site_with_another_address_or_name_is_fine(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _nginx(tmp_path, monkeypatch, f"server {{ {server} }}")
    expected = ("fine", "no other site of nginx has the same names", "")
    assert list(map(told, proxy.names(subject(tmp_path, _OURS)))) == [expected]


def test_default_site_of_debian_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    default = "/etc/nginx/sites-enabled/default"
    server = "server {\n listen 80 default_server;\n server_name _;\n}"
    _dump(tmp_path, monkeypatch, f"# configuration file {default}:\n{server}\n")
    s = subject(tmp_path, 'proxy = { default_server = true, server_names = ["a.example"] }\n')
    assert list(map(told, proxy.names(s))) == [("error", f"{default} is the default server already", f"rm {default}")]


def test_own_site_and_upstream_servers_are_no_other_sites(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = "# configuration file /etc/nginx/conf.d/shop.conf:\nserver {\n listen 80; server_name a.example;\n}\n"
    upstream = "# configuration file /etc/nginx/x.conf:\nupstream u {\n server 127.0.0.1:9000;\n}\n"
    _dump(tmp_path, monkeypatch, own + upstream)
    tls = 'tls = { certificate = "/c", key = "/k" }'
    found = proxy.names(subject(tmp_path, f'proxy = {{ server_names = ["a.example"], {tls} }}\n'))
    assert [each.severity for each in found] == ["fine"]


def test_site_without_names_answers_to_the_name_of_the_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = "/etc/nginx/conf.d/other.conf"
    _dump(tmp_path, monkeypatch, f"# configuration file {file}:\nserver {{ server_name $hostname; }}\n")
    (finding,) = proxy.names(subject(tmp_path))
    what = f"{file} answers to {socket.gethostname()} too: nginx ignores one of them"
    assert told(finding) == ("error", what, f'"${{EDITOR:-vi}}" +1 {file}')
