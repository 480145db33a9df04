"""What is known of one instance, put together: the state in a word, and figures per second from two looks."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Final, Literal

from aiosystemd.control import Counts, Status
from aiosystemd.rollout.instance import Instance, Unit
from aiosystemd.status.errors import Error
from aiosystemd.status.figures import Figures

Mood = Literal["good", "idle", "passing", "bad"]

_MOODS: Final[Mapping[str, Mood]] = {
    "running": "good",
    "asleep": "idle",
    "starting": "passing",
    "reloading": "passing",
    "closed": "passing",
    "draining": "passing",
    "stopping": "passing",
}
"""What each state means; every other one is bad."""


@dataclass(frozen=True, slots=True)
class Row:
    """One instance. What is not known is None."""

    instance: str
    state: str
    service: str
    """The service's state in systemd's words."""
    socket: str
    """The socket's."""
    fine: bool
    pid: int | None
    since: float | None
    """Time of day at which its process became the main one; without a process, at which it came into its state."""
    directory: str | None
    """Where its process runs, without symbolic links."""
    release: str | None
    """The name of that directory, where the deployment's is a link to it."""
    next_release: str | None
    """The name of what the link leads to now."""
    restarts: int
    memory: int | None
    memory_max: int | None
    """Bytes, both."""
    cpu: float | None
    """Percent of one processor."""
    connections: int | None
    queue: int | None
    """Connections that wait on its socket."""
    requests: int | None
    errors: int | None
    """Responses with a status of 500 or more; both since the process was started."""
    requests_rate: float | None
    errors_rate: float | None
    """A second."""
    last_error: Error | None
    held: int | None
    """The new process of a reload that waits for its decision."""
    reload_error: str
    silent: str
    """Why it does not say how it is, although it runs."""

    @property
    def mood(self) -> Mood:
        """How good its state is."""
        return "bad" if not self.fine else _MOODS[self.state]

    @property
    def behind(self) -> bool:
        """Whether it runs another release than its next start would."""
        return self.release is not None and self.release != self.next_release

    def as_json(self) -> dict[str, object]:
        """Return what ``status --json`` prints of it."""
        error = asdict(self.last_error) if self.last_error else None
        if self.last_error and error:
            error["at"] = iso(self.last_error.at)
        return {
            **{key: getattr(self, key) for key in ("instance", "state", "fine", "service", "socket", "pid")},
            "since": iso(self.since) if self.since else None,
            **{key: getattr(self, key) for key in ("directory", "release", "next_release", "restarts")},
            "memory_bytes": self.memory,
            "memory_max_bytes": self.memory_max,
            "cpu_percent": self.cpu,
            "connections": self.connections,
            "queued_connections": self.queue,
            "requests_total": self.requests,
            "errors_total": self.errors,
            "requests_per_second": self.requests_rate,
            "errors_per_second": self.errors_rate,
            "last_error": error,
            "held_reload_pid": self.held,
            "reload_error": self.reload_error or None,
            "no_answer": self.silent or None,
        }


def iso(at: float) -> str:
    """Return a time of day in ISO 8601, in UTC, to the second."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")


def row(  # noqa: PLR0913 (each comes from a source of its own)
    instance: Instance,
    before: Figures | None,
    now: Figures | None,
    *,
    releases: "Releases",
    queue: int | None,
    error: Error | None,
) -> Row:
    """Put together what is known of an instance, with figures per second where it was looked at ``before`` too."""
    status = now.status if now else None
    state = _state(instance, status)
    requests, errors = _rates(before, now)
    directory = status.directory if status else None
    return Row(
        instance=instance.name,
        state=state,
        service=instance.condition,
        socket=_words(instance.socket),
        fine=state in _MOODS and (state not in ("running", "closed") or instance.socket.state == "active"),
        pid=instance.pid or None,
        since=(instance.main_started if instance.pid else instance.changed) or None,
        directory=directory,
        release=releases.name(directory) if directory else None,
        next_release=releases.next if directory and releases.name(directory) else None,
        restarts=instance.restarts,
        memory=instance.memory if instance.pid else None,
        memory_max=instance.memory_max,
        cpu=_share(before, now) if instance.pid else None,
        connections=status.connections if status else None,
        queue=queue,
        requests=status.requests if status else None,
        errors=status.errors if status else None,
        requests_rate=requests,
        errors_rate=errors,
        last_error=error,
        held=status.successor.pid if status and status.successor else None,
        reload_error=status.reload_error if status else "",
        silent=now.silent if now else "",
    )


def _state(instance: Instance, status: Status | None) -> str:
    service = instance.service
    match service.state:
        case _ if service.load != "loaded":
            return service.load
        case "active":
            closed = status is not None and status.state == "closed"
            return "closed" if closed else "running" if instance.pid else service.sub
        case "activating":
            # systemd counts the starts that followed on a failure until somebody starts it by hand.
            return "restarting" if instance.restarts or service.sub.startswith("auto-restart") else "starting"
        case "deactivating":
            return "draining" if status is not None and status.state == "draining" else "stopping"
        case "inactive":
            return "asleep" if instance.sleeps else "stopped"
    return service.state


def _words(unit: Unit) -> str:
    return f"{unit.state} ({unit.sub})" if unit.load == "loaded" else unit.load


class Releases:
    """How the releases of a deployment are called: by the directory that a symbolic link in its path leads to."""

    def __init__(self, directory: str | None, target: str | None) -> None:
        """Take the deployment's ``directory`` and where that leads; None for what is not known."""
        self._directory = PurePosixPath(directory or "/")
        self.next = self.name(target) or self._directory.name if directory and target else None
        """The one that a start would take; None where the deployment has no directory."""

    def name(self, directory: str) -> str | None:
        """Return the name of the release in ``directory``, where a process runs.

        ``/srv/current/app`` leads to ``/srv/releases/7/app``: what they share at their ends is no part of the name.
        """
        found, link = PurePosixPath(directory), self._directory
        if found == link:
            return None
        while found.name and found.name == link.name:
            found, link = found.parent, link.parent
        return found.name or None


def _rates(before: Figures | None, now: Figures | None) -> tuple[float | None, float | None]:
    """Return requests and errors a second."""
    if not (before and now and before.status and now.status) or now.at <= before.at:
        return None, None
    old, new = _by_process(before.status), _by_process(now.status)
    # A process that is new since then has counted from zero.
    pairs = [(counts, old.get(pid, Counts(pid=pid))) for pid, counts in new.items()]
    seconds = now.at - before.at
    requests = sum(max(0, late.requests - early.requests) for late, early in pairs)
    errors = sum(max(0, late.errors - early.errors) for late, early in pairs)
    return round(requests / seconds, 3), round(errors / seconds, 3)


def _by_process(status: Status) -> dict[int, Counts]:
    return {each.pid: each for each in (status, status.successor) if each}


def _share(before: Figures | None, now: Figures | None) -> float | None:
    if not before or not now or before.cpu is None or now.cpu is None or now.at <= before.at:
        return None
    # A cgroup that was made anew counts from zero.
    return round(100 * max(0.0, now.cpu - before.cpu) / (now.at - before.at), 1)
