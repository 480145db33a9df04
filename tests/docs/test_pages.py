"""What the pages show is so: blocks, words of commands, links. Commands for a server: tests/container/test_docs.py."""

import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from aiosystemd import cli
from aiosystemd.build import build_all
from aiosystemd.errors import ProblemsError
from aiosystemd.host import Host, Manager
from aiosystemd.load import load
from aiosystemd.model import Sandbox
from aiosystemd.runtime.options import parser as runtime_parser
from tests.docs.exceptions import NOT_RUN
from tests.docs.pages import (
    PAGES,
    TOP,
    Block,
    anchors,
    bare,
    blocks,
    commands,
    inline,
    links,
    name,
    prose,
    without_prompt,
)
from tests.docs.places import on_the_host
from tests.tools import own_command, require

SMALLEST = 'name = "example"\napp = "my_app_module:my_web_app"\n'
HOSTS = [
    Host(systemd=systemd, nginx=(1, 26), cpus=2, ipv6=True, manager=manager)
    for manager in Manager
    for systemd in (252, 257)
]
COMMANDS = typer.main.get_command(cli.app).commands  # type: ignore[attr-defined]

_EXPOSURE = re.compile(r"^\| (?:`(sandbox\..+?)`|nothing) \| (\d\.\d) \|", re.MULTILINE)

every_page = pytest.mark.parametrize("page", PAGES, ids=name)


@every_page
def test_links_lead_somewhere(page: Path) -> None:
    for link in links(page):
        if re.match(r"https?:|mailto:", link):
            continue
        file, _, anchor = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_every_page_is_in_the_index() -> None:
    index = TOP / "docs/README.md"
    led_to = {(index.parent / link.partition("#")[0]).resolve() for link in links(index)}
    assert {page for page in PAGES if page != index} - led_to == set()


def test_a_heading_has_the_anchor_that_a_browser_finds(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Whose file is it?\n\n```sh\n# no heading\n```\n\n## `proxy.tls`, and HTTP/2\n")
    assert anchors(page) == {"whose-file-is-it", "proxytls-and-http2"}


@every_page
def test_every_command_is_written_as_one(page: Path) -> None:
    assert [(block.place, line) for block in blocks(page) for line in without_prompt(block)] == []


def test_what_is_not_run_is_on_a_page() -> None:
    shown = {bare(command.text) for page in PAGES for block in blocks(page) for command in commands(block)}
    assert set(NOT_RUN) - shown == set()


@every_page
def test_words_of_commands_parse(page: Path) -> None:
    shown = [command.text for block in blocks(page) for command in commands(block)]
    for code in (*inline(page), *shown):
        for words in (_words(part) for part in re.split(r"\n|&&|\|\|?|;", code)):
            match words:
                case ["aiosystemd", name, *rest] if not name.startswith("-"):
                    assert _wrong(name, rest) == "", code
                case ["aiosystemd-serve", *rest]:
                    options = {option for action in runtime_parser()._actions for option in action.option_strings}
                    assert {word.partition("=")[0] for word in rest if word.startswith("--")} <= options, code


@pytest.mark.parametrize(
    ("text", "wrong"),
    [("check --jsom", "No such option"), ("scale a 1 2", "too many words"), ("start", "no such command"), ("up", "")],
)
def test_words_that_are_wrong_are_found(text: str, wrong: str) -> None:
    name, *rest = text.split()
    assert wrong in _wrong(name, rest)
    assert bool(wrong) == bool(_wrong(name, rest))


@every_page
def test_deployment_files_load(page: Path, tmp_path: Path) -> None:
    for block in blocks(page):
        if block.language == "toml" and not (block.file or "").endswith(".conf"):
            _, problems = load(_deployment(block, tmp_path))
            assert [str(problem) for problem in problems if problem.severity == "error"] == [], block.place


@every_page
def test_configuration_that_is_shown_is_what_is_generated(page: Path, tmp_path: Path) -> None:
    shown = blocks(page)
    for number, block in enumerate(shown):
        if block.language in {"ini", "nginx", "haproxy", "systemd"} and not block.file:
            before = [each for each in shown[:number] if each.language == "toml"]
            files = list(_generated(_deployment(before[-1], tmp_path) if before else _smallest(tmp_path)))
            assert any(_lines(block.text) in file for file in files), block.place


def test_configuration_that_is_not_generated_is_found(tmp_path: Path) -> None:
    files = list(_generated(_smallest(tmp_path)))
    assert any(_lines("  listen 80;\n  listen [::]:80;\n") in file for file in files)
    assert not any(_lines("listen 80;\nserver_name $hostname;\n") in file for file in files)


@every_page
def test_tests_that_prove_something_are_there(page: Path) -> None:
    named = set(re.findall(r"`(test_\w+(?:\.py)?)`", prose(page)))
    files = [*(TOP / "tests").rglob("test_*.py")]
    functions = {name for file in files for name in re.findall(r"def (test_\w+)\(", file.read_text(encoding="utf-8"))}
    assert named - functions - {file.name for file in files} == set()


@pytest.mark.parametrize("page", ["zero-loss.md"])
def test_figures_are_those_that_were_measured(page: str) -> None:
    measured = _rows(TOP / "docs/benchmarks/README.md")
    shown = _rows(TOP / "docs" / page)
    assert len(shown) > 1
    assert shown - measured == set()


def test_exposures_are_those_of_systemd(tmp_path: Path) -> None:
    require("systemd-analyze")
    shown = dict(_EXPOSURE.findall((TOP / "docs/sandbox.md").read_text(encoding="utf-8")))
    keys = {key.split(" ")[0].removeprefix("sandbox.") for key in shown if key}
    assert keys == set(Sandbox.model_fields) - {"max_exposure"}
    for key, exposure in shown.items():
        file = tmp_path / "example.toml"
        file.write_text(f'{SMALLEST}service.user = "example"\n{key}\n')
        (problems, security) = _exposure(file)
        assert (problems, security) == ("", exposure), key


@pytest.mark.parametrize("page", [*filter(on_the_host, PAGES)], ids=name)
def test_commands_that_need_no_server_do_what_the_page_says(page: Path, tmp_path: Path) -> None:
    directory = tmp_path / "shop"  # the name that init gives to what it finds there
    directory.mkdir()
    path = f"{Path(own_command('aiosystemd')).parent}:{os.environ['PATH']}"
    for block in blocks(page):
        if block.file:
            (directory / block.file).write_text(block.text)
    for block in blocks(page):
        for command in commands(block):
            done = subprocess.run(
                ("sh", "-ec", instead(command.text)),
                cwd=directory,
                env={**os.environ, "PATH": path, "VIRTUAL_ENV": "", "LC_ALL": "C.UTF-8"},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == command.status, f"{command.place}\n{done.stdout}{done.stderr}"


def _exposure(file: Path) -> tuple[str, str]:
    done = subprocess.run((own_command("aiosystemd"), "check", file), capture_output=True, text=True, check=False)
    found = re.search(r"exposure (\d+\.\d)", done.stdout)
    return ("" if done.returncode == 0 else done.stderr), found[1] if found else ""


def _rows(page: Path) -> set[str]:
    """Return the rows of the table of what was lost under load."""
    lines = page.read_text(encoding="utf-8").splitlines()
    return {re.sub(r"\s+", " ", line) for line in lines if re.match(r"\| [\w ,:-]+: ", line)}


def instead(text: str) -> str:
    """Return what is run for a command."""
    return NOT_RUN[bare(text)].run if bare(text) in NOT_RUN else text


def _words(code: str) -> list[str]:
    try:
        return shlex.split(code, comments=True)
    except ValueError:  # an apostrophe: no command
        return []


def _wrong(name: str, rest: list[str]) -> str:
    """Tell what is wrong with the words behind ``aiosystemd NAME``; those in brackets may be left out."""
    command = COMMANDS.get(name.rstrip(",."))
    if command is None:
        return f"no such command: {name}"
    words = [word.strip("[].").replace("COUNT", "1") for word in rest]
    context = command.context_class(command, info_name=name)
    try:
        _, more, _ = command.make_parser(context).parse_args([word for word in words if word])
    except Exception as error:  # noqa: BLE001 (of typer's own click, which has no public name)
        return str(error)
    return f"too many words: {more}" if more else ""


def _deployment(block: Block, directory: Path) -> Path:
    """Write a deployment file that is shown, or a part of one, which then follows the smallest one."""
    whole = re.search(r"^name *=", block.text, re.MULTILINE) is not None
    file = directory / "example.toml"
    file.write_text(block.text if whole else SMALLEST + block.text)
    return file


def _smallest(directory: Path) -> Path:
    file = directory / "example.toml"
    file.write_text(SMALLEST)
    return file


def _generated(file: Path) -> Iterator[str]:
    """Yield every file that is generated, for every manager that can have the deployment."""
    for host in HOSTS:
        try:
            (built,) = build_all([str(file)], host)
        except ProblemsError:
            continue
        for text in built.tree.values():
            yield _lines(text.content.decode())


def _lines(text: str) -> str:
    """Return the text without what indents it, an empty line or a comment."""
    lines = (line.strip() for line in text.splitlines())
    return "".join(f"\n{line}" for line in lines if line and not line.startswith("#")) + "\n"
