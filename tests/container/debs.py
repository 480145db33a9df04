"""Debian packages, built as a build host of Debian 13 does: ``python3 -m tests.container.debs DIRECTORY``."""

import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

# Run by `make deb` too, before anything is installed: the standard library alone.
from tests.container.roots import BUILD, root

PROJECT: Final = Path(__file__).parents[2]

_SCRIPT: Final = """
    set -e
    directory=$1 lower=$2 source=$3
    mkdir "$directory/upper" "$directory/work" "$directory/tree" "$directory/upper/debs"
    mount -t overlay overlay -o "lowerdir=$lower,upperdir=$directory/upper,workdir=$directory/work" "$directory/tree"
    mount -t proc proc "$directory/tree/proc"
    mkdir -p "$directory/tree$source"
    tar --extract --directory "$directory/tree$source"
    shift 3
    for deb in "$@"; do cp "$deb" "$directory/tree/debs"; done
    [ $# = 0 ] || chroot "$directory/tree" sh -c 'dpkg --install /debs/*.deb'
    exec chroot "$directory/tree" env --chdir="$source" LC_ALL=C.UTF-8 HOME=/root sh -c "$COMMAND" 2>&1
"""


class BuildError(Exception):
    """A build failed; the text is what it said."""


def build(  # noqa: PLR0913 (as many as a build has)
    sources: bytes,
    directory: Path,
    *,
    debs: Iterable[Path] = (),
    command: str = "dpkg-buildpackage --no-sign",
    where: str = "/build/aiosystemd",
    environment: Mapping[str, str] | None = None,
) -> str:
    """Build the source package in ``sources``, a tar file, into the empty ``directory``; return what was said.

    It has no network, and what BUILD and the packages ``debs`` bring. Raises BuildError.
    """
    with tempfile.TemporaryDirectory(prefix="aiosystemd-build-", dir="/var/tmp") as scratch:
        arguments = (scratch, str(root(BUILD)), where, *map(str, debs))
        # The mounts live in a namespace of the shell's own and end with it, whatever happens.
        shell = ("unshare", "--mount", "--net", "--propagation=private", "sh", "-c", _SCRIPT, "sh", *arguments)
        clean = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "COMMAND": command, **(environment or {})}
        done = subprocess.run(shell, input=sources, env=clean, capture_output=True, check=False)
        said = (done.stderr + done.stdout).decode()
        if done.returncode:
            raise BuildError(said)
        for path in (Path(scratch) / f"upper{where}").parent.iterdir():
            if path.is_file():
                shutil.copy2(path, directory)
        return said


def own_sources() -> bytes:
    """Return the project's files as git knows them, with what was edited since, as a tar file.

    Raises BuildError.
    """
    # sudo make deb: git(1) would not look at another user's files.
    listed = ("git", "-c", f"safe.directory={PROJECT}", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    done = subprocess.run(listed, cwd=PROJECT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BuildError(f"git ls-files: {done.stderr.strip()}")
    paths = {name: PROJECT / name for name in sorted(done.stdout.split("\0")) if name}
    return packed({name: path for name, path in paths.items() if path.exists()})


def packed(files: Mapping[str, Path | str]) -> bytes:
    """Return files, or their texts, as a tar file; ``debian/rules`` can be run."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, each in files.items():
            content = each.encode() if isinstance(each, str) else each.read_bytes()
            member = tarfile.TarInfo(name)
            member.size = len(content)
            member.mtime = time.time()  # later than the changelog: debhelper sets it back to that
            executable = name == "debian/rules" or (isinstance(each, Path) and bool(each.stat().st_mode & 0o100))
            member.mode = 0o755 if executable else 0o644
            archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def main(directory: Path) -> int:
    """Build the project's packages into an empty directory, and say which."""
    if os.geteuid():
        print("packages are built by root, in a Debian 13 that is mounted for it: sudo make deb", file=sys.stderr)  # noqa: T201
        return 1
    directory.mkdir(parents=True, exist_ok=True)
    try:
        said = build(own_sources(), directory)
    except (BuildError, subprocess.CalledProcessError, OSError) as error:
        print(error, *getattr(error, "__notes__", ()), sep="\n", file=sys.stderr)  # noqa: T201
        return 1
    except KeyboardInterrupt:
        return 130
    (directory / "build.log").write_text(said)
    print(*sorted(directory.glob("*.deb")), sep="\n")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:])))
