"""The commands as they are typed, in an image that is built: statuses, and what is printed where."""

import json
import os
import pty
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.deploy.place import deployment
from tests.tools import own_command, require

PROGRAM = own_command("aiosystemd")
COMMANDS = ("diff", "apply", "history", "rollback", "scale", "remove")

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """Return the root of an image, and beside it the deployment file."""
    require("systemctl")
    (tmp_path / "shop.toml").write_text(deployment())
    return tmp_path / "image"


@pytest.fixture
def run(image: Path) -> Run:
    """Run the program, and return its status, and what it has printed and complained of."""

    def run(*arguments: str, stdin: int = subprocess.DEVNULL, root: bool = True) -> tuple[int, str, str]:
        words = (PROGRAM, *arguments, *(("--root", str(image)) if root else ()))
        environment = {**os.environ, "LC_ALL": "C.UTF-8", "COLUMNS": "120"}
        done = subprocess.run(
            words, cwd=image.parent, env=environment, stdin=stdin, capture_output=True, text=True, check=False
        )
        assert "Traceback" not in done.stderr
        return done.returncode, done.stdout, done.stderr

    return run


def test_deployment_has_a_life(run: Run, image: Path) -> None:
    status, out, err = run("diff", "shop.toml")
    assert (status, err) == (2, "")
    assert f"create   {image}/etc/systemd/system/shop@.service: " in out
    assert "create   shop@2: instance added\n" in out
    assert "+ExecStart=" in out
    assert not image.exists()
    status, out, err = run("apply", "shop.toml", "--yes")
    assert (status, out.splitlines()[-1], err) == (0, "shop: done", "")
    assert "+ExecStart=" not in out
    assert run("diff", "shop.toml") == (0, "shop: nothing to do\n", "")
    assert run("apply", "shop.toml") == (0, "shop: nothing to do\nshop: done\n", "")
    assert run("scale", "shop", "3", "--yes")[0] == 0
    assert (image.parent / "shop.toml").read_text() == deployment(instances=3)
    status, out, _ = run("history", "shop")
    assert status == 0
    assert [line.partition(" aiosystemd ")[2].split(" --")[0] for line in out.splitlines()] == [
        "apply shop.toml",
        "scale shop 3",
    ]
    assert run("rollback", "shop", "--to", "1", "--yes")[0] == 0
    assert (image.parent / "shop.toml").read_text() == deployment()
    assert run("remove", "shop", "--yes")[0] == 0
    assert run("remove", "shop", "--yes") == (
        *(1, ""),
        f"{image}/var/lib/aiosystemd/shop: is not deployed here (aiosystemd apply does that)\n",
    )
    assert not [path for path in image.rglob("*") if "shop" in path.name and path.suffix != ".lock"]


@pytest.mark.parametrize("arguments", [("diff", "shop.toml"), ("apply", "shop.toml", "--yes")], ids=["diff", "apply"])
def test_document_is_all_that_is_printed(run: Run, arguments: tuple[str, ...]) -> None:
    _, out, err = run(*arguments, "--json")
    found = json.loads(out)
    assert err == ""
    assert found["deployment"] == "shop"
    assert {"changes", "interrupted", "refused", "drop_ins"} <= set(found)
    more = {"failure", "interrupted_by_signal", "restored", "not_restored", "steps"}
    assert (more & set(found)) == (more if arguments[0] == "apply" else set())


def test_history_as_json(run: Run) -> None:
    assert run("apply", "shop.toml", "--yes")[0] == 0
    (found,) = json.loads(run("history", "shop", "--json")[1])
    assert (found["number"], found["in_force"], found["instances"], found["release"]) == (1, True, 2, None)


def test_edited_file_is_shown_and_named(run: Run, image: Path) -> None:
    assert run("apply", "shop.toml", "--yes")[0] == 0
    site = image / "etc/nginx/conf.d/shop.conf"
    site.write_text("# mine\x1b[31m\n")
    status, out, err = run("apply", "shop.toml", "--yes")
    assert (status, err) == (
        1,
        f"{site}: was edited since aiosystemd has written it (--adopt replaces it and keeps a copy)\n",
    )
    assert "\n-# mine" in out
    assert "\x1b" not in out
    assert run("apply", "shop.toml", "--yes", "--adopt")[0] == 0
    assert site.with_name("shop.conf.aiosystemd-old").read_text() == "# mine\x1b[31m\n"


def test_nothing_is_done_where_nobody_can_be_asked(run: Run, image: Path) -> None:
    status, _, err = run("apply", "shop.toml")
    assert (status, err) == (1, "aiosystemd: cannot ask: there is no terminal (use --yes)\n")
    assert not image.exists()


@pytest.mark.parametrize(("answer", "done"), [(b"n\n", False), (b"\n", False), (b"y\n", True)])
def test_terminal_is_asked(run: Run, image: Path, answer: bytes, *, done: bool) -> None:
    ours, theirs = pty.openpty()
    with os.fdopen(ours, "wb", buffering=0) as terminal, os.fdopen(theirs):
        terminal.write(answer)
        status, out, _ = run("apply", "shop.toml", stdin=theirs)
    assert "do it? [y/N]" in out
    assert (status, image.exists()) == ((0, True) if done else (1, False))


@pytest.mark.parametrize("option", [("--pause", "-1"), ("--pause", "nan"), ("--timeout", "86401")])
def test_wrong_number_is_a_wrong_call(run: Run, option: tuple[str, str]) -> None:
    status, _, err = run("apply", "shop.toml", "--yes", *option)
    assert status == 2
    assert option[0] in err


@pytest.mark.parametrize(
    "arguments", [("scale", "shop", "0"), ("scale", "shop", "1001"), ("rollback", "shop", "--to", "0")]
)
def test_number_out_of_range_is_a_wrong_call(run: Run, arguments: tuple[str, ...]) -> None:
    assert run("apply", "shop.toml", "--yes")[0] == 0
    assert run(*arguments)[0] == 2


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_an_example(run: Run, command: str) -> None:
    status, out, err = run(command, "--help", root=False)
    assert (status, err) == (0, "")
    assert f"Example: aiosystemd {command} " in out


@pytest.mark.parametrize(
    "arguments", [("history",), ("rollback",), ("scale", "3"), ("remove",)], ids=lambda each: each[0]
)
def test_deployment_that_is_not_there_is_a_problem(run: Run, arguments: tuple[str, ...]) -> None:
    status, out, err = run(arguments[0], "nobody", *arguments[1:])
    assert (status, out) == (1, "")
    assert err.endswith("/var/lib/aiosystemd/nobody: is not deployed here (aiosystemd apply does that)\n")
