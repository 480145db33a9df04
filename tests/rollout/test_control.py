"""An instance that takes orders, or only pretends to."""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath

import pytest

from aiosystemd import scope
from aiosystemd.control import Control, ControlError

Serve = Callable[..., list[dict[str, str]]]


@pytest.fixture
def serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    """Return a function that has an instance give replies, one to each order, and returns the orders it got."""
    monkeypatch.setattr(scope, "_current", replace(scope.SYSTEM, run=PurePosixPath(tmp_path)))
    (tmp_path / "shop" / "1").mkdir(parents=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(tmp_path / "shop/1/control"))
        listener.listen()
        threads = []

        def start(*replies: list[bytes]) -> list[dict[str, str]]:
            orders: list[dict[str, str]] = []

            def run() -> None:
                connection, _ = listener.accept()
                with connection:
                    for packets in replies:
                        orders.append(json.loads(connection.recv(1 << 16)))
                        for packet in packets:
                            connection.send(packet)

            threads.append(threading.Thread(target=run))
            threads[-1].start()
            return orders

        yield start
        for thread in threads:
            thread.join()


COUNTS = {"pid": 7, "requests": 5, "errors": 1, "connections": 2}
STATUS = {**COUNTS, "state": "serving", "since": 1.5, "directory": "/srv", "successor": None, "reload_error": ""}


def test_status_is_read(serve: Serve) -> None:
    orders = serve([json.dumps({**STATUS, "successor": {**COUNTS, "pid": 8}}).encode()])
    with Control("shop", "1") as instance:
        found = instance.status()
    assert orders == [{"do": "status"}]
    assert (found.pid, found.requests, found.errors, found.directory, found.reload_error) == (7, 5, 1, "/srv", "")
    assert found.successor
    assert found.successor.pid == 8


def test_order_is_taken_and_events_are_kept_for_later(serve: Serve) -> None:
    orders = serve([b'{"event": "ready", "pid": 8}', b'{"ok": true}'], [b'{"event": "failed", "why": "x"}'])
    with Control("shop", "1") as instance:
        instance.order("hold")
        event = instance.event()
        assert (event.event, event.pid) == ("ready", 8)
        instance._send("commit")
        assert instance.event().why == "x"
    assert orders == [{"do": "hold"}, {"do": "commit"}]


def test_reason_of_a_revert_is_passed_on(serve: Serve) -> None:
    orders = serve([b'{"ok": true}'])
    with Control("shop", "1") as instance:
        instance.order("revert", "it answers 500\n\x1b[31m")
    assert orders == [{"do": "revert", "why": "it answers 500\n\x1b[31m"}]


def test_refusal_is_told(serve: Serve) -> None:
    serve([b'{"error": "the instance is draining"}'])
    with Control("shop", "1") as instance, pytest.raises(ControlError, match="refuses to hold: the instance is drain"):
        instance.order("hold")


@pytest.mark.parametrize(
    "packet",
    [
        b"no json",
        b"[]",
        b"null",
        b"\xff\xfe",
        b"[" * 60_000,
        b'{"pid": ' + b"9" * 5000 + b"}",
        json.dumps({**STATUS, "pid": -1}).encode(),
        json.dumps({**STATUS, "pid": True}).encode(),
        json.dumps({**STATUS, "requests": 1.5}).encode(),
        json.dumps({**STATUS, "requests": "5"}).encode(),
        json.dumps({**STATUS, "state": "fine"}).encode(),
        json.dumps({**STATUS, "directory": "x" * 5000}).encode(),
        json.dumps({**STATUS, "successor": 8}).encode(),
        json.dumps({**STATUS, "directory": "x" * (1 << 17)}).encode(),
    ],
)
def test_answer_that_makes_no_sense_is_told(serve: Serve, packet: bytes) -> None:
    serve([packet])
    with Control("shop", "1") as instance, pytest.raises(ControlError, match=r"^gives an answer that makes no sense$"):
        instance.status()


def test_end_of_an_instance_is_told(serve: Serve) -> None:
    serve([])
    with Control("shop", "1") as instance, pytest.raises(ControlError, match=r"^has ended$"):
        instance.status()


def test_instance_that_says_nothing_is_given_up(serve: Serve) -> None:
    orders = serve([], [])
    with Control("shop", "1", patience=0.05) as instance:
        with pytest.raises(ControlError, match=r"^gives no answer: timed out$"):
            instance.status()
        instance._send("status")  # Lets the other side end.
    assert orders


def test_instance_that_is_not_there_is_told(serve: Serve) -> None:
    del serve
    for name in ("2", "x" * 200):
        with pytest.raises(ControlError, match=r"^does not take orders: "):
            Control("shop", name)
