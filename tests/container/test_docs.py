"""Every command on every page, on a server: in the page's order, from the state that the page begins with."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.container.machine import Machine
from tests.docs.exceptions import FOREVER, NOT_RUN
from tests.docs.pages import PAGES, TOP, bare, blocks, commands, name
from tests.docs.places import begins_empty, on_the_host

SERVED = [page for page in PAGES if not on_the_host(page) and any(commands(block) for block in blocks(page))]
_ASKS = re.compile(r"aiosystemd (apply|rollback|scale|remove) ")
_WATCHES = re.compile(r"aiosystemd (apply|rollout) ")
_HOME = "/root/page"
"""Where a page's relative paths lead."""


@pytest.fixture
def server(shared_machine: Machine) -> Iterator[Machine]:
    """Return a machine that has the reference deployment's files, applied unless the page begins before that."""
    shared_machine.copy(TOP / "units/my_app_module.py", "/srv/example/my_app_module.py")
    shared_machine.copy(TOP / "units/example.toml", "/etc/aiosystemd/example.toml")
    shared_machine.copy(TOP / "units", _HOME)
    yield shared_machine
    # Not by our own command: what a page has made wrong is not to stop it, and nobody waits for a drain.
    shared_machine.run("sh", "-c", _CLEAN)


_CLEAN = """
cd /etc
for name in $(ls aiosystemd /var/lib/aiosystemd nginx/conf.d | sed -nE 's/\\.(toml|conf)$//; /^[a-z]/p' | sort -u); do
    systemctl disable "$name.target"
    systemctl stop --no-block "$name.target" "$name@*"
    systemctl kill --signal=KILL "$name@*.service"
    systemctl stop "$name.target" "$name@*"
done >/dev/null 2>&1
find /etc/systemd/system /etc/nginx/conf.d -maxdepth 1 -type f -delete
rm -rf /etc/aiosystemd /var/lib/aiosystemd /srv/* /root/page /etc/haproxy/conf.d /etc/systemd/system/haproxy.service.d
systemctl daemon-reload
systemctl reset-failed
systemctl disable --now haproxy
systemctl enable nginx
systemctl restart nginx
"""


@pytest.mark.parametrize("page", SERVED, ids=name)
def test_every_command_does_what_the_page_says(server: Machine, page: Path) -> None:
    shown = blocks(page)
    for block in shown:
        if block.file:
            server.write(str(Path(_HOME, block.file)), block.text)
    if not begins_empty(page):
        _do(server, "aiosystemd apply example --yes")
    for block in shown:
        _do(server, block.before)
        for command in commands(block):
            _do(server, typed(command.text), command.status, command.place)


def typed(text: str) -> str:
    """Return what is run for a command."""
    words = bare(text)
    if words in NOT_RUN:
        return NOT_RUN[words].run
    if any(word in words.split() for word in FOREVER):
        # timeout(1) tells 124 unless the program ends by itself once it is interrupted.
        return f"timeout --signal=INT 3 {words} || [ $? = 124 ]"
    # Nobody is there to be asked; and that each instance is watched for five seconds is tested elsewhere.
    yes = " --yes" if _ASKS.match(words) and "--yes" not in words else ""
    pause = " --pause 0" if _WATCHES.match(words) and "--pause" not in words else ""
    return f"{text}{yes}{pause}"


def _do(server: Machine, script: str, status: int = 0, place: str = "") -> None:
    done = server.run("sh", "-ec", f"cd {_HOME}; {script}", check=False, stdin="y\n")
    assert done.returncode == status, f"{place or script}\n{done.stdout}{done.stderr}"
