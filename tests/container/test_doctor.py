"""What keeps a deployment from working is found, each on a machine where it is really so, and the command mends it."""

import json
import re
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import pytest

from aiosystemd.doctor import CHECKS
from tests.container.conftest import both_releases
from tests.container.machine import Machine
from tests.container.site import INSTANCES, Site

_FILE: Final = "/etc/aiosystemd/example.toml"
_BASE: Final = """\
name = "example"
app = "my_app_module:my_web_app"
directory = "/srv/example"
"""
_APP: Final = "from aiohttp import web\nmy_web_app = web.Application()\n"
_HAPROXY: Final = 'proxy.kind = "haproxy"\n'
_SSL: Final = "/etc/ssl/example"
_TLS: Final = f"""\
proxy.server_names = ["example.test", "*.example.test"]
proxy.tls = {{ certificate = "{_SSL}/c.pem", key = "{_SSL}/k.pem" }}
"""
_REQUEST: Final = (
    "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=x -keyout k.pem -out c.pem"
)
_NAMED: Final = f"{_REQUEST} -addext subjectAltName=DNS:example.test,DNS:*.example.test"
_YESTERDAY: Final = "FAKETIME=-3d LD_PRELOAD=$(ls /usr/lib/*/faketime/libfaketime.so.1)"


def _certificate(request: str) -> str:
    return f"mkdir -p {_SSL} && cd {_SSL} && umask 077 && {request}"


class Case(NamedTuple):
    """Something that is wrong, how it comes about, and how it ends."""

    check: str
    what: str
    """Pattern of the message."""
    toml: str = ""
    """More of the deployment file; all of it if it gives a name."""
    make: str = ""
    """Script that makes it so."""
    undo: str = ""
    """Script after which nothing is wrong with the original deployment."""
    severity: str = "error"
    key: str = ""
    """What stands at line and column; "" when no key is at fault."""
    mends: bool = True
    """Whether the command mends it by itself, here: without an editor and without a network."""


def _fake(program: str, condition: str, answer: str) -> str:
    """Return a script that puts a program in the way of another one, for one of its options."""
    path = f"/usr/local/sbin/{program}"
    real = f"$(PATH=/usr/sbin:/usr/bin command -v {program})"
    lines = f'#!/bin/sh\\n[ "$1" = {condition} ] && {{ echo {answer} >&2; echo {answer}; exit; }}\\nexec %s "$@"\\n'
    return f"printf '{lines}' {real} > {path}; chmod +x {path}"


def _metadata(name: str, version: str) -> str:
    directory = f"/srv/old/{name}-{version}.dist-info"
    lines = f"Metadata-Version: 2.1\\nName: {name}\\nVersion: {version}\\n"
    return f"mkdir -p {directory}; printf '{lines}' > {directory}/METADATA"


def _app(text: str) -> str:
    return f"cat > /srv/example/my_app_module.py <<'END'\n{text}\nEND"


def _user(name: str) -> str:
    return f"systemd-sysusers --inline 'u {name} -'"


def _gone(name: str) -> str:
    return f"sed -i '/^{name}:/d' /etc/passwd /etc/group /etc/shadow /etc/gshadow"


# The machines have no useradd(8) and its like; systemd-sysusers does the same there.
_TOOLS: Final = {
    "groupadd": """[ "$1" = --system ] && exec systemd-sysusers --inline "g $2 -\"""",
    "useradd": """[ "$1 $2" = "--system --user-group" ] && exec /root/systemd-sysusers --inline "u $3 -\"""",
    "usermod": """[ "$1 $2" = "--append --groups" ] && exec systemd-sysusers --inline "m $4 $3\"""",
}
_LISTEN: Final = (
    "import socket, subprocess, time; s = socket.create_server((str(), 8080)); "
    'subprocess.run(["systemd-notify", "--ready"]); time.sleep(600)'
)
_HOLD: Final = "import socket, time; s = socket.create_server((str(), 8080)); print(1, flush=True); time.sleep(600)"
_OLD: Final = 'service.environment = { PYTHONPATH = "/srv/old" }\n'
_RESTORE: Final = _app(_APP)
_COPY: Final = "cp $(readlink -f /usr/bin/python3)"
_GO: Final = "rm -r /srv/old"

_OLD_PYTHON: Final = """#!/bin/sh
python3 "$@" | sed 's/"version": .3, [0-9]*/"version": [3, 9/'"""

CASES: Final = {
    "systemd is too old": Case(
        "systemd",
        r"^is version 250; 252 is the oldest",
        make=_fake("systemctl", "--version", '"systemd 250"'),
        undo="rm /usr/local/sbin/systemctl",
        mends=False,
    ),
    "the directory is missing": Case(
        "paths",
        r"^/srv/example does not exist",
        make="mv /srv/example /srv/away",
        undo="rmdir /srv/example; mv /srv/away /srv/example",
        key='"/srv/example"',
    ),
    "a directory above is closed": Case(
        "paths",
        r"^/srv cannot be entered by example, on the way to /srv/example$",
        make="chmod 700 /srv",
        key='"/srv/example"',
    ),
    "the directory cannot be read": Case(
        "paths", r"^/srv/example cannot be entered by example$", make="chmod 711 /srv/example", key='"/srv/example"'
    ),
    "the directory is behind a link into a home": Case(
        "paths",
        r"^/srv/linked leads to /root/app, a home directory",
        toml=_BASE.replace("/srv/example", "/srv/linked"),
        make="mkdir /root/app; ln -s /root/app /srv/linked",
        undo="rm -r /root/app /srv/linked",
        key='"/srv/linked"',
        mends=False,
    ),
    "the directory is behind a link into /tmp": Case(
        "paths",
        r"^/srv/linked leads to /tmp/app, of which instances get an empty",
        toml=_BASE.replace("/srv/example", "/srv/linked"),
        make="mkdir /tmp/app; ln -s /tmp/app /srv/linked",
        undo="rm -r /tmp/app /srv/linked",
        key='"/srv/linked"',
        mends=False,
    ),
    "the interpreter is missing": Case(
        "paths",
        r"^/srv/example/venv/bin/python does not exist",
        toml='python = "/srv/example/venv/bin/python"\n',
        key='"/srv/example/venv/bin/python"',
        mends=False,
    ),
    "the interpreter is not executable": Case(
        "paths",
        r"^/srv/example/python cannot be run by example$",
        toml='python = "/srv/example/python"\n',
        make=f"{_COPY} /srv/example/python; chmod 644 /srv/example/python",
        undo="rm /srv/example/python",
        key='"/srv/example/python"',
    ),
    "the interpreter is behind a link into a home": Case(
        "paths",
        r"^/srv/example/python leads to /root/python, a home directory",
        toml='python = "/srv/example/python"\n',
        make=f"{_COPY} /root/python; ln -s /root/python /srv/example/python",
        undo="rm /srv/example/python /root/python",
        key='"/srv/example/python"',
        mends=False,
    ),
    "the interpreter is on a mount without programs": Case(
        "paths",
        r"^/mnt/python is on /mnt, which is mounted with noexec",
        toml='python = "/mnt/python"\n',
        make=f"mount -t tmpfs -o noexec tmpfs /mnt; {_COPY} /mnt/python",
        undo="umount /mnt",
        key='"/mnt/python"',
    ),
    "the interpreter is none": Case(
        "python",
        r"^/usr/bin/false cannot be run by example: exit status 1$",
        toml='python = "/usr/bin/false"\n',
        key='"/usr/bin/false"',
        mends=False,
    ),
    "the interpreter is too old": Case(
        "python",
        r"^/srv/example/python is Python 3\.9\.\d+; 3\.11 is the oldest",
        toml='python = "/srv/example/python"\n',
        make=f"cat > /srv/example/python <<'END'\n{_OLD_PYTHON}\nEND\nchmod 755 /srv/example/python",
        undo="rm /srv/example/python",
        key='"/srv/example/python"',
        mends=False,
    ),
    "the interpreter lacks the runtime": Case(
        "python",
        r"^/srv/example/venv/bin/python cannot import aiosystemd: ModuleNotFoundError: No module named 'aiosystemd'$",
        toml='python = "/srv/example/venv/bin/python"\n',
        make="python3 -m venv --without-pip /srv/example/venv",
        undo="rm -r /srv/example/venv",
        key='"/srv/example/venv/bin/python"',
        mends=False,
    ),
    "uvloop is asked for and not there": Case(
        "python",
        r"^/usr/bin/python3 cannot import uvloop: ImportError: not here$",
        toml=f'{_OLD}server.loop = "uvloop"\n',
        make="mkdir /srv/old; echo 'raise ImportError(\"not here\")' > /srv/old/uvloop.py",
        undo=_GO,
        key='"uvloop"',
        mends=False,
    ),
    "aiohttp is too old": Case(
        "python",
        r"^/usr/bin/python3 has aiohttp 3\.8\.4; 3\.11 or newer is needed, below 4$",
        toml=_OLD,
        make=_metadata("aiohttp", "3.8.4"),
        undo=_GO,
        mends=False,
    ),
    "the runtime is of another version": Case(
        "python",
        r"^/usr/bin/python3 has aiosystemd 0\.0\.9, and this is ",
        toml=_OLD,
        make=_metadata("aiosystemd", "0.0.9"),
        undo=_GO,
        severity="warning",
        mends=False,
    ),
    "the application does not import": Case(
        "import",
        r'^as example: importing "my_app_module" failed: ModuleNotFoundError: No module named \'absent\' '
        r"\(/srv/example/my_app_module.py:2\)$",
        make=_app("\nimport absent"),
        undo=_RESTORE,
        key='"my_app_module:my_web_app"',
        mends=False,
    ),
    "the application needs what the sandbox denies": Case(
        "import",
        r"PermissionError: .*(denied|not permitted) \(/srv/example/my_app_module.py:2\)$",
        make=_app(f"import mmap\nmmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)\n{_APP}"),
        undo=_RESTORE,
        key='"my_app_module:my_web_app"',
        mends=False,
    ),
    "the import hangs": Case(
        "import",
        r'the import does not end within timeouts.start: it waits in File "/srv/example/my_app_module.py", line 2 in ',
        toml="timeouts.start = 1\n",
        make=_app("import threading\nthreading.Event().wait()"),
        undo=_RESTORE,
        key='"my_app_module:my_web_app"',
        mends=False,
    ),
    "the import ends the process": Case(
        "import",
        r"the import ends the process: so long$",
        make=_app("import os, sys\nprint('so long', file=sys.stderr, flush=True)\nos._exit(3)"),
        undo=_RESTORE,
        key='"my_app_module:my_web_app"',
        mends=False,
    ),
    "the attribute is misspelt": Case(
        "import",
        r'"my_app_module" has no attribute "my_web_ap" \(did you mean "my_web_app"\?\)$',
        toml=_BASE.replace("web_app", "web_ap"),
        key='"my_app_module:my_web_ap"',
        mends=False,
    ),
    "the attribute is no application": Case(
        "import",
        r'"my_app_module:my_web_app" is a dict, not an aiohttp.web.Application',
        make=_app("my_web_app = {}"),
        undo=_RESTORE,
        key='"my_app_module:my_web_app"',
        mends=False,
    ),
    "systemd cannot set the sandbox up": Case(
        "import",
        r"systemd cannot start it: .*mount namespacing",
        toml='service.directives = { BindReadOnlyPaths = "/nowhere:/mnt" }\n',
        key='"my_app_module:my_web_app"',
        mends=False,
    ),
    "an environment file is missing": Case(
        "environment",
        r"^/etc/example.env does not exist",
        toml='service.environment_files = ["/etc/example.env"]\n',
        undo="rm /etc/example.env",
        key='"/etc/example.env"',
    ),
    "a credential is missing": Case(
        "credentials",
        r"^/etc/example.key does not exist",
        toml='service.credentials = { key = "/etc/example.key" }\n',
        undo="rm /etc/example.key",
        key='"/etc/example.key"',
    ),
    "a credential is everyone's": Case(
        "credentials",
        r"^/etc/example.key can be read by everyone",
        toml='service.credentials = { key = "/etc/example.key" }\n',
        make="echo secret > /etc/example.key; chmod 644 /etc/example.key",
        undo="rm /etc/example.key",
        severity="warning",
        key='"/etc/example.key"',
    ),
    "a credential is a directory": Case(
        "credentials",
        r"^/etc/example.key cannot be read: [Ii]",
        toml='service.credentials = { key = "/etc/example.key" }\n',
        make="mkdir /etc/example.key",
        undo="rmdir /etc/example.key",
        key='"/etc/example.key"',
        mends=False,
    ),
    "the dynamic user exists": Case(
        "users",
        r"^the instances would run as example, a user of this host",
        make=_user("example"),
        undo=_gone("example"),
        key='"example"',
        mends=False,
    ),
    "nobody creates the static user": Case(
        "users",
        r"^the user appuser does not exist, and there is no systemd-sysusers",
        toml='service.user = "appuser"\n',
        make="mv /usr/bin/systemd-sysusers /root/",
        undo=f"mv /root/systemd-sysusers /usr/bin/; {_gone('appuser')}",
        key='"appuser"',
    ),
    "a group is missing": Case(
        "users",
        r"^the group gpu does not exist: no instance would start",
        toml='service.groups = ["gpu"]\n',
        undo=_gone("gpu"),
        key='"gpu"',
    ),
    "the sockets' group is missing": Case(
        "users",
        r"^the group web does not exist: no socket would be opened",
        toml='listen.group = "web"\n',
        undo=_gone("web"),
        key='"web"',
    ),
    "a writable directory is somebody else's": Case(
        "users",
        r"^/srv/data is not writable for appuser",
        toml='service.user = "appuser"\nsandbox.writable = ["/srv/data"]\n',
        make=f"{_user('appuser')}; mkdir /srv/data",
        undo=f"{_gone('appuser')}; rmdir /srv/data",
        key='"/srv/data"',
    ),
    "a unit is somebody else's": Case(
        "files",
        r"^is somebody else's, and ours would go there",
        make="printf '[Service]\\nExecStart=/bin/true\\n' > /etc/systemd/system/example@.service",
        undo="rm /etc/systemd/system/example@.service.old",
    ),
    "a package has units of that name": Case(
        "files",
        r"/usr/lib/systemd/system/example.target",
        make="printf '[Unit]\\n' > /usr/lib/systemd/system/example.target",
        undo="rm /usr/lib/systemd/system/example.target",
        key='"example"',
        mends=False,
    ),
    "a port of the site is taken": Case(
        "ports",
        r"^0\.0\.0\.0:8080 is taken by python3(\.\d+)?, process \d+ of other.service$",
        toml='proxy.listen = ["8080"]\n',
        make="systemd-run --quiet --unit=other --service-type=notify --property=NotifyAccess=all "
        f"python3 -c '{_LISTEN}'",
        key='"8080"',
    ),
    "a port of the instances is somebody else's socket": Case(
        "ports",
        r"^127\.0\.0\.1:9001 is taken by systemd, process 1 of other.socket$",
        toml="listen.port = 9000\n",
        make="systemd-run --quiet --unit=other --socket-property=ListenStream=127.0.0.1:9001 /bin/cat",
        key="9000",
    ),
    "a port is taken by a process that is no unit's": Case(
        "ports",
        r"^0\.0\.0\.0:8080 is taken by python3(\.\d+)?, process \d+$",
        toml='proxy.listen = ["8080"]\n',
        make=f"mkfifo /root/ready; setsid python3 -c '{_HOLD}' > /root/ready 2>&1 & head -c 1 /root/ready",
        undo="rm /root/ready",
        key='"8080"',
    ),
    "an address is another machine's": Case(
        "ports",
        r"^192\.0\.2\.9 is no address of this machine",
        toml='proxy.listen = ["192.0.2.9:80"]\n',
        undo="ip address del 192.0.2.9/32 dev lo",
        key='"192.0.2.9:80"',
    ),
    "nginx is not installed": Case(
        "proxy",
        r"^nginx is not installed",
        toml='proxy.server_names = ["example.test"]\n',
        make="mv /usr/sbin/nginx /root/",
        undo="mv /root/nginx /usr/sbin/",
        mends=False,
    ),
    "nginx is too old": Case(
        "proxy",
        r"^is version 1\.18\.0; 1\.22 is the oldest",
        make=_fake("nginx", "-v", '"nginx version: nginx/1.18.0"'),
        undo="rm /usr/local/sbin/nginx",
        mends=False,
    ),
    "nginx does not run": Case("proxy", r"^is not running", make="systemctl stop nginx"),
    "nginx's reloads lose HTTP/3": Case(
        "proxy",
        r"^quic_bpf is not on: after each reload, HTTP/3's packets reach processes that do not know of them",
        toml=f"{_TLS}proxy.tls.http3 = true\n".replace(" }\nproxy.tls.http3", ", http3").replace("true\n", "true }\n"),
        make=_certificate(f"{_NAMED} -days 90"),
        undo=f"rm -r {_SSL}",
        severity="warning",
        key="true",
        mends=False,
    ),
    "nginx refuses its configuration": Case(
        "proxy",
        r"^nginx -t: .*unknown directive \"nonsense\"",
        make="echo 'nonsense;' > /etc/nginx/conf.d/other.conf",
        undo="rm /etc/nginx/conf.d/other.conf",
        mends=False,
    ),
    "nginx does not read conf.d": Case(
        "proxy", r"^does not include /etc/nginx/conf.d/example.conf", make="sed -i '/conf.d/d' /etc/nginx/nginx.conf"
    ),
    "HAProxy is not installed": Case(
        "proxy",
        r"^haproxy is not installed",
        toml=_HAPROXY,
        make="mv /usr/sbin/haproxy /root/",
        undo="mv /root/haproxy /usr/sbin/",
        mends=False,
    ),
    "HAProxy does not run": Case("proxy", r"^is not running", toml=_HAPROXY, make="systemctl stop haproxy"),
    "HAProxy refuses its configuration": Case(
        "proxy",
        r"^haproxy -c: .*unknown keyword 'nonsense'",
        toml=_HAPROXY,
        make="echo nonsense >> /etc/haproxy/haproxy.cfg",
        undo="sed -i '/^nonsense$/d' /etc/haproxy/haproxy.cfg",
        mends=False,
    ),
    "HAProxy is not told of the sites": Case(
        "proxy",
        r"^sets EXTRAOPTS, so that HAProxy is not told to read /etc/haproxy/conf.d",
        toml=_HAPROXY,
        make="cp /etc/default/haproxy /root/; echo 'EXTRAOPTS=\"-S /run/x.sock\"' >> /etc/default/haproxy",
        undo="mv /root/haproxy /etc/default/haproxy",
        mends=False,
    ),
    "HAProxy cannot be reloaded": Case(
        "proxy",
        r"^cannot be reloaded: its ExecReload= starts /bin/kill, which is not there",
        toml=_HAPROXY,
        make="mv /bin/kill /root/",
        undo="mv /root/kill /bin/",
        mends=False,
    ),
    "another frontend of HAProxy has the address": Case(
        "names",
        r"^/etc/haproxy/haproxy.cfg listens on 8090 too",
        toml=f'{_HAPROXY}proxy.listen = ["8090"]\n',
        make="cp /etc/haproxy/haproxy.cfg /root/; "
        "printf 'frontend other\n    bind :8090\n' >> /etc/haproxy/haproxy.cfg",
        undo="mv /root/haproxy.cfg /etc/haproxy/haproxy.cfg",
        key='"8090"',
        mends=False,
    ),
    "nginx is not in the sockets' group": Case(
        "sockets",
        r"^nginx runs as www-data, who is not in the group web of the sockets",
        toml='listen.group = "web"\n',
        make="systemd-sysusers --inline 'g web -'",
        undo=f"{_gone('web')}; systemctl restart nginx",
        key='"web"',
    ),
    "the sockets are root's alone": Case(
        "sockets", r"^mode 0600 lets only root connect", toml='listen.mode = "0600"\n', key='"0600"', mends=False
    ),
    "the sockets' directory is closed": Case(
        "sockets",
        r"^/var/closed cannot be entered by www-data",
        toml='listen.directory = "/var/closed/sockets"\n',
        make="mkdir -m 700 /var/closed",
        undo="rmdir /var/closed",
        key='"/var/closed/sockets"',
    ),
    "static files are missing": Case(
        "sockets",
        r"^/srv/static does not exist: nginx would answer 404",
        toml='proxy.static = { "/static/" = "/srv/static" }\n',
        undo="rmdir /srv/static",
        key='"/srv/static"',
    ),
    "static files are closed": Case(
        "sockets",
        r"^/srv/static cannot be entered by www-data",
        toml='proxy.static = { "/static/" = "/srv/static" }\n',
        make="mkdir -m 700 /srv/static",
        undo="rmdir /srv/static",
        key='"/srv/static"',
    ),
    "another site has the name": Case(
        "names",
        r"^/etc/nginx/conf.d/other.conf answers to Shop.test too",
        toml='proxy.server_names = ["www.test", "Shop.test"]\n',
        make="printf 'server {\\n # a comment; with { marks\\n listen 80;\\n server_name \"shop.test\" x.test;\\n}\\n' "
        "> /etc/nginx/conf.d/other.conf",
        undo="rm /etc/nginx/conf.d/other.conf",
        key='"Shop.test"',
        mends=False,
    ),
    "another site is the default": Case(
        "names",
        r"^/etc/nginx/sites-enabled/default is the default server already",
        toml="proxy.default_server = true\n",
        undo="ln -s /etc/nginx/sites-available/default /etc/nginx/sites-enabled/default",
        key="true",
    ),
    "the certificate is missing": Case(
        "tls",
        rf"^{_SSL}/c.pem does not exist: nginx would not start",
        toml=_TLS,
        undo=f"rm -r {_SSL}",
        key=f'"{_SSL}/c.pem"',
    ),
    "the key is not one": Case(
        "tls",
        rf"^{_SSL}/k.pem cannot be used: ",
        toml=_TLS,
        make=_certificate(f"{_NAMED} && echo no > k.pem"),
        undo=f"rm -r {_SSL}",
        key=f'"{_SSL}/k.pem"',
    ),
    "the key is another's": Case(
        "tls",
        rf"^{_SSL}/k.pem is not the key of {_SSL}/c.pem",
        toml=_TLS,
        make=_certificate(f"{_NAMED} && openssl ecparam -name prime256v1 -genkey -noout -out k.pem"),
        undo=f"rm -r {_SSL}",
        key=f'"{_SSL}/k.pem"',
    ),
    "the key is everyone's": Case(
        "tls",
        rf"^{_SSL}/k.pem can be read by everyone",
        toml=_TLS,
        make=_certificate(f"{_NAMED} && chmod 644 k.pem"),
        undo=f"rm -r {_SSL}",
        severity="warning",
        key=f'"{_SSL}/k.pem"',
    ),
    "the certificate has expired": Case(
        "tls",
        rf"^{_SSL}/c.pem has expired: it was valid until ",
        toml=_TLS,
        make=_certificate(f"{_YESTERDAY} {_NAMED} -days 1"),
        undo=f"rm -r {_SSL}",
        key=f'"{_SSL}/c.pem"',
    ),
    "the certificate expires soon": Case(
        "tls",
        rf"^{_SSL}/c.pem expires within 14 days",
        toml=_TLS,
        make=_certificate(f"{_NAMED} -days 10"),
        undo=f"rm -r {_SSL}",
        severity="warning",
        key=f'"{_SSL}/c.pem"',
    ),
    "the certificate is for other names": Case(
        "tls",
        rf"^{_SSL}/c.pem is not for \*\.example\.test: browsers",
        toml=_TLS,
        make=_certificate(f"{_REQUEST} -addext subjectAltName=DNS:example.test"),
        undo=f"rm -r {_SSL}",
        key='"*.example.test"',
    ),
    "the backlog is longer than the kernel's": Case(
        "kernel",
        r"^1048576 is more than the kernel allows: net.core.somaxconn is \d+",
        toml="listen.backlog = 1_048_576\n",
        severity="warning",
        key="1_048_576",
        mends=False,
    ),
    "more files than the kernel allows": Case(
        "kernel",
        r"^1073741824 is more than the kernel allows: fs.nr_open is \d+",
        toml="service.open_files = 1_073_741_824\n",
        severity="warning",
        key="1_073_741_824",
        mends=False,
    ),
    "there are no user namespaces": Case(
        "kernel",
        r"^the kernel allows no user namespaces",
        make="echo 0 > /root/none; mount --bind /root/none /proc/sys/user/max_user_namespaces",
        undo="umount /proc/sys/user/max_user_namespaces",
        mends=False,
    ),
    "a limit is not in force": Case(
        "kernel",
        r"^service.memory_max is not in force: this machine has no memory controller",
        toml='service.memory_max = "256M"\n',
        make="echo cpu pids > /root/some; mount --bind /root/some /sys/fs/cgroup/cgroup.controllers",
        undo="umount /sys/fs/cgroup/cgroup.controllers",
        severity="warning",
        key='"256M"',
        mends=False,
    ),
    "the instances may use more memory than there is": Case(
        "memory",
        r"^4 instances may use 4194304 MiB, and this machine has \d+",
        toml='service.memory_max = "1T"\n',
        severity="warning",
        key='"1T"',
        mends=False,
    ),
    "a file system is read-only": Case(
        "disks",
        r"^is read-only, on /etc/nginx/conf.d$",
        make="mount -t tmpfs -o ro tmpfs /etc/nginx/conf.d",
        undo="umount /etc/nginx/conf.d",
    ),
    "a disk is full": Case(
        "disks",
        r"^is full, on /etc/nginx/conf.d$",
        make="mount -t tmpfs -o size=64k tmpfs /etc/nginx/conf.d",
        undo="umount /etc/nginx/conf.d",
        mends=False,
    ),
}

_ELSEWHERE: Final = {"confinement"}
"""Checks of what a container has not of its own, with tests in tests/doctor/."""


def test_every_check_has_a_case() -> None:
    assert {case.check for case in CASES.values()} == set(CHECKS) - _ELSEWHERE


@pytest.fixture(scope="module")
def host(shared_machine: Machine) -> Iterator[Machine]:
    """Return a machine on which nothing is wrong with the deployment, once a test has put back what it changed."""
    for name, script in _TOOLS.items():
        if shared_machine.run("which", name, check=False).returncode:
            shared_machine.write(f"/usr/local/sbin/{name}", f"#!/bin/sh\n{script}\n", 0o755)
    shared_machine.run("mkdir", "-p", "/srv/example")
    shared_machine.write("/srv/example/my_app_module.py", _APP)
    shared_machine.write(_FILE, _BASE)
    yield shared_machine
    shared_machine.write(_FILE, _BASE)
    assert look(shared_machine) == (0, [])


def look(machine: Machine) -> tuple[int, list[dict[str, Any]]]:
    """Return the exit status, and what is not fine."""
    done = machine.run("aiosystemd", "doctor", "example", "--json", check=False)
    assert done.stderr == ""
    findings: list[dict[str, Any]] = json.loads(done.stdout)["findings"]
    return done.returncode, [each for each in findings if each["severity"] != "fine"]


# On one release: what differs between them is seen by the tests in which nothing is wrong.
@pytest.mark.parametrize("suite", ["trixie"], indirect=True)
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_finding_is_told_and_mended(case: Case, host: Machine) -> None:
    text = case.toml if "name =" in case.toml else _BASE + case.toml
    host.write(_FILE, text)
    try:
        host.run("sh", "-ec", case.make)
        status, findings = look(host)
        told = [each for each in findings if re.search(case.what, each["message"])]
        assert [(each["check"], each["severity"]) for each in told] == [(case.check, case.severity)], findings
        assert status == int(any(each["severity"] == "error" for each in findings))
        if case.key:
            assert text.splitlines()[told[0]["line"] - 1][told[0]["column"] - 1 :].startswith(case.key), told
        assert told[0]["mend"]
        if case.mends:
            host.run("sh", "-c", told[0]["mend"], stdin="")
            assert not [each for each in look(host)[1] if re.search(case.what, each["message"])]
    finally:
        host.run("sh", "-c", case.undo, check=False)


# What an application may use while it is imported: all that systemd passes to an instance.
_READER: Final = """
import os, pathlib
from aiohttp import web
credentials = pathlib.Path(os.environ["CREDENTIALS_DIRECTORY"])
assert (credentials / "key").read_text() == "secret"
assert os.environ["FROM_FILE"] == "a b"
assert os.environ["GIVEN"] == "100% $HOME\\n'x'"
assert os.environ["AIOSYSTEMD_INSTANCE"]
(pathlib.Path(os.environ["STATE_DIRECTORY"]) / "seen").touch()
pathlib.Path("/srv/data/seen").write_text(str(os.getuid()))
def make(argv):
    raise RuntimeError("a factory is not called")
"""
_RICH: Final = f"""\
name = "example"
app = "my_app_module:make"
directory = "/srv/example"
instances = 2
[service]
user = "appuser"
environment = {{ GIVEN = "100% $HOME\\n'x'" }}
environment_files = ["/etc/example.env", "-/etc/absent.env"]
credentials = {{ key = "/etc/example.key" }}
[listen]
port = 9000
[sandbox]
writable = ["/srv/data"]
[proxy]
server_names = ["example.test", "*.example.test"]
listen = ["8080"]
static = {{ "/static/" = "/srv/static" }}
[proxy.tls]
certificate = "{_SSL}/c.pem"
key = "{_SSL}/k.pem"
"""


@both_releases
def test_nothing_is_wrong_on_a_fresh_debian(machine: Machine) -> None:
    machine.run("mkdir", "-p", "/srv/example")
    machine.write("/srv/example/my_app_module.py", _APP)
    machine.write(_FILE, _BASE)
    before = _everything(machine)
    assert look(machine) == (0, [])
    assert _everything(machine) == before
    shown = machine.run("aiosystemd", "doctor", "example").stdout.splitlines()
    assert all(line.startswith("fine: ") for line in shown[:-1])
    assert shown[-1] == "0 errors, 0 warnings"
    assert len(shown) - 1 >= len(CHECKS) - 3  # environment files, credentials and a certificate it has none


@both_releases
def test_nothing_is_wrong_with_a_deployment_that_runs(machine: Machine) -> None:
    site = Site.reference(machine)
    site.systemctl("start", "example.target")
    pids = site.pids()
    owner = machine.run("stat", "--format=%u", "/var/lib/private/example").stdout
    assert look(machine) == (0, [])
    assert site.pids() == pids
    assert machine.run("stat", "--format=%u", "/var/lib/private/example").stdout == owner
    assert {name: site.ask_instance(name).status for name in INSTANCES} == dict.fromkeys(INSTANCES, 200)


def test_nothing_is_wrong_with_a_deployment_that_uses_everything(machine: Machine) -> None:
    machine.run("sh", "-ec", f"cd /srv; mkdir example static data; {_user('appuser')}; chown appuser data")
    machine.run("sh", "-ec", _certificate(f"{_NAMED} -days 90"))
    machine.write("/srv/example/my_app_module.py", _READER)
    machine.write("/etc/example.env", 'FROM_FILE="a b"\n', 0o600)
    machine.write("/etc/example.key", "secret", 0o600)
    machine.write(_FILE, _RICH)
    assert look(machine) == (0, [])
    user = machine.run("id", "--user", "appuser").stdout.strip()
    assert machine.read("/srv/data/seen") == user
    assert machine.run("ls", "/var/lib/example", check=False).returncode  # its state was a stand-in's


def test_ports_of_instances_that_run_are_their_own(machine: Machine) -> None:
    machine.run("mkdir", "-p", "/srv/example")
    machine.write("/srv/example/my_app_module.py", _APP)
    machine.write(_FILE, f"{_BASE}listen.port = 9000\n")
    machine.run("aiosystemd", "generate", "example", "--output", "/")
    machine.systemctl("daemon-reload")
    machine.systemctl("start", "example.target")
    assert look(machine) == (0, [])


def test_what_only_root_may_see_is_named(host: Machine) -> None:
    host.write(_FILE, _BASE)
    become = ("setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups")
    done = host.run(*become, "aiosystemd", "doctor", "example", check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "not looked at: what nginx is configured to do: only root may ask it\n" in done.stdout


def test_application_that_nobody_may_read_is_not_a_traceback(host: Machine) -> None:
    host.write(_FILE, _BASE, 0o600)
    done = host.run("setpriv", "--reuid=65534", "--clear-groups", "aiosystemd", "doctor", "example", check=False)
    host.run("chmod", "644", _FILE)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"{_FILE}: cannot be read: Permission denied\n"


def test_without_systemd_the_application_is_imported_as_somebody_without_rights(host: Machine) -> None:
    host.write("/srv/example/my_app_module.py", f"import os\nassert os.getuid() == 65534\n{_APP}")
    where = "mount -t tmpfs tmpfs /run && aiosystemd doctor example"
    host.write(_FILE, _BASE)
    done = host.run("unshare", "--mount", "sh", "-c", where)
    assert "fine: my_app_module:my_web_app can be imported as example\n" in done.stdout
    host.write("/srv/example/my_app_module.py", "import absent\n")
    done = host.run("unshare", "--mount", "sh", "-c", where, check=False)
    assert "ModuleNotFoundError: No module named 'absent' (/srv/example/my_app_module.py:1)\n" in done.stdout
    host.write("/srv/example/my_app_module.py", _APP)


def test_what_only_systemd_passes_is_not_missed_without_it(host: Machine) -> None:
    host.write("/etc/example.key", "secret", 0o600)
    host.write(_FILE, f'{_BASE}service.credentials = {{ key = "/etc/example.key" }}\n')
    done = host.run("unshare", "--mount", "sh", "-c", "mount -t tmpfs tmpfs /run && aiosystemd doctor example")
    assert "not looked at: whether my_app_module:my_web_app can be imported: its credentials" in done.stdout


def test_interrupted_look_leaves_nothing_running(host: Machine) -> None:
    host.write("/srv/example/my_app_module.py", "import threading\nthreading.Event().wait()\n")
    host.write(_FILE, _BASE)
    script = """
import signal, subprocess, time
units = ("systemctl", "list-units", "--plain", "--no-legend", "aiosystemd-doctor-*")
looking = subprocess.Popen(("aiosystemd", "doctor", "example"))
while not subprocess.run(units, capture_output=True).stdout:
    time.sleep(0.05)
looking.send_signal(signal.SIGINT)
print(looking.wait(), subprocess.run(units, capture_output=True, text=True).stdout)
"""
    done = host.run("python3", "-c", script)
    host.write("/srv/example/my_app_module.py", _APP)
    assert done.stdout == "130 \n"


def _everything(machine: Machine) -> list[str]:
    """Return what would tell of a change: names, modes, owners, times and sizes of files, and units."""
    files = "find /etc /srv /var/lib /root -printf '%p %m %u %g %T@ %s\\n' | grep -v -e /__pycache__ -e /systemd/"
    return machine.run("sh", "-c", f"{files}; systemctl list-units --all --plain --no-legend").stdout.splitlines()
