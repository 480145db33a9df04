"""What the tool asks of an instance: how it is, to let it judge a new process, and to close for a restart."""

import base64
import json
import os
import resource
import selectors
import signal
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from aiosystemd import contract
from tests.runtime.lab import PATIENCE, Client, Lab, Response, eventually
from tests.runtime.service import MakeService, Orders, Reload, Service, ended


@pytest.fixture
def service(make_service: MakeService) -> Service:
    return make_service()


one_loop = pytest.mark.parametrize("loop", ["asyncio"], indirect=True)
"""For what the loop has no part in."""

OK = {"ok": True}


def answered(client: Client) -> Response:
    response = client.response()
    assert response
    return response


# The socket, and what is asked of it.


@one_loop
def test_control_socket_is_the_only_thing_in_the_runtime_directory(service: Service) -> None:
    """That directory has mode 0700, so only the service's user and root may give orders."""
    service.reloaded()
    assert [path.name for path in service.runtime.iterdir()] == [contract.CONTROL]
    found = (service.runtime / contract.CONTROL).stat()
    assert stat.S_ISSOCK(found.st_mode)
    assert service.status()["pid"] == service.who()["pid"]


def test_instance_without_a_runtime_directory_takes_no_orders_and_serves(lab: Lab) -> None:
    missing = str(lab.path / "missing")
    server = lab.run("shop:app", listeners=[lab.unix()], environment={"RUNTIME_DIRECTORY": missing}).ready()
    assert server.ask("/").status == 200
    server.signal()
    assert server.exit() == 0
    assert server.errors == f"no orders are taken in {missing}: No such file or directory\n"


@one_loop
def test_status_tells_what_was_served(service: Service) -> None:
    before = service.status()
    assert (before["requests"], before["errors"], before["connections"]) == (0, 0, 0)
    for path, status in (("/", 200), ("/nowhere", 404), ("/fail", 500), ("/unavailable", 503), ("/below/fail", 500)):
        assert service.server.ask(path).status == status
    with service.client() as client:
        client.get("/")
        assert answered(client).status == 200
        after = service.status()
        assert (after["requests"], after["errors"], after["connections"]) == (6, 3, 1)
    assert (after["pid"], after["state"], after["since"]) == (service.main, "serving", before["since"])
    assert (after["directory"], after["successor"], after["reload_error"]) == (service.who()["directory"], None, "")


MALFORMED = (
    b'{"do": "dance"}',
    b'{"do": null}',
    b'{"do": ["status"]}',
    b'{"do": {}}',
    b'{"order": "status"}',
    b'{"do": "reload"}',
    b'{"do": "__init__"}',
    b'{"do": "all"}',
    b'{"do": "accept"}',
    b'{"do": "commit"}',
    b'{"do": "revert", "why": 7}',
)
NONSENSE = (b"\0", b"{", b"[]", b"7", b'"status"', b"{}", b"\xff", b"[" * 100_000, b"x" * 150_000, b"9" * 5000)


def test_malformed_orders_get_an_error_and_harm_nothing(service: Service) -> None:
    with service.orders() as orders:
        for packet in MALFORMED:
            orders.send(packet)
            assert list(orders.hear()) == ["error"], packet
        assert orders.ask("status")["state"] == "serving"
    for packet in NONSENSE:
        with service.orders() as orders:
            orders.send(packet)
            assert orders.lost(), packet
    assert service.status()["state"] == "serving"
    assert service.who()["pid"] == service.main
    service.server.signal()
    assert service.server.exit() == 0
    assert service.server.errors == ""


def test_peers_that_say_and_read_nothing_keep_nobody_waiting(service: Service) -> None:
    with ExitStack() as stack:
        for _ in range(50):
            stack.enter_context(service.orders())
        deaf = stack.enter_context(service.orders())
        for _ in range(1000):
            # More answers than the kernel keeps for it.
            deaf.send(b'{"do": "status"}')
        assert service.status()["state"] == "serving"
        assert service.who()["pid"] == service.main
        service.server.signal()
        assert service.server.exit() == 0
    assert service.server.errors == ""


def test_orders_are_taken_again_after_the_process_ran_out_of_descriptors(service: Service) -> None:
    with ExitStack() as stack:
        in_use = len(list(Path(f"/proc/{service.main}/fd").iterdir()))
        resource.prlimit(service.main, resource.RLIMIT_NOFILE, (in_use + 3, in_use + 3))
        for _ in range(6):
            stack.enter_context(service.orders())
        service.server.said("an order cannot be taken: Too many open files")
    assert service.status()["state"] == "serving"
    assert service.who()["pid"] == service.main


# A new process that is held.


@contextmanager
def held(service: Service) -> Iterator[tuple[Orders, Reload, int]]:
    """Hold the new process of a reload."""
    with service.orders() as orders:
        assert orders.ask("hold") == OK
        reload = service.reload()
        event = orders.hear()
        assert event["event"] == "ready"
        new = event["pid"]
        assert isinstance(new, int)
        yield orders, reload, new


def goes_on(service: Service, why: str) -> None:
    """Check that the old process serves, alone, and is the main one."""
    status = service.status()
    assert (status["pid"], status["state"], status["successor"]) == (service.main, "serving", None)
    assert status["reload_error"] == why
    with service.client() as client:
        client.get("/who")
        response = answered(client)
        assert response.header("Connection") is None
        assert json.loads(response.body)["pid"] == service.main
    service.server.manager.wait_for(f"STATUS=Serving; the last reload failed: {why}")
    assert not any("MAINPID" in message for message in service.server.manager.messages)


def test_held_process_gets_the_clients_and_the_old_one_stays_the_main_one(make_service: MakeService) -> None:
    service = make_service(WATCHDOG_USEC="300000")
    manager = service.server.manager
    service.is_now("two")
    with service.client() as idle:
        idle.get("/")
        assert answered(idle).header("Connection") is None
        with held(service) as (orders, reload, new):
            assert {service.who()["pid"] for _ in range(10)} == {new}
            service.server.ask("/fail")
            idle.get("/who")
            response = answered(idle)
            assert json.loads(response.body)["pid"] == service.main
            assert response.header("Connection") == "close"
            eventually(
                lambda: service.status()["successor"] == {"pid": new, "requests": 11, "errors": 1, "connections": 0}
            )
            assert service.status()["pid"] == service.main
            at = len(manager.sent_by(service.main))
            eventually(lambda: "WATCHDOG=1" in manager.sent_by(service.main)[at:])
            eventually(lambda: "EXTEND_TIMEOUT_USEC=35000000" in manager.sent_by(service.main)[at:])
            assert manager.sent_by(new) == []
            assert reload.process.poll() is None
            assert orders.ask("commit") == OK
            assert reload.outcome() == (0, "")
    assert service.server.exit() == 0
    assert service.who()["pid"] == new
    assert service.status()["requests"] == 12
    assert manager.sent_by(new)[0].startswith("READY=1\n")


@pytest.mark.parametrize("end", ["revert", "without a reason", "hang up"])
def test_process_that_is_not_taken_answers_what_it_has_accepted(service: Service, end: str) -> None:
    with held(service) as (orders, reload, new):
        with service.hold("new") as busy, service.client() as idle:
            idle.get("/who")
            assert json.loads(answered(idle).body)["pid"] == new
            why = {
                "revert": "5 % of the responses are errors",
                "without a reason": "the rollout decided against it",
                "hang up": "the rollout ended before it had decided",
            }[end]
            if end == "revert":
                assert orders.ask("revert", why=why) == OK
            elif end == "without a reason":
                assert orders.ask("revert") == OK
            else:
                orders.socket.close()
            assert reload.outcome() == (1, f"aiosystemd-serve: not reloaded: {why}\n")
            if end != "hang up":
                assert orders.hear() == {"event": "failed", "why": why}
            goes_on(service, why)
            idle.get("/who")
            response = answered(idle)
            assert json.loads(response.body)["pid"] == new
            assert response.header("Connection") == "close"
            service.server.release("new_release")
            response = answered(busy)
            assert (response.body, response.header("Connection")) == (str(new).encode(), "close")
        assert ended(new) == 0
    assert service.server.processes() == {service.main}
    assert service.server.errors == ""


@one_loop
def test_next_reload_waits_for_a_process_that_was_not_taken(service: Service) -> None:
    with held(service) as (orders, first, new), service.hold("new") as busy:
        assert orders.ask("revert", why="no") == OK
        assert first.outcome()[0] == 1
        assert orders.hear()["event"] == "failed"
        reload = service.reload()
        service.server.messages_within(1.2)
        assert service.server.processes() == {service.main, new}
        service.server.release("new_release")
        assert answered(busy).status == 200
        assert orders.hear()["event"] == "ready"
        assert orders.ask("commit") == OK
        assert reload.outcome() == (0, "")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_held_process_that_ends_is_told_of_and_changes_nothing(
    make_service: MakeService, number: signal.Signals
) -> None:
    service = make_service("--start", "600")
    why = "the new process has ended" if number == signal.SIGKILL else "the new process was stopped"
    with held(service) as (orders, reload, new):
        os.kill(new, number)
        assert orders.hear() == {"event": "failed", "why": why}
        assert reload.outcome() == (1, f"aiosystemd-serve: not reloaded: {why}\n")
        assert ended(new) == (-number if number == signal.SIGKILL else 0)
        goes_on(service, why)
        assert orders.ask("commit") == {"error": "no new process waits for your word"}


@one_loop
def test_process_that_does_not_start_is_told_of(service: Service) -> None:
    service.is_now("fails in a hook")
    why = 'the start of "release:make" failed: OSError: no database'
    with service.orders() as orders:
        assert orders.ask("hold") == OK
        assert service.reload().outcome() == (1, f"aiosystemd-serve: not reloaded: {why}\n")
        assert orders.hear() == {"event": "failed", "why": why}
    goes_on(service, why)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_command_that_ends_while_the_process_is_held_calls_it_off(service: Service, number: signal.Signals) -> None:
    """The tool does so when a revert is not enough, systemd when its time is over."""
    with held(service) as (orders, reload, new):
        reload.process.send_signal(number)
        assert reload.outcome()[0] != 0
        assert orders.hear() == {"event": "failed", "why": "it was called off"}
        assert orders.ask("commit") == {"error": "no new process waits for your word"}
        assert ended(new) == 0
        goes_on(service, "it was called off")


def test_stop_while_a_process_is_held_ends_both_in_order(service: Service) -> None:
    with service.hold("old") as old, held(service) as (orders, reload, new), service.hold("new") as young:
        service.server.signal()
        assert reload.outcome() == (1, "aiosystemd-serve: not reloaded: the instance is being stopped\n")
        assert orders.hear() == {"event": "failed", "why": "it was called off"}
        service.server.release("old_release")
        assert answered(old).body == str(service.main).encode()
        service.server.messages_within(0.2)
        assert service.server.processes() == {service.main, new}
        service.server.release("new_release")
        assert answered(young).body == str(new).encode()
    assert ended(new) == 0
    assert service.server.exit() == 0
    assert service.server.errors == ""


def test_death_of_the_main_process_ends_the_held_one(service: Service) -> None:
    with held(service) as (orders, reload, new):
        service.server.signal(signal.SIGKILL)
        assert orders.lost()
        assert reload.outcome() == (1, "aiosystemd-serve: not reloaded: the running process has ended\n")
        assert ended(new) == 0


@one_loop
def test_one_rollout_at_a_time_decides_and_nobody_else(service: Service) -> None:
    with held(service) as (orders, reload, _), service.orders() as other:
        assert other.ask("hold") == {"error": "another rollout is under way"}
        for order in ("commit", "revert"):
            assert other.ask(order) == {"error": "no new process waits for your word"}
        assert service.reload().outcome() == (1, "aiosystemd-serve: not reloaded: another reload is under way\n")
        assert other.ask("close") == {"error": "a reload is under way"}
        assert reload.process.poll() is None
        assert orders.ask("revert", why="no") == OK
        assert reload.outcome()[0] == 1
        orders.socket.close()
        eventually(lambda: other.ask("hold") == OK)


@one_loop
def test_rollout_that_ends_while_the_process_starts_does_not_get_it(service: Service) -> None:
    """It was to judge it, and now nobody can."""
    service.is_now("hangs in a hook")
    with service.orders() as orders:
        assert orders.ask("hold") == OK
        assert orders.ask("commit") == {"error": "no new process waits for your word"}
        reload = service.reload()
        new = service.new_process()
        assert orders.ask("commit") == {"error": "no new process waits for your word"}
    service.status()
    service.server.release("go_on")
    why = "the rollout ended before it had decided"
    assert reload.outcome() == (1, f"aiosystemd-serve: not reloaded: {why}\n")
    assert ended(new) == -signal.SIGKILL
    goes_on(service, why)
    assert service.reloaded() != service.main


# The closed sign of an announced restart.


def connect(service: Service) -> socket.socket | None:
    """Return a connection, or None where the kernel refuses it at once with EAGAIN, upon which a proxy moves on."""
    client = socket.socket(socket.AF_UNIX)
    client.setblocking(False)  # noqa: FBT003
    try:
        client.connect(service.server.address)
    except BlockingIOError:
        client.close()
        return None
    return client


@contextmanager
def closed(service: Service) -> Iterator[tuple[Orders, socket.socket]]:
    """Close the instance, and take the only place in its queue."""
    with service.orders() as orders:
        assert orders.ask("close") == OK
        place = connect(service)
        assert place
        with place:
            yield orders, place


def test_closed_instance_refuses_everybody_at_once(service: Service) -> None:
    with service.client() as idle, service.hold("first") as busy:
        idle.get("/")
        assert answered(idle).header("Connection") is None
        with closed(service):
            assert [connect(service) for _ in range(5)] == [None] * 5
            assert service.status()["state"] == "closed"
            idle.get("/")
            assert answered(idle).header("Connection") == "close"
            service.server.release("first_release")
            assert answered(busy).header("Connection") == "close"


def test_client_in_the_way_of_the_sign_is_let_in(service: Service) -> None:
    with service.orders() as orders, service.client() as before:
        assert orders.ask("close") == OK
        before.get("/who")
        assert json.loads(answered(before).body)["pid"] == service.main
        for _ in range(3):
            with service.client() as client:
                client.get("/who")
                assert connect(service) is None
                assert orders.ask("accept") == OK
                response = answered(client)
                assert json.loads(response.body)["pid"] == service.main
                assert response.header("Connection") == "close"
        place = connect(service)
        assert place
        place.close()
        assert connect(service) is None


def test_clients_in_the_queue_when_it_closes_are_served(make_service: MakeService) -> None:
    # asyncio accepts as many at a time as the queue is long, and the kernel lets in one more.
    service = make_service("--backlog", "5")
    with service.orders() as orders:
        os.kill(service.main, signal.SIGSTOP)
        os.waitid(os.P_PID, service.main, os.WSTOPPED | os.WNOWAIT)
        orders.send(b'{"do": "close"}')
        clients = [service.client() for _ in range(6)]
        os.kill(service.main, signal.SIGCONT)
        assert orders.hear() == OK
        for client in clients:
            with client:
                client.get("/")
                assert answered(client).status == 200
        place = connect(service)
        assert place
        place.close()


def test_instance_opens_again_when_the_tool_is_gone(service: Service) -> None:
    with closed(service) as (orders, place):
        orders.socket.close()
        place.setblocking(True)  # noqa: FBT003
        place.settimeout(30)
        place.sendall(b"GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n")
        assert place.recv(12) == b"HTTP/1.1 200"
    assert service.status()["state"] == "serving"
    with service.client() as client:
        client.get("/")
        assert answered(client).header("Connection") is None
    with service.orders() as again:
        assert again.ask("close") == OK


def test_stop_of_a_closed_instance_loses_nothing(lab: Lab, service: Service, loop: str) -> None:
    with service.client() as idle, service.hold("first") as busy, closed(service) as (orders, place):
        service.server.stop()
        idle.get("/")
        assert answered(idle).header("Connection") == "close"
        service.server.release("first_release")
        assert answered(busy).header("Connection") == "close"
        assert connect(service) is None
        assert service.server.exit() == 0
        assert orders.lost()
        assert connect(service) is None
        place.setblocking(True)  # noqa: FBT003
        place.sendall(b"GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n")
        lab.run("--loop", loop, "shop:app", listeners=service.server.listeners).ready()
        place.settimeout(30)
        assert place.recv(12) == b"HTTP/1.1 200"
        assert service.server.ask("/").status == 200
    assert service.server.errors == ""


@one_loop
def test_closed_instance_refuses_other_orders(service: Service) -> None:
    with service.orders() as other:
        assert other.ask("accept") == {"error": "the instance is serving"}
        with closed(service):
            assert service.reload().outcome() == (1, "aiosystemd-serve: not reloaded: the instance is closed\n")
            for order in ("close", "hold"):
                assert other.ask(order) == {"error": "the instance is closed"}
            assert other.ask("status")["state"] == "closed"
    eventually(lambda: service.status()["state"] == "serving")


@one_loop
def test_instance_that_stops_refuses_orders(service: Service) -> None:
    with service.hold("first") as busy, service.orders() as orders:
        service.server.stop()
        for order in ("close", "hold", "accept"):
            assert orders.ask(order) == {"error": "the instance is draining"}
        assert orders.ask("status")["state"] == "draining"
        service.server.release("first_release")
        assert answered(busy).status == 200
    assert service.server.exit() == 0


# Websockets.

SERVICE_RESTART = b"\x88\x02" + (1012).to_bytes(2, "big")


def test_many_websockets_get_their_close_frames_one_after_another(service: Service) -> None:
    """Their clients come back, and not all are to come at once."""
    key = base64.b64encode(bytes(16)).decode()
    headers = ("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {key}")
    with ExitStack() as stack, selectors.DefaultSelector() as selector:
        clients = [stack.enter_context(service.client()) for _ in range(300)]
        for client in clients:
            client.get("/websocket", *headers)
        for client in clients:
            assert "101" in client.head()[0]
            selector.register(client.socket, selectors.EVENT_READ, client)
        reload, times = service.reload(), []
        while selector.get_map():
            readable = selector.select(PATIENCE)
            assert readable
            times.append(time.monotonic())
            for each, _ in readable:
                client = each.data
                assert client.exactly(4) == SERVICE_RESTART
                client.send(b"\x88\x82\0\0\0\0" + (1012).to_bytes(2, "big"))
                selector.unregister(client.socket)
        # All at once would take milliseconds.
        assert times[-1] - times[0] > 1
        assert reload.outcome() == (0, "")
        for client in clients:
            while not client.ended():
                pass
    assert service.server.exit() == 0
    assert service.server.errors == ""
