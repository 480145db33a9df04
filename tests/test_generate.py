"""What is to be done next follows from what has changed."""

from pathlib import Path
from typing import Literal

import pytest

from aiosystemd.build import Build, build
from aiosystemd.compare import Change
from aiosystemd.generate import _steps
from aiosystemd.host import Host

HOST = Host(systemd=252, nginx=(1, 22, 1), cpus=2, ipv6=True)
NGINX = ["nginx -t", "systemctl reload nginx"]


@pytest.fixture
def built(tmp_path: Path) -> Build:
    file = tmp_path / "shop.toml"
    file.write_text('name = "shop"\napp = "shop:app"\nservice.user = "shop"\n')
    return build(str(file), HOST)


def steps(built: Build, suffix: str, kind: Literal["create", "update"] = "update") -> list[str]:
    """Return what is next when only the files that end in ``suffix`` have changed."""
    changes = tuple(
        Change(Path(path), kind if path.name.endswith(suffix) else "unchanged", wanted)
        for path, wanted in built.tree.items()
    )
    return [action.describe() for action in _steps(built, changes)]


def test_nothing_is_next_when_nothing_has_changed(built: Build) -> None:
    assert steps(built, "no such file") == []


def test_a_new_deployment_is_started(built: Build) -> None:
    start = ["systemd-sysusers shop.conf", "systemctl daemon-reload", "systemctl enable --now shop.target"]
    assert steps(built, "", "create") == [*start, *NGINX]


def test_a_changed_service_is_rolled_out_and_nginx_left_alone(built: Build) -> None:
    found = steps(built, "@.service")
    assert found == [
        "systemctl daemon-reload",
        f"aiosystemd rollout {built.file}",
        "systemctl enable --now shop.target",
    ]


def test_a_changed_socket_is_opened_anew(built: Build) -> None:
    assert "systemctl restart 'shop@*.socket'" in steps(built, ".socket")


def test_a_changed_site_is_read(built: Build) -> None:
    assert [step for step in steps(built, "shop.conf") if "nginx" in step] == NGINX
