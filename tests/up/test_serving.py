"""What `aiosystemd up` serves, and how it looks after the instances: the real program, nginx and runtime."""

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tools import lacking, require
from tests.up.conftest import Site
from tests.up.program import ask, ended, who


def test_every_instance_answers_through_nginx(site: Site) -> None:
    require("nginx")
    site.write(instances=2)
    program = site.serving()
    assert {who(site.port)["instance"] for _ in range(20)} == {"1", "2"}
    for name in ("shop@1", "shop@2", "nginx"):
        program.wait_for(rf"^aiosystemd \| {name} answers 200 OK")
    site.stop(program)


def test_instance_finds_what_systemd_would_give_it(site: Site) -> None:
    secret = site.directory / "secret"
    secret.write_text("s3cret")
    site.write(
        "[service]",
        'environment = { COLOUR = "green" }',
        f'credentials = {{ db = "{secret}", gone = "/nowhere/at/all" }}',
        'environment_files = ["/etc/default/shop"]',
    )
    program = site.serving(environment={"LISTEN_FDS": "7", "NOTIFY_SOCKET": "/run/ours"})
    told = who(site.port)
    found = told["started_with"]
    assert told["directory"] == str(site.directory)
    assert told["python"] == sys.executable
    assert (told["parent"], told["session"]) == (program.process.pid, told["pid"])
    assert (found["AIOSYSTEMD_INSTANCE"], found["COLOUR"]) == ("1", "green")
    assert (found["LISTEN_FDS"], found["LISTEN_FDNAMES"]) == ("1", "shop@1.socket")
    assert found["LISTEN_PID"] == found["WATCHDOG_PID"] == str(told["pid"])
    assert found["WATCHDOG_USEC"] == "30000000"
    assert found["NOTIFY_SOCKET"] != "/run/ours"
    assert Path(found["STATE_DIRECTORY"]).is_dir()
    assert Path(found["CREDENTIALS_DIRECTORY"], "db").read_text() == "s3cret"
    program.wait_for("the credential gone is missing: /nowhere/at/all")
    program.wait_for("not read: /etc/default/shop")
    site.stop(program)


def test_watchdog_of_the_caller_is_not_passed_on(site: Site) -> None:
    site.write("[timeouts]\nwatchdog = 0", '[proxy]\nkind = "none"')
    program = site.serving(environment={"WATCHDOG_USEC": "1000", "WATCHDOG_PID": "1"})
    assert not {"WATCHDOG_USEC", "WATCHDOG_PID"} & set(who(site.port)["started_with"])
    site.stop(program)


def test_paths_of_a_host_are_found_beside_the_file(site: Site) -> None:
    require("nginx")
    (site.directory / "static").mkdir()
    (site.directory / "static" / "style.css").write_text("body {}")
    site.write(
        'directory = "/srv/shop"',
        'python = "/srv/shop/venv/bin/python"',
        "[proxy]",
        'static = { "/static/" = "/srv/shop/static" }',
        "[proxy.tls]",
        'certificate = "/etc/ssl/shop.pem"',
        'key = "/etc/ssl/shop.key"',
    )
    program = site.serving()
    assert ask(site.port, "/static/style.css") == b"body {}"
    assert who(site.port)["directory"] == str(site.directory)
    program.wait_for(rf"/srv/shop is not here: the application is taken from {site.directory}")
    program.wait_for(rf"/srv/shop/venv/bin/python is not here: {re.escape(sys.executable)} runs the application")
    program.wait_for("without TLS")
    site.stop(program)


def test_request_survives_the_death_of_its_only_instance(site: Site) -> None:
    require("nginx")
    program = site.serving()
    before = who(site.port)["pid"]
    os.kill(before, signal.SIGKILL)
    assert ended([before])
    told = who(site.port, b"a body")  # a POST, which nginx never sends twice
    assert (told["body"], told["pid"] != before) == ("a body", True)
    program.wait_for(r"shop@1 was killed by SIGKILL\n(.*\n)*.*shop@1 starts again\n(.*\n)*.*shop@1 is ready")
    site.stop(program)


def test_watchdog_kills_a_blocked_loop_and_its_stack_is_shown(site: Site) -> None:
    site.write("[timeouts]", "watchdog = 1", '[proxy]\nkind = "none"')
    program = site.serving()
    with socket.create_connection(("127.0.0.1", site.port)) as client:
        client.sendall(b"GET /block HTTP/1.1\r\nHost: x\r\n\r\n")
        program.wait_for(r"^aiosystemd \| shop@1 did not answer its watchdog for 1 s")
        program.wait_for(r"^shop@1 +\|.*app.py\", line \d+ in block$")
        killed = program.wait_for(r"^aiosystemd \| shop@1 was killed by SIGABRT")
    program.wait_for("shop@1 is ready", killed.end())
    assert who(site.port)["instance"] == "1"
    site.stop(program)


def test_idle_instance_outlives_its_watchdog(site: Site) -> None:
    site.write("[timeouts]", "watchdog = 1.5", '[proxy]\nkind = "none"')
    program = site.serving()
    before = who(site.port)["pid"]
    with pytest.raises(AssertionError, match="nothing more came"):
        program.wait_for("watchdog", patience=4)
    assert who(site.port)["pid"] == before
    site.stop(program)


def test_only_the_main_process_speaks_for_an_instance(site: Site) -> None:
    (site.directory / "impostor.py").write_text(
        "import subprocess, sys, time\n"
        "subprocess.run([sys.executable, '-c', 'from systemd.daemon import notify; notify(\"READY=1\")'], check=True)\n"
        "time.sleep(3600)\n"
    )
    site.write("[timeouts]\nstart = 2", app="impostor:app")
    program = site.up("--try")
    assert program.end() == 1
    assert "shop@1 was not ready after 2 s without progress" in program.output
    assert "is ready" not in program.output


def test_start_that_makes_progress_is_not_ended(site: Site) -> None:
    (site.directory / "steps.py").write_text(
        "import asyncio, time\n"
        "from app import make as real\n"
        "time.sleep(2)\n"
        "async def hook(app): await asyncio.sleep(2)\n"
        "def make():\n"
        "    app = real()\n"
        "    app.on_startup.append(hook)\n"
        "    return app\n"
    )
    site.write("[timeouts]\nstart = 3.5", app="steps:make")
    program = site.up("--try")
    assert program.end() == 0, program.output


def test_last_line_of_a_dying_process_is_shown(site: Site) -> None:
    site.write('[proxy]\nkind = "none"')
    program = site.serving()
    _leave(site, 7)
    program.wait_for(r"^shop@1 +\| farewell\n(.*\n)*aiosystemd \| shop@1 ended with status 7\n")
    site.stop(program)


def _leave(site: Site, status: int) -> None:
    with pytest.raises(OSError, match=r"closed connection|reset"):
        ask(site.port, f"/leave?status={status}")


def test_every_line_is_shown_of_a_process_that_writes_much_and_dies(site: Site) -> None:
    (site.directory / "chatter.py").write_text(
        "import os, sys\n"
        "for n in range(20000): sys.stdout.write(f'line {n}\\n')\n"
        "sys.stdout.write('x' * 200000)\n"
        "sys.stdout.flush()\n"
        "os._exit(9)\n"
    )
    site.write(app="chatter:app")
    program = site.up("--try")
    assert program.end() == 1
    said = re.findall(r"^shop@1 +\| (.*)$", program.output, re.MULTILINE)
    assert said[:20000] == [f"line {n}" for n in range(20000)]
    assert "".join(said[20000:]) == "x" * 200_000
    assert "aiosystemd | shop@1 ended with status 9 before it was ready\n" in program.output


def test_start_after_a_failed_one_finds_the_stored_descriptor(site: Site) -> None:
    (site.directory / "second.py").write_text(
        "import os, pathlib\n"
        "first, mine = pathlib.Path('first'), os.environ['AIOSYSTEMD_INSTANCE'] == '1'\n"
        "if mine and not first.exists():\n"
        "    first.mkdir()\n"
        "    os._exit(3)\n"
        "from app import make\n"
    )
    site.write(app="second:make", instances=2)
    program = site.serving()
    program.wait_for("shop@1 ended with status 3 before it was ready")
    answers = iter(lambda: who(site.port), None)
    told = next(answer for answer in answers if answer["instance"] == "1")
    assert told["started_with"]["LISTEN_FDNAMES"] == "shop@1.socket:starting"
    site.stop(program)


def test_instance_that_is_not_restarted_starts_with_the_next_connection(site: Site) -> None:
    site.write('[service]\nrestart = "on-failure"', '[proxy]\nkind = "none"')
    program = site.serving()
    _leave(site, 0)
    program.wait_for("shop@1 ended with status 0\n(.*\n)*.*shop@1 waits for a connection")
    assert who(site.port)["instance"] == "1"
    site.stop(program)


@pytest.mark.parametrize(("policy", "status"), [("always", 0), ("on-failure", 7)])
def test_instance_that_is_restarted_waits_for_nobody(site: Site, policy: str, status: int) -> None:
    site.write(f'[service]\nrestart = "{policy}"', '[proxy]\nkind = "none"')
    program = site.serving()
    _leave(site, status)
    program.wait_for(f"shop@1 ended with status {status}\n(.*\n)*.*shop@1 starts again\n(.*\n)*.*shop@1 is ready")
    site.stop(program)


def test_ports_serve_directly_when_no_proxy_is_wanted(site: Site) -> None:
    site.write('[proxy]\nkind = "none"', instances=2)
    program = site.serving()
    program.wait_for(r'proxy\.kind is "none": the instances are served directly')
    program.wait_for(rf"serving on http://127\.0\.0\.1:{site.port}/, http://127\.0\.0\.1:{site.port + 1}/")
    assert [who(site.port + n)["instance"] for n in (0, 1)] == ["1", "2"]
    site.stop(program)


def test_host_without_nginx_is_served_directly(site: Site) -> None:
    nginx = require("nginx")
    unshare = require("unshare")
    hide = f'mount --bind /dev/null {nginx} && exec "$@"'
    hidden = (unshare, "--map-root-user", "--mount", "sh", "-c", hide, "sh")
    if subprocess.run([*hidden, "true"], check=False, capture_output=True).returncode:
        lacking("mounts in a namespace of their own are not allowed here")
    program = site.serving(wrapper=hidden)
    program.wait_for("nginx is not installed: the instances are served directly")
    assert who(site.port)["instance"] == "1"
    site.stop(program)


def test_ports_of_the_deployment_are_used_behind_nginx(site: Site) -> None:
    require("nginx")
    site.write(f"[listen]\nport = {site.port + 1}")
    program = site.serving()
    assert who(site.port)["started_with"]["LISTEN_FDS"] == "1"
    assert who(site.port + 1)["instance"] == "1"
    site.stop(program)


def test_try_ends_when_all_have_answered(site: Site) -> None:
    site.write(instances=2)
    program = site.up("--try")
    assert program.end() == 0, program.output
    assert len(re.findall(r"shop@[12] answers 200 OK", program.output)) == 2
    assert not list(site.temporary.iterdir())


@pytest.mark.parametrize(
    ("path", "answer"),
    [("/slow", "gives no answer within 0.5 s"), ("/leave", "gives no answer: .*")],
)
def test_try_fails_without_an_answer(site: Site, path: str, answer: str) -> None:
    site.write(f'[health]\npath = "{path}"\ntimeout = 0.5')
    program = site.up("--try")
    program.wait_for(f"shop@1 {answer}\n")
    (site.directory / "release").touch()
    assert program.end() == 1


def test_what_nginx_complains_about_is_shown(site: Site) -> None:
    require("nginx")
    program = site.serving()
    with pytest.raises(OSError, match="502"):
        ask(site.port, "/leave")
    program.wait_for(r"^nginx +\| .*\[error\].* upstream prematurely closed connection")
    site.stop(program)


def test_try_fails_when_the_answer_is_not_the_healthy_one(site: Site) -> None:
    site.write("[health]", 'path = "/nothing/here"')
    program = site.up("--try")
    assert program.end() == 1
    assert "shop@1 answers 404 Not Found, not 200: 404: Not Found\n" in program.output
