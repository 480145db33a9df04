"""Fixtures that own what they make."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.runtime.lab import Lab, MakeServer, Server


@pytest.fixture(params=["asyncio", "uvloop"])
def loop(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def lab() -> Iterator[Lab]:
    # Not tmp_path: with a test's long name in it a socket's path may exceed unix(7)'s 108 bytes.
    directory = Path(tempfile.mkdtemp(prefix="lab"))
    lab = Lab(directory)
    yield lab
    lab.close()
    shutil.rmtree(directory)


@pytest.fixture
def make_server(lab: Lab, loop: str) -> MakeServer:
    """Return a function that starts the application ``shop:app`` on one inherited unix socket, once for each loop."""

    def make(*options: str, app: str = "shop:app", **environment: str) -> Server:
        return lab.run("--loop", loop, *options, app, listeners=[lab.unix()], environment=environment)

    return make
