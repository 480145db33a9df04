"""A deployment in a directory of its own, and programs that run it."""

import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.up.program import Program, ended, free_ports

_APP = Path(__file__).with_name("app.py")


class Site:
    """A deployment file, its application, and a port."""

    def __init__(self, directory: Path, temporary: Path) -> None:
        self.directory, self.temporary = directory, temporary
        self.port = free_ports(2)
        self.programs: list[Program] = []
        shutil.copy(_APP, directory / "app.py")

    def write(self, *lines: str, app: str = "app:make", instances: int = 1) -> None:
        """Write the deployment file."""
        head = ('name = "shop"', f'app = "{app}"', f"instances = {instances}")
        (self.directory / "shop.toml").write_text("\n".join((*head, *lines, "")))

    def up(self, *arguments: str, **options: Any) -> Program:
        """Start the program."""
        arguments = ("shop.toml", "--port", str(self.port), *arguments)
        self.programs.append(Program(arguments, self.directory, self.temporary, **options))
        return self.programs[-1]

    def serving(self, *arguments: str, **options: Any) -> Program:
        """Start the program and wait until it serves."""
        program = self.up(*arguments, **options)
        program.wait_for(r"\| serving on .*\n")
        return program

    def stop(self, program: Program) -> None:
        """Press Ctrl-C, and want the program gone without a trace."""
        family = program.family()
        program.send(signal.SIGINT)
        self.gone(program, family, status=0)

    def gone(self, program: Program, family: list[int], *, status: int) -> None:
        """Want the end of the program, with ``status``, and of its ``family``."""
        assert (program.end(), family != []) == (status, True), program.output
        assert "Warning" not in program.output
        assert ended(family)
        assert not list(self.temporary.iterdir())


@pytest.fixture
def site() -> Iterator[Site]:
    # Not tmp_path: with a test's long name in it a socket's path may exceed unix(7)'s 108 bytes.
    directory = Path(tempfile.mkdtemp(prefix="up"))
    (directory / "site").mkdir()
    (directory / "tmp").mkdir()
    site = Site(directory / "site", directory / "tmp")
    site.write()
    yield site
    for program in site.programs:
        program.close()
    shutil.rmtree(directory)
