"""``aiosystemd apply`` and its relatives on a real systemd, behind a real nginx, under load."""

import json
import subprocess
from collections.abc import Iterator

import pytest

from tests.container.conftest import Boot, both_releases
from tests.container.machine import Machine
from tests.container.site import Report, Site

FILE = "/etc/aiosystemd/echo.toml"
UNITS = "/etc/systemd/system"


class Deployment:
    """The echo application, which ``apply`` puts in place."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.site = Site.files(machine, "echo")
        # In its last table, [proxy]: a drain does not wait long for idle connections then.
        machine.write(FILE, f"{machine.read(FILE)}keepalive = 1\n")

    def __call__(self, command: str, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        yes = () if command in ("diff", "history") else ("--yes",)
        pause = ("--pause", "0") if command in ("apply", "rollback") else ()
        done = self.machine.run("aiosystemd", command, *arguments, *yes, *pause, check=False)
        assert "Traceback" not in done.stderr
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done

    def change(self, line: str) -> None:
        """Add a line to the head of the deployment file."""
        self.machine.write(FILE, f"{line}\n{self.machine.read(FILE)}")

    def pids(self) -> dict[str, int]:
        """Return the main process of each instance that runs."""
        out = self.machine.run("systemctl", "show", "--property=Id,MainPID", "--value", "echo@*.service").stdout
        pairs = (block.split("\n") for block in out.strip().split("\n\n") if block)
        found = {(fields[1] if "@" in fields[1] else fields[0]): fields for fields in pairs}
        return {
            unit.removeprefix("echo@").removesuffix(".service"): int(next(f for f in fields if f.isdecimal()))
            for unit, fields in found.items()
        }

    def answers(self, count: int) -> None:
        """See that instances 1 to ``count`` answer, and no other is there."""
        assert set(self.pids()) == {str(number) for number in range(1, count + 1)}
        for number in range(1, count + 1):
            assert self.site.ask_instance(str(number)).status == 200
        assert self.site.ask().status == 200


def nothing_failed(report: Report) -> None:
    assert report.failures == {}
    assert report.requests > 0


@pytest.fixture(scope="module")
def applied(shared_machine: Machine) -> Deployment:
    """Return a deployment that is in force."""
    deployment = Deployment(shared_machine)
    deployment("apply", "echo")
    return deployment


@pytest.fixture
def deployment(applied: Deployment) -> Iterator[Deployment]:
    """Return the deployment, which is put back as it was."""
    before = applied.machine.read(FILE)
    yield applied
    applied.machine.write(FILE, before)
    applied("apply", "echo")


@both_releases
def test_first_apply_puts_a_deployment_in_place(deployment: Deployment) -> None:
    deployment.answers(4)
    assert deployment("diff", "echo").stdout == "echo: nothing to do\n"
    assert deployment.machine.run("systemctl", "is-enabled", "echo.target").stdout == "enabled\n"


def test_second_apply_changes_nothing(deployment: Deployment) -> None:
    before = deployment.pids()
    assert deployment("apply", "echo").stdout.endswith("echo: done\n")
    assert deployment.pids() == before
    assert len(json.loads(deployment("history", "echo", "--json").stdout)) >= 1


def test_scaling_touches_no_running_instance_and_loses_no_request(deployment: Deployment) -> None:
    before = deployment.pids()
    deployment.machine.write(FILE, "# ours\n" + deployment.machine.read(FILE))
    deployment("apply", "echo")
    with deployment.site.load(clients=8, close=True) as traffic:
        traffic.wait(200)
        deployment("scale", "echo", "8")
        deployment.answers(8)
        traffic.wait(400)
        deployment("scale", "echo", "2")
        deployment.answers(2)
        traffic.wait(200)
    nothing_failed(traffic.report())
    assert {name: pid for name, pid in before.items() if name in "12"} == deployment.pids()
    text = deployment.machine.read(FILE)
    assert text.startswith("# ours\n")
    assert "instances = 2\n" in text
    assert deployment("diff", "echo").stdout == "echo: nothing to do\n"


@both_releases
def test_socket_change_loses_no_request(deployment: Deployment) -> None:
    before = deployment.pids()
    deployment.machine.write(FILE, deployment.machine.read(FILE) + '\n[listen]\nmode = "0666"\nbacklog = 512\n')
    with deployment.site.load(clients=8, close=True) as traffic:
        traffic.wait(200)
        done = deployment("apply", "echo")
        traffic.wait(200)
    nothing_failed(traffic.report())
    assert "socket restart instance by instance" in done.stdout
    assert not set(before.values()) & set(deployment.pids().values())
    assert deployment.machine.run("stat", "-c", "%a", "/run/echo/1.sock").stdout == "666\n"


def test_other_socket_directory_loses_no_request(deployment: Deployment) -> None:
    deployment.machine.write(FILE, deployment.machine.read(FILE) + '\n[listen]\ndirectory = "/run/elsewhere"\n')
    with deployment.site.load(clients=8, close=True) as traffic:
        traffic.wait(200)
        deployment("apply", "echo")
        traffic.wait(200)
        assert deployment.machine.run("ls", "/run/elsewhere").stdout.split() == [f"{n}.sock" for n in (1, 2, 3, 4)]
        assert "sock" not in deployment.machine.run("ls", "/run/echo").stdout
        deployment("rollback", "echo")
        traffic.wait(200)
    nothing_failed(traffic.report())
    deployment.answers(4)


def test_sockets_become_ports_and_sockets_again(deployment: Deployment) -> None:
    deployment.machine.write(FILE, deployment.machine.read(FILE) + "\n[listen]\nport = 9001\n")
    deployment("apply", "echo")
    assert deployment.machine.run("sh", "-c", "ss -ltnH 'sport >= 9001 and sport <= 9004' | wc -l").stdout == "4\n"
    assert deployment.site.ask().status == 200
    assert "echo@.socket" not in deployment.machine.run("ls", UNITS).stdout
    deployment("rollback", "echo")
    deployment.answers(4)
    assert deployment.machine.run("sh", "-c", "ss -ltnH 'sport >= 9001 and sport <= 9004'").stdout == ""


@both_releases
def test_changed_command_is_a_rolling_reload(deployment: Deployment) -> None:
    deployment.machine.write(FILE, deployment.machine.read(FILE) + "\n[server]\nkeepalive = 80\n")
    restarts = {name: deployment.machine.show(f"echo@{name}", "InvocationID") for name in "1234"}
    with deployment.site.load(clients=8, close=True) as traffic:
        traffic.wait(100)
        done = deployment("apply", "echo")
        traffic.wait(100)
    nothing_failed(traffic.report())
    assert "echo@.service: rolling reload" in done.stdout
    assert restarts == {name: deployment.machine.show(f"echo@{name}", "InvocationID") for name in "1234"}
    for name, pid in deployment.pids().items():
        assert "--keepalive=80" in deployment.machine.read(f"/proc/{pid}/cmdline"), name


def test_change_that_breaks_the_application_goes_back(deployment: Deployment) -> None:
    """The unit is right, and the application does not start with it."""
    before, units = deployment.pids(), deployment.machine.run("sha256sum", f"{UNITS}/echo@.service").stdout
    deployment.machine.write(FILE, deployment.machine.read(FILE).replace("app:create", "app:nothing"))
    with deployment.site.load(clients=8, close=True) as traffic:
        traffic.wait(100)
        done = deployment("apply", "echo", check=False)
        traffic.wait(100)
    assert done.returncode == 1
    assert "failed: echo@1: " in done.stderr
    assert "restored: enablement, files, units" in done.stderr
    nothing_failed(traffic.report())
    assert deployment.pids() == before
    assert deployment.machine.run("sha256sum", f"{UNITS}/echo@.service").stdout == units
    assert deployment.machine.run("ls", "-A", UNITS).stdout.count("aiosystemd") == 0


def test_change_that_breaks_a_restart_goes_back(deployment: Deployment) -> None:
    before = deployment.pids()
    deployment.machine.write(
        FILE, deployment.machine.read(FILE) + '\n[service]\nenvironment_files = ["/etc/echo-missing.env"]\n'
    )
    with deployment.site.load(clients=8, close=True) as traffic:
        traffic.wait(100)
        done = deployment("apply", "echo", check=False)
        traffic.wait(100)
    assert done.returncode == 1
    nothing_failed(traffic.report())
    deployment.answers(4)
    assert deployment.pids() == before


def test_new_code_is_tried_before_a_changed_sandbox_ends_the_old_process(deployment: Deployment) -> None:
    before, app = deployment.pids(), "/srv/echo/app.py"
    code = deployment.machine.read(app)
    deployment.machine.write(app, "raise RuntimeError('no such luck')\n")
    deployment.change("service.environment = {A = 'b'}")
    try:
        done = deployment("apply", "echo", "--renew", check=False)
        assert (done.returncode, "no such luck" in done.stderr) == (1, True)
        assert deployment.pids() == before
    finally:
        deployment.machine.write(app, code)
    assert deployment("apply", "echo", "--renew").returncode == 0
    assert not set(deployment.pids().values()) & set(before.values())
    deployment.answers(4)


def test_masked_instance_is_left_alone(deployment: Deployment) -> None:
    unit, before = "echo@2.service", deployment.pids()
    deployment.machine.systemctl("mask", "--now", unit)
    try:
        for command in (("apply", "--renew", "--yes"), ("rollout",)):
            done = deployment.machine.run("aiosystemd", *command, "echo", "--pause", "0")
            assert command[0] == "apply" or "2: is masked, and left so" in done.stdout
        now = deployment.pids()
        assert now.get("2", 0) == 0
        assert all(now[each] not in (0, before[each]) for each in ("1", "3", "4"))
    finally:
        deployment.machine.systemctl("unmask", unit)
    deployment.machine.systemctl("start", unit)
    deployment.answers(4)


def test_site_that_nginx_refuses_goes_back(deployment: Deployment) -> None:
    """It is right alone, and wrong beside another one."""
    other = "/etc/nginx/conf.d/other.conf"
    deployment.machine.write(other, "upstream web { server 127.0.0.1:1; }\nserver { listen 8088 default_server; }\n")
    before, site = deployment.pids(), deployment.machine.read("/etc/nginx/conf.d/echo.conf")
    deployment.machine.write(FILE, deployment.machine.read(FILE) + 'listen = ["8088"]\n')
    try:
        done = deployment("apply", "echo", check=False)
    finally:
        deployment.machine.run("rm", other)
    assert done.returncode == 1
    assert "a duplicate default server for 0.0.0.0:8088" in done.stderr
    assert deployment.machine.read("/etc/nginx/conf.d/echo.conf") == site
    assert deployment.pids() == before
    deployment.answers(4)


def test_added_instance_that_fails_is_taken_back(deployment: Deployment) -> None:
    before = deployment.pids()
    deployment.machine.run("mkdir", "-p", f"{UNITS}/echo@6.service.d")
    deployment.machine.write(f"{UNITS}/echo@6.service.d/broken.conf", "[Service]\nExecStartPre=/bin/false\n")
    with deployment.site.load(clients=8, close=True) as traffic:
        done = deployment("scale", "echo", "6", check=False)
        traffic.wait(100)
    deployment.machine.run("rm", "-r", f"{UNITS}/echo@6.service.d")
    assert done.returncode == 1
    assert "echo@6: did not start" in done.stderr
    nothing_failed(traffic.report())
    assert deployment.pids() == before
    assert "instances" not in deployment.machine.read(FILE)


def test_release_that_a_link_leads_to_is_rolled_back(deployment: Deployment) -> None:
    machine = deployment.machine
    machine.run("cp", "-a", "/srv/echo", "/srv/echo-1")
    machine.run("cp", "-a", "/srv/echo", "/srv/echo-2")
    machine.run("ln", "-sfn", "echo-1", "/srv/current")
    machine.write(FILE, machine.read(FILE).replace("/srv/echo", "/srv/current"))
    deployment("apply", "echo")
    machine.run("ln", "-sfn", "echo-2", "/srv/current")
    with deployment.site.load(clients=8, close=True) as traffic:
        done = deployment("apply", "echo")
        assert "/srv/current: echo-1 → echo-2: rolling reload" in done.stdout
        assert machine.run("readlink", f"/proc/{deployment.pids()['1']}/cwd").stdout == "/srv/echo-2\n"
        done = deployment("rollback", "echo")
        assert machine.run("readlink", "/srv/current").stdout == "echo-1\n"
        assert machine.run("readlink", f"/proc/{deployment.pids()['1']}/cwd").stdout == "/srv/echo-1\n"
        traffic.wait(100)
    nothing_failed(traffic.report())


@both_releases
def test_remove_leaves_nothing_of_ours_and_all_of_others(deployment: Deployment) -> None:
    deployment.machine.run("mkdir", "-p", f"{UNITS}/echo@.service.d")
    deployment.machine.write(f"{UNITS}/echo@.service.d/local.conf", "[Service]\nNice=5\n")
    deployment("remove", "echo")
    places = (UNITS, "/etc/nginx/conf.d", "/var/lib/aiosystemd")
    left = deployment.machine.run("find", *places, "-name", "*echo*").stdout.split()
    assert left == [f"{UNITS}/echo@.service.d"]
    assert deployment.pids() == {}
    deployment.machine.run("rm", "-r", f"{UNITS}/echo@.service.d")
    deployment.machine.run("systemctl", "daemon-reload")


SNAPSHOT = (
    "find /etc /usr/lib/systemd /usr/local/lib /var/lib /srv -xdev -type f -not -path '*/aiosystemd/*'"
    " -not -name '*.pyc' -not -name random-seed -not -path '*/systemd/timers/*' -exec sha256sum {} + ;"
    " find /etc -xdev -type l -printf '%p %l\\n'"
)


def files(machine: Machine) -> set[str]:
    return set(machine.run("sh", "-c", SNAPSHOT).stdout.splitlines())


def test_files_of_others_stay_as_they_are(boot: Boot) -> None:
    """Byte for byte, after apply, scale, rollback and remove; names that begin like ours among them."""
    machine = boot()
    deployment = Deployment(machine)
    machine.run("mkdir", f"{UNITS}/echo.target.d")
    for name in ("echo2@.service", "echo.service", "echo-worker@.service", "echo@.timer", "echo.target.d/more.conf"):
        machine.write(f"{UNITS}/{name}", "[Unit]\nDescription=somebody else's\n")
    for name in ("conf.d/echo2.conf", "conf.d/echo.conf.bak", "sites-available/echo", "conf.d/.echo.conf.swp"):
        machine.write(f"/etc/nginx/{name}", "# somebody else's\n")
    machine.run("systemctl", "daemon-reload")
    before = files(machine)
    deployment("apply", "echo")
    deployment("scale", "echo", "6")
    deployment("scale", "echo", "2")
    deployment("rollback", "echo")
    ours = files(machine) - before
    assert {line.split()[-1] for line in ours} <= {
        *(f"{UNITS}/echo{kind}" for kind in ("@.service", "@.socket", ".target", ".up.target", ".sockets.target")),
        "/etc/nginx/conf.d/echo.conf",
        f"{UNITS}/echo.target",
    }
    assert before - files(machine) <= {line for line in before if line.endswith("/etc/aiosystemd/echo.toml")}
    deployment("remove", "echo")
    assert files(machine) == before


@pytest.mark.parametrize("moment", ["daemon-reload", "requests go to the other", "has started", "serves, process"])
def test_killed_run_is_finished_by_the_next_one(deployment: Deployment, moment: str) -> None:
    deployment.machine.write(FILE, deployment.machine.read(FILE) + "\n[service]\nopen_files = 4096\n")
    with deployment.site.load(clients=8, close=True) as traffic:
        with deployment.machine.start("aiosystemd", "apply", "echo", "--yes", "--pause", "1") as run:
            assert run.stdout
            next(line for line in run.stdout if moment in line)
            pid = json.loads(deployment.machine.read("/run/aiosystemd/echo.lock"))["pid"]
            deployment.machine.kill("KILL", pid)
            run.communicate()
        assert deployment("diff", "echo", check=False).returncode == 2
        done = deployment("apply", "echo")
        traffic.wait(100)
    nothing_failed(traffic.report())
    assert "an earlier run was killed" in done.stdout
    for pid in deployment.pids().values():
        assert "Max open files            4096" in deployment.machine.read(f"/proc/{pid}/limits")
    assert deployment("diff", "echo").stdout == "echo: nothing to do\n"
    assert "aiosystemd-" not in deployment.machine.run("ls", "-A", UNITS, "/etc/nginx/conf.d").stdout


def test_second_run_at_once_is_refused(deployment: Deployment) -> None:
    deployment.machine.write(FILE, deployment.machine.read(FILE) + "\n[service]\nopen_files = 8192\n")
    with deployment.machine.start("aiosystemd", "apply", "echo", "--yes", "--pause", "2") as first:
        assert first.stdout
        next(line for line in first.stdout if "has started" in line)
        done = deployment("apply", "echo", check=False)
        first.communicate()
    assert done.returncode == 1
    assert "is held by aiosystemd apply echo --yes --pause 2 (process " in done.stderr
    assert first.returncode == 0


def test_edited_file_stops_it_with_its_difference(deployment: Deployment) -> None:
    unit = f"{UNITS}/echo@.service"
    deployment.machine.write(unit, deployment.machine.read(unit) + "# mine\n")
    before = deployment.pids()
    done = deployment("apply", "echo", check=False)
    assert done.returncode == 1
    assert "was edited since aiosystemd has written it (--adopt replaces it and keeps a copy)" in done.stderr
    assert "-# mine" in done.stdout
    assert deployment.pids() == before
    deployment("apply", "echo", "--adopt")
    assert deployment.machine.read(f"{unit}.aiosystemd-old").endswith("# mine\n")
    deployment.machine.run("rm", f"{unit}.aiosystemd-old")
    deployment.answers(4)
