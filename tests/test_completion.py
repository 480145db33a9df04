"""What is offered at Tab, asked for as the shells do."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Protocol

import pytest

from aiosystemd.commands.completion import LEVELS, SHELLS, deployments
from tests.tools import own_command, require
from tests.unprivileged import open_to_others, unprivileged

PROGRAM = own_command("aiosystemd")


class Complete(Protocol):
    """Completes the last of some words."""

    def __call__(self, *words: str) -> list[str]:
        """Return what is offered."""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Return variables of a user whose deployment files are in a directory of the test's own."""
    home = {"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path / "config")}
    for name, count in (("web", 3), ("web2", '"auto"'), ("shop", 12)):
        file = tmp_path / "config/aiosystemd" / f"{name}.toml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f'name = "{name}"\napp = "a:a"\ninstances = {count}\n')
    return {**os.environ, **home}


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """Return an empty directory, in which words are completed."""
    directory = tmp_path / "here"
    directory.mkdir()
    return directory


@pytest.fixture
def complete(here: Path, environment: dict[str, str]) -> Complete:
    """Complete as bash does; nothing is ever said on standard error."""

    def complete(*words: str) -> list[str]:
        question = {
            "_AIOSYSTEMD_COMPLETE": "complete_bash",
            "COMP_WORDS": "\n".join(("aiosystemd", *words)),
            "COMP_CWORD": str(len(words)),
        }
        done = subprocess.run(
            (PROGRAM,),
            env={**environment, **question},
            cwd=here,
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        assert done.stderr == ""
        return done.stdout.split("\n")[:-1] if done.stdout.strip() else []

    return complete


def test_commands_and_options_are_offered(complete: Complete) -> None:
    assert {"rollout", "rollback"} == set(complete("roll"))
    assert "--restart" in complete("rollout", "--re")


@pytest.mark.parametrize("command", ["check", "generate", "rollout", "drill", "status", "logs"])
def test_deployments_are_offered_by_name(complete: Complete, command: str) -> None:
    assert complete(command, "--user", "") == ["shop", "web", "web2"]
    assert complete(command, "--user", "web") == ["web", "web2"]


def test_another_file_is_offered_after_one(complete: Complete) -> None:
    assert complete("check", "--user", "web", "web2", "s") == ["shop"]


def test_files_and_directories_are_offered(complete: Complete, here: Path) -> None:
    for name in ("a.toml", "b.toml", "many/c.toml", "many/deep/d.toml", "notes.txt", ".hidden.toml"):
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        (here / name).touch()
    assert complete("check", "--user", "") == ["shop", "web", "web2", "a.toml", "b.toml", "many/"]
    assert complete("check", "b") == ["b.toml"]
    assert complete("check", "many/") == ["many/c.toml", "many/deep/"]
    assert complete("check", f"{here}/a") == [f"{here}/a.toml"]
    assert complete("check", ".h") == [".hidden.toml"]
    assert complete("generate", "--output", "") == ["many/", "many/deep/"]


def test_the_only_directory_is_offered_with_what_is_in_it(complete: Complete, here: Path) -> None:
    (here / "many").mkdir()
    (here / "many/c.toml").touch()
    assert complete("check", "m") == ["many/", "many/c.toml"]


def test_instances_are_those_of_the_deployment(complete: Complete, here: Path) -> None:
    assert complete("logs", "--user", "web", "--instance", "") == ["1", "2", "3"]
    assert complete("logs", "--user", "shop", "--instance", "1") == ["1", "10", "11", "12"]
    assert complete("logs", "--user", "web2", "-i", "")[0] == "1"
    (here / "few.toml").write_text("instances = 2\n")
    assert complete("logs", "./few.toml", "--instance", "") == ["1", "2"]


@pytest.mark.parametrize(
    "text", ["instances = [", "instances = 'x'", "instances = [1]", "instances = -1", "\0", "\udcff"]
)
def test_a_file_that_is_wrong_has_no_instances(complete: Complete, here: Path, text: str) -> None:
    (here / "wrong.toml").write_bytes(text.encode(errors="surrogateescape"))
    assert complete("logs", "./wrong.toml", "--instance", "") == []
    assert complete("logs", "./missing.toml", "--instance", "") == []
    assert complete("logs", "no-such-name", "--instance", "") == []


def test_levels_are_offered(complete: Complete) -> None:
    assert set(complete("logs", "web", "--level", "")) == set(LEVELS)
    assert complete("logs", "web", "-p", "wa") == ["warning"]


HOSTILE = [
    "$(touch x).toml",
    "`id`.toml",
    "a b.toml",
    "*.toml",
    "a;b.toml",
    "a\nb.toml",
    "\udcff.toml",
    "'\".toml",
    "~.toml",
]


def test_names_that_need_quotes_are_left_to_the_shell(complete: Complete, here: Path, tmp_path: Path) -> None:
    for name in HOSTILE:
        (here / name).touch()
        (tmp_path / "config/aiosystemd" / name).touch()
    (here / "good.toml").touch()
    assert complete("check", "--user", "") == ["shop", "web", "web2", "good.toml"]
    assert complete("check", "--user", "a") == []


def test_what_may_not_be_read_is_not_offered(complete: Complete, here: Path) -> None:
    assert complete("check", "/no/such/directory/") == []
    assert complete("check", f"{here}/" + "x" * 5000) == []
    (here / "loop.toml").symlink_to("loop.toml")
    assert complete("check", "./l") == ["./loop.toml"]


def test_a_closed_directory_offers_nothing(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(0o700)
    (closed / "a.toml").touch()
    open_to_others(tmp_path)
    assert deployments(f"{closed}/") == [f"{closed}/a.toml"]
    assert unprivileged(lambda: deployments(f"{closed}/")) == []


def test_a_tab_waits_for_nothing_that_it_does_not_need(environment: dict[str, str], here: Path) -> None:
    question = {"_AIOSYSTEMD_COMPLETE": "complete_bash", "COMP_WORDS": "aiosystemd check --user w", "COMP_CWORD": "3"}
    code = (
        "import json, sys\nfrom aiosystemd import cli\nsys.argv = ['aiosystemd']\n"
        "try:\n    cli.main()\nfinally:\n    print(json.dumps([*sys.modules]), file=sys.stderr)\n"
    )
    done = subprocess.run(
        (sys.executable, "-c", code),
        env={**environment, **question},
        cwd=here,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "web\nweb2\n"
    # New versions of typer import pydantic themselves; ours is what takes as long again.
    # Nor are rich, which old ones import, and tomllib, with which coverage reads its settings where it measures.
    assert {"asyncio", "aiosystemd.model", "aiosystemd.load"} & set(json.loads(done.stderr)) == set()


@pytest.mark.parametrize("shell", SHELLS)
def test_a_script_is_shown_for_each_shell(shell: str) -> None:
    done = subprocess.run((PROGRAM, "--show-completion", shell), capture_output=True, text=True, check=True)
    assert f"_AIOSYSTEMD_COMPLETE=complete_{shell}" in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize("shell", SHELLS)
def test_a_script_is_installed_for_each_shell(shell: str, environment: dict[str, str], tmp_path: Path) -> None:
    command = (PROGRAM, "--install-completion", shell)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    file = Path(done.stdout.split()[1].rstrip(";"))
    assert file.is_relative_to(tmp_path)
    assert f"_AIOSYSTEMD_COMPLETE=complete_{shell}" in file.read_text()


def test_bash_itself_completes(environment: dict[str, str], here: Path) -> None:
    bash = require("bash")
    (here / "a.toml").touch()
    script = f"""
        PATH={Path(PROGRAM).parent}:$PATH
        eval "$(aiosystemd --show-completion bash)"
        COMP_WORDS=(aiosystemd check --user ""); COMP_CWORD=3
        _aiosystemd_completion aiosystemd
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    done = subprocess.run((bash, "-c", script), env=environment, cwd=here, capture_output=True, text=True, check=True)
    assert (done.stdout.split(), done.stderr) == (["shop", "web", "web2", "a.toml"], "")
