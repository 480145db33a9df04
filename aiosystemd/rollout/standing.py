"""Where things stand at the end of a rollout: found out, not remembered."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Literal

from aiosystemd.control import Control, ControlError
from aiosystemd.errors import ExitCode
from aiosystemd.rollout.instance import Instance


@dataclass(frozen=True, slots=True)
class Standing:
    """One instance at the end of a rollout."""

    instance: str
    version: Literal["new", "old", "none"]
    """What its process runs; "none" without one."""
    state: Literal["serving", "asleep", "stopped", "down"]
    pid: int
    directory: str
    """Where its process runs, without symbolic links; "" if it does not say."""
    condition: str
    """The same as ``state``, in systemd's words."""

    def __str__(self) -> str:
        where = f"process {self.pid}" + (f" in {self.directory}" if self.directory else "")
        match self.state:
            case "serving":
                return f"the {self.version} version serves, {where}"
            case "asleep":
                return "asleep: its next request starts the new version"
            case "stopped":
                return "stopped"
            case "down":
                return f"down, {self.condition}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a rollout ended."""

    name: str
    standings: tuple[Standing, ...]
    failure: str = ""
    """What ended it, with the instance that it happened to; "" if nothing did."""
    interrupted: bool = False
    next: str = ""
    """What to do."""

    @property
    def status(self) -> int:
        """The exit status that says so."""
        return ExitCode.INTERRUPTED if self.interrupted else ExitCode.PROBLEMS if self.failure else ExitCode.FINE

    def lines(self) -> Iterator[str]:
        """Yield a line for each instance."""
        yield from (f"{self.name}@{each.instance}: {each}" for each in self.standings)

    def as_json(self) -> dict[str, object]:
        """Return what ``rollout --json`` prints, beside the steps."""
        fields = {"deployment": self.name, "failure": self.failure, "interrupted": self.interrupted, "next": self.next}
        return {**fields, "instances": [asdict(each) for each in self.standings]}


def stand(deployment: str, before: Mapping[str, Instance], now: Mapping[str, Instance]) -> Iterator[Standing]:
    """Yield what each instance is ``now``: a process that was there ``before`` the rollout runs the old version.

    Every other one was started since, by the rollout or not, from what lies on the disk: the new version.
    """
    for name, instance in now.items():
        version: Literal["new", "old", "none"] = "none"
        if instance.pid:
            version = "old" if name in before and instance.pid == before[name].pid else "new"
        directory = _directory(deployment, name) if instance.runs else ""
        yield Standing(name, version, _state(instance), instance.pid, directory, instance.condition)


def _state(instance: Instance) -> Literal["serving", "asleep", "stopped", "down"]:
    if instance.pid and instance.service.state in ("active", "reloading"):
        return "serving"
    if instance.service.state == "inactive":
        return "asleep" if instance.sleeps else "stopped"
    return "down"


def _directory(deployment: str, name: str) -> str:
    try:
        with Control(deployment, name, patience=1.0) as control:
            return control.status().directory
    except ControlError:
        return ""
