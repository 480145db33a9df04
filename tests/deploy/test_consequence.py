"""What a change means for what runs: every key of the deployment file has a row here."""

from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, get_args

import pytest

from aiosystemd import apply
from aiosystemd.compare import compare
from aiosystemd.deploy.consequence import Consequence, consequence
from aiosystemd.deploy.proposal import Proposal
from aiosystemd.deploy.store import Generation, Store, texts
from aiosystemd.deploy.wanted import Wanted, by_count, by_text, propose
from aiosystemd.errors import ProblemsError
from aiosystemd.host import Host
from aiosystemd.model import Deployment, Table
from tests import toml

HOST = Host(systemd=252, nginx=(1, 26), cpus=3, ipv6=True)
FILE = Path("/etc/aiosystemd/shop.toml")

Data = dict[str, Any]


class Row(NamedTuple):
    """A key, and what it means that its value changes."""

    key: str
    values: tuple[Any, ...]
    """Each change from one to the next, and back; None stands for a key that is not there."""
    gravest: Consequence
    """What the instances need."""
    proxy: bool = False
    """Whether the proxy needs a reload."""
    beside: Mapping[str, Any] = {}
    """Other keys, before and after."""
    added: int = 0
    """How many instances there are more of."""


NOTHING, DAEMON_RELOAD, RELOAD, RESTART, SOCKETS, PROXY, PROXY_RESTART = Consequence
TLS = {"certificate": "/a.pem", "key": "/k.pem"}
TCP = {"listen.port": 8001}
HAPROXY = {"proxy.kind": "haproxy"}
STATIC = {"proxy.static": {"/s/": "/srv"}}
MAINTENANCE = {"page": "/page.html", "switch": "/switch"}
USER = {"service.user": "shop"}

ROWS = (
    Row("app", ("a:b", "a:c"), RELOAD),
    # One instance more is nothing to those that run: 1 → 2 too, where a word of the command goes.
    Row("instances", (1, 2), DAEMON_RELOAD, proxy=True, added=1),
    Row("instances", (None, 7), DAEMON_RELOAD, proxy=True, added=3),
    Row("instances", (2, "auto"), DAEMON_RELOAD, proxy=True, added=1),
    Row("instances", (2, 3), DAEMON_RELOAD, proxy=True, added=1, beside=TCP),
    Row("instances", (None, 4), NOTHING),
    Row("directory", (None, "/srv/a", "/srv/b"), RELOAD),
    Row("python", (None, "/srv/venv/bin/python"), RELOAD),
    Row("arguments", (None, ["-a"], ["-b", "-a"], ["-a", "-b"]), RELOAD),
    Row("arguments", (None, ["--alone"], ["--alone", "--alone"]), RELOAD, beside={"instances": 1}),
    Row("service.user", (None, "shop", "other"), RESTART),
    Row("service.group", (None, "shops"), RESTART, beside=USER),
    Row("service.groups", (None, ["video"], ["video", "render"]), RESTART),
    Row("service.dynamic_user", (False, True), RESTART, beside=USER),
    Row("service.environment", (None, {"A": "1"}, {"A": "2"}, {"A": "2", "B": ""}), RESTART),
    Row("service.environment_files", (None, ["/a"], ["-/a", "/b"], ["/b", "-/a"]), RESTART),
    Row("service.credentials", (None, {"key": "/a"}, {"key": "/b"}), RESTART),
    Row("service.memory_max", (None, "512M", "1G"), RESTART),
    Row("service.cpu_quota", (None, 50, 150), RESTART),
    Row("service.tasks_max", (None, 64, 65), RESTART),
    Row("service.open_files", (None, 4096), RESTART),
    Row("service.restart", (None, "on-failure"), DAEMON_RELOAD),
    Row("service.directives", (None, {"Nice": 5}, {"Nice": 6}, {"Nice": 6, "IPAccounting": True}), RESTART),
    Row("server.loop", (None, "uvloop", "asyncio"), RELOAD),
    Row("server.access_log", (None, "text", "journal"), RELOAD),
    Row("server.access_log_format", ("%a", "%s"), RELOAD, beside={"server.access_log": "text"}),
    Row("server.keepalive", (None, 90), RELOAD),
    Row("server.body_limit", (None, "2M", "3M"), RELOAD, proxy=True),
    Row("server.body_limit", (None, "2M"), RELOAD, beside={"proxy.body_size": "1M"}),
    Row("server.forwarded", (None, False), RELOAD),
    # systemd.socket(5): a socket has the address, mode, group and queue that it was started with.
    Row("listen.directory", (None, "/run/a", "/run/b"), SOCKETS, proxy=True),
    Row("listen.mode", (None, "0666"), SOCKETS),
    Row("listen.group", (None, "nginx"), SOCKETS),
    Row("listen.port", (None, 8001, 8101), SOCKETS, proxy=True),
    Row("listen.port", (None, 8001, 8101), SOCKETS, beside={"proxy.kind": "none"}),
    Row("listen.address", (None, "::1"), SOCKETS, proxy=True, beside=TCP),
    Row("listen.backlog", (None, 512), SOCKETS),
    Row("listen.tls.certificate", ("/a", "/b"), RESTART, beside={**TCP, "proxy.kind": "none", "listen.tls.key": "/k"}),
    Row("listen.tls.key", ("/a", "/b"), RESTART, beside={**TCP, "proxy.kind": "none", "listen.tls.certificate": "/c"}),
    Row("listen.tls", (None, TLS, {**TLS, "key": "/l.pem"}), RESTART, beside={**TCP, "proxy.kind": "none"}),
    Row("timeouts.start", (None, 60), RELOAD),
    Row("timeouts.request", (None, 20), RELOAD, proxy=True),
    Row("timeouts.drain", (None, 90), RELOAD),
    Row("timeouts.stop", (None, 300), RELOAD),
    # systemd.service(5): a process is told the interval when it is started.
    Row("timeouts.watchdog", (None, 60, 0), RESTART),
    Row("sandbox.network", (None, "none"), RESTART),
    Row("sandbox.addresses", (None, ["localhost"], ["localhost", "10.0.0.0/8"]), RESTART),
    Row("sandbox.writable", (None, ["/srv/a"], ["/srv/a", "/srv/b"]), RESTART, beside=USER),
    Row("sandbox.home", (None, True), RESTART),
    Row("sandbox.shared_tmp", (None, True), RESTART, beside=USER),
    Row("sandbox.executable_memory", (None, True), RESTART),
    Row("sandbox.host_users", (None, True), RESTART),
    Row("sandbox.system_bus", (None, True), RESTART),
    Row("sandbox.resources", (None, True), RESTART),
    Row("sandbox.devices", (None, ["/dev/dri/a"], ["/dev/dri/b"]), RESTART),
    # A limit for what is written, not a part of it.
    Row("sandbox.max_exposure", (None, 9.5), NOTHING),
    # The sockets' peer is not asked any more who the client is.
    Row("proxy.kind", (None, "none"), RELOAD, proxy=True),
    # Nothing is kept idle that a drain would wait for, and the sockets belong to another group.
    Row("proxy.kind", (None, "haproxy"), SOCKETS, proxy=True),
    Row("proxy.kind", (None, "haproxy"), RELOAD, proxy=True, beside=TCP),
    Row("listen.directory", (None, "/run/a", "/run/b"), SOCKETS, proxy=True, beside=HAPROXY),
    Row("proxy.gzip", (None, False), NOTHING, proxy=True, beside=HAPROXY),
    Row("health.path", (None, "/health"), NOTHING, proxy=True, beside=HAPROXY),
    Row("instances", (2, 3), DAEMON_RELOAD, proxy=True, added=1, beside=HAPROXY),
    Row("proxy.server_names", (None, ["a.org"], ["a.org", "b.org"]), NOTHING, proxy=True),
    Row("proxy.listen", (None, ["8080"], ["8080", "8081"]), NOTHING, proxy=True),
    Row("proxy.default_server", (None, True), NOTHING, proxy=True),
    Row("proxy.tls", (None, TLS), NOTHING, proxy=True),
    Row("proxy.tls.certificate", ("/a.pem", "/b.pem"), NOTHING, proxy=True, beside={"proxy.tls.key": "/k.pem"}),
    Row("proxy.tls.key", ("/k.pem", "/l.pem"), NOTHING, proxy=True, beside={"proxy.tls.certificate": "/a.pem"}),
    Row("proxy.tls.listen", (None, ["8443"]), NOTHING, proxy=True, beside={"proxy.tls": TLS}),
    Row("proxy.tls.http3", (None, True), NOTHING, proxy=True, beside={"proxy.tls": TLS}),
    Row("proxy.tls.reuseport", (None, False), NOTHING, proxy=True, beside={"proxy.tls": {**TLS, "http3": True}}),
    Row("proxy.tls.redirect", (None, False), NOTHING, proxy=True, beside={"proxy.tls": TLS}),
    Row("proxy.static", (None, {"/s/": "/srv/a"}, {"/s/": "/srv/b"}), NOTHING, proxy=True),
    Row("proxy.static_age", (None, 60), NOTHING, proxy=True, beside=STATIC),
    Row("proxy.immutable", (None, ["/s/"]), NOTHING, proxy=True, beside=STATIC),
    Row("proxy.precompressed", (None, True), NOTHING, proxy=True, beside=STATIC),
    Row("proxy.gzip", (None, False), NOTHING, proxy=True),
    Row("proxy.internal", (None, {"/i/": "/srv/a"}, {"/i/": "/srv/b"}), NOTHING, proxy=True),
    Row("proxy.maintenance", (None, MAINTENANCE), NOTHING, proxy=True),
    Row("proxy.maintenance.page", ("/b", "/c"), NOTHING, proxy=True, beside={"proxy.maintenance.switch": "/s"}),
    Row("proxy.maintenance.switch", ("/b", "/c"), NOTHING, proxy=True, beside={"proxy.maintenance.page": "/p"}),
    Row("proxy.maintenance.retry_after", (5, 6), NOTHING, proxy=True, beside={"proxy.maintenance": MAINTENANCE}),
    Row("proxy.rate_limit", (None, 10, 20), NOTHING, proxy=True),
    Row("proxy.rate_burst", (None, 10), NOTHING, proxy=True, beside={"proxy.rate_limit": 10}),
    Row("proxy.trusted", (None, ["10.0.0.1"], ["localhost"]), NOTHING, proxy=True),
    Row("proxy.site", ("main", "other"), NOTHING, proxy=True, beside={"proxy.prefix": "/api/"}),
    Row("proxy.prefix", ("/api/", "/app/"), NOTHING, proxy=True, beside={"proxy.site": "main"}),
    Row("proxy.body_size", (None, "2M", "3M"), NOTHING, proxy=True),
    Row("proxy.websockets", (None, False), NOTHING, proxy=True),
    Row("proxy.streams", (None, ["/ws/"], ["/ws/", "/events"]), NOTHING, proxy=True),
    Row("proxy.stream_timeout", (None, 60), NOTHING, proxy=True, beside={"proxy.streams": ["/"]}),
    Row("proxy.stream_timeout", (None, 60), NOTHING),
    Row("proxy.headers", (None, {"A": "1"}, {"A": "2"}), NOTHING, proxy=True),
    # An instance that ends waits for the proxy to close its idle connections.
    Row("proxy.keepalive", (None, 10), RELOAD, proxy=True),
    Row("proxy.connections", (None, 8), NOTHING, proxy=True),
    Row("health.path", (None, "/health"), NOTHING),
    Row("health.status", (None, 204), NOTHING),
    Row("health.timeout", (None, 1), NOTHING),
)

CHANGES = [
    pytest.param(row, before, after, count, id=f"{row.key}-{number}-{way}")
    for number, row in enumerate(ROWS)
    for one, other in zip(row.values, row.values[1:], strict=False)
    for way, before, after, count in (("there", one, other, row.added), ("back", other, one, -row.added))
]


def keys(table: type[Table], prefix: str = "") -> Iterator[str]:
    """Yield each key of a table, and of those in it, as ``proxy.tls.key``."""
    for name, field in table.model_fields.items():
        kinds = get_args(field.annotation) or (field.annotation,)
        inner = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Table)]
        if not inner or (not field.is_required() and field.default is None):
            yield f"{prefix}{name}"
        for kind in inner:
            yield from keys(kind, f"{prefix}{name}.")


def described(given: Mapping[str, Any]) -> str:
    """Return a deployment file with these keys; None stands for one that is not there."""
    data: Data = {"name": "shop", "app": "a:b"}
    for key, value in given.items():
        *tables, last = key.split(".")
        table = data
        for name in tables:
            table[name] = {**table.get(name, {})}
            table = table[name]
        if value is not None:
            table[last] = value
    return toml.dumps(data)


def generation(wanted: Wanted, number: int) -> Generation:
    return Generation(
        number=number,
        at="",
        command="",
        file=str(FILE),
        source=wanted.source,
        files=dict(texts(wanted.built.tree)),
        instances=wanted.instances,
        release=wanted.release,
    )


def put_in_force(text: str, root: Path) -> Store:
    """Put a deployment on a host's disk, as apply leaves it."""
    wanted = by_text(FILE, text, HOST, root)
    store = Store("shop", root / "state")
    apply.write(compare(wanted.built.tree, root))
    store.begin(generation(wanted, 1))
    store.commit(generation(wanted, 1))
    return store


def proposed(before: str, after: str, root: Path) -> Proposal:
    return propose(by_text(FILE, after, HOST, root), put_in_force(before, root), root, None)


def test_every_key_has_a_row() -> None:
    # The name is what makes it this deployment: with another one it is another one.
    # gunicorn and one port for all are not for apply.
    assert {row.key for row in ROWS} == set(keys(Deployment)) - {"name", "server.kind", "listen.shared"}


def test_the_keys_of_every_table_are_found() -> None:
    found = set(keys(Deployment))
    assert {"name", "service.restart", "proxy.tls", "proxy.tls.redirect", "health.timeout"} <= found
    assert not {"service", "proxy"} & found


@pytest.mark.parametrize(("row", "before", "after", "count"), CHANGES)
def test_consequence_of_a_key(row: Row, before: Any, after: Any, count: int, tmp_path: Path) -> None:
    old, new = (described({**row.beside, row.key: value}) for value in (before, after))
    proposal = proposed(old, new, tmp_path)
    assert (proposal.gravest, bool(proposal.proxies)) == (row.gravest, row.proxy)
    assert proposal.anything == (row.gravest is not NOTHING or row.proxy)
    assert (len(proposal.added), len(proposal.removed)) == (max(count, 0), max(-count, 0))
    assert {each.kind for each in proposal.effects()} <= {"create", "update", "remove"}


@pytest.mark.parametrize("edited", [None, b"[Service]\n"])
def test_what_runs_counts_also_where_its_file_is_not_what_it_was(edited: bytes | None, tmp_path: Path) -> None:
    new = described({"service.tasks_max": 5})
    store = put_in_force(described({}), tmp_path)
    unit = tmp_path / "etc/systemd/system/shop@.service"
    unit.unlink()
    if edited:
        unit.write_bytes(edited)
    assert propose(by_text(FILE, new, HOST, tmp_path), store, tmp_path, None).gravest is RESTART


def test_a_file_that_was_removed_is_put_back_and_read(tmp_path: Path) -> None:
    store = put_in_force(described({}), tmp_path)
    for name in ("systemd/system/shop@.service", "nginx/conf.d/shop.conf"):
        (tmp_path / "etc" / name).unlink()
    proposal = propose(by_text(FILE, described({}), HOST, tmp_path), store, tmp_path, None)
    assert (proposal.gravest, bool(proposal.proxies)) == (DAEMON_RELOAD, True)


def test_the_same_again_is_nothing(tmp_path: Path) -> None:
    text = described({})
    proposal = proposed(text, f"# a remark\n{text}", tmp_path)
    assert not proposal.anything
    assert list(proposal.effects()) == []


def test_a_change_of_nothing_does_not_stand_in_the_way_of_scaling(tmp_path: Path) -> None:
    """There is nothing that apply could put in force of it first."""
    file = tmp_path / "shop.toml"
    in_force = generation(by_text(file, described({}), HOST, tmp_path), 1).model_copy(update={"file": "/shop.toml"})
    file.write_text(described({"health.path": "/x"}))
    assert by_count(in_force, 5, HOST, tmp_path).instances.keys() == set("12345")
    file.write_text(described({"server.keepalive": 90}))
    with pytest.raises(ProblemsError, match="has other changes"):
        by_count(in_force, 5, HOST, tmp_path)


def test_of_many_changes_the_gravest_counts(tmp_path: Path) -> None:
    new = {"app": "a:c", "service.tasks_max": 5, "service.restart": "on-failure", "health.path": "/x"}
    proposal = proposed(described({}), described(new), tmp_path)
    assert (proposal.gravest, bool(proposal.proxies)) == (RESTART, False)
    proposal = proposed(described({}), described({**new, "listen.mode": "0666", "proxy.connections": 5}), tmp_path)
    assert (proposal.gravest, bool(proposal.proxies)) == (SOCKETS, True)


def test_another_name_is_another_deployment(tmp_path: Path) -> None:
    put_in_force(described({}), tmp_path)
    wanted = by_text(FILE, described({"name": "shop2"}), HOST, tmp_path)
    proposal = propose(wanted, Store("shop2", tmp_path / "state"), tmp_path, None)
    assert {change.kind for change in proposal.changes} == {"create"}
    assert not [effect for effect in proposal.effects() if "shop." in effect.what or "shop@" in effect.what]
    assert len(proposal.added) == 4


def test_first_apply_starts_all_and_renews_none(tmp_path: Path) -> None:
    wanted = by_text(FILE, described({}), HOST, tmp_path)
    proposal = propose(wanted, Store("shop", tmp_path / "state"), tmp_path, None)
    assert proposal.added == ("1", "2", "3", "4")
    assert proposal.gravest is DAEMON_RELOAD
    assert proposal.proxies


def test_effects_say_file_by_file_what_they_do(tmp_path: Path) -> None:
    new = described({"instances": 5, "service.tasks_max": 7})
    effects = {Path(each.what).name: each for each in proposed(described({}), new, tmp_path).effects()}
    assert {name: (each.kind, each.consequence) for name, each in effects.items()} == {
        "shop@.service": ("update", "restart instance by instance"),
        "shop.target": ("update", "daemon-reload"),
        "shop.conf": ("update", "proxy reload"),
        "shop@5": ("create", "instance added"),
    }
    assert effects["shop@.service"].diff.splitlines()[:2] == [
        f"--- {tmp_path}/etc/systemd/system/shop@.service",
        f"+++ {tmp_path}/etc/systemd/system/shop@.service",
    ]
    assert "\n+TasksMax=7\n" in effects["shop@.service"].diff


UNIT = """# ours
[Unit]
Description=x
[Service]
ExecStart=/bin/a --backlog=1 --alone b
Nice=1
Nice=2
[Install]
WantedBy=y
"""


@pytest.mark.parametrize(
    ("path", "old", "new", "expected"),
    [
        ("shop@.service", "", "", NOTHING),
        ("shop@.service", "# ours", "# still ours\n\n  # and more", NOTHING),
        ("shop@.service", "[Unit]", "[Unit]\n", NOTHING),
        ("shop@.service", " --alone b", " b", NOTHING),
        ("shop@.service", " --alone b", " --alone-b", RELOAD),
        ("shop@.service", " --alone b", " --alone b --alone", RELOAD),
        ("shop@.service", "Description=x", "Description=z", DAEMON_RELOAD),
        ("shop@.service", "WantedBy=y", "WantedBy=z", DAEMON_RELOAD),
        ("shop@.service", "Nice=1\n", "Umask=0\nNice=1\n", RESTART),
        ("shop@.service", "Description=x", "Description=x\nNice=1", DAEMON_RELOAD),
        ("shop@.service", "Nice=1\nNice=2", "Nice=2\nNice=1", RESTART),
        ("shop@.service", "Nice=1\n", "Nice=1\nNice=1\n", RESTART),
        ("shop@.service", "Nice=1\n", "", RESTART),
        ("shop@.service", "Nice=1\n", "RestartSec=1\nNice=1\n", DAEMON_RELOAD),
        ("shop@.service", "[Install]", "KillMode=mixed\nWorkingDirectory=/\n[Install]", RELOAD),
        ("shop@.socket", "Description=x", "Description=z", DAEMON_RELOAD),
        ("shop@1.socket", "[Install]", "[Socket]\nBacklog=5\n[Install]", SOCKETS),
        ("shop.target", "Nice=1", "Nice=5", DAEMON_RELOAD),
        ("shop.target", "# ours", "# theirs", NOTHING),
    ],
)
def test_consequence_of_a_line(path: str, old: str, new: str, expected: Consequence) -> None:
    before = UNIT
    assert old in before
    after = before.replace(old, new)
    at = PurePosixPath("/etc/systemd/system", path)
    assert consequence(at, before, after) is expected
    assert consequence(at, after, before) is expected


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/etc/systemd/system/shop@.service", DAEMON_RELOAD),
        ("/etc/systemd/system/shop@.socket", DAEMON_RELOAD),
        ("/etc/systemd/system/shop.target", DAEMON_RELOAD),
        ("/etc/nginx/conf.d/shop.conf", PROXY),
        ("/usr/lib/sysusers.d/shop.conf", NOTHING),
        ("/etc/aiosystemd/shop.toml", NOTHING),
    ],
)
def test_consequence_of_a_file_that_is_new_or_gone(path: str, expected: Consequence) -> None:
    assert consequence(PurePosixPath(path), None, UNIT) is expected
    assert consequence(PurePosixPath(path), UNIT, None) is expected
    assert consequence(PurePosixPath(path), UNIT, UNIT) is NOTHING
