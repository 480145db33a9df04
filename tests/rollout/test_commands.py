"""The commands as they are typed, from their options to what is printed."""

import json
import sys
from collections.abc import Callable

import pytest
import typer

from aiosystemd import build as stage
from aiosystemd import cli
from aiosystemd import probe as asker
from tests.releases import NO_IMPORT, release
from tests.rollout.conftest import NAMES, Deploy
from tests.rollout.test_rollout import interrupt

Command = Callable[..., int]


@pytest.fixture
def command(deploy: Deploy, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Return a function that runs the program in this process, and returns its exit status."""
    monkeypatch.setattr(stage, "build", lambda *_: deploy.built())
    monkeypatch.setattr(asker, "probe", lambda: deploy.host)

    def run(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["aiosystemd", *arguments])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        return int(caught.value.code or 0)

    return run


def test_rollout_tells_each_step_and_how_things_stand(
    deploy: Deploy, command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    deploy.release(release("moin"))
    assert command("rollout", "--pause", "0") == 0
    found = capsys.readouterr()
    assert found.err == ""
    pids = deploy.systemd.pids()
    assert found.out.splitlines()[-3:] == [
        f"shop@{name}: the new version serves, process {pids[name]} in {deploy.directory}/app" for name in NAMES
    ]
    assert f"shop@1: the new version serves, process {pids['1']}\n" in found.out


def test_failed_rollout_ends_with_what_to_do(
    deploy: Deploy, command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    deploy.release(NO_IMPORT)
    assert command("rollout") == 1
    found = capsys.readouterr()
    assert found.err == 'failed: shop@1: importing "app" failed: RuntimeError: no such luck\n'
    assert found.out.splitlines()[-1].startswith("next: mend what failed, then: aiosystemd rollout ")
    assert "shop@1: the old version serves, process " in found.out


def test_options_are_obeyed(deploy: Deploy, command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("rollout", "--canary", "1", "--restart", "--pause", "0", "--timeout", "60", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert [each["version"] for each in found["instances"]] == ["new", "old", "old"]
    steps = [(step["unit"], step["text"]) for step in found["steps"]]
    assert steps[0] == ("shop@1", "restart: asked for; requests go to the other instances")
    assert steps[-1] == ("shop", "stops here, after 1 of 3 instances")
    assert deploy.systemd.commands == [["restart", "shop@1.service"]]


def test_terminal_gets_a_progress_bar(
    command: Command, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert command("rollout", "--pause", "0") == 0
    found = capsys.readouterr().out
    assert "━" in found
    assert "3/3" in found
    assert "shop@3: the new version serves, process " in found


def test_interruption_has_the_shells_status(
    command: Command, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Prompt:
        """A terminal at which somebody presses Ctrl-C as soon as the first line is there."""

        def __init__(self) -> None:
            self.pressed = False

        def __call__(self, text: str, **_: object) -> None:
            original(text)
            if not self.pressed:
                self.pressed = True
                interrupt()

    original = typer.echo
    monkeypatch.setattr(typer, "echo", Prompt())
    assert command("rollout", "--pause", "60") == 130
    found = capsys.readouterr()
    assert found.err == "interrupted\n"
    assert "shop@1: the old version serves, process " in found.out
