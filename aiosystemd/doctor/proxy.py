"""The proxy: there, running, right, and able to reach the instances and the files that it serves itself."""

import grp
import re
import socket
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Final

from aiosystemd import probe
from aiosystemd.doctor import haproxy
from aiosystemd.doctor.addresses import endpoint
from aiosystemd.doctor.configuration import Directive
from aiosystemd.doctor.finding import Finding, command, edit, then
from aiosystemd.doctor.identity import Identity, group_exists
from aiosystemd.doctor.programs import run
from aiosystemd.doctor.subject import Subject, fault, fine, last_line, unseen
from aiosystemd.export.nginx import site_path
from aiosystemd.host import OLDEST_HAPROXY, OLDEST_NGINX
from aiosystemd.rules.proxy import HTTP3

_HERE: Final = re.compile(r" in (/\S+):(\d+)$")


def server(s: Subject) -> Iterator[Finding]:
    """Look whether the proxy is there, new enough and running, and reads our site and finds its configuration right."""
    kind = s.deployment.proxy.kind
    if kind == "none":
        return
    found = [*_program(s, kind), *_running(s, kind)]
    if kind == "nginx":
        found += (*_right(s), *_included(s), *_packets(s))
    elif probe.program(kind):
        found += (*haproxy.right(s), *haproxy.reloads(s), *haproxy.told(s))
    yield from found
    if not found:
        yield fine(f"{kind} runs, finds its configuration right and reads conf.d")


def _program(s: Subject, kind: str) -> Iterator[Finding]:
    if probe.program(kind) is None:
        yield s.error(("proxy", "kind"), f"{kind} is not installed", command("apt-get", "install", kind))
        return
    nginx = kind == "nginx"
    version = probe.nginx_version() if nginx else probe.haproxy_version()
    least = OLDEST_NGINX if nginx else OLDEST_HAPROXY
    if version is not None and version < least:
        shown, oldest = (".".join(map(str, each)) for each in (version, least))
        mend = command("apt-get", "install", "--only-upgrade", kind)
        yield fault(kind, f"is version {shown}; {oldest} is the oldest supported", mend)


def _running(s: Subject, kind: str) -> Iterator[Finding]:
    if probe.program(kind) and s.systemd_runs and run("systemctl", "is-active", kind).returncode:
        mend = command("systemctl", "enable", "--now", kind)
        yield fault(kind, "is not running", mend)


def _right(s: Subject) -> Iterator[Finding]:
    if probe.program("nginx") is None:
        return
    if not s.root:
        yield unseen("what nginx is configured to do: only root may ask it")
        return
    done = run("nginx", "-t", "-q")
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if "[emerg]" in line] or [last_line(done.stderr)]
        words = lines[0].partition("[emerg] ")[2] or lines[0]
        where = _HERE.search(words)
        file, line = (where[1], int(where[2])) if where else ("nginx", 0)
        mend = edit(file, line) if where else command("nginx", "-t")
        yield fault(file, f"nginx -t: {words}", mend, line)


def _packets(s: Subject) -> Iterator[Finding]:
    tls = s.deployment.proxy.tls
    if s.nginx is None or tls is None or not tls.http3 or s.host.nginx < HTTP3:
        return
    if not any(each.words == ("quic_bpf", "on") for each in s.nginx.directives):
        what = "quic_bpf is not on: after each reload, HTTP/3's packets reach processes that do not know of them"
        mend = edit("/etc/nginx/nginx.conf", 1)
        yield s.warning(("proxy", "tls", "http3"), what, mend)


def _included(s: Subject) -> Iterator[Finding]:
    configuration = s.nginx
    if configuration is None:
        return
    site = str(site_path(s.deployment))
    patterns = [str(Path("/etc/nginx", word)) for each in configuration.all("include") for word in each.words[1:]]
    if not any(fnmatch(site, pattern) for pattern in patterns):
        file = configuration.directives[0].file if configuration.directives else "/etc/nginx/nginx.conf"
        script = r"s|^\s*http\s*{|&\n\tinclude /etc/nginx/conf.d/*.conf;|"
        yield fault(file, f"does not include {site}", command("sed", "--in-place", script, file))


def sockets(s: Subject) -> Iterator[Finding]:
    """Look whether the proxy, as the user that it runs as, can connect to the unix sockets and read static files."""
    kind = s.deployment.proxy.kind
    user = None if kind == "none" else _user(s)
    if user is None:
        return
    found = [*_socket_group(s, user), *_socket_directory(s, user), *_static(s, user)]
    yield from found
    if not found:
        yield fine(f"{kind} can reach the instances as {user.name}")


def _user(s: Subject) -> Identity | None:
    if s.deployment.proxy.kind == "haproxy":
        try:
            return Identity.of_user(*haproxy.user())
        except KeyError:
            return None  # haproxy -c has said so
    configuration = s.nginx
    if configuration is None:
        return None
    words = next((each.words[1:] for each in configuration.directives if each.name == "user"), None)
    if words is None:
        compiled = re.search(r"--user=(\S+)", run("nginx", "-V").stderr)
        words = (compiled[1] if compiled else "nobody",)
    try:
        return Identity.of_user(*words)
    except KeyError:
        return None  # nginx -t has said so


def _socket_group(s: Subject, user: Identity) -> Iterator[Finding]:
    listen, group, kind = s.deployment.listen, s.deployment.socket_group, s.deployment.proxy.kind
    mode = int(listen.mode, 8)
    # unix(7): to connect takes write permission on the socket.
    if listen.port is not None or mode & 0o002 or not group_exists(group):
        return
    if not mode & 0o020:
        yield s.error(("listen", "mode"), f"mode {listen.mode} lets only root connect, and {kind} runs as {user.name}")
    elif not _is_in(user, group):
        what = f"{kind} runs as {user.name}, who is not in the group {group} of the sockets"
        join = command("usermod", "--append", "--groups", group, user.name)
        yield s.error(("listen", "group"), what, then(join, command("systemctl", "restart", kind)))


def _is_in(user: Identity, group: str) -> bool:
    return grp.getgrnam(group).gr_gid in {user.gid, *user.groups}


def _socket_directory(s: Subject, user: Identity) -> Iterator[Finding]:
    directory = s.deployment.socket_directory
    place = next(path for path in (Path(directory), *Path(directory).parents) if path.exists())
    if s.deployment.listen.port is None and (blocked := user.blocked(str(place))):
        what = f"{blocked} cannot be entered by {user.name}, as whom {s.deployment.proxy.kind} runs"
        yield s.error(("listen", "directory"), what, command("chmod", "o+x", blocked))


def _static(s: Subject, user: Identity) -> Iterator[Finding]:
    served = s.deployment.proxy
    directories = {("proxy", "static", prefix): directory for prefix, directory in served.static.items()}
    directories |= {("proxy", "internal", prefix): directory for prefix, directory in served.internal.items()}
    for key, directory in directories.items():
        if not Path(directory).exists():
            what = f"{directory} does not exist: nginx would answer 404"
            yield s.error(key, what, command("mkdir", "--parents", directory))
        elif blocked := user.blocked(directory, read=True):
            what = f"{blocked} cannot be entered by {user.name}, as whom nginx runs: it would answer 403"
            yield s.error(key, what, command("chmod", "o+rx" if blocked == directory else "o+x", blocked))


def names(s: Subject) -> Iterator[Finding]:
    """Look whether another site of this proxy has the same addresses, and with nginx the same names."""
    if s.deployment.proxy.kind == "haproxy":
        yield from haproxy.addresses(s)
        return
    configuration = None if s.deployment.proxy.kind != "nginx" else s.nginx
    if configuration is None:
        return
    found = [finding for other in configuration.all("server") for finding in _claims(s, other)]
    yield from found
    if not found:
        yield fine("no other site of nginx has the same names")


def _claims(s: Subject, other: Directive) -> Iterator[Finding]:
    proxy = s.deployment.proxy
    listens = [each for each in other.all("listen") if len(each.words) > 1]
    if other.file == str(site_path(s.deployment)) or not other.body:
        return
    ours = {endpoint(each) for each in (*proxy.listen, *(proxy.tls.listen if proxy.tls else ()))}
    theirs = {endpoint(each.words[1]) for each in listens} or {endpoint("80")}
    if not ours & theirs:
        return
    taken = {_meant(word) for each in other.all("server_name") for word in each.words[1:]}
    for index, name in enumerate(proxy.server_names or (socket.gethostname(),)):
        if _meant(name) in taken:
            key = ("proxy", "server_names", index)
            yield s.error(key, f"{other.file} answers to {name} too: nginx ignores one of them", _edit(other))
    default = {endpoint(each.words[1]) for each in listens if {"default_server", "default"} & {*each.words[2:]}}
    if proxy.default_server and ours & default:
        mend = command("rm", other.file) if other.file.startswith("/etc/nginx/sites-enabled/") else _edit(other)
        yield s.error(("proxy", "default_server"), f"{other.file} is the default server already", mend)


def _meant(name: str) -> str:
    return (socket.gethostname() if name == "$hostname" else name).lower()


def _edit(directive: Directive) -> str:
    return edit(directive.file, directive.line)
