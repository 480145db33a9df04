"""What the administrator lets maintainer scripts do, by policy-rc.d: invoke-rc.d(8), deb-systemd-invoke(1p)."""

import subprocess
from pathlib import Path
from typing import Final, Literal

from aiosystemd.errors import Location, Problem, ProblemsError

_POLICY: Final = Path("/usr/sbin/policy-rc.d")
_ALLOWED: Final = (0, 104)
_FORBIDDEN: Final = 101


def forbids(unit: str, action: Literal["restart", "stop"]) -> bool:
    """Return whether this host's policy forbids a maintainer script to do that to a unit.

    The exit statuses are those of /usr/share/doc/init-system-helpers/README.policy-rc.d. Raises ProblemsError when the
    program gives none of them: nothing is begun then.
    """
    if not _POLICY.exists():
        return False
    try:
        done = subprocess.run((_POLICY, unit, action), stdin=subprocess.DEVNULL, capture_output=True, check=False)
    except OSError as error:
        raise ProblemsError(Problem(Location(str(_POLICY)), f"cannot be run: {error.strerror}")) from None
    if done.returncode not in (*_ALLOWED, _FORBIDDEN):
        words = done.stderr.decode(errors="replace").strip() or "no words"
        what = f"status {done.returncode} for {unit} {action}: {words}"
        raise ProblemsError(Problem(Location(str(_POLICY)), what, "101 forbids, 0 or 104 allow"))
    return done.returncode == _FORBIDDEN
