"""The linters are tests: whoever runs these has run everything that is asked of the code."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent


@pytest.mark.parametrize(
    "command",
    [("ruff", "check"), ("ruff", "format", "--check"), ("mypy",), ("lint-imports", "--no-cache")],
    ids=" ".join,
)
def test_a_linter_finds_nothing(command: tuple[str, ...]) -> None:
    name, *arguments = command
    done = subprocess.run((BIN / name, *arguments), cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
