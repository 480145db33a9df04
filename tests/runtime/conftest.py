"""Fixtures that own what they make."""

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.runtime.lab import HERE, PYTHON, Lab, MakeServer, Server
from tests.runtime.service import MakeService, Service, adopting_orphans, start


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


@pytest.fixture
def make_service(lab: Lab, loop: str) -> Iterator[MakeService]:
    """Return a function that starts an instance to be reloaded, once for each loop."""
    made: list[Service] = []

    def make(
        *options: str,
        arguments: Sequence[str] = (),
        cwd: Path = HERE / "apps",
        python: Path = PYTHON,
        **environment: str,
    ) -> Service:
        words = ["--loop", loop, "--idle", "60", "--drain", "60", *options, "release:make", *arguments]
        made.append(start(lab, *words, cwd=cwd, python=python, environment=environment))
        return made[-1]

    with adopting_orphans():
        yield make
        for service in made:
            service.close()
