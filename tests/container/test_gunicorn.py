"""gunicorn on a socket that systemd opens: Debian 13 has its own gunicorn, Debian 12 gets the newest."""

import json
import shlex
from collections.abc import Iterator

import pytest

from tests.container.conftest import both_releases
from tests.container.machine import Machine
from tests.container.site import SHAPES, Site

TOML = """
name = "shop"
app = "app:create"
directory = "/srv/shop"
instances = 2
timeouts = { request = 10 }

[server]
kind = "gunicorn"
access_log = "text"

[sandbox]
max_exposure = 1.2

[proxy]
default_server = true
"""
APP = (SHAPES / "echo" / "app.py").read_text().replace("os.environ['AIOSYSTEMD_INSTANCE']", "os.getpid()")


@pytest.fixture
def site(machine: Machine) -> Iterator[Site]:
    """Return the application behind nginx, served by gunicorn as the steps that generate prints start it."""
    machine.write("/srv/shop/app.py", APP)
    machine.run("rm", "-f", "/etc/nginx/sites-enabled/default")
    machine.write("/etc/aiosystemd/shop.toml", TOML)
    for line in machine.run("aiosystemd", "generate", "shop", "--output", "/").stdout.splitlines():
        if line.startswith("next:"):
            machine.run(*shlex.split(line.removeprefix("next:").partition(" # ")[0]))
    yield Site(machine, "shop", "shop.test")
    assert "SIGKILL" not in machine.journal("shop.service")


@both_releases
def test_gunicorn_serves_restarts_and_stops_on_the_socket_of_systemd(site: Site) -> None:
    site.wait_for(lambda: site.ask().text.startswith("hello from "))
    checked = json.loads(site.machine.run("aiosystemd", "check", "shop", "--json").stdout)[0]["checkers"]
    assert {each["name"]: each["verdict"] for each in checked} == {
        "systemd-analyze verify": "passed",
        "systemd-analyze security": "passed",
        "gunicorn --check-config": "passed",
        "nginx -t": "passed",
    }
    shown = site.machine.run("stat", "--format=%a %U %G", "/run/shop/shop.sock").stdout.split()
    assert shown == ["660", "root", "www-data"]
    # What comes during a restart waits in the socket: nobody is refused.
    with site.load(clients=8, pause=0.01, close=True) as load:
        load.wait(100)
        site.systemctl("restart", "shop.service")
        load.wait(100)
    # A client sees no more than a 502, whatever its reason; nginx says of each connection that it was not given.
    assert "connect() to unix:" not in site.machine.read("/var/log/nginx/error.log"), load.report()
    assert "GET /" in site.machine.journal("shop.service")
    site.machine.write("/srv/shop/app.py", APP.replace("hello", "moin"))
    site.machine.run("mv", "/bin/kill", "/root/kill")  # no Debian has to have it
    site.systemctl("reload", "shop.service")
    site.wait_for(lambda: {site.ask().text.split()[0] for _ in range(8)} == {"moin"})
    site.systemctl("stop", "shop.service")
    assert site.machine.show("shop.service", "Result")["Result"] == "success"
    # The socket is still there, and starts it again.
    assert site.ask().text.startswith("moin from ")
