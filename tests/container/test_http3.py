"""HTTP/3: Debian 13's nginx with several sites on one address, asked by Debian 13's curl."""

import json
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.container.machine import Machine
from tests.container.site import SHAPES

SITE = """
name = "{name}"
app = "app:create"
directory = "/srv/echo"
instances = 2
timeouts = {{ request = 10 }}

[proxy]
server_names = ["{name}.example"]
tls = {{ certificate = "/etc/ssl/x.crt", key = "/etc/ssl/x.key", listen = ["443", "8443"], http3 = true{more} }}
"""
CERTIFICATE = (
    "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=x "
    "-keyout /etc/ssl/x.key -out /etc/ssl/x.crt 2>/dev/null"
)
ENOUGH = 300


@pytest.fixture(scope="module")
def machine(shared_machine: Machine) -> Iterator[Machine]:
    """Return a machine with two sites, the second one without a ``reuseport`` of its own."""
    shared_machine.run("sh", "-ec", CERTIFICATE)
    shared_machine.copy(SHAPES / "echo", "/srv/echo")
    for name, more in (("one", ""), ("two", ", reuseport = false")):
        shared_machine.write(f"/etc/aiosystemd/{name}.toml", SITE.format(name=name, more=more))
    shared_machine.run("aiosystemd", "check", "one", "two")
    for name in ("one", "two"):
        shared_machine.run("aiosystemd", "apply", name, "--yes", "--pause", "0")
    yield shared_machine
    assert "SIGKILL" not in shared_machine.journal()


def curl(name: str, port: int = 443, path: str = "/client", *options: str) -> tuple[str, ...]:
    """Return a command that asks a site over HTTP/3 and nothing else."""
    address = ("--resolve", f"{name}.example:{port}:127.0.0.1", f"https://{name}.example:{port}{path}")
    return ("curl", "--silent", "--show-error", "--insecure", "--http3-only", "--max-time", "30", *options, *address)


@pytest.mark.parametrize("name", ["one", "two"])
@pytest.mark.parametrize("port", [443, 8443])
def test_application_hears_what_the_client_asked_for(machine: Machine, name: str, port: int) -> None:
    shown = {"remote": "127.0.0.1", "scheme": "https", "host": f"{name}.example" + (f":{port}" if port != 443 else "")}
    assert json.loads(machine.run(*curl(name, port)).stdout) == shown
    # As over the other protocols.
    other = [word for word in curl(name, port) if word != "--http3-only"]
    assert json.loads(machine.run(*other).stdout) == shown


def test_body_arrives(machine: Machine) -> None:
    machine.write("/root/body", "0123456789" * 10_000)
    answer = machine.run(*curl("one", 443, "/echo", "--data-binary", "@/root/body")).stdout
    assert answer == "0123456789" * 10_000


def test_browsers_are_told_of_it(machine: Machine) -> None:
    answer = machine.run(*(word for word in curl("one", 443, "/", "--head") if word != "--http3-only")).stdout
    assert 'alt-svc: h3=":443"; ma=86400\n' in answer.replace("\r", "")


def test_name_of_nobody_is_refused(machine: Machine) -> None:
    status = machine.run(*curl("three", 443, "/", "--output", "/dev/null", "--write-out", "%{http_code}")).stdout
    assert status == "421"


def test_restarts_and_reloads_of_instances_lose_no_request(machine: Machine) -> None:
    # A connection for each, from eight processes, which no packet may bring to another worker of nginx.
    assert int(machine.run("pgrep", "--count", "--full", "nginx: worker").stdout) > 1
    ask = " ".join(curl("one", 443, "/", "--output /dev/null --write-out '%{http_code} %{errormsg}\\n'"))
    machine.run("touch", "/root/asking")
    load = machine.start(
        "sh", "-c", f"for i in 1 2 3 4 5 6 7 8; do while [ -e /root/asking ]; do {ask}; done & done; wait"
    )
    for job in ("restart", "reload"):
        for instance in ("1", "2"):
            machine.systemctl(job, f"one@{instance}")
    machine.run("aiosystemd", "rollout", "one", "--pause", "0")
    machine.run("rm", "/root/asking")
    output, errors = load.communicate()
    answers = Counter(output.splitlines())
    assert (set(answers), errors) == ({"200 "}, "")
    assert answers["200 "] >= ENOUGH


def test_second_reuseport_on_an_address_is_refused_before_anything_changes(machine: Machine) -> None:
    machine.write("/etc/aiosystemd/three.toml", SITE.format(name="three", more=""))
    done = machine.run("aiosystemd", "apply", "three", "--yes", "--pause", "0", check=False)
    machine.run("rm", "/etc/aiosystemd/three.toml")
    assert done.returncode == 1
    assert "reuseport on 443 is claimed by" in done.stderr
    assert machine.run("sh", "-c", "ls /etc/nginx/conf.d").stdout.split() == ["one.conf", "two.conf"]
