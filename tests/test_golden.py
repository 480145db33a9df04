"""What ``generate`` writes, byte for byte: ``golden/NAME.toml`` gives the files in ``golden/NAME/``.

Written anew by ``pytest tests/test_golden.py --update-golden``, and then read as an administrator would.
"""

import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from pydantic import BaseModel

from aiosystemd import load
from aiosystemd.host import Host, Manager
from aiosystemd.model import Deployment, Sandbox
from aiosystemd.plan import plan, render
from tests.tools import own_command

GOLDEN = Path(__file__).parent / "golden"
UNITS = Path(__file__).parent.parent / "units"
CASES = sorted(GOLDEN.glob("*.toml"))

RELAXATIONS: list[tuple[str, set[str], set[str]]] = [
    (
        'network = "none"',
        {"RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6"},
        {"PrivateNetwork=yes", "RestrictAddressFamilies=AF_UNIX", "IPAddressDeny=any"},
    ),
    ('addresses = ["localhost", "::/0"]', set(), {"IPAddressDeny=any", "IPAddressAllow=localhost ::/0"}),
    ('writable = ["/srv/a b"]', set(), {'ReadWritePaths="/srv/a b"'}),
    ("home = true", {"ProtectHome=yes"}, {"ProtectHome=read-only"}),
    ("shared_tmp = true", {"PrivateTmp=yes"}, {"PrivateTmp=no", "ReadWritePaths=/tmp /var/tmp"}),
    ("executable_memory = true", {"MemoryDenyWriteExecute=yes"}, set()),
    ("host_users = true", {"PrivateUsers=yes"}, {"PrivateUsers=no"}),
    ("system_bus = true", {"InaccessiblePaths=-/run/dbus"}, set()),
    (
        "resources = true",
        {"SystemCallFilter=~@privileged @resources"},
        {"SystemCallFilter=~@privileged"},
    ),
    ('devices = ["/dev/kvm"]', {"PrivateDevices=yes"}, {"PrivateDevices=no", "DeviceAllow=/dev/kvm rw"}),
    ("max_exposure = 9", set(), set()),
]
"""A key of ``[sandbox]``, the lines of the service that it takes away, and those that it brings."""


@pytest.fixture
def update(request: pytest.FixtureRequest) -> bool:
    """Whether expected files are to be written."""
    return bool(request.config.getoption("--update-golden"))


@pytest.mark.parametrize("file", CASES, ids=lambda file: file.stem)
def test_generated_files_are_the_reviewed_ones(file: Path, *, update: bool) -> None:
    directory = file.with_suffix("")
    tree = _tree(file)
    if update:
        shutil.rmtree(directory, ignore_errors=True)
        _write(directory, tree)
    assert _read(directory) == tree


def test_each_directory_has_its_deployment(*, update: bool) -> None:
    directories = {path for path in GOLDEN.iterdir() if path.is_dir()}
    extra = directories - {file.with_suffix("") for file in CASES}
    if update:
        for directory in extra:
            shutil.rmtree(directory)
        extra = set()
    assert extra == set()


def test_units_hold_what_the_command_writes(tmp_path: Path, *, update: bool) -> None:
    tree = _tree(UNITS / "example.toml")
    if update:
        for name in ("etc", "usr"):
            shutil.rmtree(UNITS / name, ignore_errors=True)
        _write(UNITS, tree)
    argv = (
        own_command("aiosystemd"),
        "generate",
        "units/example.toml",
        "--systemd",
        "252",
        "--nginx",
        "1.22",
        "--output",
        tmp_path,
    )
    subprocess.run(argv, check=True, cwd=UNITS.parent, stdout=subprocess.DEVNULL)
    own = {UNITS / "example.toml", UNITS / "my_app_module.py"}
    kept = {path: text for path, text in _read(UNITS).items() if UNITS / path not in own and "__pycache__" not in path}
    assert _read(tmp_path) == kept == tree


def test_a_second_run_gives_the_same_bytes() -> None:
    for file in CASES:
        assert _tree(file) == _tree(file)


def test_no_key_of_the_model_is_left_at_its_default_in_every_case() -> None:
    deployments = [load.load(file)[0] for file in CASES]
    assert set(_keys(Deployment)) - {key for each in deployments for key in _changed(each)} == set()


@pytest.mark.parametrize(("instances", "cpus", "count"), [("1000", 1, 1000), ('"auto"', 3, 3)])
def test_each_instance_has_its_units_and_its_place_behind_the_proxy(instances: str, cpus: int, count: int) -> None:
    text = f'name = "many"\napp = "many:app"\ninstances = {instances}\n'
    deployment, _ = load.validate(load.parse("many.toml", text))
    files = {file.path.name: file.content.render() for file in plan(deployment, Host(cpus=cpus), "many.toml").files}
    numbers = [str(number) for number in range(1, count + 1)]
    assert re.findall(r"^Wants=many@(\d+)\.socket many@\1\.service$", files["many.target"], re.MULTILINE) == numbers
    assert re.findall(r"server unix:/run/many/(\d+)\.sock ", files["many.conf"]) == numbers


@pytest.mark.parametrize(("key", "closed", "opened"), RELAXATIONS)
def test_a_relaxation_opens_what_it_names_and_nothing_else(key: str, closed: set[str], opened: set[str]) -> None:
    before, after = _service(""), _service(f"sandbox.{key}\n")
    assert (set(before) - set(after), set(after) - set(before)) == (closed, opened)


def test_each_key_of_the_sandbox_has_its_relaxation_tested() -> None:
    assert {key.split(" = ")[0] for key, *_ in RELAXATIONS} == set(Sandbox.model_fields)


def _service(more: str) -> list[str]:
    text = f'name = "shop"\napp = "shop:app"\nservice.user = "shop"\n{more}'
    deployment, _ = load.validate(load.parse("shop.toml", text))
    (unit,) = (file for file in plan(deployment, Host(), "shop.toml").files if file.path.name == "shop@.service")
    return [line for line in unit.content.render().split("\n") if not line.startswith("#")]


def _tree(file: Path) -> dict[str, str]:
    deployment, warnings = load.load(file)
    assert all(each.what.startswith("gunicorn says that it is ready") for each in warnings)  # of each such file
    tree = render(plan(deployment, _host(file), file.name))
    assert {path for path, rendered in tree.items() if rendered.mode != 0o644} == {
        path for path in tree if path.is_relative_to("/etc/sv")
    }
    return {_below(path): rendered.content.decode() for path, rendered in tree.items()}


def _host(file: Path) -> Host:
    if file.stem in set(Manager):
        return Host(manager=Manager(file.stem))
    target = re.match(r"# target: systemd (\d+) nginx ([\d.]+)(?: haproxy ([\d.]+))?\n", file.read_text())
    if target is None:
        return Host()
    nginx, haproxy = (tuple(map(int, (each or "2.6").split("."))) for each in target.groups()[1:])
    return Host(int(target[1]), nginx, haproxy)


def _below(path: PurePosixPath) -> str:
    return str(path.relative_to("/"))


def _read(directory: Path) -> dict[str, str]:
    files = (path for path in directory.rglob("*") if path.is_file())
    return {str(path.relative_to(directory)): path.read_bytes().decode() for path in files}


def _write(directory: Path, tree: Mapping[str, str]) -> None:
    for name, text in tree.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode())


def _keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, info in model.model_fields.items():
        yield f"{prefix}{name}"
        if table := load._table(info.annotation):
            yield from _keys(table, f"{prefix}{name}.")


def _changed(table: BaseModel, prefix: str = "") -> Iterator[str]:
    """Yield the keys that were written, with anything but the default."""
    for name, info in type(table).model_fields.items():
        value: Any = getattr(table, name)
        if name in table.model_fields_set and value != info.default:
            yield f"{prefix}{name}"
        if isinstance(value, BaseModel):
            yield from _changed(value, f"{prefix}{name}.")
