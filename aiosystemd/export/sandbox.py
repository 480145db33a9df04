"""The sandbox of an instance: everything closed that an aiohttp application does not need, systemd.exec(5)."""

from collections.abc import Iterator

from aiosystemd.host import Host
from aiosystemd.model import Deployment
from aiosystemd.render.unit import Value, boolean, raw, words

Directive = tuple[str, Value, str | None]

_YES = boolean(value=True)


def sandbox(d: Deployment, host: Host) -> Iterator[Directive]:
    """Yield name, value and comment of each directive."""
    for directive in (*_files(d, host), *_network(d), *_kernel(d)):
        if not (host.scope.user and directive[0] in _OF_ROOT):
            yield directive


_OF_ROOT = frozenset(
    "DevicePolicy DeviceAllow IPAddressDeny IPAddressAllow ProtectProc RemoveIPC ProtectKernelLogs".split()
)
"""What is not in force under a user's own systemd (measured: 252, 257), and so not said there. The last one would be,
but in a container, where /proc/kmsg is masked, nothing would start; a user has no way to that log all the same."""


def _files(d: Deployment, host: Host) -> Iterator[Directive]:
    s = d.sandbox
    yield "UMask", raw("0077"), "What the application may reach; each relaxation is a key of [sandbox], by name."
    yield "ProtectSystem", raw("strict"), None
    yield from _of_user(d) if host.scope.user else _home(d)
    yield "PrivateTmp", boolean(not s.shared_tmp), None
    writable = (*s.writable, *(("/tmp", "/var/tmp") if s.shared_tmp else ()))  # noqa: S108 (asked for by name)
    if writable:
        yield "ReadWritePaths", words(writable), None
    yield "PrivateDevices", boolean(not s.devices), None
    yield "DevicePolicy", raw("closed"), None
    for device in s.devices:
        yield "DeviceAllow", words([device, "rw"]), None
    yield "PrivateMounts", _YES, None
    if not s.system_bus:
        yield "InaccessiblePaths", raw("-/run/dbus"), None


def _home(d: Deployment) -> Iterator[Directive]:
    yield "ProtectHome", raw("read-only") if d.sandbox.home else _YES, None


def _of_user(d: Deployment) -> Iterator[Directive]:
    # systemd.exec(5), ProtectHome=: also what is in /run/user; what the unit itself has there is mounted upon it.
    yield "ProtectHome", raw("tmpfs"), None
    if d.sandbox.home:
        yield "BindReadOnlyPaths", raw("%h"), None
    why = "All that it sees of the user's systemd, which would start whatever it is asked to outside of the sandbox."
    yield "BindReadOnlyPaths", raw("%t/systemd/notify"), why


def _network(d: Deployment) -> Iterator[Directive]:
    s = d.sandbox
    if s.network == "none":
        why = "The inherited socket is all it serves on. AF_UNIX stays for sd_notify(3) and local databases."
        yield "PrivateNetwork", _YES, why
        yield "RestrictAddressFamilies", raw("AF_UNIX"), None
        yield "IPAddressDeny", raw("any"), None
        return
    yield "RestrictAddressFamilies", raw("AF_UNIX AF_INET AF_INET6"), None
    if s.addresses:
        yield "IPAddressDeny", raw("any"), None
        yield "IPAddressAllow", words(s.addresses), None


def _kernel(d: Deployment) -> Iterator[Directive]:
    s = d.sandbox
    yield "NoNewPrivileges", _YES, None
    yield "CapabilityBoundingSet", raw(""), None
    yield "AmbientCapabilities", raw(""), None
    yield "PrivateUsers", boolean(not s.host_users), None
    yield "PrivateIPC", _YES, None
    yield "RemoveIPC", _YES, None
    yield "ProtectProc", raw("invisible"), None
    for subject in ("Clock", "ControlGroups", "Hostname", "KernelLogs", "KernelModules", "KernelTunables"):
        yield f"Protect{subject}", _YES, None
    for subject in ("Namespaces", "Realtime", "SUIDSGID"):
        yield f"Restrict{subject}", _YES, None
    yield "LockPersonality", _YES, None
    if not s.executable_memory:
        yield "MemoryDenyWriteExecute", _YES, None
    yield "KeyringMode", raw("private"), None
    yield "SystemCallArchitectures", raw("native"), None
    yield "SystemCallFilter", raw("@system-service"), None
    yield "SystemCallFilter", raw("~@privileged" if s.resources else "~@privileged @resources"), None
    why = "Without it the kernel kills the process at the first call that is filtered; so Python gets an OSError."
    yield "SystemCallErrorNumber", raw("EPERM"), why
