"""The project's own tests with Debian 13's Python and libraries, which are older than those of the other runs."""

from pathlib import Path

import pytest

from tests.container.machine import Machine

_PROJECT = Path(__file__).parents[2]
_DIRECTORIES = ("aiosystemd", "benchmarks", "debian", "docs", "tests", "units")
_FILES = ("pyproject.toml", "CHANGELOG.md", "CONTRIBUTING.md", "README.md", "LICENSE")


@pytest.mark.parametrize("suite", ["trixie"], indirect=True)
def test_suite_passes_on_the_libraries_of_debian_13(machine: Machine) -> None:
    for name in (*_DIRECTORIES, *_FILES):
        machine.copy(_PROJECT / name, f"/root/project/{name}")
    versions = ("aiohttp", "pydantic", "typer", "uvloop", "systemd-python")
    code = f"from importlib.metadata import version; print(*map(version, {versions}))"
    assert machine.run("python3", "-c", code).stdout.split()[:4] == ["3.11.16", "2.10.6", "0.15.2", "0.21.0"]
    done = machine.run(
        "env", "-C", "/root/project", "CI=true",
        "python3", "-m", "pytest", "-q", "-m", "not container", "--ignore=tests/test_linters.py",
        # They are about processes, files and system calls; the other tests here run the same code on this Debian.
        *(f"--ignore=tests/{name}" for name in ("deploy", "drill", "rollout", "up")),
        # Debian 13's groff has its say when the packages are built.
        *(f"--ignore=tests/{name}.py" for name in ("test_manual", "render/test_roff")),
        # Programs that Debian has not, or not in this machine.
        *(f"--ignore=tests/{name}" for name in ("managers", "render/test_ini.py", "test_nginx_clients.py")),
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
