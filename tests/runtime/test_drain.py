"""No request is lost by a stop, whatever state its connection is in.

Each scenario also runs with plain ``web.run_app``, where it must show the loss: a test that cannot fail proves
nothing, and the day aiohttp mends one of these is worth knowing.
"""

import asyncio
import base64
import signal
import socket
import time

import pytest
import uvloop
from aiohttp import web

from aiosystemd.runtime.drain import Drain, Limits, Runner
from aiosystemd.runtime.forwarded import Trust
from aiosystemd.runtime.responses import Responses
from aiosystemd.runtime.sites import Sites
from tests.runtime.lab import Client, Lab, MakeServer, Response

CLOSE_WITH_CODE = 0x88


class Ours:
    """The scenario with the runtime: the request must be kept."""

    keeps = True

    def __init__(self, lab: Lab, loop: str) -> None:
        self.server = lab.run("--loop", loop, "--idle", "60", "--drain", "60", "shop:app", listeners=[lab.unix()])

    def stop(self) -> None:
        self.server.stop()


class Stock:
    """The scenario with ``web.run_app`` of the installed aiohttp: the request is lost."""

    keeps = False

    def __init__(self, lab: Lab, loop: str) -> None:
        self.server = lab.run(
            "shop:documented", loop, listeners=[lab.unix()], stock=True, environment={"HOLD_SHUTDOWN": "1"}
        )

    def stop(self) -> None:
        self.server.signal()
        self.server.saw("shutdown")


@pytest.fixture(params=[Ours, Stock])
def scenario(request: pytest.FixtureRequest, lab: Lab, loop: str) -> Ours | Stock:
    made: Ours | Stock = request.param(lab, loop)
    assert made.server.ask("/").body == b"hello"
    return made


def says_close(response: Response | None) -> bool:
    return response is not None and response.header("Connection") == "close"


def test_response_to_running_request_says_close(scenario: Ours | Stock) -> None:
    """Runtime facts E1: or the proxy keeps the connection and may send on it while it is closed."""
    with scenario.server.client() as client:
        client.get("/hold")
        scenario.server.saw("begun")
        scenario.stop()
        scenario.server.release("release")
        scenario.server.release("release_shutdown")
        response = client.response()
        assert response
        assert response.body == b"held"
        assert says_close(response) is scenario.keeps
        assert client.ended()
    assert scenario.server.exit() == 0


def test_half_sent_body_arrives(scenario: Ours | Stock) -> None:
    """E2: the rest of an upload is read, not thrown away."""
    body = bytes(range(256)) * 1200
    with scenario.server.client() as client:
        client.send(f"POST /echo HTTP/1.1\r\nHost: shop.example\r\nContent-Length: {len(body)}\r\n\r\n")
        client.send(body[:1000])
        scenario.server.saw("begun")
        scenario.stop()
        client.send(body[1000:])
        scenario.server.release("release_shutdown")
        response = client.response()
        assert (response is not None and response.body == body) is scenario.keeps
        assert says_close(response) is scenario.keeps
        assert client.ended()
    assert scenario.server.exit() == 0


def test_request_on_idle_connection_is_answered(scenario: Ours | Stock) -> None:
    """E3: the proxy may use a connection until it knows better."""
    with scenario.server.client() as client:
        client.get("/")
        first = client.response()
        assert first
        assert first.header("Connection") is None
        scenario.stop()
        client.get("/")
        scenario.server.release("release_shutdown")
        assert says_close(client.response()) is scenario.keeps
        assert client.ended()
    assert scenario.server.exit() == 0


def test_first_request_of_accepted_connection_is_answered(scenario: Ours | Stock) -> None:
    """E5: a proxy that has connected sends its request a moment later."""
    with scenario.server.client() as client:
        assert scenario.server.ask("/").status == 200  # Connected later, so the first is accepted as well.
        scenario.stop()
        client.get("/")
        scenario.server.release("release_shutdown")
        assert says_close(client.response()) is scenario.keeps
        assert client.ended()
    assert scenario.server.exit() == 0


def upgrade(client: Client, path: str = "/websocket") -> None:
    key = base64.b64encode(bytes(16)).decode()
    client.get(
        path, "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {key}"
    )
    assert "101" in client.head()[0]


def frame(client: Client) -> tuple[int, bytes]:
    """Return first byte and payload of a short frame."""
    head = client.exactly(2)
    return head[0], client.exactly(head[1])


def masked(opcode: int, payload: bytes) -> bytes:
    return bytes([0x80 | opcode, 0x80 | len(payload), 0, 0, 0, 0]) + payload


def test_websocket_is_closed_by_handshake(scenario: Ours | Stock) -> None:
    """E4: the peer's answer to the Close frame reaches the handler."""
    with scenario.server.client() as client:
        upgrade(client)
        client.send(masked(1, b"hi"))
        assert frame(client) == (0x81, b"hi")
        scenario.stop()
        scenario.server.release("release_shutdown")
        first, code = frame(client)
        assert first == CLOSE_WITH_CODE
        assert int.from_bytes(code, "big") == (1012 if scenario.keeps else 1001)
        if not scenario.keeps:
            assert client.ended()  # Without waiting for the answer.
            return
        client.send(masked(8, (4321).to_bytes(2, "big") + b"bye"))
        assert scenario.server.left("close_code") == "4321"
    assert scenario.server.exit() == 0


# What follows concerns the runtime alone.


def test_every_kind_of_response_says_close(make_server: MakeServer) -> None:
    """Sub-applications, HTTP exceptions, 404, failures, files, streams: nothing escapes the mark."""
    server = make_server("--idle", "60").ready()
    paths = ["/below/", "/below/nowhere", "/nowhere", "/fail", "/file", "/stream", "/hold?raise=1", "/below/hold"]
    clients = [server.client() for _ in paths]
    assert server.ask("/").status == 200
    server.release("release")
    server.stop()
    for path, client in zip(paths, clients, strict=True):
        with client:
            client.get(path)
            head = client.head()
            assert [line for line in head if line.lower().startswith("connection:")] == ["Connection: close"], path
    assert server.exit() == 0
    assert "handler failed" in server.errors


def test_keep_alive_before_stop_is_left_alone(make_server: MakeServer) -> None:
    server = make_server().ready()
    with server.client() as client:
        for _ in range(3):
            client.get("/")
            response = client.response()
            assert response
            assert response.header("Connection") is None


def test_stream_begun_before_stop_ends_whole(make_server: MakeServer) -> None:
    server = make_server().ready()
    with server.client() as client:
        client.get("/stream?hold=1")
        server.saw("begun")
        server.stop()
        server.release("release")
        client.head()
        assert client.exactly(21) == b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"
    assert server.exit() == 0
    assert server.errors == ""


def test_connections_during_restart_are_all_served(lab: Lab, make_server: MakeServer, loop: str) -> None:
    """Whether the old process still accepts them or they wait in the queue for the next one."""
    first = make_server().ready()
    first.signal()
    clients = [first.client() for _ in range(50)]
    for client in clients:
        client.get("/", "Connection: close")
    assert first.exit() == 0
    clients.append(first.client())
    clients[-1].get("/", "Connection: close")
    lab.run("--loop", loop, "shop:app", listeners=first.listeners)
    for client in clients:
        with client:
            response = client.response()
            assert response
            assert response.body == b"hello"


def test_connection_accepted_in_the_last_turn_is_served(lab: Lab, loop: str) -> None:
    """The loop of asyncio accepts in one turn and makes a transport in the next; a server closed between loses it."""

    async def last_turn(listener: socket.socket) -> bytes:
        async def hello(_: web.Request) -> web.Response:
            return web.Response(text="hello")

        app = web.Application()
        app.router.add_get("/", hello)
        runner = Runner(app, handle_signals=False)
        drain = Drain(runner, Responses(app, Trust(())))
        await runner.setup()
        sites = Sites(runner, [listener], backlog=16)
        await sites.open()
        with Client(listener.getsockname()) as client:
            client.get("/", "Connection: close")
            await asyncio.sleep(0)  # the loop looks at the socket
            await asyncio.sleep(0)  # and accepts
            await drain.run(sites, Limits(10, 10, direct=False), lambda _: None, linger=True)
            await runner.cleanup()
            return client.exactly(12)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop if loop == "uvloop" else None) as runner:
        assert runner.run(last_turn(lab.unix())) == b"HTTP/1.1 200"


def test_new_connection_is_served_while_old_ones_are_left(make_server: MakeServer) -> None:
    """In the queue it would wait for as long as they take."""
    server = make_server("--idle", "60").ready()
    with server.client() as idle:
        idle.get("/")
        assert idle.response()
        server.stop()
        assert says_close(server.ask("/"))
    assert server.exit() == 0


def test_connection_queued_before_start_is_served(make_server: MakeServer) -> None:
    server = make_server()
    with server.client() as client:
        client.get("/")
        assert client.response()


def test_second_term_changes_nothing(make_server: MakeServer) -> None:
    server = make_server("--idle", "60").ready()
    with server.client() as busy, server.client() as idle:
        busy.get("/hold")
        server.saw("begun")
        idle.get("/")
        assert idle.response()
        server.stop()
        for _ in range(3):
            server.signal()
        server.manager.wait_for("STATUS=Draining: 2 connections")
        idle.get("/")
        assert says_close(idle.response())
        server.release("release")
        assert says_close(busy.response())
    assert server.exit() == 0
    assert server.errors == ""


def test_late_second_term_does_not_change_the_exit_status(make_server: MakeServer) -> None:
    server = make_server(app="starts:slow_exit").ready()
    server.signal()
    server.saw("exiting")
    server.signal()
    server.release("release")
    assert server.exit() == 0


def test_second_interrupt_ends_wait(make_server: MakeServer) -> None:
    server = make_server("--drain", "600", "--idle", "600").ready()
    with server.client() as client:
        client.get("/hold")
        server.saw("begun")
        server.signal(signal.SIGINT)
        server.manager.wait_for("STATUS=Draining: 1 connection")
        server.signal(signal.SIGINT)
        assert client.ended()
    assert server.exit() == 0


def test_deadline_ends_what_never_ends(make_server: MakeServer) -> None:
    server = make_server("--drain", "0.3", "--idle", "0.1").ready()
    with server.client() as client:
        client.get("/hold")
        server.saw("begun")
        server.signal()
        assert client.ended()
    assert server.exit() == 0
    assert "cutting connections, 1 still" in server.errors


def test_cancellation_that_a_hook_lets_out_cuts_no_request_and_is_no_failure(make_server: MakeServer) -> None:
    server = make_server("--idle", "0.1", app="stubborn:app").ready()
    with server.client() as client:
        client.get("/slow")
        server.saw("begun")
        server.signal()
        server.saw("cancelled")
        server.release("release")
        response = client.response()
        assert response
        assert response.body == b"slow"
    assert server.exit() == 0


def test_thread_that_never_ends_is_named_and_left(lab: Lab) -> None:
    """The interpreter joins its threads, so systemd would have to kill it without a word."""
    server = lab.run("--drain", "0.1", "--stop", "2", "starts:leaves_thread", listeners=[lab.unix()]).ready()
    server.signal()
    assert server.exit() == 1
    assert "Timeout (0:00:01" in server.errors
    assert "concurrent/futures/thread.py" in server.errors


def test_idle_connection_does_not_outlast_deadline(make_server: MakeServer) -> None:
    server = make_server("--drain", "0.3", "--idle", "0.1").ready()
    with server.client() as client:
        client.get("/")
        assert client.response()
        server.signal()
        assert client.ended()
    assert server.exit() == 0


def test_without_a_proxy_idle_connections_are_closed_and_requests_answered(make_server: MakeServer, loop: str) -> None:
    server = make_server("--loop", loop, "--direct", "--drain", "60", "--stop", "70", "--idle", "0.1").ready()
    with server.client() as idle, server.client() as new, server.client() as busy:
        idle.get("/")
        assert idle.response()
        busy.get("/hold")
        server.saw("begun")
        server.signal()
        assert idle.ended()
        assert new.ended()
        server.release("release")
        assert says_close(busy.response())
    assert server.exit() == 0


def test_without_a_proxy_who_has_just_connected_is_answered(make_server: MakeServer, loop: str) -> None:
    server = make_server("--loop", loop, "--direct", "--drain", "60", "--stop", "70", "--idle", "0.1").ready()
    with server.client() as new:
        server.stop()
        time.sleep(0.5)
        new.get("/")
        assert says_close(new.response())
    assert server.exit() == 0


def test_shutdown_hooks_run_once_after_proxy_is_idle(make_server: MakeServer) -> None:
    server = make_server("--idle", "0.3").ready()
    with server.client() as idle, server.client() as busy:
        idle.get("/")
        assert idle.response()
        busy.get("/hold")
        server.saw("begun")
        server.stop()
        assert not (server.lab / "shutdown").exists()
        idle.get("/")
        assert says_close(idle.response())
        server.saw("shutdown")
        server.release("release")
        assert says_close(busy.response())
    assert server.exit() == 0
    assert server.left("shutdown") == "x"
    assert server.left("cleanup") == "x"


@pytest.mark.parametrize("stage", ["SHUTDOWN", "CLEANUP"])
def test_failing_hook_costs_no_request(make_server: MakeServer, stage: str) -> None:
    server = make_server("--idle", "0.1", **{f"FAIL_{stage}": "1"}).ready()
    with server.client() as client:
        client.get("/hold")
        server.saw("begun")
        server.stop()
        if stage == "SHUTDOWN":
            server.saw("shutdown")
        server.release("release")
        assert says_close(client.response())
    assert server.exit() == 1
    assert "RuntimeError" in server.errors
    assert server.left("cleanup") == "x"


def test_hanging_shutdown_hook_is_given_up(make_server: MakeServer) -> None:
    server = make_server("--drain", "0.3", HOLD_SHUTDOWN="1").ready()
    server.signal()
    assert server.exit() == 1
    assert "a shutdown hook failed" in server.errors
    assert server.left("cleanup") == "x"


def test_websocket_that_does_not_answer_is_cut(make_server: MakeServer) -> None:
    server = make_server("--drain", "2").ready()
    with server.client() as client:
        upgrade(client, "/deaf")
        assert frame(client) == (0x81, b"tick")
        server.stop()
        while not client.ended():
            pass
    assert server.exit() == 0


def test_websocket_opened_during_drain_is_closed_too(make_server: MakeServer) -> None:
    server = make_server("--idle", "60").ready()
    with server.client() as client:
        assert server.ask("/").status == 200
        server.stop()
        upgrade(client)
        assert frame(client) == (CLOSE_WITH_CODE, (1012).to_bytes(2, "big"))
        client.send(masked(8, (1012).to_bytes(2, "big")))
        assert server.left("close_code") == "1012"
    assert server.exit() == 0


def test_streaming_handler_learns_of_stop(make_server: MakeServer) -> None:
    server = make_server("--idle", "60", app="events:app").ready()
    with server.client() as client:
        client.get("/below/events")
        server.saw("begun")
        server.stop()
        assert "200" in client.head()[0]
        assert client.exactly(14) == b"4\r\ndone\r\n0\r\n\r\n"
    assert server.exit() == 0


def test_stop_is_told(make_server: MakeServer) -> None:
    server = make_server().ready()
    with server.client() as client:
        client.get("/hold")
        server.saw("begun")
        server.signal()
        assert "STOPPING=1\nSTATUS=Draining" in server.manager.wait_for("STATUS=Draining: 1 connection")
        server.release("release")
        assert client.response()
    assert server.exit() == 0
