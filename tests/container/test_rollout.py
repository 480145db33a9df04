"""``aiosystemd rollout`` on a real systemd, behind a real nginx, under load."""

import json
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from tests.container.conftest import both_releases
from tests.container.machine import Machine
from tests.container.site import INSTANCES, Report, Site, Traffic
from tests.releases import APP, BROKEN, NO_IMPORT, POSTS_FAIL, crashing, on_startup, release

FILE: Final = "/etc/aiosystemd/echo.toml"
UNIT: Final = "/etc/systemd/system/echo@.service"
DROP_IN: Final = "/etc/systemd/system/echo@.service.d/colour.conf"
LOCK: Final = "/run/aiosystemd/echo.lock"


class Deploy:
    """One deployment, and the rollouts of it."""

    def __init__(self, site: Site) -> None:
        self.site = site

    def start(self, *options: str) -> subprocess.Popen[str]:
        # Who runs these tests in the background may have had signals ignored, and so would it.
        argv = ("env", "--default-signal=INT,HUP", "aiosystemd", "rollout", "echo", *options)
        return self.site.machine.start(*argv)

    def __call__(self, *options: str) -> subprocess.CompletedProcess[str]:
        done = self.site.machine.run("aiosystemd", "rollout", "echo", *options, check=False)
        assert "Traceback" not in done.stderr
        return done

    def texts(self) -> dict[str, str]:
        """Return what each instance says on its own socket."""
        return {name: self.site.ask_instance(name).text for name in INSTANCES}

    def says(self, word: str) -> bool:
        return self.texts() == {name: f"{word} from {name}" for name in INSTANCES}

    def processes(self, name: str) -> list[int]:
        """Return the processes of an instance."""
        group = self.site.machine.show(f"echo@{name}", "ControlGroup")["ControlGroup"]
        out = self.site.machine.run("sh", "-c", f"cat /sys/fs/cgroup{group}/cgroup.procs").stdout
        return [int(line) for line in out.split()]

    def is_alone(self, name: str) -> bool:
        """Tell whether the main process is the only one of an instance."""
        return self.processes(name) == [self.site.pids()[name]]


def nothing_failed(report: Report) -> bool:
    assert report.failures == {}
    return report.requests > 0


@pytest.fixture(scope="module")
def running(installed: tuple[Path, Path]) -> Iterator[Deploy]:
    """Return a deployment that all tests of this module use; each puts the application back."""
    with Machine(*installed) as machine:
        site = Site.shape(machine, "echo")
        # In its last table, [proxy]: a drain does not wait long for idle connections then.
        machine.write(FILE, f"{machine.read(FILE)}keepalive = 1\n")
        site._install()
        site.systemctl("start", "echo.target")
        yield Deploy(site)


@pytest.fixture
def deploy(running: Deploy) -> Iterator[Deploy]:
    """Return the deployment, with all instances on the first version."""
    site = running.site
    before = site.pids()
    yield running
    site.write_app(APP)
    if site.pids() != before:
        site.machine.run("rm", "-rf", str(Path(DROP_IN).parent))
        site.systemctl("daemon-reload")
        site.systemctl("restart", *(f"echo@{name}" for name in INSTANCES))


@contextmanager
def load(deploy: Deploy) -> Iterator[Traffic]:
    with deploy.site.load(clients=8, pause=0.01) as load:
        load.wait(200)
        yield load
        load.wait(200)


def wait_for_line(process: subprocess.Popen[str], pattern: str) -> str:
    """Read what ``process`` prints until a line matches."""
    assert process.stdout
    for line in process.stdout:
        if re.search(pattern, line):
            return line
    raise AssertionError(process.communicate())


def wait_for_start(deploy: Deploy) -> None:
    """Wait until the new process of a reload of instance 1 is at its start: main process, command, new process."""
    deploy.site.wait_for(lambda: deploy.site.state("echo@1") == "reloading" and len(deploy.processes("1")) > 2)


HELD: Final = r"echo@1: process \d+ has started and gets the requests"


@both_releases
def test_good_release_reaches_every_instance_without_a_lost_request(deploy: Deploy) -> None:
    before = deploy.site.pids()
    deploy.site.write_app(release("moin"))
    with load(deploy) as traffic:
        done = deploy("--pause", "0.5")
    after = deploy.site.pids()
    assert (done.returncode, done.stderr) == (0, "")
    assert nothing_failed(traffic.report())
    assert deploy.says("moin")
    assert not set(before.values()) & set(after.values())
    for name in INSTANCES:
        assert f"echo@{name}: the new version serves, process {after[name]} in /srv/echo\n" in done.stdout
        assert deploy.site.machine.show(f"echo@{name}", "NRestarts") == {"NRestarts": "0"}


@pytest.mark.parametrize("kind", ["import", "health", "crash"])
def test_broken_release_ends_with_the_old_version_everywhere(deploy: Deploy, kind: str) -> None:
    text, reason = BROKEN[kind]
    before = deploy.site.pids()
    deploy.site.write_app(text)
    with load(deploy) as traffic:
        done = deploy("--pause", "1.5")
    assert done.returncode == 1
    assert re.search(rf"^failed: echo@1: .*{re.escape(reason)}", done.stderr, re.MULTILINE), done.stderr
    assert deploy.site.pids() == before
    assert deploy.says("hello")
    for name in INSTANCES:
        assert f"echo@{name}: the old version serves, process {before[name]} in /srv/echo\n" in done.stdout
    assert "next: mend what failed, then: aiosystemd rollout echo\n" in done.stdout
    # Who asked the broken process got its answers, or lost it as it crashed; nobody else noticed.
    seen = {"import": set(), "health": {"GET status 500"}, "crash": {"GET status 502", "POST status 502"}}
    assert set(traffic.report().failures) <= seen[kind]
    deploy.site.wait_for(lambda: deploy.is_alone("1"))
    assert reason in deploy.site.machine.journal(unit="echo@1.service")


def test_release_that_answers_with_errors_is_put_back(deploy: Deploy) -> None:
    """Its health is fine, its POSTs are not: the counters tell."""
    before = deploy.site.pids()
    deploy.site.write_app(POSTS_FAIL)
    with load(deploy) as traffic:
        done = deploy("--pause", "60")
    assert done.returncode == 1
    assert re.search(
        r"^failed: echo@1: answers \d+ of \d+ requests with a status of 500 or more$", done.stderr, re.MULTILINE
    )
    assert deploy.site.pids() == before
    assert set(traffic.report().failures) == {"POST status 500"}


@both_releases
def test_changed_unit_is_an_announced_restart_without_a_lost_request(deploy: Deploy) -> None:
    before = deploy.site.pids()
    deploy.site.machine.write(DROP_IN, "[Service]\nEnvironment=COLOUR=blue\n")
    with load(deploy) as traffic:
        done = deploy("--pause", "0")
    assert (done.returncode, done.stderr) == (0, "")
    assert "echo: units have changed: systemctl daemon-reload\n" in done.stdout
    for name in INSTANCES:
        why = f"echo@{name}: restart: echo@.service has changed; requests go to the other instances\n"
        assert why in done.stdout
        assert "COLOUR=blue" in deploy.site.machine.read(f"/proc/{deploy.site.pids()[name]}/environ")
    assert not set(before.values()) & set(deploy.site.pids().values())
    report = traffic.report()
    assert nothing_failed(report)
    assert report.slow == 0


@both_releases
def test_restart_follows_what_the_unit_reads(deploy: Deploy) -> None:
    machine = deploy.site.machine
    machine.write("/etc/echo.env", "COLOUR=green\n")
    machine.write("/etc/echo.secret", "one\n")
    machine.write(DROP_IN, "[Service]\nEnvironmentFile=/etc/echo.env\nLoadCredential=secret:/etc/echo.secret\n")
    deploy.site.systemctl("daemon-reload")
    assert "restart: " + DROP_IN in deploy("--pause", "0", "--canary", "1").stdout
    assert "restart" not in deploy("--pause", "0", "--canary", "1").stdout
    # As cp -a and package managers leave it: an old date.
    machine.run("sh", "-c", "echo COLOUR=red >/etc/new && touch -d 2020-01-01 /etc/new && mv /etc/new /etc/echo.env")
    assert "echo@1: restart: /etc/echo.env has changed; " in deploy("--pause", "0", "--canary", "1").stdout
    assert "COLOUR=red" in machine.read(f"/proc/{deploy.site.pids()['1']}/environ")
    machine.write("/etc/echo.secret", "two\n")
    assert "echo@1: restart: /etc/echo.secret has changed; " in deploy("--pause", "0", "--canary", "1").stdout
    assert "restart" not in deploy("--pause", "0", "--canary", "1").stdout
    machine.run("rm", "/etc/echo.env")
    machine.write(UNIT, machine.read(UNIT))
    before = deploy.site.pids()
    done = deploy("--pause", "0")
    assert done.returncode == 1
    assert "which would fail: there is no /etc/echo.env" in done.stderr
    assert deploy.site.pids() == before


def test_failed_restart_says_what_serves_and_a_mended_release_heals(deploy: Deploy) -> None:
    before = deploy.site.pids()
    deploy.site.write_app(NO_IMPORT)
    with load(deploy) as traffic:
        done = deploy("--restart")
        assert done.returncode == 1
        assert "failed: echo@1: did not restart: " in done.stderr
        assert "RuntimeError: no such luck" in done.stderr
        assert "echo@1: down, activating (" in done.stdout
        assert f"echo@2: the old version serves, process {before['2']} in /srv/echo\n" in done.stdout
        deploy.site.write_app(release("moin"))
        done = deploy("--pause", "0")
    assert (done.returncode, done.stderr) == (0, "")
    assert deploy.says("moin")
    # Two failed starts turn those away who wait in the queue; whoever can be repeated is, elsewhere.
    assert set(traffic.report().failures) <= {"POST status 502", "POST status 504", "GET status 504"}


def test_crash_after_a_restart_ends_the_rollout(deploy: Deploy) -> None:
    deploy.site.write_app(crashing(1))
    done = deploy("--restart", "--pause", "30")
    assert done.returncode == 1
    assert re.search(r"^failed: echo@1: process \d+ has ended: ", done.stderr, re.MULTILINE)
    assert "echo@2: the old version serves, " in done.stdout


def test_instance_that_sleeps_or_is_stopped_is_left(deploy: Deploy) -> None:
    deploy.site.systemctl("stop", "echo@2.service")
    deploy.site.systemctl("stop", "echo@3.socket")
    deploy.site.write_app(release("moin"))
    done = deploy("--pause", "0")
    assert (done.returncode, done.stderr) == (0, "")
    assert "echo@2: asleep: its next request starts the new version\n" in done.stdout
    assert "echo@3: stopped\n" in done.stdout
    assert (deploy.site.pids()["2"], deploy.site.pids()["3"]) == (0, 0)
    assert deploy.site.ask_instance("2").text == "moin from 2"


def test_instance_beyond_the_file_is_renewed_too(deploy: Deploy) -> None:
    deploy.site.systemctl("start", "echo@10")
    try:
        done = deploy("--pause", "0")
        assert "echo@10: the new version serves" in done.stdout
    finally:
        deploy.site.systemctl("stop", "echo@10.socket")


def test_second_rollout_is_refused_with_the_name_of_the_first(deploy: Deploy) -> None:
    with deploy.start("--pause", "60") as first:
        wait_for_line(first, HELD)
        second = deploy()
        interrupt(deploy, first)
    held = r"is held by aiosystemd rollout echo --pause 60 \(process \d+, since [^)]+\) \(wait for its end\)"
    assert re.fullmatch(rf"{LOCK}: {held}\n", second.stderr)
    assert (second.returncode, second.stdout) == (1, "")


def interrupt(deploy: Deploy, process: subprocess.Popen[str], number: int = signal.SIGINT) -> tuple[str, str]:
    """Send a signal to a rollout, and return what it prints until its end."""
    pid = json.loads(deploy.site.machine.read(LOCK))["pid"]
    deploy.site.machine.run("sh", "-c", f"kill -s {signal.Signals(number).name.removeprefix('SIG')} {pid}")
    output, errors = process.communicate(timeout=60)
    assert "Traceback" not in errors
    return output, errors


def test_interruption_of_a_held_reload_puts_the_old_version_back(deploy: Deploy) -> None:
    before = deploy.site.pids()
    deploy.site.write_app(release("moin"))
    with load(deploy) as traffic, deploy.start("--pause", "60") as process:
        wait_for_line(process, HELD)
        output, errors = interrupt(deploy, process)
    assert process.returncode == 130
    assert errors == "interrupted\n"
    assert f"echo@1: the old version serves, process {before['1']} in /srv/echo\n" in output
    assert deploy.site.pids() == before
    assert deploy.says("hello")
    assert nothing_failed(traffic.report())
    deploy.site.wait_for(lambda: deploy.is_alone("1"))


def test_interruption_of_a_start_puts_the_old_version_back(deploy: Deploy) -> None:
    before = deploy.site.pids()
    deploy.site.write_app(on_startup("await asyncio.sleep(20)"))
    with deploy.start() as process:
        wait_for_start(deploy)
        output, _ = interrupt(deploy, process)
    assert process.returncode == 130
    assert "echo@1: the old version serves" in output
    assert deploy.site.pids() == before
    assert deploy.site.state("echo@1") == "active"
    deploy.site.wait_for(lambda: deploy.is_alone("1"))


def test_interrupted_restart_comes_to_its_end(deploy: Deploy) -> None:
    before = deploy.site.pids()
    deploy.site.write_app(on_startup("await asyncio.sleep(5)").replace("hello from", "moin from"))
    with load(deploy) as traffic, deploy.start("--restart") as process:
        deploy.site.wait_for(lambda: deploy.site.state("echo@1") == "activating")
        output, _ = interrupt(deploy, process)
    assert process.returncode == 130
    assert "echo@1: the restart comes to its end first; another Ctrl-C leaves it to systemd\n" in output
    assert "echo@1: the new version serves" in output
    assert "echo@2: the old version serves" in output
    assert deploy.texts()["1"] == "moin from 1"
    assert {name for name, pid in deploy.site.pids().items() if pid == before[name]} == {"2", "3", "4"}
    assert nothing_failed(traffic.report())


def reloaded(deploy: Deploy) -> bool:
    return deploy.site.state("echo@1") == "active" and deploy.is_alone("1")


def test_killed_rollout_puts_the_old_version_back_and_its_lock_is_known_to_be_left(deploy: Deploy) -> None:
    before = deploy.site.pids()
    deploy.site.write_app(release("moin"))
    with load(deploy) as traffic:
        with deploy.start("--pause", "60") as process:
            wait_for_line(process, HELD)
            interrupt(deploy, process, signal.SIGKILL)
        deploy.site.wait_for(lambda: reloaded(deploy))
        assert deploy.site.pids() == before
        done = deploy("--pause", "0")
    assert (done.returncode, done.stderr) == (0, "")
    assert re.match(r"echo: did not come to its end: aiosystemd rollout echo --pause 60 \(process ", done.stdout)
    assert deploy.says("moin")
    assert nothing_failed(traffic.report())


def test_rollout_that_is_killed_during_a_start_leaves_the_old_version(deploy: Deploy) -> None:
    before = deploy.site.pids()
    deploy.site.write_app(on_startup("await asyncio.sleep(3)"))
    with deploy.start() as process:
        wait_for_start(deploy)
        interrupt(deploy, process, signal.SIGKILL)
    deploy.site.wait_for(lambda: reloaded(deploy))
    assert deploy.site.pids() == before


def test_timeout_bounds_the_start(deploy: Deploy) -> None:
    before = deploy.site.pids()
    deploy.site.write_app(on_startup("await asyncio.sleep(25)"))
    done = deploy("--timeout", "2")
    assert done.returncode == 1
    assert "failed: echo@1: the new process was not ready within 2 s\n" in done.stderr
    assert deploy.site.pids() == before
    assert reloaded(deploy)


def test_timeout_of_a_restart_leaves_it_to_systemd(deploy: Deploy) -> None:
    deploy.site.write_app(on_startup("await asyncio.sleep(8)"))
    done = deploy("--timeout", "3", "--restart")
    assert done.returncode == 1
    assert "failed: echo@1: has not restarted within 3 s; systemd goes on with it\n" in done.stderr
    assert "echo@1: down, activating (start)\n" in done.stdout
    deploy.site.wait_for(lambda: deploy.site.state("echo@1") == "active")


def test_crash_loop_is_ended_by_a_mended_release(deploy: Deploy) -> None:
    deploy.site.write_app(NO_IMPORT)
    deploy.site.systemctl("restart", "echo@2", check=False)
    deploy.site.write_app(release("moin"))
    done = deploy("--pause", "0")
    assert done.returncode == 0
    assert deploy.says("moin")


def test_release_behind_a_link_is_the_one_that_it_leads_to_now(deploy: Deploy) -> None:
    machine = deploy.site.machine
    machine.run("cp", "-a", "/srv/echo", "/srv/release-1")
    machine.run("cp", "-a", "/srv/echo", "/srv/release-2")
    machine.write("/srv/release-2/app.py", release("moin"))
    machine.write(DROP_IN, "[Service]\nWorkingDirectory=/srv/current\n")
    machine.run("ln", "-sfn", "release-1", "/srv/current")
    assert "echo@1: the new version serves, " in deploy("--pause", "0").stdout
    machine.run("ln", "-sfn", "release-2", "/srv/current")
    done = deploy("--pause", "0", "--canary", "1")
    assert "restart" not in done.stdout
    assert re.search(r"^echo@1: the new version serves, process \d+ in /srv/release-2$", done.stdout, re.MULTILINE)
    assert re.search(r"^echo@2: the old version serves, process \d+ in /srv/release-1$", done.stdout, re.MULTILINE)
    assert deploy.texts()["1"] == "moin from 1"


def test_terminal_gets_a_progress_bar_below_the_steps(deploy: Deploy) -> None:
    command = "aiosystemd rollout echo --pause 0"
    argv = ("env", "TERM=xterm", "COLUMNS=100", "script", "--quiet", "--return", "--command", command, "/dev/null")
    done = deploy.site.machine.run(*argv)
    for name in INSTANCES:
        assert re.search(rf"echo@{name}: the new version serves, process \d+\s*\n", done.stdout)
    assert "━" in done.stdout
    assert "4/4" in done.stdout


def test_host_without_systemd_is_told(deploy: Deploy) -> None:
    hide = "mount -t tmpfs none /run/systemd && exec aiosystemd rollout echo"
    done = deploy.site.machine.run("unshare", "--mount", "sh", "-c", hide, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "aiosystemd: systemd does not run here (do this on the host that serves)\n"


def test_only_root_may(deploy: Deploy) -> None:
    argv = ("setpriv", "--reuid=65534", "--clear-groups", "aiosystemd", "rollout", "echo")
    done = deploy.site.machine.run(*argv, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "aiosystemd: only root may reload and restart services (use sudo)\n"


@pytest.fixture
def change(deploy: Deploy) -> Iterator[Callable[[str], None]]:
    """Return a function that adds a line to the deployment file and writes the units."""
    machine = deploy.site.machine
    before = machine.read(FILE)

    def write(text: str) -> None:
        machine.write(FILE, text)
        machine.run("aiosystemd", "generate", "echo", "--output", "/")

    yield lambda line: write(f"{line}\n{before}")
    write(before)
    machine.systemctl("daemon-reload")
    machine.systemctl("restart", "echo@*.socket")
    deploy.site.wait_for(lambda: all(deploy.site.state(f"echo@{name}") == "active" for name in INSTANCES))


def test_sockets_elsewhere_are_refused_before_anything_is_done(deploy: Deploy, change: Callable[[str], None]) -> None:
    before = deploy.site.pids()
    change('listen.directory = "/run/elsewhere"')
    done = deploy()
    assert (done.returncode, done.stdout) == (1, "")
    assert "echo@1.service: runs, but nothing listens on /run/elsewhere/1.sock (systemctl daemon-reload" in done.stderr
    assert deploy.site.pids() == before
    assert deploy.site.machine.show("echo@1.socket", "NeedDaemonReload") == {"NeedDaemonReload": "yes"}


@both_releases
def test_changed_socket_is_restarted_with_its_instance(deploy: Deploy, change: Callable[[str], None]) -> None:
    change("listen.backlog = 100")
    done = deploy("--pause", "0", "--canary", "1")
    assert done.returncode == 0
    assert "echo@1: restart: echo@.socket has changed; requests go to the other instances\n" in done.stdout
    assert deploy.site.machine.show("echo@1.socket", "Backlog") == {"Backlog": "100"}


def test_instance_without_another_waits_for_nobody(boot: Callable[[], Machine]) -> None:
    machine = boot()
    site = Site.shape(machine, "echo")
    site.systemctl("start", "echo@1")
    deploy = Deploy(site)
    with load(deploy) as traffic:
        done = deploy("--restart", "--pause", "0")
    assert "echo@1: restart: asked for; requests wait for its start\n" in done.stdout
    assert nothing_failed(traffic.report())


def test_unknown_deployment_is_told(deploy: Deploy) -> None:
    deploy.site.machine.write("/etc/aiosystemd/other.toml", 'name = "other"\napp = "app:create"\n')
    done = deploy.site.machine.run("aiosystemd", "rollout", "other", check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "other@1.service: systemd cannot load it: not-found (aiosystemd generate --output / writes" in done.stderr
