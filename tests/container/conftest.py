"""Machines for the tests in this directory."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.container.debs import build, own_sources, packed
from tests.container.hello import HELLO, tools
from tests.container.machine import Machine
from tests.container.roots import SUITES, TRIXIE, Suite, install, locked, root, wheel
from tests.tools import lacking, require, require_root

_HERE = Path(__file__).parent
_PROJECT = _HERE.parents[1]
_TOOLS = ("mmdebstrap", "systemd-nspawn", "nsenter", "setpriv", "unshare")

Boot = Callable[[], Machine]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if _HERE in item.path.parents:
            item.add_marker(pytest.mark.container)


both_releases = pytest.mark.parametrize("suite", SUITES, indirect=True)
"""For a test of what systemd and nginx do: each version may do it in another way. The others are for the newest."""


@pytest.fixture(scope="session", params=[TRIXIE.name])
def suite(request: pytest.FixtureRequest) -> Suite:
    """Return a Debian release."""
    return SUITES[request.param]


@pytest.fixture(scope="session")
def debian(suite: Suite) -> Path:
    """Return the release's own tree, without aiosystemd."""
    require_root()
    for tool in _TOOLS:
        require(tool)
    if not Path("/usr/share/keyrings/debian-archive-keyring.gpg").exists():
        lacking("debian-archive-keyring is not installed")
    return root(suite)


@pytest.fixture(scope="session")
def built_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the wheel of the working tree."""
    return wheel(_PROJECT, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="session")
def installed(debian: Path, built_wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return the trees of a machine on which aiosystemd is installed, topmost first."""
    layer = tmp_path_factory.mktemp("layer")
    layer.chmod(0o755)  # it becomes the machine's "/"
    install(layer, debian, built_wheel)
    return layer, debian


@pytest.fixture(scope="session")
def debs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with the project's Debian packages, their sources, and a packager's hello-site."""
    require_root()
    for tool in ("mmdebstrap", "unshare"):
        require(tool)
    # Of all workers of a run: one builds them, the others wait.
    base = tmp_path_factory.getbasetemp()
    directory = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "debs"
    with locked(directory.with_suffix(".lock")):
        if not directory.exists():
            unfinished = directory.with_suffix(".tmp")
            unfinished.mkdir()
            (unfinished / "sources.tar").write_bytes(own_sources())
            build((unfinished / "sources.tar").read_bytes(), unfinished)
            build(packed(HELLO), unfinished, debs=tools(unfinished))
            unfinished.rename(directory)
    return directory


@pytest.fixture
def boot(installed: tuple[Path, Path]) -> Iterator[Boot]:
    """Return a function that boots one more machine with aiosystemd; all end with the test."""
    with ExitStack() as stack:
        yield lambda: stack.enter_context(Machine(*installed))


@pytest.fixture
def machine(boot: Boot) -> Machine:
    """Return a fresh machine with aiosystemd."""
    return boot()


@pytest.fixture(scope="module")
def shared_machine(installed: tuple[Path, Path]) -> Iterator[Machine]:
    """Return a machine with aiosystemd that all tests of a module use; each leaves it as it found it."""
    with Machine(*installed) as machine:
        yield machine
