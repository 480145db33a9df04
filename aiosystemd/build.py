"""The stages in their order: FILE → Source → Deployment → Plan → Tree, and the checkers' word on it."""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from aiosystemd.errors import Location, Problem, ProblemsError
from aiosystemd.export import tcp_address
from aiosystemd.host import Host
from aiosystemd.load import find, load
from aiosystemd.model import Deployment
from aiosystemd.plan import Plan, Tree, plan, render
from aiosystemd.render.text import Unrepresentable


class Build(NamedTuple):
    """One deployment file and all that follows from it."""

    file: Path
    deployment: Deployment
    plan: Plan
    tree: Tree
    warnings: tuple[Problem, ...] = ()

    def command(self, verb: str) -> tuple[str, ...]:
        """Return the words of an ``aiosystemd`` command for this deployment."""
        name = self.deployment.name
        return ("aiosystemd", verb, name if find(name) == self.file else str(self.file))


def build(name_or_file: str, host: Host) -> Build:
    """Take a deployment file through every pure stage.

    Raises ProblemsError with everything that is wrong with it.
    """
    file = find(name_or_file)
    deployment, warnings = load(file)
    _known_to(host, file, deployment)
    try:
        planned = plan(deployment, host, file.name)
        return Build(file, deployment, planned, render(planned), warnings)
    except Unrepresentable as error:
        raise ProblemsError(Problem(Location(str(file)), str(error))) from None


def build_all(names_or_files: Iterable[str], host: Host) -> tuple[Build, ...]:
    """Build several files, which must not write the same paths.

    Raises ProblemsError with everything that is wrong with any of them.
    """
    builds: list[Build] = []
    problems: list[Problem] = []
    for each in names_or_files:
        try:
            builds.append(build(each, host))
        except ProblemsError as error:
            problems.extend(error.problems)
    problems.extend(_conflicts(builds))
    if problems:
        raise ProblemsError(*problems)
    return tuple(builds)


_SINCE = {
    "OpenFile": 253, "LogFilterPatterns": 253, "MemoryZSwapMax": 253, "RestartMode": 254, "RestartSteps": 254,
    "RestartMaxDelaySec": 254, "FileDescriptorStorePreserve": 254, "MemoryPressureWatch": 254,
    "MemoryPressureThresholdSec": 254, "ImportCredential": 254, "RootEphemeral": 254, "MemoryKSM": 254,
    "DelegateSubgroup": 254, "SurviveFinalKillSignal": 255, "NFTSet": 255, "CoredumpReceive": 255,
    "SetLoginEnvironment": 255, "MemoryZSwapWriteback": 256, "PrivatePIDs": 257, "BindLogSockets": 257,
    "PrivateBPF": 258, "DelegateNamespaces": 258, "StateDirectoryQuota": 258, "CacheDirectoryQuota": 258,
    "LogsDirectoryQuota": 258, "ExecReloadPost": 259, "UserNamespacePath": 259, "RefreshOnReload": 260,
    "RootMStack": 260, "MemoryTHP": 260, "BindNetworkInterface": 260, "RestartRandomizedDelaySec": 262,
}  # fmt: skip
"""First systemd that knows a directive; those that are not here are known to the oldest supported, 252, or to none."""


def _known_to(host: Host, file: Path, d: Deployment) -> None:
    newer = [name for name in d.service.directives if _SINCE.get(name, 0) > host.systemd]
    if newer:
        what = "service.directives: systemd {} does not know {}= (since {})"
        raise ProblemsError(
            *(Problem(Location(str(file)), what.format(host.systemd, name, _SINCE[name])) for name in newer)
        )


def _conflicts(builds: list[Build]) -> Iterable[Problem]:
    first: dict[str, Path] = {}
    for each in builds:
        for claim in _claims(each.deployment):
            if (other := first.setdefault(claim, each.file)) is not each.file:
                yield Problem(
                    Location(str(each.file)), f"{claim} is claimed by {other} too", "change it in one of them"
                )


def _claims(d: Deployment) -> Iterable[str]:
    """Yield what only one deployment of a host can have."""
    yield f'the name "{d.name}"'
    if d.listen.port is not None:
        count = 1 if d.instances == "auto" else d.instances
        yield from (f"the address {tcp_address(d, instance)}" for instance in range(1, count + 1))
    if d.proxy.kind == "nginx":
        for address in (*d.proxy.listen, *(d.proxy.tls.listen if d.proxy.tls else ())):
            names = d.proxy.server_names or ("this host",)
            yield from (f"the server name {name.lower()} on {address}" for name in names)
            if d.proxy.default_server:
                yield f"the default server on {address}"
