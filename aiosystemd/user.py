"""A deployment under a login user's own systemd: what takes another value there, and what cannot be had.

What systemd does there was tried out on 252 and 257: with ``PrivateUsers=`` it can mount as it likes, and so hide and
protect files; what needs a capability outside that user namespace fails, or is passed over in silence.
"""

from collections.abc import Callable, Iterator

from aiosystemd.host import Host
from aiosystemd.model import Deployment
from aiosystemd.rules import Violation, violations
from aiosystemd.scope import Scope

_SYSTEM_ONLY = "generate without --user, as root"

_NOT_IN_FORCE = frozenset(
    # Programs of BPF, and what only root may mount: systemd goes on without.
    "SocketBindAllow SocketBindDeny RestrictNetworkInterfaces RestrictFileSystems IPIngressFilterPath "
    "IPEgressFilterPath BPFProgram DevicePolicy ProtectProc ProcSubset "
    # Controllers that user@.service does not hand on.
    "AllowedCPUs AllowedMemoryNodes StartupAllowedCPUs StartupAllowedMemoryNodes IOWeight StartupIOWeight "
    "IODeviceWeight IOReadBandwidthMax IOWriteBandwidthMax IOReadIOPSMax IOWriteIOPSMax IODeviceLatencyTargetSec "
    # Without a user of its own there is nothing to remove.
    "RemoveIPC".split()
)

_LIMITS = {"memory_max": "memory", "cpu_quota": "cpu", "tasks_max": "pids"}
"""Keys of ``[service]``, each with the cgroup controller that it needs."""

Rule = Callable[[Deployment, Scope], Iterator[Violation]]


def settled(d: Deployment, host: Host) -> Deployment:
    """Return ``d`` with the defaults that depend on whose systemd it is written for."""
    here = host.scope
    if not here.user or d.listen.port is not None:
        return d
    given = d.listen.model_fields_set
    # In a directory that only the user may enter, a mode does nothing more.
    own = {"directory": f"{here.run}/{d.name}", "mode": "0600"}
    listen = {key: value for key, value in own.items() if key not in given and not (key == "mode" and "group" in given)}
    return d.model_copy(update={"listen": d.listen.model_copy(update=listen)})


def user_violations(d: Deployment, host: Host) -> Iterator[Violation]:
    """Yield what a deployment, as its file has it, asks for in vain under a user's systemd."""
    if host.scope.user:
        for rule in (_identity, _sockets, _proxy, _sandbox, _limits, _directives):
            yield from rule(d, host.scope)
        # Such as the length of a socket's path, which is another one here.
        yield from (each for each in violations(settled(d, host)) if each.severity == "error")


def _identity(d: Deployment, here: Scope) -> Iterator[Violation]:
    service = d.service
    if service.user not in (None, here.user):
        hint = f"remove it, set it to {here.user}, or {_SYSTEM_ONLY}"
        yield Violation((("service", "user"),), f"{here.user}'s systemd starts everything as {here.user}", hint)
    if service.dynamic_user:
        hint = f"remove it, or {_SYSTEM_ONLY}"
        yield Violation((("service", "dynamic_user"),), f"{here.user}'s systemd cannot make users up", hint)
    for key in ("group", "groups"):
        if getattr(service, key):
            what = f"{here.user}'s systemd cannot change groups: instances have those of {here.user}"
            yield Violation((("service", key),), what, f"remove it, or {_SYSTEM_ONLY}")


def _sockets(d: Deployment, here: Scope) -> Iterator[Violation]:
    listen = d.listen
    if listen.port is not None and listen.port < here.lowest_port:
        what = f"{here.user} may not listen on a port below {here.lowest_port}"
        yield Violation((("listen", "port"),), what, "use a higher one, as 8001")
    if listen.group and listen.group not in here.groups:
        what = f"{here.user} is not in the group {listen.group}, and may not give it a socket"
        hint = f"sudo usermod --append --groups {listen.group} {here.user}, and log in anew; or remove it"
        yield Violation((("listen", "group"),), what, hint)


def _proxy(d: Deployment, here: Scope) -> Iterator[Violation]:
    if d.proxy.kind == "haproxy":
        what = "HAProxy's unit and configuration are root's"
        yield Violation((("proxy", "kind"),), what, f'set it to "none" or "nginx", or {_SYSTEM_ONLY}')
        return
    if d.proxy.kind == "none" or not _of_root(d, here):
        return
    if has_own_proxy(d, here):
        # Opened to others, it would show them more than these sockets.
        what = f"the machine's nginx cannot reach sockets in {here.run}, which only {here.user} may enter"
        hint = (
            "set listen.port, as 8001, for TCP on 127.0.0.1; or listen.directory, to one that root makes for both; "
            'or proxy.listen = ["8080"], for an nginx of your own'
        )
        yield Violation((("listen", "directory"), ("proxy", "listen"), ("name",)), what, hint)
    for prefix, directory in d.proxy.static.items():
        if _is_below(directory, str(here.home)):
            what = f"the machine's nginx can read {directory} only if others may enter {here.home}"
            yield Violation((("proxy", "static", prefix),), what, f"move it, as to /srv/{d.name}", "warning")


def has_own_proxy(d: Deployment, here: Scope) -> bool:
    """Tell whether only the user's own processes can reach the instances: pam_systemd(8), mode 0700."""
    return d.listen.port is None and _is_below(d.listen.directory or str(here.run), str(here.run))


def _of_root(d: Deployment, here: Scope) -> bool:
    """Tell whether the proxy listens where the user may not, so that it can be the machine's only."""
    addresses = (*d.proxy.listen, *(d.proxy.tls.listen if d.proxy.tls else ()))
    ports = (address.rpartition(":")[2] for address in addresses)
    return any(port.isdecimal() and int(port) < here.lowest_port for port in ports)


def _is_below(path: str, directory: str) -> bool:
    return f"{path}/".startswith(f"{directory}/")


def _sandbox(d: Deployment, here: Scope) -> Iterator[Violation]:
    sandbox, whose = d.sandbox, f"{here.user}'s systemd"
    if sandbox.addresses:
        # systemd.resource-control(5): IPAddressDeny= is a BPF program, which is for root to load.
        hint = f'remove it, set sandbox.network = "none", or {_SYSTEM_ONLY}'
        yield Violation((("sandbox", "addresses"),), f"{whose} cannot filter addresses", hint)
    if sandbox.host_users:
        # systemd.exec(5): the user namespace is what gives it the right to mount.
        hint = f"remove it, or {_SYSTEM_ONLY}"
        yield Violation((("sandbox", "host_users"),), f"{whose} needs a user namespace for every sandbox", hint)
    if sandbox.devices:
        what = f"{whose} cannot choose among devices: the application may use all that {here.user} may use"
        yield Violation((("sandbox", "devices"),), what, severity="warning")


def _limits(d: Deployment, here: Scope) -> Iterator[Violation]:
    for key, controller in _LIMITS.items():
        if here.controllers is not None and controller not in here.controllers and getattr(d.service, key) is not None:
            what = f"is not in force: {here.user}'s systemd was not given the cgroup controller {controller}"
            hint = "Delegate= in a drop-in of user@.service gives it"
            yield Violation((("service", key),), f"service.{key} {what}", hint, "warning")


def _directives(d: Deployment, here: Scope) -> Iterator[Violation]:
    for name in d.service.directives:
        key = (("service", "directives", name),)
        if name in _NOT_IN_FORCE:
            what = f"{name}= is not in force under {here.user}'s systemd"
            yield Violation(key, what, f"remove it, or {_SYSTEM_ONLY}", "warning")
        elif name == "LogNamespace":
            what = f"{here.user}'s systemd cannot start anything with {name}="
            yield Violation(key, what, f"remove it, or {_SYSTEM_ONLY}")
