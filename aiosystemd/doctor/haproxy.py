"""HAProxy: its configuration right, told of our sites, and nobody else's frontend at their addresses."""

import re
import shlex
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from aiosystemd.doctor.addresses import endpoint
from aiosystemd.doctor.finding import Finding, command, edit
from aiosystemd.doctor.programs import run
from aiosystemd.doctor.subject import Subject, fault, fine, last_line, unseen
from aiosystemd.export.haproxy import CONFIGURATION, site_path

_MAIN: Final = Path("/etc/haproxy/haproxy.cfg")
_DEFAULTS: Final = Path("/etc/default/haproxy")
_USER: Final = "haproxy"
"""Debian's."""


class Line(NamedTuple):
    """A line of HAProxy's configuration."""

    file: str
    number: int
    words: tuple[str, ...]


def right(s: Subject) -> Iterator[Finding]:
    """Look whether HAProxy finds its configuration right."""
    if not s.root:
        yield unseen("what HAProxy is configured to do: only root may ask it")
        return
    sites = ("-f", str(CONFIGURATION)) if Path(CONFIGURATION).is_dir() else ()
    done = run("haproxy", "-c", "-f", str(_MAIN), *sites)
    if done.returncode:
        alerts = [line for line in done.stderr.splitlines() if line.startswith("[ALERT]")]
        words = (alerts or [last_line(done.stderr)])[0].partition(" : ")[2] or last_line(done.stderr)
        where = re.search(r"\[?(/[^\s:\]]+):(\d+)\]?", words)
        file, number = (where[1], int(where[2])) if where else (str(_MAIN), 0)
        yield fault(file, f"haproxy -c: {words}", edit(file, number), number)


def reloads(_: Subject) -> Iterator[Finding]:
    """Look whether its unit can be reloaded: Debian's does it with a program of another package."""
    if not Path("/bin/kill").exists():
        mend = command("apt-get", "install", "procps")
        yield fault("haproxy.service", "cannot be reloaded: its ExecReload= starts /bin/kill, which is not there", mend)


def told(_: Subject) -> Iterator[Finding]:
    """Look whether the administrator's own options leave ours in force: systemd.exec(5), ``EnvironmentFile=``."""
    for line in _lines(_DEFAULTS):
        option = " ".join(line.words)
        if option.startswith("EXTRAOPTS=") and str(CONFIGURATION) not in option:
            what = f"sets EXTRAOPTS, so that HAProxy is not told to read {CONFIGURATION}"
            yield fault(line.file, what, edit(line.file, line.number), line.number)


def user() -> tuple[str, ...]:
    """Return the user, and the group if one is set, that HAProxy runs as."""
    found = {line.words[0]: line.words[1] for line in _configuration() if len(line.words) > 1}
    return tuple(found[key] for key in ("user", "group") if key in found) or (_USER,)


def addresses(s: Subject) -> Iterator[Finding]:
    """Look whether another frontend of this HAProxy listens on the same addresses."""
    found = [finding for line in _configuration() for finding in _shared(s, line)]
    yield from found
    if not found:
        yield fine("no other frontend of HAProxy has the same addresses")


def _shared(s: Subject, line: Line) -> Iterator[Finding]:
    if line.file == str(site_path(s.deployment)) or line.words[0] != "bind" or len(line.words) == 1:
        return
    tls = s.deployment.proxy.tls
    keys: dict[tuple[str | int, ...], str] = {
        ("proxy", "listen", i): each for i, each in enumerate(s.deployment.proxy.listen)
    }
    keys |= {("proxy", "tls", "listen", i): each for i, each in enumerate(tls.listen if tls else ())}
    for text in line.words[1].split(","):
        for key, address in keys.items():
            if text.rpartition(":")[2].isdigit() and endpoint(text) == endpoint(address):
                what = f"{line.file} listens on {address} too: HAProxy would give it a part of the connections"
                yield s.error(key, what, edit(line.file, line.number))


def _configuration() -> Iterator[Line]:
    for file in (_MAIN, *sorted(Path(CONFIGURATION).glob("*.cfg"))):
        yield from _lines(file)


def _lines(file: Path) -> Iterator[Line]:
    with suppress(OSError):
        for number, text in enumerate(file.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
            try:
                words = tuple(shlex.split(text, comments=True))
            except ValueError:  # a quote that does not end: haproxy -c says so
                continue
            if words:
                yield Line(str(file), number, words)
