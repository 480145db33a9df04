"""The sandbox is in force, and no wider than it says."""

import re

import pytest

from tests.container.conftest import both_releases
from tests.container.machine import Machine
from tests.container.site import INSTANCES, Site


@pytest.fixture
def site(machine: Machine) -> Site:
    """Return an application without network that tries what it is asked to, started."""
    site = Site.shape(machine, "echo")
    site.systemctl("start", "echo.target")
    return site


def exposure(machine: Machine, unit: str) -> float:
    found = re.search(r"exposure level for \S+: ([0-9.]+)", machine.run("systemd-analyze", "security", unit).stdout)
    assert found
    return float(found[1])


@both_releases
def test_network_none_reaches_nothing(site: Site) -> None:
    site.machine.run("ip", "address", "add", "192.0.2.1/32", "dev", "lo")
    assert site.machine.http("/", headers={"Host": "echo.test"}).status == 200  # nginx does listen on port 80
    for address in ("127.0.0.1", "192.0.2.1", "::1"):
        assert site.ask(f"/connect?host={address}&port=80").text != "connected"


@both_releases
def test_outbound_reaches_the_network_unless_addresses_say_less(machine: Machine) -> None:
    machine.run("ip", "address", "add", "192.0.2.1/32", "dev", "lo")
    site = Site.shape(machine, "echo", sandbox='network = "outbound"\n')
    site.systemctl("start", "echo@1")
    assert exposure(machine, "echo@1.service") <= 1.1
    assert site.ask("/connect?host=192.0.2.1&port=80").text == "connected"
    site.configure(sandbox='network = "outbound"\naddresses = ["localhost"]\n')
    site.systemctl("restart", "echo@1")
    assert exposure(machine, "echo@1.service") <= 0.9
    assert site.ask("/connect?host=127.0.0.1&port=80").text == "connected"
    assert site.ask("/connect?host=192.0.2.1&port=80").text in {"TimeoutError", "PermissionError"}


@both_releases
@pytest.mark.parametrize("path", ["/srv/echo/x", "/etc/x", "/usr/x", "/var/lib/x", "/root/x", "/home/x", "/run/echo/x"])
def test_nothing_is_written_outside(site: Site, path: str) -> None:
    assert site.ask(f"/write?path={path}").text in {"OSError", "PermissionError", "FileNotFoundError"}
    assert site.machine.run("test", "-e", path, check=False).returncode != 0


@both_releases
def test_state_directory_is_written_and_survives(site: Site) -> None:
    assert site.ask("/write?path=/var/lib/echo/kept").text == "written"
    site.systemctl("restart", *(f"echo@{name}" for name in INSTANCES))
    assert site.machine.read("/var/lib/private/echo/kept") == "written"


@both_releases
def test_private_tmp_is_its_own(site: Site) -> None:
    assert site.ask("/write?path=/tmp/mine").text == "written"
    assert site.machine.run("test", "-e", "/tmp/mine", check=False).returncode != 0  # noqa: S108 (the machine's)


@both_releases
def test_exposure_without_network(site: Site) -> None:
    assert exposure(site.machine, "echo@1.service") <= 0.2


@both_releases
def test_exposure_of_the_reference_deployment(machine: Machine) -> None:
    site = Site.reference(machine)
    site.systemctl("start", "example@1")
    assert exposure(machine, "example@1.service") <= 1.1


@both_releases
def test_application_runs_under_uvloop_as_a_user_that_does_not_exist_otherwise(site: Site) -> None:
    pid = site.pids()["1"]
    assert "uvloop" in site.machine.read(f"/proc/{pid}/maps")
    owner = site.machine.run("stat", "--format=%u", f"/proc/{pid}").stdout.strip()
    assert 61184 <= int(owner) <= 65519  # systemd.exec(5), DynamicUser=
    assert "echo" not in site.machine.read("/etc/passwd")
