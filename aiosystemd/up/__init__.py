"""``aiosystemd up``: a deployment in the foreground, without root or systemd."""

import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Final

from aiosystemd.ask import Address, Question
from aiosystemd.build import Build
from aiosystemd.host import Host
from aiosystemd.loop import Loop
from aiosystemd.probe import program
from aiosystemd.up.instance import Instance, State
from aiosystemd.up.output import Output
from aiosystemd.up.place import ADDRESS, Place, place
from aiosystemd.up.proxy import Nginx, configured
from aiosystemd.up.sockets import check_port, listeners

_PROXY_FIRST: Final = 2.0
"""Seconds for which the instances still take what nginx had accepted before the stop. Not longer, although an upload
may be: nginx waits for open websockets too, which the instances close as soon as they are told to stop."""

_PROXY_LAST: Final = 5.0
"""Seconds between SIGTERM and SIGKILL for nginx, when no instance is left that it could wait for."""


def run(built: Build, host: Host, port: int, *, once: bool) -> int:
    """Run the deployment until it is told to stop, or with ``once`` until each instance has answered.

    Returns the exit status: 1 when something did not start, did not answer well or did not stop cleanly.
    Raises ProblemsError when there is nowhere to run it.
    """
    nginx = program("nginx") if built.deployment.proxy.kind == "nginx" else None
    with Loop() as loop, place(built, host, port, nginx) as here:
        with _running(built, host, here, loop, nginx) as up:
            good = up.live(once=once)
        return 0 if good else 1


@contextmanager
def _running(built: Build, host: Host, here: Place, loop: Loop, nginx: str | None) -> Iterator["Up"]:
    d = here.deployment
    output = Output([*(f"{d.name}@{name}" for name in here.names), *(["nginx"] if nginx else [])])
    with ExitStack() as stack:
        if nginx:
            check_port(here)
        instances = []
        for name, listener in zip(here.names, listeners(here), strict=True):
            instances.append(Instance(name, here, listener, loop, output))
            stack.callback(instances[-1].close)
        for note in here.notes:
            output.say(note)
        proxy = Nginx(configured(nginx, here, host, built.file.name), loop, output) if nginx else None
        if proxy:
            stack.callback(proxy.close)
        yield Up(here, loop, output, instances, proxy)


class Up:
    """A deployment that runs."""

    def __init__(self, here: Place, loop: Loop, output: Output, instances: list[Instance], proxy: Nginx | None) -> None:
        self._here, self._loop, self._output = here, loop, output
        self._instances, self._proxy = instances, proxy
        self._questions: list[Question] = []
        self._once = self._stopping = False
        loop.on_signal = self._signalled

    def live(self, *, once: bool) -> bool:
        """Start, serve, stop; return whether all went well."""
        self._once = once
        for instance in self._instances:
            instance.start()
        answered = self._until(self._is_up) and self._ask_everyone()
        if not once:
            self._until(lambda: False)
        proxied = self._proxy is None or not self._proxy.ended
        stopped = self._stop()
        return stopped and proxied and (answered or not once)

    def _signalled(self, number: int) -> None:
        if self._stopping and number == signal.SIGINT:
            self._output.say("killed")
            for each in self._processes():
                each.kill()
        elif not self._stopping:
            self._output.say(f"{signal.Signals(number).name}: requests are answered first, Ctrl-C ends all at once")
        self._stopping = True

    def _processes(self) -> list[Instance | Nginx]:
        return [*self._instances, *([self._proxy] if self._proxy else [])]

    def _is_up(self) -> bool:
        ready = all(instance.state is State.READY for instance in self._instances)
        return ready and (self._proxy is None or self._proxy.listens)

    def _is_over(self) -> bool:
        lost = self._output.closed or (self._proxy is not None and self._proxy.ended)  # Nobody reads, or can ask.
        return self._stopping or lost or (self._once and any(instance.failures for instance in self._instances))

    def _until(self, condition: Callable[[], bool]) -> bool:
        """Wait for ``condition``; return whether it came before the end."""
        return self._wait(lambda: condition() or self._is_over()) and not self._is_over()

    def _wait(self, condition: Callable[[], bool], seconds: float = math.inf) -> bool:
        end = time.monotonic() + seconds
        while not condition():
            left = end - time.monotonic()
            if left <= 0:
                return False
            self._loop.turn([*self._processes(), *self._questions], left)
        return True

    def _ask_everyone(self) -> bool:
        """Show what each instance and the proxy answer; return whether all answers were good."""
        good = True
        for name, address, host in self._addresses():
            good = self._ask(name, address, host) and good
            if self._is_over():
                return False
        self._output.say(f"serving on {', '.join(self._urls())} (Ctrl-C stops)")
        return good

    def _ask(self, name: str, address: Address, host: str) -> bool:
        question = Question(self._loop, address, host, self._here.deployment.health)
        self._questions = [question]
        self._until(lambda: bool(question.answer))
        self._questions = []
        question.close()
        if question.answer:
            self._output.say(f"{name} {question.answer}")
        return question.good

    def _addresses(self) -> Iterator[tuple[str, Address, str]]:
        for instance in self._instances:
            address: Address = instance.listener.getsockname()
            yield instance.name, address, "localhost" if isinstance(address, str) else f"{address[0]}:{address[1]}"
        if self._proxy:
            yield self._proxy.name, (ADDRESS, self._here.port), f"{ADDRESS}:{self._here.port}"

    def _urls(self) -> Iterator[str]:
        ports = range(self._here.port, self._here.port + (1 if self._proxy else len(self._instances)))
        return (f"http://{ADDRESS}:{port}/" for port in ports)

    def _stop(self) -> bool:
        """Stop everything; return whether every instance ended well."""
        self._stopping = True
        if self._proxy:
            # First, or it would pass requests to instances that take none any more.
            self._proxy.quit()
            self._wait(self._proxy_has_ended, _PROXY_FIRST)
        for instance in self._instances:
            instance.stop()
        self._wait(lambda: all(instance.state is State.STOPPED for instance in self._instances))
        if self._proxy:
            self._proxy.terminate(_PROXY_LAST)
            self._wait(self._proxy_has_ended)
        return not any(instance.killed for instance in self._instances)

    def _proxy_has_ended(self) -> bool:
        return self._proxy is None or self._proxy.ended
