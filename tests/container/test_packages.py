"""Packages with deployments through their lives, by apt, on a Debian with a real systemd and a real nginx."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from tests.container.machine import Machine
from tests.container.packages import APT, HALF, HERE, INSTALLED, QUICK, Package, apt, install_offline, listing
from tests.container.site import Site

BROKEN: Final = "raise RuntimeError('no such luck')\n"
POLICY: Final = "/usr/sbin/policy-rc.d"
REQUESTS: Final = 10_000
_SERVES: Final = Path(__file__).parents[2] / "debian/tests/serves"
TOOLS: Final = ("aiosystemd", "python3-aiosystemd")


class Host(NamedTuple):
    """A machine on which aiosystemd and its example were installed before it was booted."""

    machine: Machine
    debs: dict[str, Path]
    """The packages that are installed, by name."""
    before: set[str]
    """What there was before they were installed."""
    booted: tuple[dict[str, str], set[str]]
    """The states of the example's instances when it had booted, and what they and nginx answered."""
    directory: Path


@pytest.fixture(scope="module")
def host(debian: Path, debs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """Return the machine of this module."""
    directory = tmp_path_factory.mktemp("packages")
    layer = directory / "layer"
    layer.mkdir(mode=0o755)
    names = (*TOOLS, "aiosystemd-example", "hello-site")
    found = {name: next(debs.glob(f"{name}_*.deb")) for name in names}
    before = install_offline(layer, debian, tuple(found.values()))
    with Machine(layer, debian) as machine:
        host = Host(machine, found, before, ({}, set()), directory)
        example = _example(host)
        states = example.instances()
        answers = {example.site.ask().text, *(example.site.ask_instance(name).text for name in "1234")}
        yield host._replace(booted=(states, answers))


def _example(host: Host) -> Package:
    """Return the reference deployment."""
    site = Site(host.machine, "example", host.machine.run("hostname").stdout.strip())
    name, app = "aiosystemd-example", "/usr/share/aiosystemd-example/my_app_module.py"
    return Package(site, name, host.debs[name], app, "Welcome home!", host.directory)


def _other(host: Host) -> Package:
    """Return a deployment of a packager who has nothing but its file for it."""
    site, name = Site(host.machine, "hello", "hello.test"), "hello-site"
    return Package(site, name, host.debs[name], "/usr/share/hello-site/hello.py", "Hello!", host.directory)


@pytest.fixture
def example(host: Host) -> Package:
    """Return the reference deployment, in some version, serving; a test leaves it so."""
    return _example(host).whole()


@pytest.fixture(params=[_example, _other])
def package(request: pytest.FixtureRequest, host: Host) -> Package:
    """Return one deployment after the other in the same way."""
    found: Package = request.param(host)
    return found.whole()


def test_install_where_no_systemd_runs_serves_after_the_boot(host: Host) -> None:
    assert host.booted == (dict.fromkeys("1234", "active"), {"Welcome home!"})


def test_install_enables_and_starts_every_instance(package: Package) -> None:
    package.fresh()
    package.serves(package.greeting)
    assert package.is_enabled() == "enabled"
    assert package.machine.run("aiosystemd", "diff", package.site.name).stdout.endswith("nothing to do\n")


def test_each_instance_starts_by_hand(example: Package) -> None:
    greeting = example.site.ask().text
    example.machine.systemctl("stop", "example.target")
    example.stops()
    for name in "1234":
        example.machine.systemctl("start", f"example@{name}")
        assert example.site.ask_instance(name).text == greeting
    example.machine.systemctl("start", "example.target")
    example.serves(greeting)


def test_upgrade_under_load_loses_no_request(package: Package) -> None:
    before = package.site.pids()
    # Of the two, the one with each instance watched for as long as in earnest.
    new = package.later("under load", *([QUICK] if package.site.name == "hello" else []))
    with package.load() as load:
        load.wait(500)
        apt(package.machine, "install", new)
        load.wait(max(500, REQUESTS - load.report().requests))
    assert load.report().failures == {}
    assert load.report().requests >= REQUESTS
    package.serves("under load")
    assert not set(before.values()) & set(package.site.pids().values())


def test_upgrade_keeps_an_edited_deployment_file_and_puts_it_in_force(example: Package) -> None:
    with example.edited("app =", "instances = 6\napp ="):
        example.upgrade("six")
        assert "instances = 6\n" in example.machine.read(example.file)
        example.serves("six", 6)
        site = example.machine.read("/etc/nginx/conf.d/example.conf")
        assert "/run/example/6.sock" in site
    example.machine.run("aiosystemd", "apply", "example", "--yes", "--pause", "0")
    example.serves("six")


def test_wrong_edit_fails_the_upgrade_before_anything_that_runs_is_touched(example: Package) -> None:
    before, greeting = example.site.pids(), example.site.ask().text
    units = ("sh", "-c", "sha256sum /etc/systemd/system/example* /etc/nginx/conf.d/example.conf")
    files = example.machine.run(*units).stdout
    new = example.later("edited", QUICK)
    with example.edited("app =", "instnaces = 6\napp ="):
        said = apt(example.machine, "install", new, fails=True)
        line = example.machine.read(example.file).splitlines().index("instnaces = 6") + 1
        assert f'{example.file}:{line}:1: unknown key "instnaces"' in said
        assert example.status() == HALF
        assert (example.site.pids(), example.machine.run(*units).stdout) == (before, files)
        assert example.site.ask().text == greeting
    example.machine.run("dpkg", "--configure", "-a")
    assert example.status() == INSTALLED
    example.serves("edited")


def test_old_version_serves_when_the_new_one_is_broken_and_the_next_one_repairs_it(example: Package) -> None:
    before, greeting = example.site.pids(), example.site.ask().text
    with example.load("--pause", "0.02") as load:
        load.wait(100)
        said = apt(example.machine, "install", example.later("", QUICK, code=BROKEN), fails=True)
        load.wait(100)
        assert "no such luck" in said
        assert example.status() == HALF
        assert example.site.pids() == before
        example.serves(greeting)
        example.upgrade("repaired")
    assert load.report().failures == {}
    example.serves("repaired")


def test_upgrade_that_is_killed_serves_on_and_is_repaired_by_dpkg(example: Package) -> None:
    before = example.site.pids()
    # Time enough between two instances.
    new = example.later("after the kill", ("aiosystemd apply", "aiosystemd apply --pause 1"))
    with example.load("--close", "--pause", "0.02") as load:
        # In a cgroup of its own, all of which dies at once: apt-get, dpkg, the postinst, aiosystemd.
        example.machine.run("systemd-run", "--quiet", "--unit=upgrade", *APT, "install", new)
        example.site.wait_for(lambda: example.site.pids()["1"] != before["1"])
        example.machine.systemctl("kill", "--signal=KILL", "upgrade.service")
        example.site.wait_for(lambda: example.site.state("upgrade.service") == "failed")
        assert example.status() == HALF
        assert example.site.ask_instance("4").text != "after the kill"
        load.wait(100)
        example.machine.run("dpkg", "--configure", "-a")
        load.wait(100)
    example.machine.systemctl("reset-failed", "upgrade.service")
    assert load.report().failures == {}
    assert example.status() == INSTALLED
    example.serves("after the kill")


def test_downgrade_serves_the_older_version(example: Package) -> None:
    apt(example.machine, "install", example.later("older", QUICK, sign="~"))
    example.serves("older")


def test_what_the_administrator_has_switched_off_stays_off(example: Package) -> None:
    machine = example.machine
    machine.systemctl("disable", "--now", "example.target")
    example.stops()
    example.upgrade("off")
    assert example.is_enabled() == "disabled"
    assert set(example.loaded().values()) <= {"inactive"}
    machine.systemctl("enable", "--now", "example.target")
    example.serves("off")


def test_masked_instance_stays_masked(example: Package) -> None:
    machine, unit = example.machine, "example@2.service"
    machine.systemctl("mask", "--now", unit)
    try:
        example.upgrade("masked")
        assert machine.systemctl("is-enabled", unit, check=False) == "masked"
        assert {name: example.instances().get(name) for name in "134"} == dict.fromkeys("134", "active")
        assert example.instances().get("2", "inactive") == "inactive"
        assert {example.site.ask_instance(name).text for name in "134"} == {"masked"}
    finally:
        machine.systemctl("unmask", unit)
    machine.systemctl("start", unit)
    example.serves("masked")


def test_policy_that_forbids_leaves_files_and_starts_nothing(example: Package) -> None:
    machine = example.machine
    apt(example.machine, "purge", example.name)
    machine.write(POLICY, "#!/bin/sh\nexit 101\n", 0o755)
    try:
        apt(example.machine, "install", example.first)
    finally:
        machine.run("rm", POLICY)
    assert (example.status(), example.is_enabled()) == (INSTALLED, "enabled")
    assert "active" not in example.loaded().values()
    # As at the next boot, when nginx too reads what is there.
    machine.systemctl("start", "example.target")
    machine.systemctl("restart", "nginx")
    example.serves(example.greeting)


def test_remove_leaves_the_deployment_file_and_a_machine_without_the_deployment(package: Package) -> None:
    machine, name = package.machine, package.site.name
    apt(package.machine, "remove", package.name)
    assert package.loaded() == {}
    places = ("/etc/systemd/system", "/etc/nginx", "/run", "/var/lib/aiosystemd")
    assert machine.run("find", *places, "-name", f"{name}*", "-not", "-name", "*.lock").stdout == ""
    machine.run("test", "-e", package.file)
    machine.run("nginx", "-t")
    assert machine.systemctl("is-active", "nginx") == "active"
    apt(package.machine, "install", package.first)
    package.serves(package.greeting)


def test_removal_that_fails_leaves_the_deployment_serving(example: Package) -> None:
    machine, other = example.machine, "/etc/nginx/conf.d/other.conf"
    before, greeting = example.site.pids(), example.site.ask().text
    machine.write(other, "no such directive;\n")
    try:
        said = apt(example.machine, "remove", example.name, fails=True)
    finally:
        machine.run("rm", other)
    assert 'unknown directive "no"' in said
    assert example.site.pids() == before
    example.serves(greeting)
    # dpkg(1) still knows that it was to go.
    machine.run("dpkg", "--set-selections", stdin=f"{example.name} install\n")


def test_package_whose_first_install_fails_can_be_purged(example: Package) -> None:
    broken = example.later("", QUICK, code=BROKEN)
    apt(example.machine, "purge", example.name)
    assert "no such luck" in apt(example.machine, "install", broken, fails=True)
    assert (example.status(), example.loaded()) == (HALF, {})
    apt(example.machine, "purge", example.name)
    assert example.status() == ""
    example.machine.run("nginx", "-t")
    apt(example.machine, "install", example.first)


def test_the_package_passes_its_own_test(example: Package) -> None:
    """autopkgtest(1) runs it in a machine like this one."""
    example.fresh()
    example.machine.copy(_SERVES, "/tmp/serves")  # noqa: S108 (of the machine)
    example.machine.run("sh", "/tmp/serves")  # noqa: S108
    example.serves(example.greeting)


def test_purge_of_all_leaves_nothing(host: Host) -> None:
    for each in (_example, _other):
        each(host).whole()
    apt(host.machine, "purge", *host.debs)
    try:
        assert listing(host.machine) == host.before
        host.machine.run("nginx", "-t")
        assert host.machine.systemctl("is-active", "nginx") == "active"
    finally:
        apt(host.machine, "install", *(f"{HERE}/{deb.name}" for deb in host.debs.values()))
