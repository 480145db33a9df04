"""``aiosystemd status`` of real instances; a real systemd is in the container tests."""

import json
import os
import pty
import signal
import subprocess
import sys
import termios
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path, PurePosixPath

import pytest

from aiosystemd import cli, scope, status
from aiosystemd import probe as asker
from aiosystemd.build import build
from aiosystemd.commands import looking
from aiosystemd.errors import ProblemsError
from aiosystemd.status import Watcher
from aiosystemd.status.around import notes
from aiosystemd.status.view import DOWN, Deployed
from tests.status.conftest import Shop
from tests.status.instances import instance

Command = Callable[..., int]


@pytest.fixture
def command(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Return a function that runs the program in this process, and returns its exit status."""
    monkeypatch.setattr(asker, "probe", lambda: shop.host)
    # The option --user chooses the scope; here it is the test's.
    monkeypatch.setattr(scope, "use", lambda _: None)

    def run(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["aiosystemd", *arguments])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        return int(caught.value.code or 0)

    return run


def look(shop: Shop) -> Deployed:
    (found,) = Watcher(None, shop.host).look().deployments
    return found


def test_instances_tell_what_they_serve(shop: Shop) -> None:
    assert [shop.ask("1"), shop.ask("1", "/nothing"), shop.ask("2")] == [200, 404, 200]
    found = look(shop)
    assert [(row.instance, row.state, row.requests, row.errors) for row in found.rows] == [
        ("1", "running", 2, 0),
        ("2", "running", 1, 0),
        ("3", "running", 0, 0),
    ]
    assert {row.directory for row in found.rows} == {str(shop.directory / "app")}
    assert (found.name, found.exposure, found.fine) == ("shop", 0.2, True)


def test_figures_per_second_are_those_since_the_last_view(shop: Shop) -> None:
    watcher = Watcher("shop", shop.host)
    assert watcher.look().deployments[0].rows[0].requests_rate == 0.0
    shop.ask("1")
    rate = watcher.look().deployments[0].rows[0].requests_rate
    assert rate is not None
    assert rate > 0


def test_last_error_is_the_instances_own(shop: Shop) -> None:
    shop.systemd.errors += [
        ("shop@1.service", "ValueError: old"),
        ("shop@1.service", "ValueError: new\nmore"),
        ("shop@1.service", "Failed to start."),
        ("shop@2.service", "Failed to start."),
        ("shop@3.service", ""),
        ("shop@3.service", "x" * 400),
        ("other@3.service", "no"),
    ]
    texts = [row.last_error.text if row.last_error else "" for row in look(shop).rows]
    assert texts == ["ValueError: new", "Failed to start.", f"{'x' * 299}…"]


def test_journal_that_is_closed_to_us_is_a_note(shop: Shop) -> None:
    shop.systemd.journal_failure = "No journal files were opened."
    found = look(shop)
    assert any("the journal tells no errors: " in note and "No journal files" in note for note in found.notes)
    assert found.rows[0].state == "running"


def test_instances_beyond_the_file_are_shown_and_missing_ones_are_down(shop: Shop) -> None:
    shop.file.write_text('name = "shop"\napp = "app:create"\ninstances = 1\n')
    assert [row.instance for row in look(shop).rows] == ["1", "2", "3"]
    shop.file.write_text('name = "shop"\napp = "app:create"\ninstances = 4\n')
    found = look(shop)
    assert [(row.state, row.fine) for row in found.rows][2:] == [("running", True), ("not-found", False)]


def test_instance_that_is_gone_is_shown_by_what_is_left(shop: Shop) -> None:
    watcher = Watcher("shop", shop.host)
    watcher.look()
    os.kill(shop.systemd.instances["2"].pid, signal.SIGKILL)
    found = watcher.look()
    assert (found.deployments[0].rows[1].state, found.status) == ("restarting", DOWN)


def test_files_that_are_missing_are_drift(shop: Shop) -> None:
    found = look(shop)
    assert found.drift[Path("/etc/systemd/system/shop@.service")] == "is missing"
    assert "drift: /etc/systemd/system/shop@.service is missing" in found.notes


def test_file_that_changes_is_read_again(shop: Shop) -> None:
    watcher = Watcher(None, shop.host)
    assert len(watcher.look().deployments) == 1
    shop.file.with_name("bad.toml").write_text("name = 1\n")
    view = watcher.look()
    assert [each.name for each in view.deployments] == ["bad", "shop"]
    assert (view.deployments[0].fine, view.status) == (False, DOWN)
    shop.file.with_name("bad.toml").unlink()
    shop.file.write_text("nonsense")
    assert watcher.look().deployments[0].problems


def test_systemd_that_does_not_answer_is_an_error(shop: Shop) -> None:
    shop.systemd.failure = "Failed to connect to bus"
    with pytest.raises(ProblemsError, match="Failed to connect to bus"):
        look(shop)


def test_without_systemd_there_is_no_status(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status, "SYSTEMD", shop.directory / "nothing")
    with pytest.raises(ProblemsError, match="systemd does not run here"):
        look(shop)


def test_deployment_without_a_file_is_a_mistake(shop: Shop) -> None:
    with pytest.raises(ProblemsError, match=r"nothing\.toml: no such file"):
        Watcher("nothing", shop.host)


def test_command_prints_a_table(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("status") == 0
    found = capsys.readouterr()
    assert found.out.splitlines()[0].startswith("shop: 3 running, exposure 0.2, ")
    assert found.out.splitlines()[1].startswith("INSTANCE  STATE    SOCKET ")
    assert found.err == ""


def test_command_prints_json(shop: Shop, command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    shop.systemd.instances["1"].stop()
    shop.systemd.instances["1"].socket_state = "inactive"
    assert command("status", "shop", "--json") == DOWN
    (found,) = json.loads(capsys.readouterr().out)["deployments"]
    assert [each["state"] for each in found["instances"]] == ["stopped", "running", "running"]


def test_host_without_deployments_says_so(shop: Shop, command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    shop.file.unlink()
    assert command("status") == 0
    assert capsys.readouterr().err == f"no deployment files in {shop.directory}/files\n"
    shop.file.parent.rmdir()
    assert command("status") == 0


def test_watch_goes_on_after_an_error_until_it_is_interrupted(
    shop: Shop, command: Command, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        shop.systemd.failure = "gone" if len(pauses) == 1 else ""
        if len(pauses) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(looking, "sleep", sleep)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    assert command("status", "--watch") == 0
    out = capsys.readouterr().out
    assert out.count("shop: 3 running") == 2
    assert "gone\n" in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("status", "--watch", "--json"), "not together with --watch"),
        (("logs", "shop", "--follow", "--until", "now"), "not together with --until"),
    ],
)
def test_options_that_contradict_are_refused(
    arguments: tuple[str, ...], said: str, command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(*arguments) == 2
    assert said in capsys.readouterr().err


_WATCH = """
from aiosystemd.commands import looking
from aiosystemd.errors import Location, Problem, ProblemsError

class Watcher:
    def look(self):
        raise ProblemsError(*(Problem(Location(f"line {number:02}"), "x" * 200) for number in range(40)))

looking._watch(Watcher(), 0.2)
"""


def test_watch_on_a_terminal_fits_into_it_and_gives_it_back() -> None:
    outside, inside = pty.openpty()
    termios.tcsetwinsize(inside, (10, 40))
    terminal = {**os.environ, "TERM": "xterm"}
    # readline(3), which a test runner may have loaded, exports the size of another terminal.
    argv = ("env", "--default-signal=INT", "--unset=LINES", "--unset=COLUMNS", sys.executable, "-c", _WATCH)
    with subprocess.Popen(argv, stdin=inside, stdout=inside, env=terminal) as process:
        shown = b""
        while b"31 more lines" not in shown:
            shown += os.read(outside, 65536)
        termios.tcsetwinsize(inside, (20, 40))
        while b"21 more lines" not in shown:
            shown += os.read(outside, 65536)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    os.close(inside)
    with suppress(OSError):  # the end of what a terminal has to say
        while True:
            shown += os.read(outside, 65536)
    os.close(outside)
    # Cursor and screen are back.
    assert shown.rstrip().endswith(b"\x1b[?25h\x1b[?1049l")


def test_what_an_administrator_should_know_is_noted(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scope, "_current", replace(scope.current(), drop_ins=(PurePosixPath(shop.directory),)))
    own = shop.directory / "shop@.service.d" / "own.conf"
    own.parent.mkdir()
    own.write_text("[Service]")
    built = build(str(shop.file), shop.host)
    known = instance()
    files = (*known.service.files, Path("/x/shop@1.service.d/a.conf"), Path("/x/service.d/all.conf"))
    known = replace(known, service=replace(known.service, name="shop@1.service", files=files))
    assert list(notes(built, {Path("/a"): "is missing"}, [known], hidden=True)) == [
        "drift: /a is missing",
        "drop-ins: /x/shop@1.service.d/a.conf",
        "units have changed since systemd read them: systemctl daemon-reload",
        "connections, requests and releases are for root to see: sudo aiosystemd status shop",
    ]
