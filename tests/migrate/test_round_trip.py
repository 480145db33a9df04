"""What was exported for another manager and is imported again gives the same units, and a site."""

import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiosystemd import load
from aiosystemd.host import Host, Manager
from aiosystemd.migrate import Imported, imported, importing
from aiosystemd.migrate.found import Text
from aiosystemd.model import Deployment
from aiosystemd.plan import plan, render
from aiosystemd.render.text import Unrepresentable
from tests.render.hostile import texts

FORMATS = {Manager.SUPERVISORD: "/etc/supervisor/conf.d", Manager.CIRCUS: "/etc/circus", Manager.PROCFILE: "/srv"}
_LINES = texts.map(lambda text: "".join(char for char in text if char.isprintable()).strip("'\" "))

_OF_THE_PROCESS = st.fixed_dictionaries(
    {"name": st.just("shop"), "app": st.sampled_from(["shop:app", "shop.main:create"]), "instances": st.integers(1, 3)},
    optional={
        "directory": st.just("/srv/shop 2"),
        "python": st.just("/srv/shop/venv/bin/python"),
        "arguments": st.lists(_LINES, max_size=3),
        "server": st.fixed_dictionaries(
            {},
            optional={
                "loop": st.sampled_from(["asyncio", "uvloop"]),
                "body_limit": st.integers(1, 1 << 30),
                "access_log": st.sampled_from(["text", "journal"]),
            },
        ),
        "listen": st.fixed_dictionaries({}, optional={"mode": st.just("0600"), "backlog": st.integers(1, 4096)}),
        "timeouts": st.fixed_dictionaries({}, optional={"start": st.integers(1, 600), "drain": st.integers(40, 600)}),
    },
)
"""What the command of a process tells, and no more: nothing of a proxy, nor of a sandbox."""


def _units(deployment: Deployment, instances: int | str) -> dict[str, bytes]:
    kept = deployment.model_copy(update={"instances": instances})
    tree = render(plan(kept, Host(), "shop.toml"))
    return {str(path): file.content for path, file in tree.items() if "systemd/system" in str(path)}


def _imported(manager: Manager, d: Deployment, directory: Path) -> tuple[Imported, ...]:
    tree = render(plan(d, Host(manager=manager), "shop.toml"))
    (content,) = (file.content for path, file in tree.items() if path.is_relative_to(FORMATS[manager]))
    name = {Manager.PROCFILE: "Procfile"}.get(manager, "shop.ini")
    (directory / name).write_bytes(content)
    found = importing(manager.value, [directory / name])  # type: ignore[arg-type]
    return tuple(each for each in found if not each.left_out)


@pytest.mark.parametrize("manager", FORMATS)
@settings(deadline=None, max_examples=40)
@given(_OF_THE_PROCESS, st.dictionaries(st.sampled_from(["A", "B_C"]), _LINES))
def test_what_was_exported_is_imported_again(manager: Manager, data: dict[str, Any], variables: dict[str, str]) -> None:
    user = {} if manager is Manager.PROCFILE else {"user": "shop"}
    data = {**data, "service": {**user, "environment": variables}}
    d = Deployment.model_validate(load._tuples(data))
    with tempfile.TemporaryDirectory() as name:
        try:
            found = _imported(manager, d, Path(name))
        except Unrepresentable:
            return
    (again,) = found
    assert again.name == "shop"
    assert _units(load.modelled(load.parse("shop.toml", again.text)), d.instances) == _units(d, d.instances)


@pytest.mark.parametrize("manager", FORMATS)
def test_number_of_instances_comes_back(manager: Manager, tmp_path: Path) -> None:
    toml = 'name = "shop"\napp = "shop:app"\ninstances = 3\n[service]\nuser = "shop"\n'
    d, _ = load.validate(load.parse("shop.toml", toml))
    (again,) = _imported(manager, d, tmp_path)
    assert load.modelled(load.parse("shop.toml", again.text)).instances == 3


def test_programs_that_differ_stay_apart(tmp_path: Path) -> None:
    lines = (f"shop-{number}: python -m aiosystemd.runtime shop:app{number % 2}\n" for number in range(1, 4))
    (tmp_path / "Procfile").write_text("".join(lines))
    assert [each.name for each in importing("procfile", [tmp_path / "Procfile"])] == ["shop-1", "shop-2", "shop-3"]


def test_umask_of_circus_is_a_decimal_number(tmp_path: Path) -> None:
    # circus.sockets.CircusSocket.load_from_config, 0.19: what looks like 117 gives everyone but the group the right.
    d, _ = load.validate(load.parse("shop.toml", 'name = "shop"\napp = "shop:app"\nservice.user = "shop"\n'))
    tree = render(plan(d, Host(manager=Manager.CIRCUS), "shop.toml"))
    text = next(file.content for path, file in tree.items() if path.suffix == ".ini").decode()
    assert f"umask = {0o117}" in text
    (tmp_path / "circus.ini").write_text(text.replace(f"umask = {0o117}", "umask = 022"))
    (again,) = (each for each in importing("circus", [tmp_path / "circus.ini"]) if not each.left_out)
    mistakes = {each.says for each in again.findings if each.outcome == "mistake"}
    assert mistakes == {"Circus takes it for a decimal number, which is 026 in octal"}


@pytest.mark.parametrize("name", ["nginx", "tls", "tls-without-redirect", "tcp"])
def test_a_site_that_was_generated_is_read_again(name: str) -> None:
    golden = Path(__file__).parents[1] / "golden"
    before = load.load(golden / f"{name}.toml")[0]
    (site,) = (golden / name / "etc/nginx/conf.d").glob("*.conf")
    address = f"unix:{before.socket_directory}/1.sock" if before.listen.port is None else f":{before.listen.port}"
    command = f"web: gunicorn {before.app} -k aiohttp.GunicornWebWorker -b {address}"
    found, *_ = imported("procfile", [Text("Procfile", command)], proxies=[Text("site.conf", site.read_text())])
    after = load.validate(load.parse("FILE", found.text))[0]
    for key in ("server_names", "listen", "default_server", "tls", "connections", "keepalive"):
        assert getattr(after.proxy, key) == getattr(before.proxy, key), key
    for old, new in ((before.proxy.static, after.proxy.static), (before.proxy.internal, after.proxy.internal)):
        assert new == {f"{path.rstrip('/')}/": directory for path, directory in old.items()}
    assert set(after.proxy.trusted) >= set(before.proxy.trusted) - {"localhost"}
    assert (after.body_size, after.timeouts.request) == (before.body_size, before.timeouts.request)
