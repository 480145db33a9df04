"""The kernel's own count of what waits on a listening socket."""

import socket
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from aiosystemd.status import queues
from aiosystemd.status.figures import cpu_seconds
from aiosystemd.status.queues import waiting as look


def listening(stack: ExitStack, family: int, address: str | tuple[str, int]) -> socket.socket:
    listener = stack.enter_context(socket.socket(family))
    listener.bind(address)
    listener.listen(16)
    for _ in range(3):
        stack.enter_context(socket.socket(family)).connect(listener.getsockname())
    return listener


def test_waiting_connections_are_counted() -> None:
    with ExitStack() as stack:
        # unix(7): a path of a socket is short, and one of a test may be long.
        path = f"{stack.enter_context(TemporaryDirectory())}/ä.sock"
        unix = listening(stack, socket.AF_UNIX, path)
        tcp = listening(stack, socket.AF_INET, ("127.0.0.1", 0))
        at = f"127.0.0.1:{tcp.getsockname()[1]}"
        assert (look()[path], look()[at]) == (3, 3)
        for listener in (unix, tcp):
            stack.enter_context(listener.accept()[0])
        assert (look()[path], look()[at]) == (2, 2)
    assert path not in look()
    assert at not in look()


@pytest.mark.skipif(not Path("/proc/net/if_inet6").exists(), reason="no IPv6 here")
def test_addresses_of_ipv6_stand_in_brackets() -> None:
    with ExitStack() as stack:
        tcp = listening(stack, socket.AF_INET6, ("::1", 0))
        assert look()[f"[::1]:{tcp.getsockname()[1]}"] == 3


def test_kernel_that_does_not_tell_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queues, "_NETLINK_SOCK_DIAG", 200)
    assert look() == {}


def test_processor_time_is_that_of_the_cgroup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aiosystemd.status.figures.CGROUPS", tmp_path)
    assert cpu_seconds("") is None
    assert cpu_seconds("/system.slice/web@1.service") is None
    second = tmp_path / "system.slice/web@1.service"
    second.mkdir(parents=True)
    (second / "cpu.stat").write_text("usage_usec 1500000\nuser_usec 1000000\nsystem_usec 500000\n")
    assert cpu_seconds("/system.slice/web@1.service") == 1.5
    first = tmp_path / "cpuacct/web@2.service"
    first.mkdir(parents=True)
    (first / "cpuacct.usage").write_text("2500000000\n")
    assert cpu_seconds("/web@2.service") == 2.5
