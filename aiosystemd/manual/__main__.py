"""``python3 -m aiosystemd.manual DIR``: write the manual pages."""

import sys
import tomllib
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Final

from aiosystemd.apply import replace
from aiosystemd.errors import ExitCode
from aiosystemd.manual import pages

USAGE: Final = "usage: python3 -m aiosystemd.manual DIR"


def main() -> int:
    """Write the pages below the directory that the command line names; return the exit status."""
    match sys.argv[1:]:
        case [directory] if not directory.startswith("-"):
            pass
        case other:
            wanted = other in (["-h"], ["--help"])
            print(USAGE, file=sys.stdout if wanted else sys.stderr)
            return ExitCode.FINE if wanted else ExitCode.USAGE
    try:
        for page in pages(_version()):
            _write(Path(directory, page.file), page.render().encode())
    except OSError as error:
        print(f"{error.filename}: {error.strerror}", file=sys.stderr)  # noqa: T201
        return ExitCode.PROBLEMS
    return ExitCode.FINE


def _write(path: Path, content: bytes) -> None:
    if not path.is_file() or path.read_bytes() != content:
        replace(path, content, 0o644)


def _version() -> str:
    # The source tree's own, whatever is installed on the machine that builds it.
    metadata = Path(__file__).parents[2] / "pyproject.toml"
    if not metadata.is_file():
        return installed_version("aiosystemd")
    return str(tomllib.loads(metadata.read_text())["project"]["version"])


if __name__ == "__main__":
    sys.exit(main())
