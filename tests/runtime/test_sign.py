"""An instance that cannot start sends its clients to the others, and takes them back when it can."""

import signal
import socket
from collections.abc import Callable
from itertools import takewhile

import pytest

from tests.runtime.lab import Client, Lab, Server


def connect(listener: socket.socket) -> socket.socket | None:
    """Return a connection, or None where the kernel refuses it at once with EAGAIN, upon which nginx moves on."""
    client = socket.socket(socket.AF_UNIX)
    client.setblocking(False)  # noqa: FBT003
    try:
        client.connect(listener.getsockname())
    except BlockingIOError:
        client.close()
        return None
    return client


MARK = "FDSTORE=1\nFDNAME=starting"
UNMARK = "FDSTOREREMOVE=1\nFDNAME=starting"


class Instance:
    """One instance over several starts: its socket and its descriptor store, as systemd keeps them."""

    def __init__(self, lab: Lab, loop: str) -> None:
        self.listener = lab.unix()
        self._lab = lab
        self._loop = loop
        self._stored: list[tuple[int, str]] = []

    def start(self, app: str) -> Server:
        server = self._lab.run("--loop", self._loop, app, listeners=[self.listener], descriptors=self._stored)
        if not self._stored:
            server.manager.wait_for(MARK)
            self._stored = [(server.manager.descriptors[0], "starting")]
        return server


@pytest.fixture
def instance(lab: Lab, loop: str) -> Instance:
    return Instance(lab, loop)


def places(listener: socket.socket) -> int:
    """Return how many clients get a place in the queue, and leave them there; more than three count as three."""
    waiting = [client for client in takewhile(bool, (connect(listener) for _ in range(3))) if client]
    for client in waiting:
        client.close()
    return len(waiting)


def served(client: Client) -> bool:
    response = client.response()
    return response is not None and response.body == b"hello"


def turned_away(client: Client) -> bool:
    return client.response() is None


def test_clients_queued_at_failure_are_served_by_next_start(instance: Instance) -> None:
    """One failure, of a database that was not up yet perhaps, costs no request."""
    with Client(instance.listener.getsockname()) as one, Client(instance.listener.getsockname()) as two:
        one.get("/")
        broken = instance.start("broken:app")
        assert broken.exit() == 1
        assert UNMARK not in broken.manager.messages
        assert connect(instance.listener) is None
        two.get("/")
        mended = instance.start("starts:steps")
        mended.saw("holding")
        assert connect(instance.listener) is None
        mended.release("release")
        assert served(one)
        assert served(two)
    assert mended.ready().ask("/").body == b"hello"
    assert UNMARK in mended.manager.messages


def test_crash_loop_turns_clients_away_once_and_then_holds_one(instance: Instance) -> None:
    with Client(instance.listener.getsockname()) as one, Client(instance.listener.getsockname()) as two:
        for client in (one, two):
            client.get("/")
        for _ in range(2):
            assert instance.start("broken:app").exit() == 1
            assert connect(instance.listener) is None
        assert instance.start("broken:app").exit() == 1
        assert turned_away(one)
        assert turned_away(two)
    with Client(instance.listener.getsockname()) as waiting:
        waiting.get("/")
        for _ in range(2):
            assert connect(instance.listener) is None
            assert instance.start("broken:app").exit() == 1
        instance.start("shop:app")
        assert served(waiting)


def test_client_that_gives_up_leaves_the_sign_hanging(instance: Instance) -> None:
    """A closed connection leaves the queue only when it is accepted."""
    assert instance.start("broken:app").exit() == 1
    assert places(instance.listener) == 1
    assert places(instance.listener) == 0


def test_instance_that_is_alone_hangs_no_sign(lab: Lab) -> None:
    """Nobody else could serve its clients: they wait for the next start."""
    listener = lab.unix()
    broken = lab.run("--alone", "broken:app", listeners=[listener])
    assert broken.exit() == 1
    assert MARK not in broken.manager.messages
    assert places(listener) > 1


def test_killed_start_is_followed_by_sign(instance: Instance, lab: Lab) -> None:
    """A start that hangs is killed by systemd, and can do nothing about its clients."""
    killed = instance.start("starts:steps")
    killed.saw("holding")
    killed.signal(signal.SIGKILL)
    killed.exit()
    assert places(instance.listener) > 1
    (lab.path / "holding").unlink()
    again = instance.start("starts:steps")
    again.saw("holding")
    assert connect(instance.listener) is None
    again.release("release")
    assert again.ready().ask("/").status == 200


@pytest.mark.parametrize("app", ["starts:steps", "starts:blocks"])
def test_start_called_off_by_a_person_hangs_no_sign(instance: Instance, app: str) -> None:
    server = instance.start(app)
    server.saw("holding")
    server.signal()
    assert server.exit() == 0
    assert server.manager.messages[-1] == UNMARK
    client = connect(instance.listener)
    assert client
    client.close()


def test_successful_start_hangs_no_sign(instance: Instance) -> None:
    with Client(instance.listener.getsockname()) as queued:
        queued.get("/")
        server = instance.start("shop:app").ready()
        assert queued.response()
        ready = next(number for number, text in enumerate(server.manager.messages) if text.startswith("READY=1"))
        assert server.manager.messages.index(UNMARK) < ready
    server.signal()
    assert server.exit() == 0
    client = connect(instance.listener)
    assert client
    client.close()


def unmanaged(lab: Lab) -> socket.socket:
    listener = lab.unix()
    assert lab.run("broken:app", listeners=[listener], managed=False).exit() == 1
    return listener


def tcp(lab: Lab) -> socket.socket:
    listener = lab.tcp()
    server = lab.run("broken:app", listeners=[listener])
    assert server.exit() == 1
    assert MARK not in server.manager.messages
    return listener


@pytest.mark.parametrize("failed", [unmanaged, tcp])
def test_sign_is_for_managed_unix_sockets_only(lab: Lab, failed: Callable[[Lab], socket.socket]) -> None:
    listener = failed(lab)
    for _ in range(3):
        Client(listener.getsockname()).socket.close()
