"""``--user``: a deployment under a login user's own systemd, which root has done no more for than to let it linger."""

import shlex
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.container.conftest import both_releases
from tests.container.machine import Machine
from tests.container.site import INSTANCES, PATIENCE, SHAPES, Site, Traffic

USER: Final = "alice"
HOME: Final = "/home/alice"
RUN: Final = "/run/user/1000"
CONFIG: Final = f"{HOME}/.config"
PORT: Final = "8080"

BEHIND_THE_MACHINES_NGINX: Final = f"""
name = "echo"
app = "app:create"
directory = "{HOME}/echo"
timeouts = {{ request = 10, watchdog = 3 }}
listen.port = 8001
sandbox.home = true
proxy = {{ default_server = true, keepalive = 1 }}
"""
BEHIND_ITS_OWN: Final = f"""
name = "own"
app = "app:create"
directory = "/srv/own"
timeouts = {{ request = 10, watchdog = 3 }}
sandbox.network = "none"
service.credentials = {{ key = "{HOME}/key" }}
proxy = {{ listen = ["{PORT}"], server_names = ["own.test"], keepalive = 1 }}
"""
IN_A_DIRECTORY_OF_ROOTS: Final = """
name = "third"
app = "app:create"
directory = "/srv/third"
timeouts = { request = 10, watchdog = 3 }
listen = { directory = "/srv/sockets", mode = "0666" }
proxy = { server_names = ["third.test"], keepalive = 1 }
"""
NGINX: Final = f"""
daemon off;
pid {RUN}/nginx.pid;
events {{}}
http {{
    access_log off;
    include conf.d/own.conf;
    {" ".join(f"{name}_temp_path {RUN}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))}
}}
"""
TELLING: Final = """
async def see(request: web.Request) -> web.Response:
    path = Path(request.query["path"])
    try:
        if path.is_socket():
            with socket.socket(socket.AF_UNIX) as connection:
                connection.connect(str(path))
            return web.Response(text="connected")
        return web.Response(text=" ".join(sorted(os.listdir(path))) if path.is_dir() else path.read_text())
    except OSError as error:
        return web.Response(text=type(error).__name__)


async def environment(request: web.Request) -> web.Response:
    return web.Response(text=os.environ.get(request.query["name"], ""))


"""


def as_user(name: str) -> tuple[str, ...]:
    ids = (f"--reuid={name}", f"--regid={name}", "--init-groups")
    return ("setpriv", *ids, "env", "--chdir=/tmp", f"HOME=/home/{name}")


class Login(Site):
    """A deployment of the user's."""

    def run(self, *argv: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a program as the user, without a login: no session, and none of its variables, as cron does."""
        return self.machine.run(*as_user(USER), *argv, check=check)

    def aiosystemd(self, verb: str, *options: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = self.run("aiosystemd", verb, "--user", self.name, *options, check=check)
        assert "Traceback" not in done.stderr
        return done

    def systemctl(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self.run("env", f"XDG_RUNTIME_DIR={RUN}", "systemctl", "--user", *arguments, check=check)

    def show(self, unit: str, name: str) -> str:
        return self.systemctl("show", "--value", f"--property={name}", unit).stdout.strip()

    def state(self, unit: str) -> str:
        return self.show(unit, "ActiveState")

    def pids(self) -> dict[str, int]:
        return {name: int(self.show(f"{self.name}@{name}.service", "MainPID")) for name in INSTANCES}

    def socket_path(self, name: str) -> str:
        return f"{RUN}/{self.name}/{name}.sock"

    def own(self, path: str, text: str) -> None:
        """Write a file, as the user."""
        self.run("mkdir", "--parents", str(Path(path).parent))
        self.machine.write(path, text)
        self.machine.run("chown", f"{USER}:{USER}", path)

    def follow(self, output: str) -> None:
        """Do what ``generate`` says is next; root does what it is asked to."""
        for line in output.splitlines():
            command = shlex.split(line.removeprefix("next:").partition(" # ")[0])
            if line.startswith("next:") and command[0] == "sudo":
                self.machine.run(*command[1:])
            elif line.startswith("next:"):
                self.run("env", f"XDG_RUNTIME_DIR={RUN}", *command)

    def serves(self) -> None:
        self.wait_for(lambda: all(self.state(f"{self.name}@{name}") == "active" for name in INSTANCES))

    def stopped(self) -> None:
        self.wait_for(lambda: set(self.pids().values()) == {0})

    def all_new(self, before: dict[str, int]) -> bool:
        now = self.pids()
        return 0 not in now.values() and not set(before.values()) & set(now.values())


def install(machine: Machine, name: str, text: str, directory: str) -> Login:
    """Write what the user deploys, and do as ``generate`` says."""
    site = Login(machine, name, f"{name}.test")
    app = (SHAPES / "echo" / "app.py").read_text()
    app = app.replace("async def create()", f"{TELLING}async def create()")
    app = app.replace(
        'web.get("/", hello),', 'web.get("/", hello), web.get("/see", see), web.get("/env", environment),'
    )
    machine.run("install", "--directory", f"--owner={USER}", directory)
    site.own(f"{directory}/app.py", app)
    site.own(f"{CONFIG}/aiosystemd/{name}.toml", text)
    site.aiosystemd("check")
    site.follow(site.aiosystemd("generate", "--output", "/").stdout)
    site.serves()
    return site


@pytest.fixture(scope="module")
def home(installed: tuple[Path, Path]) -> Iterator[Machine]:
    """Return a machine with a user whose systemd runs, though nobody is logged in."""
    with Machine(*installed) as machine:
        machine.write("/etc/sysusers.d/alice.conf", f"u {USER} 1000 - {HOME} /bin/sh\n")
        machine.run("systemd-sysusers", "alice.conf")
        machine.run("install", "--directory", "--mode=0700", f"--owner={USER}", f"--group={USER}", HOME)
        machine.run("rm", "/etc/nginx/sites-enabled/default")
        # logind looks at the cgroup of who asks, which has to be one of the machine's.
        machine.run("systemd-run", "--wait", "--quiet", "loginctl", "enable-linger", USER)
        end = time.monotonic() + PATIENCE
        while machine.run("test", "-S", f"{RUN}/systemd/private", check=False).returncode:
            assert time.monotonic() < end
            time.sleep(0.05)
        yield machine


def outside(machine: Machine) -> set[str]:
    """Return every file of the user's, and every one that changed since the machine was booted, outside of its home."""
    places = "/etc /usr /var /srv /opt /root /home /run"
    unimportant = (
        f"{HOME} {RUN} /srv/own /run/systemd /run/log /run/udev /run/dbus /var/log /var/lib/systemd /run/agetty.reload"
    )
    prune = " -o ".join(f"-path {place}" for place in unimportant.split())
    newer = f"-user {USER} -o -newer /proc/1"
    command = f"find {places} -xdev \\( {prune} \\) -prune -o -type f \\( {newer} \\) -print"
    return set(machine.run("sh", "-c", command).stdout.split())


@pytest.fixture(scope="module")
def site(home: Machine) -> Login:
    """Return a deployment that the machine's nginx is in front of."""
    return install(home, "echo", BEHIND_THE_MACHINES_NGINX, f"{HOME}/echo")


@pytest.fixture(scope="module")
def own(home: Machine) -> Login:
    """Return a deployment with an nginx of the user's own in front of it."""
    home.write(f"{HOME}/key", "secret\n")
    home.run("chown", USER, f"{HOME}/key")
    site = install(home, "own", BEHIND_ITS_OWN, "/srv/own")
    directory = f"{CONFIG}/aiosystemd/nginx"
    site.own(f"{directory}/nginx.conf", NGINX)
    service = ("systemd-run", "--user", "--unit=proxy", "nginx", "-e", "stderr", "-c", f"{directory}/nginx.conf")
    site.run("env", f"XDG_RUNTIME_DIR={RUN}", *service)
    site.wait_for(lambda: home.run("test", "-e", f"{RUN}/nginx.pid", check=False).returncode == 0)
    return site


def test_generate_writes_into_the_home_and_nowhere_else(home: Machine) -> None:
    before = outside(home)
    site = Login(home, "shop", "shop.test")
    site.own(f"{CONFIG}/aiosystemd/shop.toml", 'name = "shop"\napp = "app:create"\nlisten.port = 8101\n')
    done = site.aiosystemd("generate", "--output", "/")
    written = {line.split()[1] for line in done.stdout.splitlines() if line.startswith("created")}
    assert f"{CONFIG}/systemd/user/shop@.service" in written
    assert f"{CONFIG}/aiosystemd/nginx/conf.d/shop.conf" in written
    assert all(path.startswith(f"{CONFIG}/") for path in written)
    assert outside(home) == before
    again = site.aiosystemd("generate", "--output", "/").stdout
    assert {line.split()[0] for line in again.splitlines()} == {"unchanged"}
    steps = [line.removeprefix("next:").partition(" # ")[0].strip() for line in done.stdout.splitlines()]
    assert "systemctl --user enable --now shop.target" in steps
    site_file = f"{CONFIG}/aiosystemd/nginx/conf.d/shop.conf /etc/nginx/conf.d/shop.conf"
    assert f"sudo install -D --mode=0644 {site_file}" in steps
    assert not any("enable-linger" in step for step in steps)
    home.run("rm", f"/var/lib/systemd/linger/{USER}")
    try:
        home.run("rm", f"{CONFIG}/systemd/user/shop@.service")
        assert "loginctl enable-linger" in site.aiosystemd("generate", "--output", "/").stdout
    finally:
        home.write(f"/var/lib/systemd/linger/{USER}", "")


def test_site_is_served_through_the_machines_nginx(site: Login) -> None:
    # nginx has been told to read the site, and does so when it comes to it.
    site.wait_for(lambda: site.ask("/echo", b"x").text == "x")
    assert {site.ask().text for _ in range(40)} == {f"hello from {name}" for name in INSTANCES}
    assert site.machine.run("stat", "--format=%U", f"/proc/{site.pids()['1']}").stdout.strip() == USER
    assert site.show("echo.target", "UnitFileState") == "enabled"


@both_releases
@pytest.mark.parametrize("options", [(), ("--restart",)])
def test_rollout_loses_no_request(site: Login, options: tuple[str, ...]) -> None:
    before = site.pids()
    with site.load(clients=8) as traffic:
        traffic.wait(200)
        done = site.aiosystemd("rollout", "--pause", "0", *options)
        traffic.wait(200)
    assert done.stderr == ""
    assert traffic.report().failures == {}
    assert site.all_new(before)


def test_failed_rollout_tells_why_and_the_old_version_serves(site: Login) -> None:
    path = f"{HOME}/echo/app.py"
    before, app = site.pids(), site.machine.read(path)
    site.own(path, "raise RuntimeError('no such luck')\n")
    done = site.aiosystemd("rollout", "--pause", "0", check=False)
    site.own(path, app)
    assert done.returncode == 1
    assert "RuntimeError: no such luck" in done.stderr
    assert "aiosystemd rollout --user echo" in done.stdout
    assert site.pids() == before


def test_drill_proves_that_no_request_is_lost(site: Login) -> None:
    done = site.aiosystemd("drill", "--seconds", "1", "--post", "/echo")
    assert done.stderr == ""
    assert [line.split()[2] for line in done.stdout.splitlines()[-3:]] == ["0", "0", "0"]


def test_system_deployments_are_others(site: Login) -> None:
    """Root's own commands know nothing of it, and neither does the user's of root's."""
    done = site.machine.run("aiosystemd", "rollout", "echo", check=False)
    assert done.stderr.startswith("/etc/aiosystemd/echo.toml: no such file")
    done = site.run("aiosystemd", "rollout", "echo", check=False)
    assert done.stderr.startswith("/etc/aiosystemd/echo.toml: no such file")


def test_own_nginx_reaches_the_sockets_and_no_other_user_does(own: Login) -> None:
    assert own.machine.http(headers={"Host": "localhost"}, port=int(PORT)).body.startswith(b"hello from ")
    assert own.ask_instance("2").text == "hello from 2"
    other = ("runuser", "--user", "www-data", "--", "test", "-e", own.socket_path("1"))
    assert own.machine.run(*other, check=False).returncode == 1
    mode = own.machine.run("stat", "--format=%a", own.socket_path("1"))
    assert mode.stdout.strip() == "600"


def test_machines_nginx_reaches_sockets_in_a_directory_that_root_has_made(home: Machine) -> None:
    home.run("install", "--directory", f"--owner={USER}", "--group=www-data", "--mode=0750", "/srv/sockets")
    third = install(home, "third", IN_A_DIRECTORY_OF_ROOTS, "/srv/third")
    assert {third.ask().text for _ in range(40)} == {f"hello from {name}" for name in INSTANCES}
    before = third.pids()
    with third.load(clients=8) as traffic:
        traffic.wait(200)
        done = third.aiosystemd("rollout", "--restart", "--pause", "0")
    assert "third@1: restart: asked for; requests go to the other instances\n" in done.stdout
    assert traffic.report().failures == {}
    assert third.all_new(before)
    third.systemctl("disable", "--now", "third.target")


@both_releases
def test_deployment_is_applied_scaled_rolled_back_and_removed_without_root(home: Machine) -> None:
    site = Login(home, "fifth", "fifth.test")
    home.copy(SHAPES / "echo", "/srv/fifth")
    text = BEHIND_ITS_OWN.replace("own", "fifth").replace("service.credentials", "# service.credentials")
    site.own(f"{CONFIG}/aiosystemd/fifth.toml", text)
    before = outside(home)
    quick = ("--yes", "--pause", "0")
    site.aiosystemd("apply", *quick)
    site.serves()
    assert site.show("fifth.target", "UnitFileState") == "enabled"
    pids = site.pids()
    site.aiosystemd("scale", "2", "--yes")
    assert site.pids() == {**pids, "3": 0, "4": 0}
    site.own(f"{CONFIG}/aiosystemd/fifth.toml", text.replace("request = 10", "request = 11"))
    assert "fifth@.service: rolling reload" in site.aiosystemd("apply", *quick).stdout
    assert site.aiosystemd("diff").stdout == "fifth: nothing to do\n"
    site.aiosystemd("rollback", *quick)
    assert "instances = 2" in home.read(f"{CONFIG}/aiosystemd/fifth.toml")
    assert len(site.aiosystemd("history").stdout.splitlines()) == 4
    site.aiosystemd("remove", "--yes")
    site.stopped()
    assert home.run("find", f"{CONFIG}/systemd", f"{CONFIG}/aiosystemd/nginx", "-name", "*fifth*").stdout == ""
    assert outside(home) == before


def test_restart_sends_requests_to_the_other_instances(own: Login) -> None:
    before = own.pids()
    with Traffic(own, "--clients", "8", "--port", PORT) as traffic:
        traffic.wait(200)
        done = own.aiosystemd("rollout", "--restart", "--pause", "0")
        traffic.wait(200)
    assert "own@1: restart: asked for; requests go to the other instances\n" in done.stdout
    assert traffic.report().failures == {}
    assert own.all_new(before)


@both_releases
def test_sandbox_holds_without_root(own: Login) -> None:
    def sees(path: str) -> str:
        return own.ask_instance("1", f"/see?path={path}").text

    assert own.machine.read(f"{HOME}/key") == "secret\n"
    assert sees(f"{HOME}/key") == "FileNotFoundError"
    # Whoever reaches one of these starts what he likes, outside of every sandbox.
    assert own.machine.run("test", "-S", f"{RUN}/bus", check=False).returncode == 0
    assert sees(f"{RUN}/bus") == sees(f"{RUN}/systemd/private") == "FileNotFoundError"
    assert sees("/run/dbus") == "PermissionError"
    assert own.ask_instance("1", "/write?path=/srv/own/x").text == "OSError"
    state = own.ask_instance("1", "/env?name=STATE_DIRECTORY").text
    assert own.ask_instance("1", f"/write?path={state}/x").text == "written"
    assert own.machine.read(f"{state}/x") == "written"
    credentials = own.ask_instance("1", "/env?name=CREDENTIALS_DIRECTORY").text
    assert sees(f"{credentials}/key") == "secret\n"
    assert own.ask_instance("1", f"/connect?host=127.0.0.1&port={PORT}").text == "OSError"
    networks = {own.machine.run("readlink", f"/proc/{pid}/ns/net").stdout for pid in (1, own.pids()["1"])}
    assert len(networks) == 2


@both_releases
def test_home_that_is_shown_is_read_only_and_hides_the_users_systemd(site: Login) -> None:
    def asked(path: str) -> str:
        return site.ask(path).text

    assert "class" not in asked(f"/see?path={HOME}/echo/app.py").partition("\n")[0]
    assert asked(f"/write?path={HOME}/x") == "OSError"
    assert asked(f"/see?path={RUN}/systemd/private") == asked(f"/see?path={RUN}/bus") == "FileNotFoundError"


def test_no_systemd_of_the_user_is_told(home: Machine) -> None:
    home.write("/etc/sysusers.d/bob.conf", "u bob 1001 - /home/bob /bin/sh\n")
    home.run("systemd-sysusers", "bob.conf")
    home.write("/srv/bob.toml", 'name = "bob"\napp = "app:create"\nlisten.port = 8201\n')
    done = home.run(*as_user("bob"), "aiosystemd", "rollout", "--user", "/srv/bob.toml", check=False)
    assert done.returncode == 1
    assert "aiosystemd: no systemd runs for bob (log in as bob, or let it run without: sudo loginctl" in done.stderr


def test_it_comes_back_after_a_boot_and_goes_when_it_is_stopped(site: Login, own: Login) -> None:
    site.machine.reboot()
    site.serves()
    assert site.ask("/echo", b"x").text == "x"
    for each in (site, own):
        each.systemctl("disable", "--now", f"{each.name}.target")
        each.stopped()
        assert each.state(f"{each.name}@1.socket") == "inactive"
    assert site.ask().status == 502
