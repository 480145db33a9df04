"""A deployment that one of the managers runs, installed as its page says."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.managers.machine import Machine
from tests.managers.managers import HONCHO, SUPERVISORS, Manager, name
from tests.tools import own_command, require

ARGUMENTS = ("50 %", "it's", "a ;b #c", "$HOME `id`", "", "$(circus.wid)", "%(process_num)s", "é\\n")
GREETING = "50 % it's $; a=b,c \\ é"
INSTANCES = 3


_QUOTED = ", ".join(f"'''{argument}'''" for argument in ARGUMENTS)
_DEPLOYMENT = f"""
name = "shop"
app = "app:make"
instances = {INSTANCES}
directory = "/srv/shop"
python = "{sys.executable}"
arguments = [{_QUOTED}]
[service]
user = "shop"
environment = {{ GREETING = '''{GREETING}''' }}
[proxy]
server_names = ["shop.test"]
keepalive = 1
"""


@pytest.fixture(scope="module", params=[*SUPERVISORS, HONCHO], ids=name)
def manager(request: pytest.FixtureRequest) -> Manager:
    found: Manager = request.param
    if found.needs == "runsvdir":
        require(found.needs)
    else:
        own_command(found.needs)
    return found


@pytest.fixture(scope="module")
def machine(manager: Manager) -> Iterator[Machine]:
    """Yield a machine with nginx, on which ``manager`` runs three processes of the application."""
    with Machine() as machine:
        for path, text in manager.files.items():
            machine.write(path, text)
        machine.run("nginx")
        if manager is not HONCHO:
            machine.popen(*manager.start)
        _follow_page(machine, manager)
        if manager is HONCHO:
            machine.popen(*manager.start)
        for number in range(1, INSTANCES + 1):
            machine.who(f"/run/shop/{number}.sock")
        yield machine


def _follow_page(machine: Machine, manager: Manager) -> None:
    machine.write("/srv/shop/app.py", Path(__file__).with_name("app.py").read_text())
    for file, text in manager.page():
        if file:
            # The page's own names a program and an application that are not there.
            (machine.directory / file).write_text(_DEPLOYMENT if file == "shop.toml" else text)
        else:
            machine.run("sh", "-c", text)
