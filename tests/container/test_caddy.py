"""Why there is no ``proxy.kind = "caddy"``: what Debian 13's Caddy loses where nginx and HAProxy lose nothing.

When this fails, docs/caddy.md is out of date.
"""

from tests.container.machine import Machine
from tests.container.site import INSTANCES, Site, Traffic

TOML = """
name = "echo"
app = "app:create"
directory = "/srv/echo"
timeouts = { request = 10 }
listen.group = "caddy"
proxy.kind = "none"
"""
CADDYFILE = f"""\
{{
\tauto_https off
}}
:80 {{
\treverse_proxy {" ".join(f"unix//run/echo/{name}.sock" for name in INSTANCES)} {{
\t\tlb_policy least_conn
\t\tlb_try_duration 10s
\t\tlb_try_interval 20ms
\t\ttransport http {{
\t\t\tkeepalive 5s
\t\t}}
\t}}
}}
"""


def test_caddy_sends_no_post_to_the_next_instance(machine: Machine) -> None:
    machine.run("systemctl", "disable", "--now", "nginx")
    site = Site.files(machine, "echo")
    machine.write("/etc/aiosystemd/echo.toml", TOML)
    machine.run("aiosystemd", "apply", "echo", "--yes", "--pause", "0")
    machine.write("/etc/caddy/Caddyfile", CADDYFILE)
    machine.run("caddy", "validate", "--config", "/etc/caddy/Caddyfile")
    machine.systemctl("restart", "caddy")
    with Traffic(site, "--clients", "16", "--pause", "0.005") as load:
        for name in INSTANCES:
            site.systemctl("restart", f"echo@{name}.service")
        machine.run("aiosystemd", "rollout", "echo", "--pause", "0")
        load.wait(500)
        assert load.report().failures == {}  # a socket that queues is enough
        site.systemctl("stop", "echo@2.socket")
        load.wait(500)
    assert load.report().failures.keys() >= {"POST status 502"}
    assert "http: invalid Read on closed Body" in machine.journal("caddy.service")
