"""The manual pages: complete, since they are made from what they tell of, and such that man shows them."""

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from aiosystemd import cli, rules
from aiosystemd.contract import INSTANCE_VARIABLE
from aiosystemd.load import load
from aiosystemd.manual import file
from aiosystemd.model import json_schema
from tests.tools import require

PACKAGE = Path(cli.__file__).parent
COMMANDS = [command.name or command.callback.__name__ for command in cli.app.registered_commands if command.callback]


def make(directory: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Write the pages into a directory, as a package build does."""
    command = (sys.executable, "-m", "aiosystemd.manual", directory)
    environment = {**os.environ, **variables}
    return subprocess.run(command, cwd=PACKAGE.parent, env=environment, capture_output=True, text=True, check=False)


def show(page: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Let man show a page, with what lintian says to it."""
    command = (require("man"), "--warnings", "-E", "UTF-8", "-l", *options, str(page))
    environment = {**os.environ, "LC_ALL": "C.UTF-8", "MANWIDTH": "100"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True)


@pytest.fixture(scope="module")
def manual(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the pages."""
    directory = tmp_path_factory.mktemp("manual")
    done = make(directory)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    return directory


@pytest.fixture(scope="module")
def told(manual: Path) -> dict[str, str]:
    """Return what each page says, with single spaces."""
    return {path.name: _words(show(path).stdout) for path in manual.glob("man?/*")}


def test_there_is_a_page_for_everything(manual: Path) -> None:
    names = {f"aiosystemd-{command}" for command in COMMANDS}
    assert {path.name for path in (manual / "man1").iterdir()} == {
        f"{name}.1" for name in ("aiosystemd", "aiosystemd-serve", *names)
    }
    assert [path.name for path in (manual / "man5").iterdir()] == ["aiosystemd.toml.5"]


def test_man_warns_of_nothing(manual: Path) -> None:
    for path in manual.glob("man?/*"):
        done = show(path, "-Tutf8", "-Z")
        assert done.stderr == "", path.name
        assert done.stdout


def test_warnings_are_seen(tmp_path: Path) -> None:
    page = tmp_path / "example.1"
    page.write_text(".TH EXAMPLE 1\n.SH NAME\nexample \\- example\n.NOSUCHMACRO\n")
    assert "NOSUCHMACRO" in show(page, "-Tutf8", "-Z").stderr


def test_apropos_finds_each_page(manual: Path) -> None:
    for path in manual.glob("man?/*"):
        done = subprocess.run((require("lexgrog"), path), capture_output=True, text=True, check=True)
        assert re.fullmatch(rf'{re.escape(str(path))}: "{re.escape(path.stem)} - [a-z].*[^.]"\n', done.stdout)


def test_no_name_is_divided(told: dict[str, str]) -> None:
    assert {name for name, text in told.items() if not text.isascii()} <= {"aiosystemd.toml.5"}
    assert "\u2010" not in told["aiosystemd.toml.5"]


def test_every_other_page_of_ours_that_is_named_is_there(told: dict[str, str]) -> None:
    named = {name for text in told.values() for name in re.findall(r"\baiosystemd[\w.-]*\(\d\)", text)}
    assert named == {f"{stem}({section})" for stem, _, section in (name.rpartition(".") for name in told)}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_is_told_of_as_its_help_tells(told: dict[str, str], command: str) -> None:
    text = told[f"aiosystemd-{command}.1"]
    parsed = typer.main.get_command(cli.app).commands[command]  # type: ignore[attr-defined]
    for paragraph in parsed.help.split("\n\n"):
        assert _plain(paragraph.removeprefix("Example: ")) in text
    assert text.count(f" aiosystemd {command} [OPTION]...") == 1
    for taken in parsed.params:
        names = ", ".join(name for name in (*taken.opts, *taken.secondary_opts) if name.startswith("-"))
        metavar = taken.metavar or ""
        tag = f"{names} {metavar}".strip() if names else metavar.strip("[].")
        assert f" {tag} {_plain(taken.help)}" in text, taken.name


def test_arguments_and_defaults_are_told(told: dict[str, str]) -> None:
    assert "aiosystemd check [OPTION]... [FILE]... DESCRIPTION" in told["aiosystemd-check.1"]
    assert "aiosystemd doctor [OPTION]... [FILE] DESCRIPTION" in told["aiosystemd-doctor.1"]
    assert "aiosystemd scale [OPTION]... NAME COUNT DESCRIPTION" in told["aiosystemd-scale.1"]
    assert "NAME.toml. Default: aiosystemd.toml." in told["aiosystemd-doctor.1"]
    assert "Port on 127.0.0.1 to serve on. Default: 8080." in told["aiosystemd-up.1"]
    assert "is watched. Default: 5." in told["aiosystemd-rollout.1"]


def test_the_program_is_told_of(told: dict[str, str]) -> None:
    text = told["aiosystemd.1"]
    for command in COMMANDS:
        assert f" aiosystemd-{command}(1) " in text
    for option in ("--version", "--help", "--show-completion", "--install-completion", "/etc/aiosystemd"):
        assert option in text


def test_every_option_of_the_runtime_is_told_of(told: dict[str, str]) -> None:
    command = (sys.executable, "-m", "aiosystemd.runtime", "--help")
    done = subprocess.run(command, env={**os.environ, "COLUMNS": "1000"}, capture_output=True, text=True, check=True)
    options = re.findall(r"^  (?:-h, )?(--[a-z-]+)(?: (\S+))?\s+(\S.+)$", done.stdout, re.MULTILINE)
    assert len(options) > 15
    for option, value, description in options:
        tag = f"{option} {value.strip('{}').replace(',', '|')}".strip()
        assert f" {tag} {description[:1].upper()}{description[1:]}" in told["aiosystemd-serve.1"]
    assert "Exit status: 0" in done.stdout
    assert "EXIT STATUS 0 after" in told["aiosystemd-serve.1"]


def test_every_key_of_the_deployment_file_is_told_of(told: dict[str, str]) -> None:
    text, schema = told["aiosystemd.toml.5"], json_schema()
    tables = {
        "Before the first header": schema,
        **{f"[{path}]": schema["$defs"][name] for path, name in _tables(schema)},
    }
    assert len(tables) == len(schema["$defs"]) + 1
    for header, table in tables.items():
        _, found, rest = text.partition(f" {header} {_plain(table['description'])} ")
        assert found, header
        for key, about in table["properties"].items():
            if not _refers(about):
                assert re.search(rf" {key} = \S.*? {re.escape(_plain(about['description']))}", f" {rest}"), key


def test_limits_and_defaults_are_told(told: dict[str, str]) -> None:
    for words in (
        'instances = INTEGER from 1 to 1000 or "auto"',
        "port = INTEGER from 1 to 65535",
        "max_exposure = NUMBER from 0 to 10",
        'Addresses to listen on. Default: ["80", "[::]:80"].',
        'restart = "always" or "on-failure"',
        "static = { PREFIX = PROXY_PATH, ... }",
        "SECONDS A number of seconds, to the millisecond. Above 0, up to 604800.",
        "called by it. Required.",
    ):
        assert words in told["aiosystemd.toml.5"]


def test_every_rule_between_keys_is_told_of(told: dict[str, str]) -> None:
    described = list(rules.described())
    assert all(described)
    for rule in described:
        assert _plain(rule) in told["aiosystemd.toml.5"]


@pytest.mark.parametrize("example", [file.SMALLEST, file.LARGER])
def test_the_examples_are_right(tmp_path: Path, example: str) -> None:
    path = tmp_path / "example.toml"
    path.write_text(example)
    assert load(path)[1] == ()


def test_every_variable_of_the_environment_is_told_of(told: dict[str, str]) -> None:
    runtime = {name for path in (PACKAGE / "runtime").glob("*.py") for name in _variables(path)} | {INSTANCE_VARIABLE}
    tool = {name for path in PACKAGE.rglob("*.py") if "runtime" not in path.parts for name in _variables(path)}
    assert {"NO_COLOR", "XDG_STATE_HOME"} <= tool
    assert "NOTIFY_SOCKET" in runtime
    assert {name for name in tool if not re.search(rf"\b{name}\b", told["aiosystemd.1"])} == set()
    assert {name for name in runtime if not re.search(rf"\b{name}\b", told["aiosystemd-serve.1"])} == set()


def test_the_same_sources_give_the_same_bytes(manual: Path, tmp_path: Path) -> None:
    assert make(tmp_path, PYTHONHASHSEED="1", LC_ALL="C", TZ="Asia/Tokyo", COLUMNS="40").returncode == 0
    for path in manual.glob("man?/*"):
        assert (tmp_path / path.relative_to(manual)).read_bytes() == path.read_bytes()


def test_a_second_run_writes_nothing(manual: Path) -> None:
    before = _stamps(manual)
    assert make(manual).returncode == 0
    assert _stamps(manual) == before


@pytest.mark.parametrize(
    ("arguments", "status"), [((), 2), (("a", "b"), 2), (("--no-such-option",), 2), (("--help",), 0)]
)
def test_usage(arguments: tuple[str, ...], status: int) -> None:
    done = subprocess.run(
        (sys.executable, "-m", "aiosystemd.manual", *arguments), capture_output=True, text=True, check=False
    )
    assert done.returncode == status
    assert "usage: python3 -m aiosystemd.manual DIR" in (done.stderr if status else done.stdout)


def test_what_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "man1").write_text("")
    done = make(tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(rf"{re.escape(str(tmp_path))}/man1/?.*: Not a directory\n", done.stderr)


def test_nothing_of_what_serves_is_needed() -> None:
    code = "import sys, aiosystemd.manual as m; list(m.pages('1')); print(*sys.modules)"
    done = subprocess.run((sys.executable, "-c", code), capture_output=True, text=True, check=True)
    assert not {"aiohttp", "asyncio", "systemd", "uvloop"} & set(done.stdout.split())


def _stamps(directory: Path) -> dict[Path, tuple[int, int]]:
    """Return what tells that a file or directory was not touched."""
    return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in directory.rglob("*")}


def _words(text: str) -> str:
    return " ".join(text.split())


def _plain(text: str) -> str:
    return _words(text.replace("``", ""))


def _tables(table: dict[str, object], path: str = "") -> Iterator[tuple[str, str]]:
    """Yield the header of each table and its name in the schema."""
    schema = json_schema()["$defs"]
    properties = table["properties"]
    assert isinstance(properties, dict)
    for key, about in properties.items():
        if name := _refers(about):
            yield f"{path}{key}", name
            yield from _tables(schema[name], f"{path}{key}.")


def _refers(about: dict[str, object]) -> str:
    found = re.search(r"#/\$defs/(\w+)", str(about))
    return found[1] if found else ""


def _variables(path: Path) -> Iterator[str]:
    """Yield the names of variables that a module asks the environment for."""
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Call(
                func=ast.Attribute(value=value, attr="get" | "pop"), args=[ast.Constant(value=str(name)), *_]
            ):
                if ast.unparse(value) == "os.environ":
                    yield name
            case ast.Subscript(value=value, slice=ast.Constant(value=str(name))) if ast.unparse(value) == "os.environ":
                yield name
            case ast.Constant(value=str(name)) if name.startswith("XDG_"):
                yield name
