"""Deployments that come as Debian packages: installed by apt, and repacked as later versions of themselves."""

import hashlib
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Final, Self

from tests.container.machine import Machine
from tests.container.site import Site, Traffic

APT: Final = ("env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "--yes", "--quiet=2", "--allow-downgrades")
"""Nobody is there to be asked."""
HERE: Final = "/var/cache/packages"
"""Where the machine finds the packages."""
INSTALLED: Final = "install ok installed"
HALF: Final = "install ok half-configured"
"""dpkg-query(1): unpacked, and its postinst has failed."""
_NUMBERS: Final = count(1)
"""Of versions: each is later than all before it."""
QUICK: Final = ("aiosystemd apply", "aiosystemd apply --pause 0")
"""For a postinst: what it proves without watching each instance for the seconds that it is watched in earnest."""


LISTING: Final = """
    cd /
    # Not what a system writes that boots and runs, nor what apt and dpkg keep.
    find etc usr var srv opt home -xdev \\( \\
        -path var/log -o -path var/tmp -o -path var/cache -o -path var/lib/systemd -o -path 'var/lib/nginx/*' \\
        -o -path 'var/lib/haproxy/*' \\
        -o -path var/lib/apt -o -path var/lib/dpkg -o -name .updated -o -name machine-id -o -name __pycache__ \\
        \\) -prune -o -print -path 'etc/*' -type f -exec sha256sum {} +
"""


def install_offline(layer: Path, lower: Path, debs: Sequence[Path]) -> set[str]:
    """Fill the empty directory ``layer`` with what installing ``debs`` changes over ``lower``, where no systemd runs.

    Returns what was there before, as `listing` does.
    """
    work = layer.with_name(f"{layer.name}-work")
    work.mkdir()
    script = f"""
        set -e
        work=$1
        mkdir "$work/work" "$work/tree"
        mount -t overlay overlay -o "lowerdir=$2,upperdir=$3,workdir=$work/work" "$work/tree"
        mkdir -p "$work/tree{HERE}"
        shift 3
        while [ "$1" != -- ]; do cp "$1" "$work/tree{HERE}"; shift; done
        shift
        exec systemd-nspawn --quiet --pipe --register=no --keep-unit --private-network --resolv-conf=off \\
            --timezone=off --directory="$work/tree" "$@"
    """
    inside = f"{LISTING}exec >&2; exec {' '.join(APT)} install {HERE}/*"
    # The mount lives in a namespace of the shell's own and ends with it, whatever happens.
    shell = ("unshare", "--mount", "--propagation=private", "sh", "-c", script, "sh")
    return set(_run(*shell, *map(str, (work, lower, layer, *debs)), "--", "sh", "-c", inside).splitlines())


def listing(machine: Machine) -> set[str]:
    """Return every file, and of those in /etc what they hold."""
    return set(machine.run("sh", "-c", LISTING).stdout.splitlines())


@dataclass(frozen=True, slots=True)
class Package:
    """A package with a deployment, on a machine."""

    site: Site
    name: str
    deb: Path
    app: str
    """The application's file."""
    greeting: str
    """What the application answers."""
    directory: Path
    """Of this host, to work in."""

    @property
    def machine(self) -> Machine:
        return self.site.machine

    @property
    def file(self) -> str:
        """The deployment file."""
        return f"/etc/aiosystemd/{self.site.name}.toml"

    @property
    def first(self) -> str:
        """The package as it was built, in the machine."""
        return f"{HERE}/{self.deb.name}"

    def later(self, greeting: str, *edits: tuple[str, str], code: str = "", sign: str = "+") -> str:
        """Return a later version in the machine, the application of which answers something else.

        With ``code`` that is the whole application; each of ``edits`` is a text of the postinst and what takes its
        place. With the ``sign`` ``~`` it is an earlier one than that which was built.
        """

        def application(text: str) -> str:
            return code or text.replace(self.greeting, greeting)

        def postinst(text: str) -> str:
            for old, new in edits:
                assert old in text
                text = text.replace(old, new)
            return text

        return self._put(sign, {self.app: application, "DEBIAN/postinst": postinst})

    def _put(self, sign: str, edits: Mapping[str, Callable[[str], str]]) -> str:
        built = repack(self.deb, self.directory, f"{sign}{next(_NUMBERS)}", edits)
        path = f"{HERE}/{built.name}"
        self.machine.copy(built, path)
        return path

    def upgrade(self, greeting: str) -> None:
        """Install a later version, without the time for which each instance is watched."""
        apt(self.machine, "install", self.later(greeting, QUICK))

    def status(self) -> str:
        """Return what dpkg says: wanted, error, state."""
        return self.machine.run("dpkg-query", "--show", "--showformat=${Status}", self.name, check=False).stdout

    def is_enabled(self) -> str:
        return self.machine.systemctl("is-enabled", f"{self.site.name}.target", check=False)

    def loaded(self) -> dict[str, str]:
        """Return the units of the deployment that systemd knows, with their states."""
        rows = self.machine.systemctl("list-units", "--all", "--plain", "--no-legend", f"{self.site.name}[.@]*")
        return {fields[0]: fields[2] for fields in map(str.split, rows.splitlines())}

    def instances(self) -> dict[str, str]:
        """Return the states of its instances."""
        units = ((unit.partition("@")[2], state) for unit, state in self.loaded().items())
        return {name.removesuffix(".service"): state for name, state in units if name.endswith(".service")}

    def stops(self) -> None:
        """Wait until none of its units is at work; `systemctl stop` of the target does not."""
        self.site.wait_for(lambda: set(self.loaded().values()) <= {"inactive"})

    def serves(self, greeting: str, number: int = 4) -> None:
        """See that instances 1 to ``number`` are there, and that all of them, and nginx, answer this."""
        names = [str(each) for each in range(1, number + 1)]
        assert self.instances() == dict.fromkeys(names, "active")
        assert {name: self.site.ask_instance(name).text for name in names} == dict.fromkeys(names, greeting)
        # An idle connection of nginx's may still be with a process that was replaced, and answers once more.
        self.site.wait_for(lambda: self.site.ask().text == greeting)

    def is_whole(self) -> bool:
        """Tell whether some version is installed, as it came, and all of it serves."""
        return (
            (self.status(), self.is_enabled()) == (INSTALLED, "enabled")
            # dpkg(1), --verify: also a deployment file that was edited.
            and not self.machine.run("dpkg", "--verify", self.name, check=False).stdout
            and self.instances() == dict.fromkeys("1234", "active")
            and self.site.ask().status == 200
        )

    def whole(self) -> Self:
        """Return it; when something is amiss, anew."""
        if not self.is_whole():
            self.fresh()
        return self

    def fresh(self) -> None:
        """Install the package as it was built, on a machine that has nothing of it."""
        if self.status():
            apt(self.machine, "purge", self.name)
        apt(self.machine, "install", self.first)

    @contextmanager
    def edited(self, old: str, new: str) -> Iterator[None]:
        """Edit the deployment file; at the end it is as before."""
        before = self.machine.read(self.file)
        assert old in before
        self.machine.write(self.file, before.replace(old, new))
        try:
            yield
        finally:
            self.machine.write(self.file, before)

    def load(self, *options: str) -> Traffic:
        """Return traffic at the site that lasts for the context."""
        return Traffic(self.site, "--clients", "8", "--post", "", *options)


def apt(machine: Machine, *arguments: str, fails: bool = False) -> str:
    """Run apt-get in the machine with these arguments, which ``fails`` or does not; return what it said."""
    done = machine.run(*APT, *arguments, check=not fails)
    assert bool(done.returncode) == fails
    assert "Traceback" not in done.stdout
    return done.stdout


def repack(deb: Path, directory: Path, suffix: str, edits: Mapping[str, Callable[[str], str]]) -> Path:
    """Return a package as another version, with some of its files edited; dpkg compares versions as deb-version(7)."""
    tree = directory / f"{deb.stem}{suffix}"
    version = _field(deb, "Version")

    def control(text: str) -> str:
        return text.replace(f"Version: {version}\n", f"Version: {version}{suffix}\n")

    _run("dpkg-deb", "--raw-extract", str(deb), str(tree))
    for name, edit in {"DEBIAN/control": control, **edits}.items():
        path = tree / name.lstrip("/")
        path.write_text(edit(path.read_text()))
    _sum(tree)
    built = directory / f"{tree.name}.deb"
    _run("dpkg-deb", "--root-owner-group", "-Znone", "--build", str(tree), str(built))
    shutil.rmtree(tree)
    return built


def _sum(tree: Path) -> None:
    paths = (path for path in sorted(tree.rglob("*")) if path.is_file() and "DEBIAN" not in path.parts)
    lines = (f"{hashlib.md5(path.read_bytes()).hexdigest()}  {path.relative_to(tree)}\n" for path in paths)  # noqa: S324
    (tree / "DEBIAN/md5sums").write_text("".join(lines))


def _field(deb: Path, name: str) -> str:
    return _run("dpkg-deb", "--field", str(deb), name).strip()


def _run(*argv: str) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        error = subprocess.CalledProcessError(done.returncode, argv, done.stdout, done.stderr)
        error.add_note(f"{done.stdout}{done.stderr}")
        raise error
    return done.stdout
