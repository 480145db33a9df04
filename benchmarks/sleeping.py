"""The first request on a sleeping instance; see `first_request.py`, which does it inside the machine."""

import json
from pathlib import Path
from statistics import median
from typing import Final

from benchmarks.contenders import Contender
from benchmarks.place import APP
from benchmarks.serving import serving
from tests.container.machine import Machine

_SCRIPT: Final = "/srv/first_request.py"


def run(machine: Machine, ours: Contender, rounds: int) -> dict[str, float]:
    """Return the medians, in milliseconds."""
    machine.copy(Path(__file__).with_name("first_request.py"), _SCRIPT)
    with serving(machine, ours):
        where = ("example@1.service", "/run/example/1.sock", APP)
        taken = json.loads(machine.run("python3", _SCRIPT, *where, str(rounds)).stdout)
    return {name: round(median(values), 2) for name, values in taken.items()}
