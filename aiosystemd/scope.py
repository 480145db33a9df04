"""Whose systemd a deployment belongs to, and where its parts are: the machine's, or a login user's own.

A process works on one of them. The command line chooses it, once, before anything else is done; what is pure gets it
as a fact of ``Host``, what talks asks for it here.
"""

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final


@dataclass(frozen=True, slots=True)
class Scope:
    """A manager of systemd's, and its directories."""

    user: str
    """The login user whose manager it is; "" for the machine's."""
    files: PurePosixPath
    """Deployment files; ``NAME`` stands for ``NAME.toml`` in it."""
    units: PurePosixPath
    """Units that are written; systemd.unit(5)."""
    drop_ins: tuple[PurePosixPath, ...]
    """All directories in which units and their drop-ins are found, apart from those that systemd itself writes to."""
    run: PurePosixPath
    """Runtime directories of services, ``%t``."""
    state: PurePosixPath
    """What aiosystemd keeps of each deployment."""
    home: PurePosixPath
    groups: frozenset[str] = frozenset()
    """Groups that a user may give a file to: those that it is in."""
    lingers: bool = True
    """Whether the manager runs without anybody logged in; loginctl(1)."""
    controllers: frozenset[str] | None = None
    """Controllers of cgroups(7) that the manager can limit with; None where that is not known."""
    lowest_port: int = 0
    """The first TCP port that may be listened on; ip(7), ``ip_unprivileged_port_start``."""

    @property
    def locks(self) -> PurePosixPath:
        """Where the lock of each deployment is."""
        return self.run / "aiosystemd"

    @property
    def option(self) -> tuple[str, ...]:
        """The option that systemctl and aiosystemd itself need to work on it."""
        return ("--user",) if self.user else ()

    @property
    def systemctl(self) -> str:
        """The command, as a person would type it."""
        return " ".join(("systemctl", *self.option))


_VENDORS: Final = ("/run/systemd", "/usr/local/lib/systemd", "/usr/lib/systemd")


def _everywhere(own: PurePosixPath, kind: str) -> tuple[PurePosixPath, ...]:
    return (own, *(PurePosixPath(directory, kind) for directory in _VENDORS))


SYSTEM: Final = Scope(
    user="",
    files=PurePosixPath("/etc/aiosystemd"),
    units=PurePosixPath("/etc/systemd/system"),
    drop_ins=_everywhere(PurePosixPath("/etc/systemd/system"), "system"),
    run=PurePosixPath("/run"),
    state=PurePosixPath("/var/lib/aiosystemd"),
    home=PurePosixPath("/root"),
)


def of_user(  # noqa: PLR0913 (facts, each found out on its own)
    user: str,
    *,
    home: PurePosixPath,
    config: PurePosixPath,
    state: PurePosixPath,
    run: PurePosixPath,
    groups: frozenset[str] = frozenset(),
    lingers: bool = False,
    controllers: frozenset[str] | None = None,
    lowest_port: int = 1024,
) -> Scope:
    """Return the scope of a login user; the directories are XDG's: ``$XDG_CONFIG_HOME`` and so on."""
    units = config / "systemd/user"
    return Scope(
        user=user,
        files=config / "aiosystemd",
        units=units,
        drop_ins=(*_everywhere(units, "user"), PurePosixPath("/etc/systemd/user"), run / "systemd/user"),
        run=run,
        state=state / "aiosystemd",
        home=home,
        groups=groups,
        lingers=lingers,
        controllers=controllers,
        lowest_port=lowest_port,
    )


_current = SYSTEM


def use(scope: Scope) -> None:
    """Choose the manager that this process works on."""
    global _current  # noqa: PLW0603 (chosen once, by the command line)
    _current = scope


def current() -> Scope:
    """Return the manager that this process works on."""
    return _current
