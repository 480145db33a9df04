"""``--user``: what is written for a login user's own systemd, and what cannot be had there."""

import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path, PurePosixPath

import pytest

from aiosystemd import probe, scope
from aiosystemd.build import Build, build
from aiosystemd.errors import Problem, ProblemsError
from aiosystemd.generate import generate_all
from aiosystemd.host import Host
from aiosystemd.scope import of_user
from aiosystemd.verify import verify
from tests.tools import require

ALICE = of_user(
    "alice",
    home=PurePosixPath("/home/alice"),
    config=PurePosixPath("/home/alice/.config"),
    state=PurePosixPath("/home/alice/.local/state"),
    run=PurePosixPath("/run/user/1000"),
    groups=frozenset({"alice", "audio"}),
    lingers=True,
)
HOST = Host(systemd=252, scope=ALICE)
UNITS = PurePosixPath("/home/alice/.config/systemd/user")
TCP = "listen.port = 8001\n"

Make = Callable[..., Build]


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Return a function that builds a deployment from more lines of its file."""
    monkeypatch.setattr(scope, "_current", ALICE)

    def make(more: str, host: Host = HOST) -> Build:
        file = tmp_path / "shop.toml"
        file.write_text(f'name = "shop"\napp = "shop:app"\n{more}')
        return build(str(file), host)

    return make


def unit(built: Build, name: str) -> list[str]:
    return built.tree[UNITS / name].content.decode().splitlines()


def problems(make: Make, more: str, host: Host = HOST) -> list[Problem]:
    try:
        return list(make(more, host).warnings)
    except ProblemsError as error:
        return list(error.problems)


def test_everything_is_written_into_the_home(make: Make) -> None:
    built = make(f"{TCP}instances = 1\nservice.user = 'alice'\nsandbox.writable = ['/srv/shop/data']")
    assert [str(path) for path in built.tree] == [
        f"{UNITS}/shop@.service",
        f"{UNITS}/shop@1.socket",
        f"{UNITS}/shop.target",
        f"{UNITS}/shop.up.target",
        f"{UNITS}/shop.sockets.target",
        "/home/alice/.config/aiosystemd/nginx/conf.d/shop.conf",
    ]


def test_units_name_nobody_and_start_with_the_users_systemd(make: Make) -> None:
    built = make(TCP)
    service = unit(built, "shop@.service")
    names = {line.partition("=")[0] for line in service}
    assert not names & {"User", "Group", "DynamicUser", "SupplementaryGroups"}
    assert "WantedBy=default.target" in service
    assert "WantedBy=default.target" in unit(built, "shop.target")
    assert "network.target" not in "".join(service)


def test_directives_that_are_not_in_force_are_not_said(make: Make) -> None:
    service = unit(make(f"{TCP}sandbox.network = 'none'\nsandbox.devices = ['/dev/kvm']"), "shop@.service")
    names = {line.partition("=")[0] for line in service}
    gone = "DevicePolicy DeviceAllow IPAddressDeny IPAddressAllow ProtectProc RemoveIPC ProtectKernelLogs"
    assert not names & set(gone.split())
    # The user namespace gives it the right to mount, for the rest.
    assert {"PrivateUsers=yes", "PrivateNetwork=yes", "ProtectSystem=strict"} <= set(service)


@pytest.mark.parametrize("home", [False, True])
def test_users_systemd_is_out_of_reach_of_the_application(make: Make, *, home: bool) -> None:
    service = unit(make(f"{TCP}sandbox.home = {str(home).lower()}"), "shop@.service")
    assert "ProtectHome=tmpfs" in service
    shown = [line for line in service if line.startswith("Bind")]
    assert shown == [*(["BindReadOnlyPaths=%h"] if home else []), "BindReadOnlyPaths=%t/systemd/notify"]


def test_reload_command_is_outside_of_namespaces_that_it_could_not_enter(make: Make) -> None:
    [command] = [line for line in unit(make(TCP), "shop@.service") if line.startswith("ExecReload=")]
    assert command.startswith("ExecReload=+/usr/bin/python3 ")


def test_unix_sockets_are_the_users_own(make: Make) -> None:
    built = make('proxy.listen = ["8080"]')
    lines = unit(built, "shop@.socket")
    assert {"ListenStream=/run/user/1000/shop/%i.sock", "SocketMode=0600"} <= set(lines)
    assert not [line for line in lines if line.startswith("SocketGroup=")]
    site = built.tree[ALICE.files / "nginx/conf.d/shop.conf"].content.decode()
    assert "server unix:/run/user/1000/shop/1.sock" in site
    assert built.deployment.socket_directory == "/run/user/1000/shop"


def test_socket_may_be_given_to_a_group_of_the_users(make: Make) -> None:
    lines = unit(make("listen = { group = 'audio', directory = '/srv/sockets' }"), "shop@.socket")
    assert {"ListenStream=/srv/sockets/%i.sock", "SocketMode=0660", "SocketGroup=audio"} <= set(lines)


WRONG: list[tuple[str, str, str]] = [
    ("", "name", "the machine's nginx cannot reach sockets in /run/user/1000, which only alice may enter"),
    ("proxy = { listen = ['8080'], tls = { certificate = '/c', key = '/k' } }", "proxy", "the machine's nginx cannot"),
    (f"{TCP}service.user = 'bob'", "service.user", "alice's systemd starts everything as alice"),
    (f"{TCP}service = {{ user = 'alice', dynamic_user = true }}", "service", "alice's systemd cannot make users up"),
    (f"{TCP}service = {{ user = 'alice', group = 'www' }}", "service", "alice's systemd cannot change groups"),
    (f"{TCP}service.groups = ['video']", "service.groups", "alice's systemd cannot change groups"),
    ("listen.port = 1023", "listen.port", "alice may not listen on a port below 1024"),
    ("listen = { directory = '/srv/x', group = 'video' }", "listen", "alice is not in the group video"),
    (f"{TCP}sandbox.addresses = ['localhost']", "sandbox.addresses", "alice's systemd cannot filter addresses"),
    (f"{TCP}sandbox.host_users = true", "sandbox.host_users", "alice's systemd needs a user namespace"),
    (f"{TCP}service.directives.LogNamespace = 'x'", "service.directives.LogNamespace", "alice's systemd cannot start"),
]


@pytest.mark.parametrize(("more", "key", "what"), WRONG, ids=[what for _, _, what in WRONG])
def test_what_cannot_be_had_is_an_error_where_it_is_written(make: Make, more: str, key: str, what: str) -> None:
    [problem] = problems(make, more)
    assert problem.severity == "error"
    assert problem.what.startswith(what)
    assert problem.hint
    assert problem.source.startswith(key)


DOUBTFUL: list[tuple[str, str]] = [
    ("sandbox.devices = ['/dev/kvm']", "alice's systemd cannot choose among devices"),
    ("proxy.static = { '/static/' = '/home/alice/static' }", "the machine's nginx can read /home/alice/static only if"),
    ("service.directives.SocketBindDeny = 'any'", "SocketBindDeny= is not in force under alice's systemd"),
    ("service.memory_max = '200M'", "service.memory_max is not in force: alice's systemd was not given the cgroup"),
]


@pytest.mark.parametrize(("more", "what"), DOUBTFUL, ids=[what for _, what in DOUBTFUL])
def test_what_is_not_in_force_is_a_warning(make: Make, more: str, what: str) -> None:
    [problem] = problems(make, TCP + more, replace(HOST, scope=replace(ALICE, controllers=frozenset({"pids"}))))
    assert problem.severity == "warning"
    assert problem.what.startswith(what)


def test_same_file_is_right_for_the_machines_systemd(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scope, "_current", scope.SYSTEM)
    for more, _ in DOUBTFUL:
        assert not problems(make, TCP + more, Host(systemd=252))
    assert not problems(make, "sandbox.addresses = ['localhost']", Host(systemd=252))


def test_port_that_everybody_may_use_is_fine(make: Make) -> None:
    host = replace(HOST, scope=replace(ALICE, lowest_port=80))
    assert not problems(make, "listen.port = 80", host)
    # And then the proxy on port 80 may be the user's own.
    assert not problems(make, "", host)


def test_socket_path_is_measured_where_it_will_be(make: Make) -> None:
    long = replace(HOST, scope=replace(ALICE, run=PurePosixPath("/run", "x" * 91)))
    [problem] = problems(make, "proxy.kind = 'none'", long)
    assert problem.what == "the path of a socket would be 108 bytes long; unix(7) allows 107"


def test_steps_are_the_users_and_then_roots(make: Make) -> None:
    steps = [action.describe() for action in make(TCP).plan.actions]
    site = "/home/alice/.config/aiosystemd/nginx/conf.d/shop.conf"
    assert steps == [
        "systemctl --user daemon-reload",
        "systemctl --user enable --now shop.target",
        f"sudo install -D --mode=0644 {site} /etc/nginx/conf.d/shop.conf",
        "sudo nginx -t",
        "sudo systemctl reload nginx",
    ]
    alone = replace(HOST, scope=replace(ALICE, lingers=False))
    assert [action.describe() for action in make('proxy.listen = ["8080"]', alone).plan.actions] == [
        "systemctl --user daemon-reload",
        "systemctl --user enable --now shop.target",
        "loginctl enable-linger",
    ]


def test_command_that_is_told_has_the_option(make: Make) -> None:
    assert make(TCP).command("rollout")[:3] == ("aiosystemd", "rollout", "--user")


def test_tree_passes_the_real_checkers(make: Make) -> None:
    require("systemd-analyze")
    host = replace(HOST, nginx=(1, 22))
    for more in (TCP, "proxy.listen = ['8080']\nsandbox = { home = true, network = 'none' }"):
        for verdict in verify(make(more, host).deployment, host, "shop.toml"):
            assert not verdict.problems, verdict
            if verdict.checker == "systemd-analyze security" and verdict.ran:
                found = re.fullmatch(r"exposure ([0-9.]+)", verdict.note)
                assert found
                assert float(found[1]) < 2


def test_tree_below_a_directory_mirrors_the_home(make: Make, tmp_path: Path) -> None:
    file = make(TCP).file
    assert {change.kind for change in generate_all([str(file)], HOST, tmp_path / "tree").changes} == {"create"}
    assert (tmp_path / "tree/home/alice/.config/systemd/user/shop@.service").is_file()
    assert {change.kind for change in generate_all([str(file)], HOST, tmp_path / "tree").changes} == {"unchanged"}


def test_directories_are_those_of_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    there = PurePosixPath(tmp_path)
    for name in ("CONFIG_HOME", "STATE_HOME", "RUNTIME_DIR"):
        monkeypatch.setenv(f"XDG_{name}", str(tmp_path / name.lower()))
    here = probe.user_scope()
    assert here.units == there / "config_home/systemd/user"
    assert here.files == there / "config_home/aiosystemd"
    assert here.state == there / "state_home/aiosystemd"
    assert (here.run, here.locks) == (there / "runtime_dir", there / "runtime_dir/aiosystemd")
    # XDG Base Directory Specification: a relative path is to be ignored.
    monkeypatch.setenv("XDG_CONFIG_HOME", "config")
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    here = probe.user_scope()
    assert here.files == here.home / ".config/aiosystemd"
    assert here.run == PurePosixPath(f"/run/user/{os.getuid()}")
