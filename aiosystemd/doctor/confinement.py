"""SELinux and AppArmor: whether the proxy may connect to the instances."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from aiosystemd.doctor.finding import Finding, append, command, then
from aiosystemd.doctor.machine import read
from aiosystemd.doctor.programs import run
from aiosystemd.doctor.subject import Subject, doubt, fine, unseen

_SELINUX: Final = Path("/sys/fs/selinux/enforce")
_APPARMOR: Final = Path("/sys/kernel/security/apparmor/profiles")
_APPARMOR_RULES: Final = Path("/etc/apparmor.d")


def confinement(s: Subject) -> Iterator[Finding]:
    """Look whether SELinux or AppArmor keeps the proxy from the sockets."""
    if s.deployment.proxy.kind == "none":
        return
    if _APPARMOR.exists() and not os.access(_APPARMOR, os.R_OK):
        yield unseen(f"whether AppArmor confines {s.deployment.proxy.kind}: only root may see its profiles")
        return
    found = [*_selinux(s), *_apparmor(s)]
    yield from found
    if not found:
        yield fine(f"neither SELinux nor AppArmor keeps {s.deployment.proxy.kind} from the instances")


def _selinux(s: Subject) -> Iterator[Finding]:
    if read(_SELINUX).strip() != "1":
        return
    d, kind = s.deployment, s.deployment.proxy.kind
    switch = "httpd_can_network_connect" if kind == "nginx" else "haproxy_connect_any"
    if d.listen.port is not None:
        if not run("getsebool", switch).stdout.strip().endswith(" on"):
            what = f"SELinux is enforcing, and does not let {kind} connect to TCP ports"
            yield s.error(("listen", "port"), what, command("setsebool", "-P", switch, "on"))
    elif "httpd_var_run_t" not in run("matchpathcon", "-n", d.socket_directory).stdout:
        pattern = f"{d.socket_directory}(/.*)?"
        mend = then(
            command("semanage", "fcontext", "--add", "--type", "httpd_var_run_t", pattern),
            command("restorecon", "-R", d.socket_directory),
        )
        what = f"SELinux is enforcing, and {kind} may not use sockets in {d.socket_directory} as they are labelled"
        yield s.warning(("listen", "directory"), what, mend)


def _apparmor(s: Subject) -> Iterator[Finding]:
    d = s.deployment
    for line in read(_APPARMOR).splitlines():
        name, _, mode = line.rpartition(" ")
        if mode == "(enforce)" and name.rpartition("/")[2] == d.proxy.kind and d.listen.port is None:
            file = name.lstrip("/").replace("/", ".")
            local = _APPARMOR_RULES / "local" / file
            rule = f"{d.socket_directory}/*.sock rw,"
            if rule not in read(local):
                reread = command("apparmor_parser", "--replace", str(_APPARMOR_RULES / file))
                what = (
                    f"AppArmor confines {d.proxy.kind}, and {local} does not say that it may use {d.socket_directory}"
                )
                yield doubt(name, what, then(append(rule, str(local)), reread))
