"""Where the instances listen."""

from collections.abc import Iterator

from aiosystemd import contract
from aiosystemd.model import Deployment
from aiosystemd.rules.rule import Violation, is_under, rule

SUN_PATH = 107
"""Bytes of a unix socket's path: unix(7) gives ``sun_path`` 108, the last one is NUL."""


@rule
def _socket_path_fits(d: Deployment) -> Iterator[Violation]:
    """Unix sockets have paths of at most 107 bytes: unix(7)."""
    count = 1000 if d.instances == "auto" else d.instances
    length = len(f"{d.socket_directory}/{count}.sock".encode())
    if d.listen.port is None and length > SUN_PATH:
        yield Violation(
            (("listen", "directory"), ("name",)),
            f"the path of a socket would be {length} bytes long; unix(7) allows {SUN_PATH}",
            "use a shorter listen.directory",
        )


@rule
def _one_kind_of_socket(d: Deployment) -> Iterator[Violation]:
    """``listen.address`` needs ``listen.port``; ``listen.directory``, ``mode`` and ``group`` are for unix sockets."""
    unix = {"directory", "mode", "group"} & d.listen.model_fields_set
    if d.listen.port is not None:
        for key in sorted(unix):
            yield Violation((("listen", key),), f"listen.{key} is for unix sockets, not for TCP ports", "remove it")
        last = d.listen.port + (1 if d.instances == "auto" or d.listen.shared else d.instances) - 1
        if last >= 1 << 16:
            yield Violation(
                (("listen", "port"), ("instances",)), f"the last port would be {last}", "use a lower listen.port"
            )
    elif "address" in d.listen.model_fields_set:
        concerns = (("listen", "address"), ("listen", "port"))
        yield Violation(concerns, "listen.address is for TCP ports", "set listen.port, or remove it")


@rule
def _shared_without_a_proxy(d: Deployment) -> Iterator[Violation]:
    """``listen.shared`` needs ``listen.port`` and ``proxy.kind = "none"``."""
    if not d.listen.shared:
        return
    if d.proxy.kind != "none":
        what = "a proxy goes to another instance when one does not answer: it needs to tell them apart"
        yield Violation((("listen", "shared"), ("proxy", "kind")), what, 'remove it, or set proxy.kind = "none"')
    if d.listen.port is None:
        yield Violation((("listen", "shared"),), "listen.shared is for a TCP port", "set listen.port")


@rule
def _tls_without_a_proxy(d: Deployment) -> Iterator[Violation]:
    """``listen.tls`` needs ``listen.port`` and ``proxy.kind = "none"``; its credentials' names are its own."""
    if d.listen.tls is None:
        return
    if d.proxy.kind != "none":
        what = "listen.tls is for instances without a proxy"
        yield Violation((("listen", "tls"), ("proxy", "kind")), what, 'use proxy.tls, or proxy.kind = "none"')
    if d.listen.port is None:
        yield Violation((("listen", "tls"), ("listen", "port")), "listen.tls is for TCP ports", "set listen.port")
    for name in sorted({contract.TLS_CERTIFICATE, contract.TLS_KEY} & set(d.service.credentials)):
        keys = (("service", "credentials", name), ("listen", "tls"))
        yield Violation(keys, f"{name} is the credential of listen.tls", "use another name")


@rule
def _sockets_are_where_sockets_live(d: Deployment) -> Iterator[Violation]:
    """``listen.directory`` is neither the whole system's nor writable for everyone."""
    directory, shown = d.socket_directory, ("listen", "directory")
    if d.listen.port is not None:
        return
    if is_under(directory, "/tmp", "/var/tmp", "/dev/shm"):  # noqa: S108 (a rule about them)
        hint = f"remove it: the default is /run/{d.name}"
        yield Violation((shown,), f"{directory} is writable for everyone: anyone could take a socket's place", hint)
    elif directory in {"/run", "/", "/var/run", "/etc"} or is_under(directory, "/run/systemd", "/dev", "/proc", "/sys"):
        yield Violation(
            (shown,), f"{directory} belongs to the whole system", f"remove it: the default is /run/{d.name}"
        )
