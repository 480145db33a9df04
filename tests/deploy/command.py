"""The program, on the host in a directory: ``python -m tests.deploy.command DIRECTORY [ARGUMENT]...``."""

import sys
from pathlib import Path

from aiosystemd import cli
from tests.deploy.place import move_in

if __name__ == "__main__":
    move_in(Path(sys.argv.pop(1)), setattr)
    cli.main()
