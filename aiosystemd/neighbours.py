"""Rules between the deployments of one host: each is right on its own, and together they would fail. Pure."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from aiosystemd.export import tcp_address
from aiosystemd.model import Deployment
from aiosystemd.rules import Violation, location, normal_address

_KeyPath = tuple[str | int, ...]


class Neighbour(NamedTuple):
    """One deployment of several."""

    file: str
    """What messages call its file."""
    deployment: Deployment


Conflict = tuple[int, Violation]
"""A rule that does not hold, and for which one of several deployments, from 0."""


def conflicts(neighbours: Sequence[Neighbour]) -> Iterator[Conflict]:
    """Yield what they cannot be or have together; of two that claim the same, the later one is told."""
    yield from _claimed_twice(neighbours)
    yield from _addresses_taken(neighbours)
    yield from _sites_not_to_join(neighbours)
    yield from _without_reuseport(neighbours)


class _Claim(NamedTuple):
    what: str
    concerns: tuple[_KeyPath, ...]
    hint: str = "change it in one of them"


def _claimed_twice(neighbours: Sequence[Neighbour]) -> Iterator[Conflict]:
    first: dict[str, int] = {}
    told: set[tuple[int, tuple[_KeyPath, ...]]] = set()
    for index, each in enumerate(neighbours):
        for claim in _claims(each.deployment):
            other = first.setdefault(claim.what, index)
            # One key, such as a server name, may claim the same on several addresses.
            if other != index and (index, claim.concerns) not in told:
                told.add((index, claim.concerns))
                what = f"{claim.what} is claimed by {neighbours[other].file} too"
                yield index, Violation(claim.concerns, what, claim.hint)


def _claims(d: Deployment) -> Iterator[_Claim]:
    """Yield what only one deployment of a host can have."""
    yield _Claim(f'the name "{d.name}"', (("name",),))
    if d.listen.port is None:
        yield _Claim(f"the directory {_real(d.socket_directory)} of sockets", (("listen", "directory"), ("name",)))
    if d.proxy.kind == "nginx":
        yield from _prefixes(d)
        if d.proxy.site is None:
            yield from _servers(d)
    elif d.proxy.kind == "haproxy":
        # It would open the address twice (SO_REUSEPORT), and the kernel choose between the two by chance.
        for address, key in _proxy_addresses(d).items():
            hint = "give each site an address of its own, or have nginx serve both"
            yield _Claim(f"HAProxy's address {normal_address(address)}", (key,), hint)


def _real(directory: str) -> str:
    # hier(7): /var/run is a link to /run, on every system with systemd.
    return directory.removeprefix("/var") if directory.startswith("/var/run/") else directory


def _prefixes(d: Deployment) -> Iterator[_Claim]:
    keys: list[tuple[_KeyPath, str]] = [(("proxy", "static", path), path) for path in d.proxy.static]
    keys += [(("proxy", "internal", path), path) for path in d.proxy.internal]
    keys += [(("proxy", "streams", i), path) for i, path in enumerate(d.proxy.streams)]
    if d.proxy.prefix:
        # What is below it is this deployment's own; a stream may even be all of it.
        keys = [(("proxy", "prefix"), d.proxy.prefix)]
    for key, path in keys:
        yield _Claim(f"the path prefix {location(path)} of {d.proxy.site or d.name}", (key,))


def _servers(d: Deployment) -> Iterator[_Claim]:
    names: dict[str, _KeyPath] = {
        f"the server name {name.lower()}": ("proxy", "server_names", i) for i, name in enumerate(d.proxy.server_names)
    } or {"the machine's host name": ("proxy", "server_names")}
    for address in map(normal_address, _proxy_addresses(d)):
        for name, key in names.items():
            hint = "change it in one of them" if d.proxy.server_names else "set proxy.server_names in one of them"
            yield _Claim(f"{name} on {address}", (key,), hint)
        if d.proxy.default_server:
            yield _Claim(f"the default server on {address}", (("proxy", "default_server"),))
    for address in sorted(_quic(d, reuseport=True)):
        concerns = (("proxy", "tls", "reuseport"), ("proxy", "tls", "http3"))
        yield _Claim(f"reuseport on {address}", concerns, "set proxy.tls.reuseport = false in one of them")


def _quic(d: Deployment, *, reuseport: bool) -> set[str]:
    """Return the addresses of HTTP/3, of a site that says ``reuseport`` there, or does not."""
    tls = d.proxy.tls
    return {normal_address(each) for each in tls.listen} if tls and tls.http3 and tls.reuseport == reuseport else set()


def _proxy_addresses(d: Deployment) -> dict[str, _KeyPath]:
    found: dict[str, _KeyPath] = {address: ("proxy", "listen", i) for i, address in enumerate(d.proxy.listen)}
    if d.proxy.tls:
        found |= {address: ("proxy", "tls", "listen", i) for i, address in enumerate(d.proxy.tls.listen)}
    return found


class _Socket(NamedTuple):
    """An address that is listened on."""

    number: int
    """Of the deployment, from 0."""
    host: str
    who: str
    shown: str
    concerns: tuple[_KeyPath, ...]


def _addresses_taken(neighbours: Sequence[Neighbour]) -> Iterator[Conflict]:
    by_port: dict[str, list[_Socket]] = {}
    told: set[tuple[int, int]] = set()
    for index, each in enumerate(neighbours):
        for port, new in _sockets(index, each.deployment):
            others = by_port.setdefault(port, [])
            for other in others:
                if (other.number, index) not in told and other.number != index and _collide(other, new):
                    told.add((other.number, index))
                    what = f"{new.who} listens on {new.shown}, and {other.who} of {neighbours[other.number].file}"
                    yield index, Violation(new.concerns, what, "change it in one of them")
            others.append(new)


_INSTANCE = "an instance"


def _sockets(index: int, d: Deployment) -> Iterator[tuple[str, _Socket]]:
    if d.listen.port is not None:
        one = d.server.kind == "gunicorn" or d.listen.shared
        count = 1 if one or d.instances == "auto" else d.instances
        for address in (normal_address(tcp_address(d, str(instance))) for instance in range(1, count + 1)):
            host, _, port = address.rpartition(":")
            concerns = (("listen", "port"), ("listen", "address"))
            yield port, _Socket(index, host, _INSTANCE, tcp_address(d, str(int(port) - d.listen.port + 1)), concerns)
    if d.proxy.kind != "none" and d.proxy.site is None:
        for address, key in _proxy_addresses(d).items():
            host, _, port = normal_address(address).rpartition(":")
            who = f"{d.proxy.kind} with{'' if 'tls' in key else 'out'} TLS"
            yield port, _Socket(index, host, who, address, (key,))


def _collide(one: _Socket, other: _Socket) -> bool:
    if all(each.who.startswith("nginx") for each in (one, other)):
        # It serves many sites on an address, and speaks TLS to all of them or to none.
        return one.who != other.who and one.host == other.host
    if all(each.who.startswith("haproxy") for each in (one, other)):
        return False  # One that both have is claimed twice.
    return _covers(one, other) or _covers(other, one)


def _covers(wide: _Socket, one: _Socket) -> bool:
    if wide.host == "[::]":
        # systemd.socket(5), BindIPv6Only=: a socket for all of IPv6 takes IPv4 too. nginx's does not.
        return wide.who == _INSTANCE or one.host.startswith("[")
    return wide.host == one.host or (not wide.host and not one.host.startswith("["))


def _sites_not_to_join(neighbours: Sequence[Neighbour]) -> Iterator[Conflict]:
    by_name = {each.deployment.name: each for each in neighbours}
    for index, each in enumerate(neighbours):
        if site := each.deployment.proxy.site:
            yield from ((index, violation) for violation in _not_to_join(site, by_name.get(site)))


def _not_to_join(name: str, site: Neighbour | None) -> Iterator[Violation]:
    concerns: tuple[_KeyPath, ...] = (("proxy", "site"),)
    if site is None:
        what = f"no deployment {name} is known, so nobody would reach this one"
        yield Violation(concerns, what, f"check it together with the file of {name}", "warning")
    elif site.deployment.proxy.site is not None:
        what = f"{name} has no site of its own, it joins {site.deployment.proxy.site} ({site.file})"
        yield Violation(concerns, what, f'set proxy.site = "{site.deployment.proxy.site}"')
    elif site.deployment.proxy.kind != "nginx":
        what = f'{name} has no site to join: its proxy.kind is "{site.deployment.proxy.kind}" ({site.file})'
        yield Violation(concerns, what, "set it to nginx there, or remove proxy.site and proxy.prefix here")


def _without_reuseport(neighbours: Sequence[Neighbour]) -> Iterator[Conflict]:
    said = set[str]().union(*(_quic(each.deployment, reuseport=True) for each in neighbours))
    for index, each in enumerate(neighbours):
        if absent := sorted(_quic(each.deployment, reuseport=False) - said):
            what = f"no deployment that is known says reuseport on {', '.join(absent)}"
            hint = "check it together with the file of the one that does, or remove this"
            yield index, Violation((("proxy", "tls", "reuseport"),), what, hint, "warning")
