"""What a user would pick instead, beside ours: the files of each, and what systemd starts for it.

The recipes of aiohttp's deployment page stand here as they are printed, apart from the paths that it leaves open.
Where it prints a part of nginx's configuration, that part is read by Debian's own ``nginx.conf``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from benchmarks.place import APP, DEBIANS_NGINX
from tests.container.machine import Machine

OURS: Final = "aiosystemd"
NGINX: Final = "/etc/nginx/nginx.conf"
SITE: Final = "/etc/nginx/conf.d/example.conf"
_UNITS: Final = "/etc/systemd/system"


@dataclass(frozen=True)
class Contender:
    """One way to serve the application."""

    name: str
    processes: int
    """How many serve the application."""
    files: Mapping[str, str] = field(repr=False)
    app: tuple[str, ...]
    """Units of the application, whose processor time is counted together."""
    start: tuple[str, ...]
    """Units to start, in this order."""
    proxy: str = ""
    """Unit of the proxy."""
    port: int = 80

    @property
    def units(self) -> tuple[str, ...]:
        """All that it needs, the proxy first: so a stop closes its idle connections before the application waits."""
        return (*((self.proxy,) if self.proxy else ()), *self.app)

    def changed(self, name: str, path: str, *pairs: tuple[str, str]) -> "Contender":
        """Return a copy in whose file ``path`` each first text of ``pairs`` is replaced by the second.

        Raises `ValueError` for a text that is not there.
        """
        text = self.files[path]
        for old, new in pairs:
            if old not in text:
                raise ValueError(f"{old!r} is not in {path} of {self.name}")
            text = text.replace(old, new)
        return replace(self, name=name, files={**self.files, path: text})

    def plus(self, name: str, path: str, text: str) -> "Contender":
        """Return a copy with one more file."""
        return replace(self, name=name, files={**self.files, path: text})


_DOCS_SITE: Final = """
upstream aiohttp {
    server unix:/tmp/example_1.sock fail_timeout=0;
    server unix:/tmp/example_2.sock fail_timeout=0;
    server unix:/tmp/example_3.sock fail_timeout=0;
    server unix:/tmp/example_4.sock fail_timeout=0;
}
server {
    listen 80;
    client_max_body_size 4G;
    server_name example.com;
    location / {
        proxy_set_header Host $http_host;
        proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
        proxy_redirect off;
        proxy_buffering off;
        proxy_pass http://aiohttp;
    }
    location /static {
        root /path/to/app/static;
    }
}
"""

_DOCS_SUPERVISOR: Final = f"""
[program:aiohttp]
numprocs = 4
numprocs_start = 1
process_name = example_%(process_num)s
command={APP}/aiohttp_example.py --path=/tmp/example_%(process_num)s.sock
user=nobody
autostart=true
autorestart=true
"""

_DOCS_GUNICORN_NGINX: Final = """
worker_processes 1;
user nobody nogroup;
events {
    worker_connections 1024;
}
http {
    server {
        listen                80 default_server;
        server_name           main;
        client_max_body_size  200M;
        location / {
            proxy_pass                          http://127.0.0.1:8080;
            proxy_set_header                    Host $host;
            proxy_set_header X-Forwarded-Host   $server_name;
            proxy_set_header X-Real-IP          $remote_addr;
        }
    }
}
"""

# What somebody adds who knows nginx.
_KEEPALIVE: Final = (
    ("}\nserver {", "    keepalive 64;\n}\nserver {"),
    ("location / {", 'location / {\n        proxy_http_version 1.1;\n        proxy_set_header Connection "";'),
)

_TUNED_GUNICORN_SITE: Final = """
upstream gunicorn {
    server unix:/run/gunicorn/example.sock fail_timeout=0;
    keepalive 64;
}
server {
    listen 80;
    location / {
        proxy_http_version 1.1;
        proxy_set_header Connection "";
        proxy_set_header Host $http_host;
        proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
        proxy_set_header X-Forwarded-Proto $scheme;
        proxy_redirect off;
        proxy_pass http://gunicorn;
    }
}
"""

_HAPROXY: Final = """
global
    user haproxy
    group www-data
defaults
    mode http
    timeout connect 5s
    timeout client 30s
    timeout server 30s
frontend site
    bind :80
    default_backend instances
backend instances
    balance leastconn
    http-reuse always
    option forwardfor
{servers}
"""


def _service(name: str, command: str, *more: str) -> tuple[str, str]:
    lines = ("[Service]", f"ExecStart={command}", f"WorkingDirectory={APP}", "User=www-data", *more)
    return f"{_UNITS}/{name}.service", "\n".join(lines) + "\n"


def _supervisord(nginx: str) -> tuple[Contender, Contender]:
    # supervisord makes the sockets as nobody, with its umask of 022: nobody else can connect to them.
    files = {
        "/etc/supervisor/conf.d/example.conf": _DOCS_SUPERVISOR,
        NGINX: nginx.replace("user www-data;", "user nobody nogroup;"),
        SITE: _DOCS_SITE,
    }
    app = ("supervisor.service",)
    docs = Contender("docs: supervisord", 4, files, app, (*app, "nginx.service"), "nginx.service")
    return docs, docs.changed("docs: supervisord, upstream keepalive", SITE, *_KEEPALIVE)


def _gunicorn(nginx: str, worker: str, count: int) -> tuple[Contender, Contender]:
    def contender(name: str, bind: str, proxy: Mapping[str, str]) -> Contender:
        command = f"gunicorn my_app_module:my_web_app --bind {bind} --worker-class aiohttp.{worker} --workers {count}"
        unit = _service("gunicorn", f"/usr/bin/{command}", "Type=notify", "RuntimeDirectory=gunicorn")
        app = ("gunicorn.service",)
        return Contender(name, count, {**dict([unit]), **proxy}, app, (*app, "nginx.service"), "nginx.service")

    loop = "uvloop" if "UVLoop" in worker else "asyncio"
    printed = contender(f"docs: gunicorn {loop}, {count}", "localhost:8080", {NGINX: _DOCS_GUNICORN_NGINX})
    files = {NGINX: nginx, SITE: _TUNED_GUNICORN_SITE}
    return printed, contender(f"gunicorn {loop}, {count}, tuned nginx", "unix:/run/gunicorn/example.sock", files)


def _plain() -> Contender:
    unit = _service("plain", f"{APP}/aiohttp_example.py --port=8080")
    return Contender("run_app, no proxy", 1, dict([unit]), ("plain.service",), ("plain.service",), port=8080)


def _plain_uvloop() -> Contender:
    unit, text = _service("plain", f"{APP}/aiohttp_example.py --port=8080 --uvloop")
    return replace(_plain(), name="run_app with uvloop, no proxy", files={unit: text})


def ours(machine: Machine, instances: str = '"auto"') -> Contender:
    """Return what ``aiosystemd generate`` writes in the machine for the smallest deployment file."""
    lines = ('name = "example"', 'app = "my_app_module:my_web_app"', f'directory = "{APP}"', f"instances = {instances}")
    machine.write("/etc/aiosystemd/example.toml", "\n".join(lines) + "\n")
    machine.run("rm", "-rf", "/srv/tree")
    machine.run("aiosystemd", "generate", "example", "--output", "/srv/tree")
    paths = machine.run("find", "/srv/tree", "-type", "f").stdout.split()
    files = {path.removeprefix("/srv/tree"): machine.read(path) for path in paths}
    count = files[SITE].count("server unix:")
    app = tuple(f"example@{number}.service" for number in range(1, count + 1))
    files |= {NGINX: machine.read(DEBIANS_NGINX)}
    return Contender(f"{OURS}, {count}", count, files, app, ("example.target", "nginx.service"), "nginx.service")


def behind_haproxy(contender: Contender) -> Contender:
    """Return the same instances with HAProxy in the place of nginx."""
    names = range(1, contender.processes + 1)
    servers = "\n".join(f"    server i{name} unix@/run/example/{name}.sock" for name in names)
    files = {path: text for path, text in contender.files.items() if not path.startswith("/etc/nginx")}
    files["/etc/haproxy/haproxy.cfg"] = _HAPROXY.format(servers=servers)
    start = ("example.target", "haproxy.service")
    return replace(contender, name=f"{contender.name}, HAProxy", files=files, start=start, proxy="haproxy.service")


def contenders(machine: Machine) -> tuple[Contender, ...]:
    """Return all, ours last."""
    nginx = machine.read(DEBIANS_NGINX)
    workers = ("GunicornWebWorker", "GunicornUVLoopWebWorker")
    gunicorn = [each for worker in workers for count in (2, 4) for each in _gunicorn(nginx, worker, count)]
    auto, four = ours(machine), ours(machine, "4")
    return (*_supervisord(nginx), *gunicorn, _plain(), _plain_uvloop(), behind_haproxy(auto), auto, four)
