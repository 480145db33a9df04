"""The deployment file: what the user may write, table by table, and what it means.

A ``Deployment`` holds only what the user wrote; figures that follow from it are properties. Descriptions are
written once, here: the JSON Schema and the man page are made from them.
"""

import ast
import inspect
from collections.abc import Iterator
from ipaddress import ip_address
from itertools import pairwise
from types import ModuleType
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from aiosystemd import contract
from aiosystemd.values import (
    AbsolutePath,
    Address,
    App,
    Argument,
    Credential,
    CredentialPath,
    DevicePath,
    DirectiveName,
    DirectiveValue,
    EnvironmentFile,
    EnvironmentValue,
    HeaderName,
    HeaderValue,
    Line,
    ListenAddress,
    Mode,
    Name,
    Network,
    Prefix,
    Program,
    ProxyPath,
    Seconds,
    SecondsOrNever,
    ServerName,
    Size,
    User,
    Variable,
)


class Table(BaseModel):
    """A table of the deployment file: frozen, without conversions, unknown keys forbidden."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Service(Table):
    """Identity, environment, limits and restarts of the instances."""

    user: User | None = None
    """A static user to run as, created through sysusers.d when it does not exist. Without it systemd makes a
    dynamic one that lives as long as an instance runs (``DynamicUser=``)."""
    group: User | None = None
    """The primary group, when it is not named like the user."""
    groups: tuple[User, ...] = ()
    """More groups, such as the one that owns a device node. They must exist."""
    dynamic_user: bool | None = None
    """Whether systemd makes the user up; by default when ``user`` is not set."""
    environment: dict[Variable, EnvironmentValue] = {}
    """Variables of the application. Unit files are world-readable: secrets belong in ``credentials``."""
    environment_files: tuple[EnvironmentFile, ...] = ()
    """Files of ``NAME=value`` lines, read by systemd before it drops privileges; a leading ``-`` means optional."""
    credentials: dict[Credential, CredentialPath] = {}
    """Secrets by name: systemd passes each file as ``$CREDENTIALS_DIRECTORY/NAME``, readable by the instance only."""
    memory_max: Size | None = None
    """Memory at which the kernel kills a process of the instance, in bytes or as in ``"512M"``. In a reload the old
    and the new process run at once, so it must have room for two."""
    cpu_quota: Annotated[int, Field(gt=0, le=100_000)] | None = None
    """Share of one CPU an instance may use, in percent; 150 is one and a half CPUs."""
    tasks_max: Annotated[int, Field(gt=0, le=4_194_304)] | None = None
    """Number of threads and processes an instance may have."""
    open_files: Annotated[int, Field(ge=64, le=1 << 30)] = 65_536
    """Number of open files and connections an instance may have."""
    restart: Literal["always", "on-failure"] = "always"
    """When systemd starts an instance again that ended by itself."""
    directives: dict[
        DirectiveName,
        DirectiveValue | Annotated[int, Field(ge=-(1 << 63), lt=1 << 63)] | bool | tuple[DirectiveValue, ...],
    ] = {}
    """More directives of the ``[Service]`` section, in systemd's own syntax, such as ``Nice = 5``."""


class Server(Table):
    """How the instances serve HTTP."""

    kind: Literal["aiohttp", "gunicorn"] = "aiohttp"
    """What serves the application: aiosystemd's own runtime, in instances; or gunicorn, with as many of aiohttp's
    workers on one socket. What works instance by instance, such as ``apply`` and ``rollout``, is for the first."""
    loop: Literal["auto", "asyncio", "uvloop"] = "auto"
    """The event loop; ``auto`` takes uvloop when it is installed."""
    access_log: Literal["off", "text", "journal"] = "off"
    """Log of requests: none (the proxy keeps one), lines in aiohttp's format, or journal entries with fields."""
    access_log_format: Line = contract.ACCESS_LOG_FORMAT
    """Format of ``access_log = "text"``, in aiohttp's notation."""
    keepalive: Seconds = contract.SERVER_KEEPALIVE
    """Seconds after which the server closes an idle connection; the proxy must close first."""
    body_limit: Size | None = None
    """Largest request body that the application takes, in place of the ``client_max_size`` of its own."""
    forwarded: bool = True
    """Whether ``request.remote``, ``.scheme`` and ``.host`` come from the proxy's ``X-Forwarded-`` headers."""


class ListenTls(Table):
    """The certificate of instances that no proxy is in front of."""

    certificate: CredentialPath
    """The certificate chain, PEM; systemd passes it as a credential."""
    key: CredentialPath
    """Its private key, PEM, without a passphrase; readable by root only, as systemd passes it as a credential."""


class Sockets(Table):
    """The sockets, which systemd opens and keeps."""

    directory: AbsolutePath | None = None
    """Directory of the unix sockets, by default ``/run/NAME``; instance 1 listens on ``1.sock`` in it."""
    mode: Mode = "0660"
    """File mode of the unix sockets."""
    group: User | None = None
    """Group of the unix sockets: the proxy's, by default ``www-data``, or ``haproxy`` for that one."""
    port: Annotated[int, Field(gt=0, lt=1 << 16)] | None = None
    """Serve on TCP ports in place of unix sockets: instance 1 on this port, instance 2 on the next one."""
    shared: bool = False
    """One port for all, ``port`` itself: every instance accepts from the same socket. What asks instances one by one,
    such as ``apply`` and ``rollout``, is for ports or sockets of their own."""
    address: Address = "127.0.0.1"
    """Address of the TCP ports. Without a proxy, on one that is not the machine's own (127.0.0.1, ::1), clients are
    taken to come by themselves: an instance that ends closes the connections that they keep idle."""
    backlog: Annotated[int, Field(gt=0, le=1 << 20)] = contract.BACKLOG
    """Connections that wait while an instance restarts; the kernel caps it at ``net.core.somaxconn``."""
    tls: ListenTls | None = None
    """Serve HTTPS without a proxy, on TCP ports."""


class Timeouts(Table):
    """Seconds that each part of an instance's life may take."""

    start: Seconds = 30.0
    """Each step of the start: import, factory, every start-up hook."""
    request: Seconds = contract.REQUEST_TIMEOUT
    """The longest ordinary request, and the longest silence between two parts of a response."""
    drain: Seconds | None = None
    """Requests in flight at a stop; by default ``request`` + ``proxy.keepalive`` + 5."""
    stop: Seconds | None = None
    """From SIGTERM to SIGKILL; by default ``drain`` + 10."""
    watchdog: SecondsOrNever = 30.0
    """A blocked event loop, after which systemd restarts the instance; 0 turns the watchdog off."""


class Sandbox(Table):
    """What the application may reach. Everything is closed unless it is opened here, by name."""

    network: Literal["none", "outbound"] = "outbound"
    """Connections that the application may open itself: unix sockets only, or to the network too."""
    addresses: tuple[Network, ...] = ()
    """The only networks, or ``"localhost"``, that the application may talk to; by default all."""
    writable: tuple[AbsolutePath, ...] = ()
    """Directories that the application may write, beside its ``$STATE_DIRECTORY``; made for ``service.user``."""
    home: bool = False
    """Let it read home directories."""
    shared_tmp: bool = False
    """Let it use the host's ``/tmp`` and ``/var/tmp`` in place of its own."""
    executable_memory: bool = False
    """Let it make memory executable, as JIT compilers (numba, PyPy) and cffi callbacks must."""
    host_users: bool = False
    """Let it see the host's users as they are, not as ``nobody``."""
    system_bus: bool = False
    """Let it talk to the D-Bus system bus."""
    resources: bool = False
    """Let it change scheduling: CPU affinity, priorities, memory policy."""
    devices: tuple[DevicePath, ...] = ()
    """Device nodes that it may use, such as ``/dev/dri/renderD128``; their group goes into ``service.groups``."""
    max_exposure: Annotated[float, Field(ge=0, le=10)] | None = None
    """Highest exposure by ``systemd-analyze security`` that is written."""


class Tls(Table):
    """The proxy's certificate."""

    certificate: ProxyPath
    """The certificate chain, PEM."""
    key: ProxyPath
    """The private key, PEM; readable by root only."""
    listen: Annotated[tuple[ListenAddress, ...], Field(min_length=1)] = ("443", "[::]:443")
    """Addresses that speak TLS; those of ``proxy.listen`` then redirect to them."""
    redirect: bool = True
    """Whether plain HTTP is redirected; if not, both are served."""
    http3: bool = False
    """Speak HTTP/3 too, on UDP ports of the same numbers, with nginx 1.25 or newer. Its reload loses such requests."""
    reuseport: bool = True
    """Whether this site says ``reuseport`` where it listens for HTTP/3. nginx wants it once for each address, in one of
    the sites there: without any, packets reach the wrong worker."""


class Maintenance(Table):
    """What clients see while the application is down, or is to be."""

    page: ProxyPath
    """An HTML file, complete in itself, shown in place of the proxy's own errors 502, 503 and 504, such as when no
    instance answers. Errors that the application answers with stay its own."""
    switch: ProxyPath
    """While there is a file of this name, the page is the answer, with status 503, to all that is not a static file."""
    retry_after: Annotated[int, Field(gt=0, le=604_800)] = 120
    """Seconds after which clients are told to come again (``Retry-After``)."""


class Proxy(Table):
    """The web server in front of the instances."""

    kind: Literal["nginx", "haproxy", "none"] = "nginx"
    """Which proxy to write a configuration for. HAProxy serves no files: what needs that is refused with it."""
    server_names: tuple[ServerName, ...] = ()
    """Names that the site answers to; by default the machine's host name."""
    site: Name | None = None
    """Name of another deployment on the same host, whose site this one joins: it has no server of its own then."""
    prefix: Prefix | None = None
    """Path prefix of that site under which the application is reached, such as ``"/api/"``. Requests reach it with
    their whole path, prefix included; one for the prefix without its last slash is redirected. Everything else in
    this table, and the body size and the timeouts, apply below the prefix only."""
    listen: Annotated[tuple[ListenAddress, ...], Field(min_length=1)] = ("80", "[::]:80")
    """Addresses to listen on."""
    default_server: bool = False
    """Whether requests for names that no site claims come here too. Debian's own default site claims that as well.
    If not, one that comes here all the same is answered 421, but for ``localhost`` from the machine itself."""
    tls: Tls | None = None
    """Serve HTTPS."""
    static: dict[Prefix, ProxyPath] = {}
    """Directories that the proxy serves itself, by path prefix: ``"/static/" = "/srv/example/static"``."""
    static_age: Annotated[int, Field(ge=0, le=31_536_000)] = 0
    """Seconds for which browsers use a static file without asking whether it has changed; 0: they ask each time."""
    immutable: tuple[Prefix, ...] = ()
    """Those prefixes of ``static`` whose files never change, as with a hash in each name: kept for a year."""
    precompressed: bool = False
    """Serve ``FILE.gz`` in place of a static ``FILE`` where it is there and the client takes it."""
    gzip: bool = True
    """Compress text of 1 KiB and more. Where a page has a secret and what an attacker chose (BREACH), turn it off."""
    internal: dict[Prefix, ProxyPath] = {}
    """Directories whose files are sent only when the application answers with ``X-Accel-Redirect: PREFIX/FILE``."""
    maintenance: Maintenance | None = None
    """A page for the time when the application is down."""
    rate_limit: Annotated[int, Field(gt=0, le=100_000)] | None = None
    """Requests per second from one client address; more are answered 429. Static files are not counted."""
    rate_burst: Annotated[int, Field(ge=0, le=1_000_000)] = 20
    """Requests that a client may make at once beyond ``rate_limit``."""
    trusted: tuple[Network, ...] = ()
    """Networks of proxies in front of this one, which are believed: the client's address in ``X-Forwarded-For`` and the
    scheme in ``X-Forwarded-Proto``. One that joins a site repeats that site's."""
    body_size: Size | None = None
    """Largest request body the proxy accepts; by default ``server.body_limit``, else 1 MiB as aiohttp's own limit."""
    websockets: bool = True
    """Pass ``Upgrade:`` on, on every path. Outside ``streams`` one silent for ``timeouts.request`` is closed."""
    streams: tuple[Prefix, ...] = ()
    """Path prefixes of websockets, server-sent events and long polls, which may be silent longer than a request."""
    stream_timeout: Seconds = 3600.0
    """Seconds of silence after which the proxy ends a stream."""
    headers: dict[HeaderName, HeaderValue] = {}
    """Headers added to every response. A deployment that joins a site has those of the site unless it sets some."""
    keepalive: Seconds = contract.PROXY_KEEPALIVE
    """Seconds after which the proxy closes an idle connection to an instance. A drain waits that long."""
    connections: Annotated[int, Field(gt=0, le=100_000)] = 64
    """Idle connections to the instances that each worker of the proxy keeps."""


class Health(Table):
    """The request that tells whether an instance works."""

    path: Prefix = "/"
    """Path to ask for; by default ``/``, or ``proxy.prefix`` where a site is joined."""
    status: Annotated[int, Field(ge=100, le=599)] = 200
    """Status of a good answer."""
    timeout: Seconds = 5.0
    """Seconds to wait for it."""


class Deployment(Table):
    """One aiohttp application, served by several instances."""

    name: Name
    """Name of the deployment: units, sockets, state directory and upstream are called by it."""
    app: App
    """``MODULE:ATTRIBUTE`` of an ``Application``, or of a function or coroutine function that makes one."""
    instances: Annotated[int, Field(ge=1, le=1000)] | Literal["auto"] = 4
    """How many instances run; ``"auto"`` is one per CPU of the host that generates."""
    directory: AbsolutePath | None = None
    """The application's directory, which is where instances run and import from; not needed for an installed module."""
    python: Program = "/usr/bin/python3"
    """The interpreter that has the application's modules and ``aiosystemd[serve]``."""
    arguments: tuple[Argument, ...] = ()
    """Passed to a factory that takes ``argv``, as ``python -m aiohttp.web`` does."""
    service: Service = Service()
    server: Server = Server()
    listen: Sockets = Sockets()
    timeouts: Timeouts = Timeouts()
    sandbox: Sandbox = Sandbox()
    proxy: Proxy = Proxy()
    health: Health = Health()

    @property
    def dynamic_user(self) -> bool:
        """Whether systemd makes the instances' user up (systemd.exec(5), ``DynamicUser=``)."""
        chosen = self.service.dynamic_user
        return self.service.user is None if chosen is None else chosen

    @property
    def socket_directory(self) -> str:
        """Directory of the unix sockets."""
        return self.listen.directory or f"/run/{self.name}"

    @property
    def socket_group(self) -> str:
        """Group of the unix sockets."""
        return self.listen.group or ("haproxy" if self.proxy.kind == "haproxy" else "www-data")

    @property
    def addressable(self) -> bool:
        """Whether each instance has an address of its own, which apply and all that works one by one needs."""
        return self.server.kind == "aiohttp" and not self.listen.shared

    @property
    def direct(self) -> bool:
        """Whether clients come to the instances by themselves."""
        remote = self.listen.port is not None and not ip_address(self.listen.address).is_loopback
        return self.proxy.kind == "none" and remote

    @property
    def idle(self) -> float:
        """Seconds after which the proxy has closed every connection it keeps idle; 0 where it keeps none."""
        return self.proxy.keepalive if self.proxy.kind == "nginx" else 0.0

    @property
    def drain(self) -> float:
        """Seconds from SIGTERM until requests still in flight are cancelled."""
        default = round(self.timeouts.request + self.idle + 5, 3)  # 0.1 + 0.2 is finer than a microsecond
        return default if self.timeouts.drain is None else self.timeouts.drain

    @property
    def stop(self) -> float:
        """Seconds from SIGTERM until SIGKILL (systemd.service(5), ``TimeoutStopSec=``)."""
        return round(self.drain + contract.CLEANUP_RESERVE, 3) if self.timeouts.stop is None else self.timeouts.stop

    @property
    def health_check(self) -> Health:
        """How an instance is asked whether it works."""
        if self.proxy.prefix is None or "path" in self.health.model_fields_set:
            return self.health
        return self.health.model_copy(update={"path": self.proxy.prefix.rstrip("/") + "/"})

    @property
    def body_size(self) -> int:
        """Largest request body that the proxy accepts, in bytes."""
        return self.proxy.body_size or self.server.body_limit or 1 << 20


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of the deployment file."""
    schema = Deployment.model_json_schema()
    written = {table.__name__: table for table in Table.__subclasses__()}
    for name, table in {Deployment.__name__: schema, **schema["$defs"]}.items():
        for key, description in descriptions(written[name]):
            table["properties"][key]["description"] = description
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": "aiosystemd deployment file",
    }


def descriptions(of: type | ModuleType) -> Iterator[tuple[str, str]]:
    """Yield each key of a table, or name of a class or module, and its description, the string below it.

    Not ``use_attribute_docstrings``, which reads them whenever this module is imported: 20 ms of every command.
    """
    body = ast.parse(inspect.getsource(of)).body
    if isinstance(of, type):
        [body] = (node.body for node in body if isinstance(node, ast.ClassDef))
    for key, below in pairwise(body):
        match key, below:
            case (
                (ast.AnnAssign(target=ast.Name(id=name)) | ast.Assign(targets=[ast.Name(id=name)])),
                ast.Expr(value=ast.Constant(value=str(text))),
            ):
                yield name, inspect.cleandoc(text)
