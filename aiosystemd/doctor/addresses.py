"""TCP addresses: of this machine, and nobody else's."""

import errno
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from aiosystemd.doctor.finding import Finding, command
from aiosystemd.doctor.programs import installed, run
from aiosystemd.doctor.subject import Subject, fine, unseen
from aiosystemd.export import instance_names, tcp_address
from aiosystemd.positions import Path as KeyPath


class Endpoint(NamedTuple):
    """An address to listen on."""

    host: str
    """An IP address; ``*`` is every one of IPv4 and IPv6."""
    port: int


class Holder(NamedTuple):
    """A process that listens."""

    address: Endpoint
    program: str
    pid: int


def endpoint(text: str) -> Endpoint:
    """Return an address as a proxy writes it; one without a host is every one of IPv4, one without a port is at 80."""
    host, _, port = text.rpartition(":") if not text.endswith("]") else (text, "", "80")
    if not port.isdigit():
        host, port = text, "80"
    host = {"": "0.0.0.0", "*": "0.0.0.0", "localhost": "127.0.0.1"}.get(host, host.strip("[]"))  # noqa: S104 (compared)
    return Endpoint(host, int(port))


def ports(s: Subject) -> Iterator[Finding]:
    """Look whether what the proxy and the instances listen on exists, and is not taken by somebody else."""
    wanted = list(_wanted(s))
    if not wanted:
        return
    found = [finding for key, address, _ in wanted for finding in _absent(s, key, address)]
    if not installed("ss"):
        found.append(unseen("who listens on the ports: ss(8) is not installed"))
    else:
        holders = list(_holders())
        found += [finding for each in wanted for finding in _taken(s, *each, holders)]
    yield from found
    if not found:
        yield fine(f"{', '.join(_shown(address) for _, address, _ in wanted)} can be listened on")


def _wanted(s: Subject) -> Iterator[tuple[KeyPath, Endpoint, str]]:
    """Yield key, address, and the name of the program or unit that is to listen on it."""
    d = s.deployment
    if d.proxy.kind != "none":
        tables: list[tuple[KeyPath, tuple[str, ...]]] = [(("proxy", "listen"), d.proxy.listen)]
        tables += [(("proxy", "tls", "listen"), d.proxy.tls.listen)] if d.proxy.tls else []
        for key, addresses in tables:
            for index, address in enumerate(addresses):
                if s.host.ipv6 or not address.startswith("[") or _is_written(s, (*key, index)):
                    yield (*key, index), endpoint(address), d.proxy.kind
    if d.listen.port is not None:
        for name in instance_names(d, s.host):
            yield ("listen", "port"), endpoint(tcp_address(d, name)), f"{d.name}@{name}."


def _is_written(s: Subject, key: KeyPath) -> bool:
    return key in s.source.positions.values


def _absent(s: Subject, key: KeyPath, address: Endpoint) -> Iterator[Finding]:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    try:
        with socket.socket(family) as sock:
            sock.bind((address.host, 0))
    except OSError as error:
        if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
            mend = command("ip", "address", "add", f"{address.host}/{128 if ':' in address.host else 32}", "dev", "lo")
            what = f"{address.host} is no address of this machine: {error.strerror}"
            yield s.error(key, what, "" if error.errno == errno.EAFNOSUPPORT else mend)


def _holders() -> Iterator[Holder]:
    for line in run("ss", "--no-header", "--listening", "--tcp", "--numeric", "--processes").stdout.splitlines():
        _, _, _, local, *rest = line.split()
        host, _, port = local.rpartition(":")
        address = Endpoint(host.strip("[]").partition("%")[0], int(port))
        processes = re.findall(r'\("((?:[^"\\]|\\.)*)",pid=(\d+)', " ".join(rest))
        yield from (Holder(address, program, int(pid)) for program, pid in processes or [("", "0")])


def _taken(s: Subject, key: KeyPath, address: Endpoint, owner: str, holders: list[Holder]) -> Iterator[Finding]:
    others: dict[str, str] = {}
    for holder in holders:
        if not _collide(address, holder.address):
            continue
        if not holder.pid:
            yield unseen(f"who listens on {_shown(holder.address)}: only root can see it")
            return
        unit = _unit(holder)
        if holder.program != owner and not unit.startswith(owner):
            stop = _stop(unit) if unit else command("kill", str(holder.pid))
            others[f"{holder.program}, process {holder.pid}" + (f" of {unit}" if unit else "")] = stop
    for who, stop in others.items():
        yield s.error(key, f"{_shown(address)} is taken by {who}", stop)


def _stop(unit: str) -> str:
    enabled = run("systemctl", "is-enabled", unit).stdout.strip() == "enabled"
    return command("systemctl", *(("disable", "--now") if enabled else ("stop",)), unit)


def _collide(ours: Endpoint, theirs: Endpoint) -> bool:
    """Tell whether both cannot be listened on, ip(7); a proxy asks for IPv6 alone where it asks for IPv6."""
    if ours.port != theirs.port:
        return False
    if theirs.host in ("*", ours.host):
        return True
    same_family = (":" in ours.host) == (":" in theirs.host)
    return same_family and bool({ours.host, theirs.host} & {"0.0.0.0", "::"})  # noqa: S104 (compared)


def _unit(holder: Holder) -> str:
    """Return the unit that the listener belongs to, "" for none: one that a login session has started."""
    if holder.pid == 1:  # systemd itself, for a socket unit
        for line in run("systemctl", "list-sockets", "--no-legend", "--no-pager", "--plain").stdout.splitlines():
            address, unit, *_ = line.split()
            if address.rpartition(":")[2] == str(holder.address.port):
                return unit
    try:
        cgroup = Path(f"/proc/{holder.pid}/cgroup").read_text()
    except OSError:
        return ""
    found = re.findall(r"/((?:[^/\s\\]|\\.)+\.service)$", cgroup, re.MULTILINE)
    return found[0] if found else ""


def _shown(address: Endpoint) -> str:
    return f"[{address.host}]:{address.port}" if ":" in address.host else f"{address.host}:{address.port}"
