"""A reload puts a new process in the place of the old one, and loses nothing, whether it works or not."""

import asyncio
import os
import shutil
import signal
import socket
import sys
import sysconfig
from pathlib import Path

import pytest
import uvloop
from aiohttp import web

from aiosystemd.runtime.sites import Sites
from tests.runtime.lab import HERE, Client, Lab, Response, eventually
from tests.runtime.service import MakeService, Reload, Service, adopting_orphans, ended, parent, start


@pytest.fixture
def service(make_service: MakeService) -> Service:
    return make_service()


one_loop = pytest.mark.parametrize("loop", ["asyncio"], indirect=True)
"""For what the loop has no part in."""


def answered(client: Client) -> Response:
    response = client.response()
    assert response
    return response


def suspend(pid: int) -> None:
    os.kill(pid, signal.SIGSTOP)
    os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOWAIT)


def at_the_switch(service: Service) -> tuple[int, Reload]:
    """Reload until systemd has been told of the new process and has not confirmed it, which `catch_up` does."""
    service.server.manager.slow = True
    reload = service.reload()
    service.server.manager.wait_for("BARRIER=1")
    (new,) = service.server.processes() - {service.main}
    return new, reload


# It works.


def test_new_code_serves_and_the_old_process_ends(service: Service) -> None:
    service.is_now("two")
    reload = service.reload()
    assert reload.outcome() == (0, "")
    now = service.who()
    assert now["pid"] != service.main
    assert now["code"] == "two"
    assert service.server.exit() == 0
    service.becomes(now["pid"])
    assert service.server.errors == ""
    os.kill(now["pid"], signal.SIGTERM)
    assert ended(now["pid"]) == 0
    assert service.server.errors == ""


@one_loop
def test_systemd_is_told_in_order(make_service: MakeService) -> None:
    """Of NotifyAccess=main it takes no word from the new process before it knows that this is the main one."""
    service = make_service(WATCHDOG_USEC="600000000")
    new = service.reloaded()
    manager = service.server.manager
    manager.wait_for(f"MAINPID={new}")
    manager.wait_for("READY=1\nSTATUS=Serving on ")
    # At once: the time since the last ping of the old process counts.
    manager.wait_for("WATCHDOG=1")
    assert manager.sent_by(service.main)[-2:] == [f"MAINPID={new}", "BARRIER=1"]
    assert manager.sent_by(new) == [f"READY=1\nSTATUS=Serving on {service.server.address}", "WATCHDOG=1"]
    assert service.server.exit() == 0
    os.kill(new, signal.SIGTERM)
    assert ended(new) == 0
    assert manager.sent_by(service.main)[-1] == "BARRIER=1"
    assert "STOPPING=1\nSTATUS=Draining" in manager.sent_by(new)


@one_loop
def test_new_process_is_a_child_of_the_manager(service: Service) -> None:
    """Systemd sends SIGTERM and at once SIGKILL to a main process that is somebody else's child."""
    service.is_now("hangs in a hook")
    reload = service.reload()
    assert parent(service.new_process()) == os.getpid()
    service.server.release("go_on")
    assert reload.outcome()[0] == 0


@one_loop
def test_systemd_waits_for_each_step_of_the_new_process(make_service: MakeService) -> None:
    service = make_service("--start", "20")
    service.reloaded()
    said = service.server.manager.sent_by(service.main)
    ready = next(at for at, message in enumerate(said) if message.startswith("READY=1"))
    assert said[ready + 1 :].count("EXTEND_TIMEOUT_USEC=25000000") > 3


def test_each_step_of_the_start_has_its_own_time(lab: Lab) -> None:
    """Import, factory and each hook, as in a first start."""
    old, new = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with adopting_orphans(), old, new, lab.unix() as listener:
        new.set_inheritable(True)
        socket.send_fds(old, [b"{}"], [listener.fileno()])
        server = lab.run(
            "starts:app", descriptors=[(new.fileno(), "link")], environment={"AIOSYSTEMD_PREDECESSOR": "3"}
        )
        new.close()
        old.settimeout(30)
        said = [old.recv(1024) for _ in range(6)]
        assert said[0].startswith(b'{"pid": ')
        # imported, made, and aiohttp's own hook
        assert said[1:5] == [b'{"step": true}'] * 3 + [b'{"ready": true}']
        old.close()
        server.exit()
        eventually(lambda: not server.processes())


def test_old_process_answers_all_that_it_has_accepted(service: Service) -> None:
    """A request at work, one half sent, one on an idle connection, one on a connection without any yet."""
    busy = service.hold("first")
    with busy, service.client() as uploading, service.client() as idle, service.client() as fresh:
        uploading.send("POST /upload HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 5\r\n\r\nab")
        service.server.saw("upload_begun")
        idle.get("/")
        assert answered(idle).header("Connection") is None
        assert service.reloaded() != service.main
        uploading.send("cde")
        idle.get("/hold/idle")
        fresh.get("/hold/fresh")
        for name in ("first", "idle", "fresh"):
            service.server.release(f"{name}_release")
        for client, body in ((busy, ""), (uploading, " 5"), (idle, ""), (fresh, "")):
            response = answered(client)
            assert response.body.decode() == f"{service.main}{body}"
            assert response.header("Connection") == "close"
            assert client.ended()
    assert service.server.exit() == 0
    assert service.server.errors == ""


def test_no_client_is_refused_or_lost_meanwhile(service: Service) -> None:
    reload, answers = service.reload(), {service.who()["pid"]}
    while reload.process.poll() is None:
        answers.add(service.who()["pid"])
    assert reload.outcome() == (0, "")
    new = service.who()["pid"]
    assert new != service.main
    assert answers <= {service.main, new}


class Watched(socket.socket):
    """A socket that must never block; its copies too."""

    def settimeout(self, value: float | None) -> None:
        assert value == 0
        super().settimeout(value)

    def setblocking(self, flag: bool) -> None:  # noqa: FBT001
        assert not flag
        super().setblocking(flag)


def test_shared_socket_never_blocks(lab: Lab, loop: str) -> None:
    """fcntl(2): O_NONBLOCK belongs to all who share it. The other process would hang in accept(2), and all it does."""

    async def serve(listener: socket.socket) -> None:
        runner = web.AppRunner(web.Application(), handle_signals=False)
        await runner.setup()
        sites = Sites(runner, [listener], backlog=16)
        for _ in range(2):
            await sites.open()
            await sites.close()
        sites.narrow()
        await sites.admit()
        await runner.cleanup()

    with Watched(fileno=lab.unix().detach()) as listener:
        factory = uvloop.new_event_loop if loop == "uvloop" else None
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(serve(listener))


def test_old_process_accepts_nothing_more_once_the_command_has_ended(service: Service) -> None:
    """Whoever asks for the new version after ``systemctl reload`` gets it."""
    with service.hold("first"):
        new = service.reloaded()
        assert {service.who()["pid"] for _ in range(20)} == {new}


def test_connections_in_the_queue_are_served_by_the_new_process(service: Service) -> None:
    """While neither accepts."""
    new, reload = at_the_switch(service)
    suspend(new)
    suspend(service.main)
    waiting = [service.client() for _ in range(20)]
    for client in waiting:
        client.get("/hold/none")
    service.server.release("none_release")
    for pid in (service.main, new):
        os.kill(pid, signal.SIGCONT)
    service.server.manager.catch_up()
    assert reload.outcome()[0] == 0
    for client in waiting:
        with client:
            assert answered(client).status == 200
    assert service.server.exit() == 0


def test_only_the_main_process_pings_the_watchdog(make_service: MakeService) -> None:
    """A ping of the old process would hide that the new one hangs."""
    service = make_service(WATCHDOG_USEC="300000", WATCHDOG_PID="")
    manager = service.server.manager
    service.is_now("hangs in a hook")
    with service.hold("first"):
        reload = service.reload()
        new = service.new_process()
        manager.wait_for("WATCHDOG=1")
        assert manager.sent_by(new) == []
        service.server.release("go_on")
        assert reload.outcome()[0] == 0
        eventually(lambda: len(manager.sent_by(new)) > 4)
        assert manager.sent_by(new)[1:5] == ["WATCHDOG=1"] * 4
        assert manager.sent_by(service.main)[-1] == "BARRIER=1"


@one_loop
def test_environment_is_that_of_the_command_but_for_what_systemd_gives_the_main_process_alone(
    make_service: MakeService,
) -> None:
    service = make_service(
        COLOUR="red", GONE="1", CREDENTIALS_DIRECTORY="/credentials", JOURNAL_STREAM="1:2", WATCHDOG_USEC="9000000"
    )
    own = {"MAINPID": "1", "SYSTEMD_EXEC_PID": "1", "LISTEN_PID": "1", "LISTEN_FDS": "1", "LISTEN_FDNAMES": "x"}
    command = {"COLOUR": "blue", "NEW": "2", "JOURNAL_STREAM": "3:4", "NOTIFY_SOCKET": "/nowhere", **own}
    assert service.reload(environment=command).outcome() == (0, "")
    found = service.who()["environment"]
    expected = {
        "COLOUR": "blue",
        "NEW": "2",
        "CREDENTIALS_DIRECTORY": "/credentials",
        "JOURNAL_STREAM": "1:2",
        "NOTIFY_SOCKET": str(service.server.manager.path),
        "RUNTIME_DIRECTORY": str(service.runtime),
    }
    assert {name: found.get(name) for name in expected} == expected
    unwanted = {"GONE", "WATCHDOG_USEC", "WATCHDOG_PID", "AIOSYSTEMD_PREDECESSOR", *own}
    assert not unwanted & set(found)


def release(lab: Lab, name: str) -> Path:
    """Make a directory that holds an interpreter and an application, and let ``current`` lead to it."""
    made = lab.path / name
    (made / "bin").mkdir(parents=True)
    base = Path(sys._base_executable)  # type: ignore[attr-defined]
    (made / "bin/python").symlink_to(base)
    (made / "pyvenv.cfg").write_text(f"home = {base.parent}\n")
    for file in ("release.py", "shop.py"):
        shutil.copy(HERE / "apps" / file, made)
    link = lab.path / "new"
    link.symlink_to(made)
    return link.rename(lab.path / "current")


@one_loop
def test_release_link_leads_to_the_new_directory_and_interpreter(make_service: MakeService, lab: Lab) -> None:
    current = release(lab, "release1")
    path = f"{HERE.parent.parent}:{sysconfig.get_path('purelib')}:{sysconfig.get_path('platlib')}"
    service = make_service(cwd=current, python=current / "bin/python", PYTHONPATH=path)
    before = service.who()
    assert (before["directory"], before["prefix"]) == (str(lab.path / "release1"),) * 2
    release(lab, "release2")
    command = service.reload({"PYTHONPATH": path}, cwd=current, python=current / "bin/python")
    assert command.outcome() == (0, "")
    after = service.who()
    assert (after["directory"], after["prefix"]) == (str(lab.path / "release2"),) * 2
    assert service.status()["directory"] == after["directory"]


@one_loop
def test_words_of_the_application_are_kept(make_service: MakeService) -> None:
    service = make_service(arguments=["--", "--reload", "x y"])
    assert service.reload().outcome() == (0, "")
    assert service.who()["arguments"] == ["--reload", "x y"]


@one_loop
def test_socket_that_the_old_process_bound_itself_stays(lab: Lab, loop: str) -> None:
    path = lab.path / "own.sock"
    with adopting_orphans():
        service = start(lab, "--loop", loop, "--path", str(path), "release:make", own_socket=True)
        try:
            assert service.reload().outcome() == (0, "")
            assert service.server.exit() == 0
            with Client(str(path)) as client:
                client.get("/")
                assert answered(client).status == 200
        finally:
            service.close()


@one_loop
def test_one_reload_follows_another(service: Service) -> None:
    mains = [service.main, service.reloaded(), service.reloaded(), service.reloaded()]
    assert len(set(mains)) == len(mains)
    service.becomes(mains[-1])
    assert service.server.errors == ""


# It does not.


def goes_on(service: Service, why: str = "") -> None:
    """Check that nothing has changed: the same process serves, is the main one, and is alone."""
    assert service.who()["pid"] == service.main
    assert service.server.processes() == {service.main}
    status = service.status()
    assert (status["pid"], status["state"], status["successor"]) == (service.main, "serving", None)
    assert why in str(status["reload_error"])
    messages = service.server.manager.sent_by(service.main)
    assert not any("MAINPID" in message for message in messages)
    with service.client() as client:
        client.get("/")
        assert answered(client).header("Connection") is None


def fails(service: Service, reload: tuple[int, str], why: str) -> None:
    """Check that the reload failed for this reason, which it tells everywhere, and that nothing has changed."""
    assert reload == (1, f"aiosystemd-serve: not reloaded: {why}\n")
    service.server.manager.wait_for(f"STATUS=Serving; the last reload failed: {why}")
    goes_on(service, why)


BROKEN = {
    "breaks at import": 'importing "release" failed: RuntimeError: cannot be imported',
    "fails in the factory": '"release:make" failed: ValueError: no settings',
    "fails in a hook": 'the start of "release:make" failed: OSError: no database',
    "exits at import": "the new process has ended",
}


@one_loop
def test_broken_code_changes_nothing(service: Service) -> None:
    for code, why in BROKEN.items():
        service.is_now(code)
        fails(service, service.reload().outcome(), why)
    service.is_now("mended")
    assert service.reloaded() != service.main
    assert service.who()["code"] == "mended"
    assert service.status()["reload_error"] == ""
    assert service.server.exit() == 0


@one_loop
@pytest.mark.parametrize("code", ["blocks at import", "hangs in a hook"])
def test_new_process_that_gets_nowhere_is_given_up(make_service: MakeService, code: str) -> None:
    service = make_service("--start", "2")
    service.is_now(code)
    fails(service, service.reload().outcome(), "the new process did nothing for 2 s")


@one_loop
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_new_process_killed_while_it_starts_changes_nothing(service: Service, number: signal.Signals) -> None:
    service.is_now("hangs in a hook")
    reload = service.reload()
    os.kill(service.new_process(), number)
    fails(service, reload.outcome(), "the new process has ended")


def order(service: Service, **different: object) -> dict[str, object]:
    """Ask for a reload as the command does, but for ``different``."""
    asked: dict[str, object] = {"executable": sys.executable, "argv": ["x"], "directory": "/", "environment": {}}
    with service.orders() as orders:
        return orders.ask("reload", **{**asked, **different})


@one_loop
def test_what_is_missing_is_named(service: Service) -> None:
    assert order(service, executable="/nowhere/python") == {
        "error": "cannot start the new process: /nowhere/python: No such file or directory"
    }
    assert order(service, directory="/nowhere") == {
        "error": "cannot start the new process: /nowhere: No such file or directory"
    }
    goes_on(service, "cannot start the new process: /nowhere: ")


NONSENSE: tuple[dict[str, object], ...] = (
    {"executable": 7},
    {"executable": None},
    {"argv": "word"},
    {"argv": [1]},
    {"argv": []},
    {"directory": ["/"]},
    {"directory": "\0"},
    {"environment": {"A": 1}},
    {"environment": ["A"]},
    {"environment": {"A=B": "C"}},
)


@one_loop
def test_nonsense_instead_of_a_command_is_refused(service: Service) -> None:
    for nonsense in NONSENSE:
        assert str(order(service, **nonsense)["error"]).startswith("malformed order: "), nonsense
    goes_on(service)
    assert service.server.errors == ""


@one_loop
def test_working_directory_that_is_gone_is_named(service: Service, lab: Lab) -> None:
    gone = lab.path / "gone"
    gone.mkdir()
    script = f'rmdir "{gone}" && exec "$@"'
    status, said = service.reload(cwd=gone, launcher=["/bin/sh", "-c", script, "sh"]).outcome()
    assert (status, said) == (1, "aiosystemd-serve: not reloaded: the working directory is gone\n")
    goes_on(service)


@one_loop
def test_reload_of_nothing_says_so(service: Service) -> None:
    status, said = service.reload({"RUNTIME_DIRECTORY": ""}).outcome()
    assert status == 1
    assert said.startswith("aiosystemd-serve: --reload is for ExecReload= in a systemd service")
    status, said = service.reload({"RUNTIME_DIRECTORY": str(service.lab.path)}).outcome()
    assert status == 1
    assert said.startswith("aiosystemd-serve: not reloaded: the running process takes no orders: No such file")
    assert service.reload({"HUGE": "x" * 100_000, "HUGER": "x" * 120_000}).outcome() == (
        1,
        "aiosystemd-serve: not reloaded: the running process takes no orders: Message too long\n",
    )
    goes_on(service)


# It is called off, or crossed by something else.


@one_loop
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_command_that_is_killed_calls_the_reload_off(service: Service, number: signal.Signals) -> None:
    """As systemd does when TimeoutStartSec= is over."""
    service.is_now("hangs in a hook")
    reload = service.reload()
    new = service.new_process()
    reload.process.send_signal(number)
    assert reload.outcome()[0] in (-signal.SIGKILL, 1)
    service.becomes(service.main)
    assert ended(new) == -signal.SIGKILL
    goes_on(service)
    service.is_now("mended")
    assert service.reloaded() != service.main


def test_stop_in_the_middle_ends_both_in_order(service: Service) -> None:
    with service.hold("first") as busy:
        service.is_now("hangs in a hook")
        reload = service.reload()
        new = service.new_process()
        service.server.stop()
        assert reload.outcome() == (1, "aiosystemd-serve: not reloaded: the instance is being stopped\n")
        assert ended(new) == -signal.SIGKILL
        service.server.release("first_release")
        assert answered(busy).body == str(service.main).encode()
    assert service.server.exit() == 0
    service.becomes()
    assert service.server.errors == ""


def test_stop_after_the_reload_waits_for_the_old_process(service: Service) -> None:
    """systemd.kill(5): the end of the main process is SIGKILL for the rest."""
    with service.hold("first") as busy:
        new = service.reloaded()
        os.kill(new, signal.SIGTERM)
        service.server.manager.wait_for("STOPPING=1")
        service.server.messages_within(0.3)
        assert service.server.processes() == {service.main, new}
        service.server.release("first_release")
        assert answered(busy).body == str(service.main).encode()
    assert ended(new) == 0
    assert service.server.exit() == 0
    assert service.server.errors == ""


def test_stop_of_the_old_process_at_the_switch_stops_the_new_one_first(service: Service) -> None:
    """Systemd sent it before it read MAINPID=, which it then ignores: it kills the new one when the old one ends."""
    new, reload = at_the_switch(service)
    suspend(service.main)
    with service.hold("new") as busy:
        service.server.signal()
        service.server.signal(signal.SIGCONT)
        service.server.manager.catch_up()
        assert reload.outcome() == (1, "aiosystemd-serve: not reloaded: the instance is being stopped\n")
        service.server.messages_within(0.2)
        assert service.server.processes() == {service.main, new}
        service.server.release("new_release")
        assert answered(busy).body == str(new).encode()
    assert ended(new) == 0
    assert service.server.exit() == 0
    assert service.server.errors == ""


def test_stop_of_the_new_process_at_the_switch_is_no_wait(make_service: MakeService) -> None:
    """Systemd sends it as soon as it knows the new one, which has not heard yet that it is the main one."""
    service = make_service("--start", "600")
    new, reload = at_the_switch(service)
    os.kill(new, signal.SIGTERM)
    service.server.messages_within(0.2)
    service.server.manager.catch_up()
    assert reload.outcome() == (1, "aiosystemd-serve: not reloaded: the new process was stopped\n")
    assert service.server.exit() == 0
    assert ended(new) == 0


def test_death_right_after_the_switch_leaves_an_orderly_end(service: Service) -> None:
    """Systemd takes the service for failed and starts it anew; the old process answers what it can."""
    with service.hold("first") as busy:
        new, reload = at_the_switch(service)
        os.kill(new, signal.SIGKILL)
        assert ended(new) == -signal.SIGKILL
        service.server.manager.catch_up()
        assert reload.outcome() == (1, "aiosystemd-serve: not reloaded: the new process has ended\n")
        service.server.release("first_release")
        assert answered(busy).status == 200
    assert service.server.exit() == 0
    service.becomes()


@one_loop
def test_death_of_the_old_process_ends_the_new_one(service: Service) -> None:
    """Systemd starts the service anew, and must not find it served by a stranger."""
    service.is_now("hangs in a hook")
    reload = service.reload()
    new = service.new_process()
    service.server.signal(signal.SIGKILL)
    assert reload.outcome() == (1, "aiosystemd-serve: not reloaded: the running process has ended\n")
    service.server.release("go_on")
    assert ended(new) == 0


@one_loop
def test_second_reload_is_refused_and_the_first_goes_on(service: Service) -> None:
    service.is_now("hangs in a hook")
    first = service.reload()
    service.server.saw("holding")
    assert service.reload().outcome() == (1, "aiosystemd-serve: not reloaded: another reload is under way\n")
    service.server.release("go_on")
    assert first.outcome() == (0, "")
    assert service.who()["pid"] != service.main


def test_next_reload_waits_until_the_old_process_has_ended(service: Service) -> None:
    """There is memory for two processes, not for three."""
    with service.hold("first") as busy:
        second = service.reloaded()
        service.server.manager.wait_for("READY=1")
        reload = service.reload()
        service.server.manager.wait_for("EXTEND_TIMEOUT_USEC=")
        assert service.server.processes() == {service.main, second}
        assert reload.process.poll() is None
        service.server.release("first_release")
        assert answered(busy).status == 200
    assert reload.outcome() == (0, "")
    service.becomes(service.who()["pid"])


@one_loop
def test_reload_of_an_instance_that_stops_is_refused(service: Service) -> None:
    with service.hold("first") as busy:
        service.server.stop()
        assert service.reload().outcome() == (1, "aiosystemd-serve: not reloaded: the instance is draining\n")
        assert service.server.processes() == {service.main}
        service.server.release("first_release")
        assert answered(busy).status == 200
    assert service.server.exit() == 0


@one_loop
def test_hang_up_ends_nothing(service: Service) -> None:
    """SIGHUP, by which many another server reloads; its default action would end this one."""
    service.server.signal(signal.SIGHUP)
    service.server.said("SIGHUP does nothing: `systemctl reload` starts the new code")
    goes_on(service)
