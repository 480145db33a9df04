"""Debian trees to boot: built once by mmdebstrap, cached outside the repository, never written to again."""

import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_BASE: Final = (
    "systemd",
    "systemd-sysv",
    "dbus",
    "dbus-user-session",
    "nginx-light",
    "haproxy",
    "iproute2",
    "openssl",
    "procps",  # haproxy.service reloads with its kill(1)
    "python3",
    "python3-pip",
    "python3-systemd",
    "libfaketime",
)


@dataclass(frozen=True)
class Suite:
    """A Debian release, and what the tests need in it."""

    name: str
    packages: tuple[str, ...]
    """Debian packages."""
    wheels: tuple[str, ...]
    """Requirements that come from PyPI, because this release has none or too old ones."""
    python: str
    """Version of the release's ``/usr/bin/python3``."""

    @property
    def key(self) -> str:
        """Changes with everything that the tree is made of, so that a change here is a new tree."""
        text = "\n".join((self.name, *self.packages, "--", *self.wheels, self.python, platform.machine()))
        return f"{self.name}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"

    @property
    def site(self) -> str:
        """Where Debian's Python looks for what did not come from Debian, relative to the tree."""
        return f"usr/local/lib/python{self.python}/dist-packages"


TRIXIE: Final = Suite(
    name="trixie",
    # Debian 13's own libraries, and what runs the project's unit tests with them.
    packages=(
        *_BASE,
        "curl",  # speaks HTTP/3
        "caddy",
        "gunicorn",
        "python3-aiohttp",
        "python3-hypothesis",
        "python3-pydantic",
        "python3-pytest",
        "python3-tomlkit",
        "python3-typer",
        "python3-uvloop",
    ),
    wheels=("crossplane",),
    python="3.13",
)
BOOKWORM: Final = Suite(
    name="bookworm",
    # The oldest supported systemd with the newest libraries.
    packages=_BASE,
    wheels=("aiohttp", "gunicorn", "pydantic", "tomlkit", "typer", "uvloop"),
    python="3.11",
)
BUILD: Final = Suite(
    name="trixie",
    # What debian/control says for the build and for the tool, and lintian.
    packages=(
        *("build-essential", "debhelper", "pybuild-plugin-pyproject", "python3-all", "python3-hatchling"),
        *("python3-aiohttp", "python3-hypothesis", "python3-pydantic", "python3-pytest", "python3-rich"),
        *("python3-systemd", "python3-tomlkit", "python3-typer", "systemd", "lintian"),
    ),
    wheels=(),
    python="3.13",
)
ROADS: Final = Suite(
    name="trixie",
    # With the other process managers, and what the benchmarks compare with.
    packages=(*TRIXIE.packages, "runit", "supervisor", "wrk"),
    wheels=(*TRIXIE.wheels, "circus", "honcho"),
    python="3.13",
)
SUITES: Final = {suite.name: suite for suite in (TRIXIE, BOOKWORM)}


def root(suite: Suite) -> Path:
    """Return the tree of ``suite``, built if the cache lacks it (about half a minute; needs root and the network).

    Raises `subprocess.CalledProcessError`, with the tool's output in its note, when it cannot be built.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "aiosystemd" / "roots"
    cache.mkdir(parents=True, exist_ok=True)
    tree = cache / suite.key
    with locked(cache / f"{suite.key}.lock"):
        if not tree.exists():
            _build(suite, tree)
    return tree


def wheel(project: Path, directory: Path) -> Path:
    """Build the wheel of ``project`` into ``directory`` as a user's pip would, and return it."""
    _run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(directory), str(project))
    (built,) = directory.glob("*.whl")
    return built


def install(layer: Path, lower: Path, built: Path) -> None:
    """Fill the empty directory ``layer`` with what installing the wheel ``built`` over the tree ``lower`` changes.

    The tree's own pip installs it, so that the commands are the console scripts that a user gets.
    """
    with tempfile.TemporaryDirectory(prefix="aiosystemd-layer-", dir=layer.parent) as directory:
        script = """
            set -e
            mkdir "$1/work" "$1/tree"
            mount -t overlay overlay -o "lowerdir=$2,upperdir=$3,workdir=$1/work" "$1/tree"
            cp "$4" "$1/tree/tmp/"
            chroot "$1/tree" python3 -m pip install --quiet --no-index --no-deps --break-system-packages \
                --root-user-action=ignore "/tmp/${4##*/}"
            rm "$1/tree/tmp/${4##*/}"
        """
        # The mount lives in a namespace of the shell's own and ends with it, whatever happens.
        shell = ("unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh")
        _run(*shell, directory, str(lower), str(layer), str(built))


_HOOK: Final = 'rm -f "$1/etc/systemd/system/multi-user.target.wants/caddy.service"'
"""Port 80 is nginx's; Debian starts whatever is installed."""


def _build(suite: Suite, tree: Path) -> None:
    unfinished = tree.with_name(f"{tree.name}.tmp")
    # An earlier run may have been killed; the lock says that nobody else is at work here.
    shutil.rmtree(unfinished, ignore_errors=True)
    packages = ",".join(suite.packages)
    try:
        _run(
            "mmdebstrap",
            "--quiet",
            "--variant=apt",
            f"--customize-hook={_HOOK}",
            f"--include={packages}",
            suite.name,
            str(unfinished),
        )
        if suite.wheels:
            _add_wheels(suite, unfinished)
        unfinished.rename(tree)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _add_wheels(suite: Suite, tree: Path) -> None:
    # The host's pip picks wheels for the tree's interpreter, which has no network when it runs.
    machine = platform.machine()
    platforms = (f"--platform=manylinux_2_{minor}_{machine}" for minor in (36, 28, 17))
    target = ("--only-binary=:all:", "--implementation=cp", f"--python-version={suite.python}", *platforms)
    where = f"--target={tree / suite.site}"
    _run(sys.executable, "-m", "pip", "install", "--quiet", "--no-compile", *target, where, *suite.wheels)


def _run(*argv: str) -> None:
    # Not the caller's LC_ALL and the like, which the tree does not have.
    environment = {**os.environ, "LC_ALL": "C.UTF-8", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        error = subprocess.CalledProcessError(done.returncode, argv)
        error.add_note(f"{done.stdout}{done.stderr}")
        raise error


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock file."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
