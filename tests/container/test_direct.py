"""No proxy: TLS in the instances, on a port each or one port for all, on sockets that systemd opens."""

import ssl
from collections.abc import Iterator
from http.client import HTTPResponse

import pytest

from tests.container.conftest import both_releases
from tests.container.machine import Machine
from tests.container.site import SHAPES, Site, Traffic

PORT = 8443
FILE = "/etc/aiosystemd/echo.toml"
PORTS = f"""
name = "echo"
app = "app:create"
directory = "/srv/echo"
instances = 2
timeouts = {{ request = 10 }}

[proxy]
kind = "none"

[listen]
port = {PORT}
address = "0.0.0.0"
tls = {{ certificate = "/etc/ssl/echo.crt", key = "/etc/ssl/echo.key" }}
"""
SHARED = f"{PORTS}shared = true\n"
CERTIFICATE = (
    "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN={} "
    "-keyout /etc/ssl/echo.key -out /etc/ssl/echo.crt 2>/dev/null; chmod 600 /etc/ssl/echo.key"
)


@pytest.fixture
def site(machine: Machine) -> Iterator[Site]:
    """Return a machine without a proxy that has the application and a certificate."""
    machine.run("systemctl", "disable", "--now", "nginx")
    site = Site.files(machine, "echo")
    renew(site, "a.example")
    yield site
    assert "the drain took too long" not in machine.journal()
    assert "SIGKILL" not in machine.journal()


def renew(site: Site, name: str) -> None:
    site.machine.run("sh", "-ec", CERTIFICATE.format(name))


def traffic(site: Site, port: int = PORT, *options: str) -> Traffic:
    """Return 16 clients with GET and checked POST over TLS."""
    return Traffic(site, "--clients", "16", "--pause", "0.005", "--tls", "--port", str(port), *options)


def dial(site: Site, port: int = PORT) -> ssl.SSLSocket:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    raw = site.machine.connect(port=port)
    raw.settimeout(60)
    return context.wrap_socket(raw)


def ask(connection: ssl.SSLSocket, path: str = "/") -> str:
    """Ask on a connection that is kept."""
    send(connection, path)
    return receive(connection)


def send(connection: ssl.SSLSocket, path: str) -> None:
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: a.example\r\n\r\n".encode())


def receive(connection: ssl.SSLSocket) -> str:
    response = HTTPResponse(connection)
    response.begin()
    return response.read().decode()


def common_name(site: Site, port: int) -> str:
    """Return the name in the certificate with which the port is served."""
    with dial(site, port) as connection:
        pem = ssl.DER_cert_to_PEM_cert(connection.getpeercert(binary_form=True) or b"")
    return site.machine.run("openssl", "x509", "-noout", "-subject", stdin=pem).stdout.rpartition("=")[2].strip()


def new_code(site: Site, greeting: str) -> None:
    site.write_app((SHAPES / "echo" / "app.py").read_text().replace("hello", greeting))


def apply(site: Site, *options: str) -> None:
    site.machine.run("aiosystemd", "apply", "echo", "--yes", "--pause", "0", *options)


@both_releases
def test_no_request_is_lost_on_ports_of_their_own(site: Site) -> None:
    site.machine.write(FILE, PORTS)
    apply(site)
    with traffic(site) as first, traffic(site, PORT + 1, "--close") as second:
        for port in (PORT, PORT + 1):
            instance = f"echo@{port - PORT + 1}"
            for job in ("restart", "reload"):
                site.systemctl(job, instance)
                (first if port == PORT else second).wait(200)
        new_code(site, "moin")
        site.machine.run("aiosystemd", "rollout", "echo", "--pause", "0")
        first.wait(200)
        renew(site, "b.example")
        # Of the files, nothing has changed; what they name has.
        shown = site.machine.run("aiosystemd", "rollout", "echo", "--pause", "0").stdout
        first.wait(200)
    assert (first.report().failures, second.report().failures) == ({}, {})
    assert "restart" in shown
    assert {port: common_name(site, port) for port in (PORT, PORT + 1)} == dict.fromkeys((PORT, PORT + 1), "b.example")
    with dial(site) as connection:
        assert ask(connection) == "moin from 1"


@both_releases
def test_no_request_is_lost_on_one_port(site: Site) -> None:
    site.machine.write(FILE, SHARED)
    for action in site.machine.run("aiosystemd", "generate", "echo", "--output", "/").stdout.splitlines():
        if action.startswith("next:"):
            site.machine.run("sh", "-ec", action.removeprefix("next:"))
    site.wait_for(lambda: answering(site) == {"1", "2"})
    with traffic(site) as kept, traffic(site, PORT, "--close") as closed:
        for job in ("restart", "reload"):
            for instance in ("1", "2"):
                site.systemctl(job, f"echo@{instance}")
                kept.wait(100)
                closed.wait(100)
        # Others take what one does not.
        site.systemctl("stop", "echo@1")
        assert answering(site) == {"2"}
        site.systemctl("start", "echo@1")
        site.systemctl("restart", "echo.target")
        closed.wait(100)
    assert (kept.report().failures, closed.report().failures) == ({}, {})
    assert answering(site) == {"1", "2"}


@both_releases
def test_one_port_is_open_while_an_instance_is_up(site: Site) -> None:
    site.machine.write(FILE, SHARED)
    site.machine.run("aiosystemd", "generate", "echo", "--output", "/")
    site.systemctl("daemon-reload")
    site.systemctl("start", "echo@2")
    assert answering(site) == {"2"}
    site.systemctl("stop", "echo.target")
    site.wait_for(lambda: site.state("echo.socket") == "inactive")
    assert site.state("echo@2.service") == "inactive"
    with pytest.raises(ConnectionRefusedError):
        site.machine.connect(port=PORT)
    # Started by a client alone, as after a boot.
    site.systemctl("start", "echo.socket")
    assert answering(site) == {"1"}


def test_idle_client_does_not_hold_a_stop(site: Site) -> None:
    site.machine.write(FILE, PORTS)
    apply(site)
    with dial(site) as idle, dial(site) as never_asked, dial(site) as busy:
        assert ask(idle) == "hello from 1"
        send(busy, "/?sleep=3")
        site.systemctl("stop", "echo@1")
        assert idle.recv(1) == never_asked.recv(1) == b""
        assert receive(busy) == "hello from 1"  # what is at work is waited for


@pytest.mark.parametrize("wrong", ["another key", "no certificate"])
def test_release_with_a_wrong_certificate_is_not_served(site: Site, wrong: str) -> None:
    site.machine.write(FILE, PORTS)
    apply(site)
    if wrong == "another key":
        site.machine.run("openssl", "genpkey", "-algorithm", "ed25519", "-out", "/etc/ssl/echo.key")
        reason = "tls-key is not the key of"
    else:
        site.machine.write("/etc/ssl/echo.crt", "hello\n")
        reason = "is no certificate in PEM"
    with traffic(site, PORT + 1) as other:
        done = site.machine.run("aiosystemd", "rollout", "echo", "--pause", "0", "--timeout", "20", check=False)
        other.wait(100)
    assert done.returncode == 1
    assert reason in done.stdout + done.stderr
    assert other.report().failures == {}  # the second keeps the old certificate
    assert common_name(site, PORT + 1) == "a.example"
    doctor = site.machine.run("aiosystemd", "doctor", "echo", check=False)
    assert doctor.returncode == 1
    assert "/etc/ssl/echo." in doctor.stdout


def answering(site: Site) -> set[str]:
    """Return the instances that answer one of forty connections."""
    names = set()
    for _ in range(40):
        with dial(site) as connection:
            names.add(ask(connection).rpartition(" ")[2])
    return names
