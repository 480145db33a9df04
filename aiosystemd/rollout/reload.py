"""A reload that is held: the new process serves, and becomes the main one when it has proved itself."""

from contextlib import suppress
from typing import Final

from aiosystemd.control import Control, ControlError, Counts, Event, Status
from aiosystemd.rollout.instance import Instance, look
from aiosystemd.rollout.watch import watch
from aiosystemd.rollout.work import Failed, Interrupted, Work
from aiosystemd.systemctl import Command, SystemctlError, run

_REVERT: Final = 10.0
"""Seconds that an instance has to end a reload that is not wanted."""


def held_reload(work: Work, instance: Instance) -> None:
    """Put new code in place of the old.

    Raises:
        Failed: the old process serves on.
        Interrupted: the same.

    """
    try:
        with Control(work.deployment.name, instance.name) as control:
            _Reload(work, instance, control).run()
    except ControlError as error:
        raise Failed(str(error)) from None


class _Reload:
    def __init__(self, work: Work, instance: Instance, control: Control) -> None:
        self._work = work
        self._instance = instance
        self._control = control
        self._event: Event | None = None
        self._lost = ""

    def run(self) -> None:
        # First: from here on a new process waits for our word, and does not get it if we are gone.
        self._control.order("hold")
        with Command(self._work.loop, "reload", self._instance.service.name) as self._command:
            self._work.loop.watch(self._control.fileno(), self._hear)
            try:
                new = self._proved()
            except (Failed, Interrupted) as error:
                self._revert(str(error) or "the rollout was interrupted")
                raise
            finally:
                self._work.loop.forget(self._control.fileno())
            self._control.order("commit")
            self._end(new)

    def _proved(self) -> int:
        """Return the number of the new process once it has proved itself."""
        new = self._ready()
        self._say(f"process {new} has started and gets the requests, process {self._instance.pid} stands by")
        watch(self._work, self._instance.name, self._counts, self._ended)
        return new

    def _ready(self) -> int:
        """Wait until the new process serves, and return its number."""
        seconds = self._work.options.timeout
        if not self._work.until(lambda: self._event or self._lost or self._command.status is not None, seconds):
            raise Failed(f"the new process was not ready within {seconds:g} s")
        if why := self._ended():
            raise Failed(why)
        if self._event is None:
            raise Failed(self._why() if self._command.status else "was reloaded by somebody else")
        return self._event.pid

    def _hear(self) -> None:
        try:
            self._event = self._control.event()
        except ControlError as error:
            self._lost = str(error)
            self._work.loop.forget(self._control.fileno())

    def _ended(self) -> str:
        if self._event and self._event.event == "failed":
            return self._event.why or "the new process failed"
        return f"the old process {self._lost}" if self._lost else ""

    def _counts(self) -> Counts:
        return self._status().successor or Counts(pid=0)

    def _status(self) -> Status:
        try:
            with Control(self._work.deployment.name, self._instance.name) as control:
                return control.status()
        except ControlError as error:
            raise Failed(f"the old process {error}") from None

    def _why(self) -> str:
        """Return why the reload failed, as the instance says, or else systemctl."""
        return self._status().reload_error or self._command.words or "the reload failed"

    def _end(self, new: int) -> None:
        """Wait for the end of the reload, from which there is no way back."""
        seconds = self._work.options.timeout
        if not self._work.until(lambda: self._command.status is not None, seconds, signals=2):
            raise Failed(f"the new process was not made the main one within {seconds:g} s")
        if self._command.status:
            raise Failed(self._why())
        name = self._instance.name
        found = look(self._work.deployment.name, [name])[name].pid
        if found != new:
            raise Failed(f"process {found} is the main one, not the new process {new}")
        self._say(f"the new version serves, process {new}")

    def _revert(self, why: str) -> None:
        """Have the old process serve on, and wait for the end of the reload."""
        if self._event and self._event.event == "ready":
            with suppress(ControlError):  # Nobody is there any more, and the reload ends with that.
                self._control.order("revert", why)
        elif not self._ended():
            self._cut()
        if not self._has_ended():
            self._cut()
            self._has_ended()

    def _cut(self) -> None:
        """End the command of ExecReload=; an instance calls a reload off when nobody waits for it (systemctl(1))."""
        try:
            run("kill", "--kill-whom=control", self._instance.service.name)
        except SystemctlError as error:
            self._say(f"the reload cannot be ended: {error}")

    def _has_ended(self) -> bool:
        return self._work.until(lambda: self._command.status is not None, _REVERT, signals=2)

    def _say(self, text: str) -> None:
        self._work.say(self._instance.name, text)
