"""``aiosystemd drill``: the proof, on the host itself, that reloads and restarts lose no request.

Light traffic goes to the site through its proxy: first undisturbed, then while every instance is reloaded, then while
every one is restarted. What was answered undisturbed is what each later answer must be.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from http import HTTPStatus
from typing import Final, Literal

from aiosystemd.build import Build
from aiosystemd.drill.figures import Phase, answers, phases, ratio, table
from aiosystemd.drill.traffic import Traffic, target
from aiosystemd.errors import ExitCode, Location, Problem, ProblemsError
from aiosystemd.host import Host
from aiosystemd.load import find, load
from aiosystemd.rollout import Rollout, session
from aiosystemd.rollout.standing import Outcome
from aiosystemd.rollout.work import Interrupted, Options, Say, Work
from aiosystemd.systemctl import SystemctlError

STEADY: Final = "steady"
DISTURBED: Final[tuple[Literal["reload", "restart"], ...]] = ("reload", "restart")


@dataclass(frozen=True, slots=True)
class Drill:
    """How a drill went."""

    name: str
    phases: tuple[Phase, ...]
    outcome: Outcome
    """Of its last rollout."""

    @property
    def status(self) -> int:
        """The exit status that says so."""
        failed = any(phase.failures for phase in self.phases)
        return self.outcome.status or (ExitCode.PROBLEMS if failed else ExitCode.FINE)

    def table(self) -> list[str]:
        """Return the figures, as lines."""
        return list(table(self.phases)) if self.phases else []

    def as_json(self) -> dict[str, object]:
        """Return what ``drill --json`` prints."""
        found = [{**asdict(each), "failed": each.failed, "ratio": ratio(each, self.phases[0])} for each in self.phases]
        return {**self.outcome.as_json(), "phases": found}


def drill(built: Build, host: Host, post: str, seconds: float, say: Say) -> Drill:
    """Reload and restart every instance that runs, under traffic.

    Args:
        built: the deployment, which serves.
        host: the host that it serves on.
        post: path to POST to; "" is that of the health check.
        seconds: how long to look at the undisturbed site.
        say: told each step.

    Raises:
        ProblemsError: when nothing could be begun.

    """
    d = built.deployment
    if d.proxy.kind == "none":
        what = 'proxy.kind is "none": there is no proxy that could go to another instance'
        raise ProblemsError(Problem(Location(str(built.file)), what))
    proxy = load(find(d.proxy.site))[0].proxy if d.proxy.site else d.proxy
    try:
        with session(d.name, say) as loop, Traffic(target(d, post, proxy)) as traffic:
            return _Drill(built, host, traffic, Work(d, Options(pause=0), loop, say)).run(seconds)
    except SystemctlError as error:
        raise ProblemsError(Problem(Location(error.command), error.words)) from None
    except Interrupted:
        return Drill(d.name, (), Outcome(d.name, (), interrupted=True))


class _Drill:
    def __init__(self, built: Build, host: Host, traffic: Traffic, work: Work) -> None:
        self._built = built
        self._host = host
        self._traffic = traffic
        self._work = work

    def run(self, seconds: float) -> Drill:
        expected = self._steady(seconds)
        done = [STEADY]
        for method in DISTURBED:
            done.append(method)
            outcome = self._disturb(method)
            if outcome.status:
                break
        name = self._built.deployment.name
        return Drill(name, phases(self._traffic.samples, done, expected), outcome)

    def _steady(self, seconds: float) -> Mapping[str, str]:
        """Return what each method is answered while nothing happens."""
        self._work.say("", f"steady: GET and POST for {seconds:g} s")
        self._work.rest(seconds)
        found = answers(self._traffic.samples)
        if problems := [_problem(method, each) for method, each in found.items() if not _is_steady(each)]:
            raise ProblemsError(*problems)
        return {method: next(iter(each)) for method, each in found.items()}

    def _disturb(self, method: Literal["reload", "restart"]) -> Outcome:
        self._traffic.phase = method
        self._work.options = replace(self._work.options, method=method)
        outcome = Rollout(self._built, self._host, self._work).run()
        try:
            # The last process to be replaced still drains what the proxy keeps open to it.
            self._work.rest(self._built.deployment.idle)
        except Interrupted:
            outcome = replace(outcome, interrupted=True)
        return outcome


def _is_steady(found: Mapping[str, int]) -> bool:
    return len(found) == 1 and all(
        answer.isdecimal() and int(answer) < HTTPStatus.INTERNAL_SERVER_ERROR for answer in found
    )


def _problem(method: str, found: Mapping[str, int]) -> Problem:
    what = ", ".join(f"{answer} ({count} times)" for answer, count in found.items())
    return Problem(Location(f"{method} through the proxy"), f"gives {what}, with nothing going on")
