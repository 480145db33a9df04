"""What the service manager is told and when, and on which sockets an application is served."""

import os
import signal
import socket
import stat
from pathlib import Path
from typing import IO, TYPE_CHECKING

import pytest

from tests.runtime.lab import Client, Lab, MakeServer, Server

if TYPE_CHECKING:
    from collections.abc import Callable


def test_ready_only_after_start_up_hooks(make_server: MakeServer) -> None:
    server = make_server(app="starts:steps")
    with server.client() as client:
        client.get("/")
        server.saw("holding")
        assert not any("READY=1" in message for message in server.manager.messages)
        server.release("release")
        server.ready()
        response = client.response()
        assert response
        assert response.body == b"hello"


def test_each_stage_is_shown(make_server: MakeServer) -> None:
    server = make_server(app="starts:app").ready()
    stages = [message for message in server.manager.messages if "STATUS=" in message]
    assert stages == [
        "STATUS=Importing starts:app",
        "STATUS=Starting starts:app",
        f"READY=1\nSTATUS=Serving on {server.address}",
    ]


def test_no_value_adds_a_line_to_a_message(lab: Lab) -> None:
    server = lab.run("x\nMAINPID=1\udcff", listeners=[lab.unix()])
    assert server.exit() == 1
    server.manager.wait_for('STATUS="x MAINPID=1 " is not MODULE:ATTRIBUTE')
    assert not any(line.startswith("MAINPID") for message in server.manager.messages for line in message.split("\n"))


def test_start_is_extended_by_each_completed_step(make_server: MakeServer) -> None:
    server = make_server("--start", "7", app="starts:steps")
    server.release("release")
    server.ready()
    messages = [message for message in server.manager.messages if "READY" not in message and "FD" not in message]
    extension = "EXTEND_TIMEOUT_USEC=7000000"
    assert messages == [
        "STATUS=Importing starts:steps",
        extension,
        extension,  # imported
        "STATUS=Starting starts:steps",
        extension,  # made
        "STATUS=context",
        extension,
        "STATUS=context",
        extension,
        extension,  # aiohttp's own hook, which runs the contexts
        "STATUS=hold",
        extension,
        "STATUS=last",
        extension,
    ]


def test_hanging_step_extends_nothing(make_server: MakeServer) -> None:
    server = make_server(app="starts:steps")
    server.saw("holding")
    assert server.manager.wait_for("STATUS=hold")
    assert server.messages_within(0.3) == []


def test_watchdog_is_pinged_until_loop_blocks(make_server: MakeServer) -> None:
    server = make_server(WATCHDOG_USEC="150000").ready()
    for _ in range(4):
        server.manager.wait_for("WATCHDOG=1")
    with server.client() as client:
        client.get("/block")
        server.manager.wait_for("STATUS=blocked")
        assert "WATCHDOG=1" not in server.manager.wait_for("STATUS=unblocked")
        server.manager.wait_for("WATCHDOG=1")
        assert client.response()


@pytest.mark.parametrize("variables", [{}, {"WATCHDOG_USEC": "1000", "WATCHDOG_PID": "1"}, {"WATCHDOG_USEC": "x"}])
def test_watchdog_of_nobody_or_another_is_not_pinged(lab: Lab, variables: dict[str, str]) -> None:
    server = lab.run("shop:app", listeners=[lab.unix()], environment=variables).ready()
    assert server.messages_within(0.2) == []


def test_manager_variables_do_not_reach_child_processes(lab: Lab) -> None:
    server = lab.run(
        "starts:sees_environment", listeners=[lab.unix()], environment={"WATCHDOG_USEC": "1000000"}
    ).ready()
    assert server.left("environment") == "[]"


def test_stop_during_start_up_hook_is_clean(make_server: MakeServer) -> None:
    server = make_server(app="starts:steps")
    server.saw("holding")
    server.signal()
    assert server.exit() == 0
    assert server.errors == ""
    assert (server.lab / "closed").exists()


def test_stop_during_import_is_not_forgotten_when_the_import_swallows_it(lab: Lab) -> None:
    server = lab.run("stubborn:app", listeners=[lab.unix()], environment={"SWALLOW": "1"})
    server.saw("importing")
    server.signal()
    assert server.exit() == 0
    assert not any(message.startswith("READY=1") for message in server.manager.messages)


def test_stop_during_import_is_clean(lab: Lab) -> None:
    server = lab.run("starts:blocks", listeners=[lab.unix()])
    server.saw("holding")
    server.signal()
    assert server.exit() == 0
    assert server.errors == ""


def test_stop_after_a_failed_start_adds_nothing_to_its_reason(lab: Lab) -> None:
    server = lab.run("leaving:app", listeners=[lab.unix()])
    server.saw("leaving")
    server.signal()
    assert server.exit() == 1
    assert "no such luck" in server.errors
    assert "Stopped" not in server.errors


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stop_without_connections_is_immediate(make_server: MakeServer, number: signal.Signals) -> None:
    server = make_server("--idle", "600", "--drain", "600").ready()
    assert server.ask("/").status == 200
    server.signal(number)
    assert server.exit() == 0
    assert server.errors == ""


def test_blocked_process_leaves_its_stack(lab: Lab) -> None:
    """Systemd's watchdog sends SIGABRT."""
    server = lab.run("starts:blocks", listeners=[lab.unix()])
    server.saw("holding")
    server.signal(signal.SIGABRT)
    assert server.exit() == -signal.SIGABRT
    assert "in blocks" in server.errors


# Sockets


def test_tcp_socket_is_served(lab: Lab, loop: str) -> None:
    server = lab.run("--loop", loop, "shop:app", listeners=[lab.tcp()]).ready()
    assert server.ask("/").body == b"hello"
    assert f"Serving on 127.0.0.1:{server.address[1]}" in server.manager.messages[-1]


def test_several_sockets_are_served(lab: Lab, loop: str) -> None:
    listeners = [lab.unix("1.sock"), lab.tcp(), lab.unix("2.sock")]
    server = lab.run("--loop", loop, "shop:app", listeners=listeners).ready()
    for listener in listeners:
        with Client(listener.getsockname()) as client:
            client.get("/")
            assert client.response()
    server.signal()
    assert server.exit() == 0
    assert server.errors == ""


def test_inherited_path_is_left_in_place(make_server: MakeServer) -> None:
    server = make_server().ready()
    server.signal()
    assert server.exit() == 0
    assert Path(str(server.address)).is_socket()


def places(server: Server) -> int:
    """Return how many connections the accept queue takes."""
    server.signal(signal.SIGSTOP)
    os.waitid(os.P_PID, server.process.pid, os.WSTOPPED | os.WNOWAIT)
    waiting = []
    try:
        while True:
            waiting.append(socket.socket(socket.AF_UNIX))
            waiting[-1].setblocking(False)  # noqa: FBT003
            waiting[-1].connect(server.address)
    except BlockingIOError:
        return len(waiting) - 1
    finally:
        for each in waiting:
            each.close()
        server.signal(signal.SIGCONT)


@pytest.mark.parametrize("backlog", [5, 300])
def test_backlog_is_ours_and_not_the_default_of_asyncio(make_server: MakeServer, backlog: int) -> None:
    server = make_server("--backlog", str(backlog)).ready()
    # unix(7) does not say it: the kernel refuses when the queue is longer than the backlog, so one more fits.
    assert places(server) == backlog + 1


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("datagram", "is not a stream socket: use ListenStream= in the socket unit"),
        ("connection", "is a connection, not a listening socket: use Accept=no in the socket unit"),
        ("file", "is not a socket"),
        ("netlink", "is neither a unix nor a TCP socket"),
    ],
)
def test_unfit_descriptor_is_refused(lab: Lab, kind: str, message: str) -> None:
    made: dict[str, Callable[[], socket.socket | IO[str]]] = {
        "datagram": lambda: socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM),
        "connection": lambda: socket.socket(socket.AF_UNIX),
        "file": lambda: (lab.path / "file").open("w"),
        "netlink": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW),
    }
    with made[kind]() as descriptor:
        server = lab.run("shop:app", descriptors=[(descriptor.fileno(), "odd")])
        assert server.exit() == 1
    assert server.errors == f"aiosystemd-serve: the descriptor 3 that was passed (odd) {message}\n"


def test_own_unix_socket(lab: Lab, loop: str) -> None:
    path = lab.path / "own.sock"
    server = lab.run("--loop", loop, "--path", str(path), "--mode", "0606", "shop:app").ready()
    assert stat.S_IMODE(path.stat().st_mode) == 0o606
    with Client(str(path)) as client:
        client.get("/hold")
        server.saw("begun")
        server.stop()
        assert not path.exists()
        path.touch()  # Of somebody who came later.
        server.release("release")
        assert client.response()
    assert server.exit() == 0
    assert path.exists()


def test_own_tcp_port(lab: Lab, loop: str) -> None:
    server = lab.run("--loop", loop, "--host", "127.0.0.1", "--port", "0", "shop:app").ready()
    host, _, port = server.manager.messages[-1].rpartition(" ")[2].partition(":")
    with Client((host, int(port))) as client:
        client.get("/")
        assert client.response()
    server.signal()
    assert server.exit() == 0


def test_address_is_shown_to_a_person(lab: Lab) -> None:
    path = lab.path / "own.sock"
    server = lab.run("--path", str(path), "shop:app", managed=False)
    server.said("\n")
    assert server.errors == f"aiosystemd-serve: serving on {path}\n"
    server.signal()
    assert server.exit() == 0


def test_stale_socket_is_replaced_and_live_one_is_not(lab: Lab) -> None:
    path = lab.path / "own.sock"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    first = lab.run("--path", str(path), "shop:app").ready()
    second = lab.run("--path", str(path), "shop:app")
    assert second.exit() == 1
    assert second.errors == f"aiosystemd-serve: cannot listen on {path}: already served by another process\n"
    with Client(str(path)) as client:
        client.get("/")
        assert client.response()
    first.signal()
    assert first.exit() == 0


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("file", "it exists and is not a socket"),
        ("none/own.sock", "No such file or directory"),
        ("x" * 120, "AF_UNIX path too long"),
    ],
)
def test_unusable_path_is_refused_and_kept(lab: Lab, name: str, reason: str) -> None:
    (lab.path / "file").write_text("precious")
    server = lab.run("--path", str(lab.path / name), "shop:app")
    assert server.exit() == 1
    assert server.errors == f"aiosystemd-serve: cannot listen on {lab.path / name}: {reason}\n"
    assert (lab.path / "file").read_text() == "precious"


def test_port_in_use_is_refused(lab: Lab) -> None:
    port = lab.tcp().getsockname()[1]
    server = lab.run("--port", str(port), "shop:app")
    assert server.exit() == 1
    assert server.errors == f"aiosystemd-serve: cannot listen on 127.0.0.1:{port}: already served by another process\n"


@pytest.mark.parametrize(
    ("arguments", "managed", "listening", "message"),
    [
        (["shop:app"], False, False, "nothing to listen on: give --path or --port, or start this from a systemd"),
        (["shop:app"], True, False, "systemd passed no socket: the service needs Requires=NAME.socket"),
        (["--port", "1", "shop:app"], True, True, "sockets were passed: leave out --path, --host and --port"),
        (["--port", "65536", "shop:app"], True, True, "'65536' is not a port (0 to 65535)"),
        (["--mode", "9", "shop:app"], True, True, "'9' is not an octal mode such as 0660"),
        (["--mode", "1777", "shop:app"], True, True, "'1777' is not an octal mode such as 0660"),
        (["--drain", "nan", "shop:app"], True, True, "'nan' is not a number of seconds"),
        (["--drain", "-1", "shop:app"], True, True, "'-1' is not a number of seconds"),
        (["--backlog", "many", "shop:app"], True, True, "'many' is not a whole number"),
        (["--forwarded-from", "proxy", "shop:app"], True, True, 'neither "unix" nor an address or network'),
        (["--forw", "unix", "shop:app"], True, True, "--forw"),
        ([], True, True, "MODULE:ATTRIBUTE"),
    ],
)
def test_wrong_usage(lab: Lab, arguments: list[str], managed: bool, listening: bool, message: str) -> None:  # noqa: FBT001
    server = lab.run(*arguments, managed=managed, listeners=[lab.unix()] if listening else [])
    assert server.exit() == 2
    assert message in server.errors
    assert "Traceback" not in server.errors


def test_missing_libraries_are_named(lab: Lab) -> None:
    """Where only the runtime is installed, as with `pip install aiosystemd` alone."""
    server = lab.run("shop:app", listeners=[lab.unix()], without=("systemd",))
    assert server.exit() == 1
    assert server.errors.startswith("aiosystemd-serve: started by systemd, but 'systemd' cannot be imported: run `pip")
    server = lab.run("--port", "0", "shop:app", managed=False, without=("aiohttp", "systemd"))
    assert server.exit() == 1
    assert server.errors.startswith("aiosystemd-serve: 'aiohttp' is not installed for ")


def test_systemd_python_is_not_needed_by_hand(lab: Lab) -> None:
    server = lab.run("--path", str(lab.path / "own"), "shop:app", managed=False, without=("systemd", "uvloop"))
    server.said("serving on")
    server.signal()
    assert server.exit() == 0


def test_wanted_uvloop_must_be_there(lab: Lab) -> None:
    server = lab.run("--loop", "uvloop", "shop:app", listeners=[lab.unix()], without=("uvloop",))
    assert server.exit() == 1
    assert server.errors.startswith("aiosystemd-serve: uvloop is not installed for ")


def test_runtime_loads_neither_tool_nor_model(lab: Lab) -> None:
    server = lab.run("loaded:make", listeners=[lab.unix()]).ready()
    loaded = set(server.left("modules").split())
    assert "aiosystemd.runtime.server" in loaded
    assert not loaded & {"typer", "pydantic", "click", "rich", "aiosystemd.model", "aiosystemd.cli"}
    assert not loaded & {"systemd.journal", "difflib"}
