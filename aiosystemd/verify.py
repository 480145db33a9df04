"""Tree → Problems: the real checkers, run on a scratch root."""

import os
import re
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from aiosystemd import apply, scope
from aiosystemd.compare import compare
from aiosystemd.errors import Location, Problem
from aiosystemd.export import haproxy, instance_names
from aiosystemd.export.gunicorn import settings_path
from aiosystemd.export.nginx import locations_path, server_around, site_path, standalone
from aiosystemd.host import Host, Manager
from aiosystemd.model import Deployment, Tls
from aiosystemd.plan import Tree, placed, plan, render
from aiosystemd.probe import haproxy_version, nginx_version, program, systemd_version
from aiosystemd.render.nginx import Directive

_TIMEOUT = 60
"""Seconds for one checker; none talks to the network or to a manager."""


_READS = {"XDG_RUNTIME_DIR": "/run"}
"""What systemd-analyze wants to be set for a user's units; it changes nothing there."""

_OF_A_SCRIPT = r"(?P<file>[^:\s]+): (?P<line>\d+): (?P<what>.*)"
_OF_A_UNIT = r"(?P<file>[^:\s]+):(?P<line>\d+): (?P<what>.*)"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one checker said."""

    checker: str
    problems: tuple[Problem, ...] = ()
    note: str = ""
    """A figure it found, or why it could not be run."""
    ran: bool = True

    @property
    def said(self) -> str:
        """The verdict in a word or two."""
        if not self.ran:
            return "not run"
        return "refused" if any(problem.severity == "error" for problem in self.problems) else "passed"

    def __str__(self) -> str:
        return f"{self.checker}: {self.said}" + (f", {self.note}" if self.note else "")


def verify(deployment: Deployment, host: Host, source: str) -> Iterator[Verdict]:
    """Run every checker that is installed on what would be generated, and yield its verdict."""
    with tempfile.TemporaryDirectory(prefix="aiosystemd-") as directory:
        root = Path(directory)
        scratch, missing = _for_scratch(deployment, root)
        tree = render(plan(scratch, host, source))
        apply.write(compare(tree, root))
        if host.manager is Manager.SYSTEMD:
            yield from _systemd(scratch, deployment.python, host, root)
        else:
            yield _other_manager(host.manager, tree, root)
        if deployment.server.kind == "gunicorn":
            yield _gunicorn(deployment, host, root)
        if deployment.proxy.kind == "nginx":
            yield missing or _nginx(scratch, host, root)
        if deployment.proxy.kind == "haproxy":
            yield missing or _haproxy(scratch, host, root)


def verify_installed(units: Iterable[str]) -> Iterator[Problem]:
    """Run ``systemd-analyze verify`` on units as this host has them, drop-ins and all, and yield what it says."""
    if analyze := program("systemd-analyze"):
        command = (analyze, *scope.current().option, "verify", "--man=no", "--recursive-errors=no")
        yield from _complaints(_run(*command, *units), Path("/"), _OF_A_UNIT)


def _for_scratch(d: Deployment, root: Path) -> tuple[Deployment, Verdict | None]:
    """Replace what only the target has: the interpreter, the right to open ports, the certificate."""
    opens = d.proxy.kind == "nginx"
    proxy: dict[str, object] = {"listen": _sockets(root, "http", d.proxy.listen)} if opens else {}
    missing = None
    if d.proxy.tls is not None:
        certificate = _certificate(d.proxy.tls, root)
        checker = "nginx -t" if opens else "haproxy -c"
        missing = None if certificate else Verdict(checker, note="no certificate to test with", ran=False)
        paths = certificate or (d.proxy.tls.certificate, d.proxy.tls.key)
        update: dict[str, object] = {"certificate": paths[0], "key": paths[1]}
        update |= {"listen": _sockets(root, "https", d.proxy.tls.listen)} if opens else {}
        proxy["tls"] = d.proxy.tls.model_copy(update=update)
    changes: dict[str, object] = {"proxy": d.proxy.model_copy(update=proxy)}
    if not os.access(d.python, os.X_OK):
        changes["python"] = "/bin/true"
    return d.model_copy(update=changes), missing


def _sockets(root: Path, name: str, addresses: tuple[str, ...]) -> tuple[str, ...]:
    # nginx -t opens what it would listen on, which only root may do with port 80.
    return tuple(f"unix:{root}/{name}-{index}.sock" for index, _ in enumerate(addresses))


def _certificate(tls: Tls, root: Path) -> tuple[str, str] | None:
    if os.access(tls.certificate, os.R_OK) and os.access(tls.key, os.R_OK):
        return tls.certificate, tls.key
    openssl = program("openssl")
    if openssl is None:
        return None
    # An HAProxy that is told of the certificate only looks for the key there.
    key, certificate = f"{root}/certificate.pem.key", f"{root}/certificate.pem"
    new = ("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=check")
    done = _run(openssl, *new, "-days", "1", "-keyout", key, "-out", certificate)
    return (certificate, key) if done.returncode == 0 else None


def _run(*argv: str, **environment: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            argv,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_TIMEOUT,
            check=False,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "LC_ALL": "C.UTF-8", **environment},
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return subprocess.CompletedProcess(argv, 1, "", f"cannot be run: {error}")


def _systemd(d: Deployment, wanted: str, host: Host, root: Path) -> Iterator[Verdict]:
    analyze = program("systemd-analyze")
    here = systemd_version() or 0
    names = ("systemd-analyze verify", "systemd-analyze security")
    if analyze is None or here < host.systemd:
        note = "not installed" if analyze is None else f"systemd {here} here, {host.systemd} asked for"
        yield from (Verdict(name, note=note, ran=False) for name in names)
        return
    units = root / host.scope.units.relative_to("/")
    # An instance need not exist as a file: the template beside it is found.
    unit = d.name if d.server.kind == "gunicorn" else f"{d.name}@{instance_names(d, host)[0]}"
    socket = d.name if d.listen.shared else unit
    # This directory comes before the host's.
    done = _run(
        analyze,
        *host.scope.option,
        "verify",
        "--man=no",
        "--recursive-errors=no",
        *(str(units / name) for name in (f"{unit}.service", f"{socket}.socket")),
        *(str(unit) for unit in sorted(units.glob("*.target"))),
        **_READS,
    )
    # Its exit status is not enough: some versions report an ignored directive and still succeed.
    note = "" if d.python == wanted else f"without {wanted}, which is not here"
    yield Verdict(names[0], tuple(_complaints(done, root, _OF_A_UNIT)), note)
    yield _exposure(d, host, analyze, units)


def _other_manager(manager: Manager, tree: Tree, root: Path) -> Verdict:
    """Return what a shell says of runit's scripts; supervisord, Circus and readers of Procfiles check nothing."""
    if manager is not Manager.RUNIT:
        return Verdict(manager, note="it has no check of its own", ran=False)
    scripts = [str(root / path.relative_to("/")) for path, file in tree.items() if file.mode & 0o111]
    said = [problem for each in scripts for problem in _complaints(_run("sh", "-n", each), root, _OF_A_SCRIPT)]
    return Verdict("sh -n", tuple(said))


def _gunicorn(d: Deployment, host: Host, root: Path) -> Verdict:
    """Return what the deployment's own gunicorn says of its settings."""
    file = root / settings_path(d, host).relative_to("/")
    # It imports an application as well, which is the deployment's own business: any other callable does.
    done = _run(d.python, "-P", "-m", "gunicorn", "--check-config", "--config", str(file), "os:getcwd")
    if done.returncode and ("No module named gunicorn" in done.stderr or "cannot be run" in done.stderr):
        return Verdict("gunicorn --check-config", note=f"{d.python} has no gunicorn", ran=False)
    return Verdict("gunicorn --check-config", tuple(_complaints(done, root, r"(?!)")) if done.returncode else ())


def _complaints(done: subprocess.CompletedProcess[str], root: Path, pattern: str) -> Iterator[Problem]:
    checker = Location(Path(done.args[0]).name)
    for said in dict.fromkeys(done.stderr.splitlines()):
        line = said if root == Path("/") else said.replace(str(root), "")
        if match := re.fullmatch(pattern, line):
            at = Location(match["file"], int(match["line"])) if match["file"] else checker
            # A drop-in that this host has for the unit is read too, and is not ours.
            others = bool(match["file"]) and str(root) not in said
            warning = others or match.groupdict().get("level") == "warn"
            yield Problem(at, match["what"], severity="warning" if warning else "error")
        elif line.strip():
            yield Problem(checker, line.strip())
    if done.returncode and not done.stderr.strip():
        yield Problem(checker, f"failed with status {done.returncode}: {done.stdout.strip()}")


def _exposure(d: Deployment, host: Host, analyze: str, units: Path) -> Verdict:
    unit = f"{d.name}.service" if d.server.kind == "gunicorn" else f"{d.name}@.service"
    done = _run(analyze, *host.scope.option, "security", "--offline=true", "--no-pager", str(units / unit), **_READS)
    match = re.search(r"exposure level for \S+: ([0-9.]+)", done.stdout)
    if match is None:
        return Verdict("systemd-analyze security", note="it gave no figure", ran=False)
    limit, found = d.sandbox.max_exposure, float(match[1])
    problems: tuple[Problem, ...] = ()
    if limit is not None and found > limit:
        what = f"exposure {found} is above sandbox.max_exposure ({limit:g})"
        hint = f"systemd-analyze security --offline=true {unit} tells what costs how much"
        problems = (Problem(Location(str(host.scope.units / unit)), what, hint),)
    return Verdict("systemd-analyze security", problems, f"exposure {found}")


def _nginx(d: Deployment, host: Host, root: Path) -> Verdict:
    nginx = program("nginx")
    if nginx is None or (absent := _too_old("nginx", nginx_version(), host.nginx)):
        return Verdict("nginx -t", note=absent if nginx else "not installed", ran=False)
    configuration = root / "nginx.conf"
    written = standalone(_below(root, site_path(d), host), PurePosixPath(root), None, *_around(d, host, root))
    apply.replace(configuration, written.render().encode(), 0o600)
    done = _run(nginx, "-t", "-q", "-e", "stderr", "-p", str(root), "-c", str(configuration))
    # The first lines have no time and process yet, and the last one says no more than the exit status.
    done.stderr = re.sub(r"(?m)^nginx: configuration file \S+ test failed\n", "", done.stderr)
    pattern = r"(?:nginx:|\S+ \S+) \[(?P<level>\w+)\] (?:\d+#\d+: )?(?P<what>.*?)(?: in (?P<file>/\S+):(?P<line>\d+))?"
    return Verdict("nginx -t", tuple(_complaints(done, root, pattern)))


def _too_old(name: str, here: tuple[int, ...] | None, asked: tuple[int, ...]) -> str:
    """Return why what this host has cannot tell of what was asked for, "" if it can."""
    if (here or ()) >= asked:
        return ""
    shown, wanted = (".".join(map(str, version)) for version in (here or (), asked))
    return f"{name} {shown} here, {wanted} asked for"


def _haproxy(d: Deployment, host: Host, root: Path) -> Verdict:
    checker, installed = "haproxy -c", program("haproxy")
    if installed is None or (absent := _too_old("haproxy", haproxy_version(), host.haproxy)):
        return Verdict(checker, note=absent if installed else "not installed", ran=False)
    # Without one it warns that nothing would be logged.
    main = root / "haproxy.cfg"
    apply.replace(main, b"global\n    log stderr local0\n", 0o600)
    done = _run(installed, "-c", "-f", str(main), "-f", str(_below(root, haproxy.site_path(d), host)))
    # What it is called and where it stands comes before what it has to say.
    done.stderr = re.sub(r"(?m)^\[NOTICE\].*\n", "", done.stderr)
    pattern = (
        r"\[(?:ALERT|(?P<level>WARNING))\] +\(\d+\) : (?:config : )?(?:parsing \[)?"
        r"(?:\[?(?P<file>/[^:\]]+):(?P<line>\d+)\]? ?: )?(?P<what>.*)"
    )
    return Verdict(checker, tuple(_complaints(done, root, pattern)))


def _around(d: Deployment, host: Host, root: Path) -> Iterator[Directive]:
    """Yield a server in the place of the one whose site is joined."""
    if d.proxy.site is not None:
        yield server_around(_below(root, locations_path(d), host), f"unix:{root}/site.sock")


def _below(root: Path, path: PurePosixPath, host: Host) -> PurePosixPath:
    return PurePosixPath(root, placed(path, host).relative_to("/"))
