"""The program as a user runs it: exit statuses, what is printed where, and what never is."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Protocol

import pytest
import typer

from aiosystemd import cli, scope
from aiosystemd.errors import Location, Problem, ProblemsError
from tests.tools import own_command, require

PROGRAM = own_command("aiosystemd")
COMMANDS = [command.name or command.callback.__name__ for command in cli.app.registered_commands if command.callback]

GOOD = 'name = "shop"\napp = "shop:app"\n'
BAD = 'name = "shop"\napp = "shop"\n\n[timeouts]\nstop = 1\n'


class Run:
    """One run of the program, in a directory of its own."""

    def __init__(self, directory: Path, arguments: tuple[str, ...], environment: dict[str, str]) -> None:
        variables = {**os.environ, "LC_ALL": "C.UTF-8", "COLUMNS": "120", **environment}
        done = subprocess.run(
            (PROGRAM, *arguments), cwd=directory, env=variables, capture_output=True, check=False, timeout=120
        )
        self.status = done.returncode
        self.out, self.err = done.stdout.decode(), done.stderr.decode()
        assert "Traceback" not in self.err


class Runner(Protocol):
    """Runs the program with arguments and variables."""

    def __call__(self, *arguments: str, **environment: str) -> Run:
        """Run it."""


@pytest.fixture
def run(tmp_path: Path) -> Runner:
    """Run the program beside ``good.toml`` and ``bad.toml``."""
    (tmp_path / "good.toml").write_text(GOOD)
    (tmp_path / "bad.toml").write_text(BAD)
    return lambda *arguments, **environment: Run(tmp_path, arguments, environment)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_an_example(run: Runner, command: str) -> None:
    done = run(command, "--help")
    assert (done.status, done.err) == (0, "")
    assert f"Example: aiosystemd {command}" in done.out
    assert run(command, "-h").out == done.out


@pytest.mark.parametrize("command", COMMANDS)
def test_the_example_is_one_that_the_program_understands(command: str) -> None:
    parsed = typer.main.get_command(cli.app).commands[command]  # type: ignore[attr-defined]
    (example,) = re.findall(rf"^Example: aiosystemd {command}(.*)$", parsed.help, re.MULTILINE)
    arguments = shlex.split(example.partition(" >")[0])
    assert parsed.make_context(command, arguments).args == []


@pytest.mark.parametrize("command", COMMANDS)
def test_help_says_what_everything_is(command: str) -> None:
    for parameter in typer.main.get_command(cli.app).commands[command].params:  # type: ignore[attr-defined]
        assert parameter.help.endswith((".", "]")), parameter.name
        flag = getattr(parameter, "is_flag", False)
        assert flag or parameter.metavar, f"{parameter.name} has no word for its value"


def test_no_command_is_a_wish_for_help(run: Runner) -> None:
    text = run("--help")
    assert (text.status, text.err) == (0, "")
    assert all(command in text.out for command in COMMANDS)
    alone = run()
    assert alone.out + alone.err == text.out
    assert alone.status in {0, 2}


def test_the_version_is_printed(run: Runner) -> None:
    done = run("--version")
    assert (done.status, done.err) == (0, "")
    assert re.fullmatch(r"aiosystemd \d+\.\d+\.\d+\n", done.out)


def test_a_good_file_is_fine(run: Runner) -> None:
    done = run("check", "good.toml")
    assert (done.status, done.err) == (0, "")
    assert done.out.startswith("good.toml: systemd-analyze verify: ")


def test_a_bad_file_has_all_its_problems_on_stderr(run: Runner) -> None:
    done = run("check", "bad.toml")
    assert (done.status, done.out) == (1, "")
    assert done.err.splitlines()[:3] == [
        'bad.toml:2:7: app: "shop" is not of the form MODULE:ATTRIBUTE (as in "my_app_module:my_web_app")',
        '    app = "shop"',
        "          ^",
    ]
    assert "bad.toml:5:8: drain (40 s) is longer than stop (1 s)" in done.err


def test_all_files_are_checked(run: Runner) -> None:
    done = run("check", "bad.toml", "missing.toml", "good.toml")
    assert done.status == 1
    assert {line.partition(":")[0] for line in done.err.splitlines() if not line.startswith(" ")} == {
        "bad.toml",
        "missing.toml",
    }
    assert "good.toml: " in done.out


def test_a_warning_is_printed_and_fine(run: Runner, tmp_path: Path) -> None:
    (tmp_path / "good.toml").write_text(GOOD + 'service.environment.TOKEN = "x"\n')
    for command in (("check",), ("generate", "--output", "tree")):
        done = run(*command, "good.toml")
        assert done.status == 0
        assert "good.toml:3:29: warning: TOKEN looks like a secret" in done.err


def test_without_a_file_it_is_the_one_of_this_directory(run: Runner, tmp_path: Path) -> None:
    for command in ("check", "generate"):
        done = run(command)
        assert (done.status, done.out) == (1, "")
        assert done.err.startswith("aiosystemd.toml: no such file (give the path of a deployment file")
    (tmp_path / "aiosystemd.toml").write_text(GOOD)
    assert run("check").out.startswith("aiosystemd.toml: ")


def test_a_name_is_a_file_of_the_host(run: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = run("check", "no-such-deployment")
    assert done.err.startswith("/etc/aiosystemd/no-such-deployment.toml: no such file")
    monkeypatch.setattr(scope, "_current", replace(scope.SYSTEM, files=PurePosixPath(tmp_path)))
    monkeypatch.setattr(sys, "argv", ["aiosystemd", "generate", "good", "--output", str(tmp_path / "tree")])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert not caught.value.code
    assert (tmp_path / "tree/etc/systemd/system/shop@.service").is_file()


def test_check_gives_json_of_a_stable_shape(run: Runner) -> None:
    done = run("check", "--json", "bad.toml", "good.toml")
    assert (done.status, done.err) == (1, "")
    bad, good = json.loads(done.out)
    assert bad["file"] == "bad.toml"
    assert bad["checkers"] == []
    assert bad["problems"][0] == {
        "file": "bad.toml",
        "line": 2,
        "column": 7,
        "severity": "error",
        "message": 'app: "shop" is not of the form MODULE:ATTRIBUTE',
        "hint": 'as in "my_app_module:my_web_app"',
    }
    assert good["file"] == "good.toml"
    assert good["problems"] == []
    names = ["systemd-analyze verify", "systemd-analyze security", "nginx -t"]
    assert [checker["name"] for checker in good["checkers"]] == names
    assert all(set(checker) == {"name", "verdict", "note"} for checker in good["checkers"])
    assert {checker["verdict"] for checker in good["checkers"]} <= {"passed", "refused", "not run"}


def test_json_of_a_good_file_is_fine(run: Runner) -> None:
    done = run("check", "--json", "good.toml")
    assert (done.status, done.err) == (0, "")
    assert len(json.loads(done.out)) == 1


def test_a_missing_checker_is_said_to_be(run: Runner) -> None:
    done = run("check", "good.toml", PATH="/nowhere")
    assert done.status == 0
    assert "good.toml: systemd-analyze verify: not run, not installed" in done.out


def test_generate_says_what_it_did_and_then_nothing_new(run: Runner, tmp_path: Path) -> None:
    first = run("generate", "good.toml")
    assert (first.status, first.err) == (0, "")
    lines = [line.split(" ", 1) for line in first.out.splitlines()]
    assert {word for word, _ in lines} == {"created"}
    assert {path.strip() for _, path in lines} == {
        str(path.relative_to(tmp_path)) for path in (tmp_path / "build").rglob("*") if path.is_file()
    }
    second = run("generate", "good.toml")
    assert {line.split(" ")[0] for line in second.out.splitlines()} == {"unchanged"}
    assert len(second.out.splitlines()) == len(lines)


def test_generate_writes_nothing_when_anything_is_wrong(run: Runner, tmp_path: Path) -> None:
    done = run("generate", "good.toml", "bad.toml")
    assert (done.status, done.out) == (1, "")
    assert not (tmp_path / "build").exists()


def test_generate_takes_several_files(run: Runner, tmp_path: Path) -> None:
    (tmp_path / "blog.toml").write_text(GOOD.replace("shop", "blog") + 'proxy.server_names = ["blog.example"]\n')
    assert run("generate", "good.toml", "blog.toml").status == 0
    names = {path.name for path in (tmp_path / "build/etc/systemd/system").iterdir()}
    assert {"shop@.service", "blog@.service"} < names


@pytest.mark.parametrize("command", ["rollout", "drill"])
def test_what_is_wrong_with_a_file_is_told_before_anything_is_done(run: Runner, command: str) -> None:
    done = run(command, "bad.toml")
    assert (done.status, done.out) == (1, "")
    assert done.err.startswith("bad.toml:2:7: app: ")


@pytest.mark.parametrize("command", ["check", "generate"])
def test_two_files_cannot_describe_the_same_deployment(run: Runner, tmp_path: Path, command: str) -> None:
    (tmp_path / "again.toml").write_text(GOOD)
    done = run(command, "good.toml", "again.toml")
    assert done.status == 1
    assert 'again.toml:1:8: the name "shop" is claimed by good.toml too (change it in one of them)\n' in done.err
    assert not (tmp_path / "build").exists()


def test_a_directory_stands_for_the_files_in_it(run: Runner, tmp_path: Path) -> None:
    (tmp_path / "good.toml").rename(tmp_path / "bad.toml")
    (tmp_path / "other.toml").write_text(GOOD.replace("shop", "other") + "proxy.kind = 'none'\n")
    assert run("generate", ".").status == 0
    names = {path.name for path in (tmp_path / "build/etc/systemd/system").iterdir()}
    assert {"shop@.service", "other@.service"} < names
    assert [each["file"] for each in json.loads(run("check", "--json", ".").out)] == ["bad.toml", "other.toml"]


def test_directive_that_the_target_does_not_know_is_refused(run: Runner, tmp_path: Path) -> None:
    (tmp_path / "good.toml").write_text(GOOD + 'service.directives.RestartMode = "direct"\n')
    done = run("generate", "good.toml", "--systemd", "252")
    assert done.status == 1
    assert "good.toml:3:34: service.directives: systemd 252 does not know RestartMode= (since 254)" in done.err


def test_exposure_above_the_limit_is_not_written(run: Runner, tmp_path: Path) -> None:
    (tmp_path / "good.toml").write_text(GOOD + "sandbox.max_exposure = 0.1\n")
    done = run("generate", "good.toml")
    assert done.status == 1
    assert "is above sandbox.max_exposure (0.1)" in done.err
    assert not (tmp_path / "build").exists()


def test_generate_overwrites_nothing_of_others(run: Runner, tmp_path: Path) -> None:
    mine = tmp_path / "build/etc/nginx/conf.d/shop.conf"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine\n")
    done = run("generate", "good.toml")
    assert (done.status, done.out) == (1, "")
    assert done.err.startswith("build/etc/nginx/conf.d/shop.conf: is in the way and was not made by aiosystemd")
    assert [path for path in (tmp_path / "build").rglob("*") if path.is_file()] == [mine]
    forced = run("generate", "good.toml", "--force")
    assert (forced.status, forced.err) == (0, "")
    assert "replaced  build/etc/nginx/conf.d/shop.conf" in forced.out
    assert mine.with_name("shop.conf.aiosystemd-old").read_text() == "mine\n"


def test_two_runs_at_once_leave_a_complete_tree(run: Runner, tmp_path: Path) -> None:
    run("generate", "good.toml", "--output", "alone")
    command = (PROGRAM, "generate", "good.toml", "--output", "together")
    both = [subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL) for _ in range(2)]
    assert [process.wait() for process in both] == [0, 0]
    trees = [
        {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}
        for root in (tmp_path / "alone", tmp_path / "together")
    ]
    assert trees[0] == trees[1]


def test_generate_asks_systemd_about_directives_of_the_users_own(run: Runner, tmp_path: Path) -> None:
    require("systemd-analyze")
    (tmp_path / "good.toml").write_text(GOOD + "service.directives = { Nonsense = 1 }\n")
    done = run("generate", "good.toml")
    assert (done.status, done.out) == (1, "")
    assert re.match(r"/etc/systemd/system/shop@\.service:\d+: Unknown key ", done.err)
    assert not (tmp_path / "build").exists()


def test_generate_says_what_is_next_on_a_live_system_only(run: Runner, tmp_path: Path) -> None:
    assert "next:" not in run("generate", "good.toml").out
    (tmp_path / "link").symlink_to(tmp_path)
    assert "next:" not in run("generate", "good.toml", "--output", "link").out


def test_versions_can_be_asked_for(run: Runner, tmp_path: Path) -> None:
    tls = 'proxy.tls = { certificate = "/a", key = "/b" }\n'
    (tmp_path / "good.toml").write_text(GOOD + tls)
    for version, directive in (("1.22", "listen 443 ssl http2;"), ("1.25.1", "http2 on;")):
        assert run("generate", "good.toml", "--output", version, "--nginx", version, "--systemd", "257").status == 0
        assert directive in (tmp_path / version / "etc/nginx/conf.d/shop.conf").read_text()


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("check", "--no-such-option"), "--no-such-option"),
        (("no-such-command",), "no-such-command"),
        (("check", "--systemd", "251", "good.toml"), "--systemd"),
        (("check", "--systemd", "new", "good.toml"), "--systemd"),
        (("check", "--nginx", "new", "good.toml"), "--nginx"),
        (("generate", "--nginx", "1", "good.toml"), "--nginx"),
        (("generate", "--nginx", "1.18", "good.toml"), "--nginx"),
        (("generate", "--nginx", "-1.30", "good.toml"), "--nginx"),
        (("generate", "--nginx", "1.2²", "good.toml"), "--nginx"),
        (("generate", "--output"), "--output"),
        (("rollout", "--canary", "0", "good.toml"), "--canary"),
        (("rollout", "--pause", "-1", "good.toml"), "--pause"),
        (("rollout", "--pause", "nan", "good.toml"), "--pause"),
        (("rollout", "--timeout", "inf", "good.toml"), "--timeout"),
        (("drill", "--seconds", "x", "good.toml"), "--seconds"),
        (("drill", "--seconds", "1e9", "good.toml"), "--seconds"),
    ],
)
def test_wrong_usage_has_a_status_of_its_own(run: Runner, arguments: tuple[str, ...], word: str) -> None:
    done = run(*arguments)
    assert (done.status, done.out) == (2, "")
    assert word in done.err


@pytest.mark.parametrize(
    "name", ["x" * 5000, ".", "/", "\udcff.toml", "a\nb.toml", "\x1b[31m.toml", "/dev/null/x.toml", "-"]
)
@pytest.mark.parametrize("command", [("check", "--json"), ("generate",)])
def test_no_name_of_a_file_upsets_the_program(run: Runner, command: tuple[str, ...], name: str) -> None:
    done = run(*command, "--", name)
    assert done.status == 1
    assert "\x1b" not in done.err + done.out


def test_a_file_with_a_hostile_name_is_a_file(run: Runner, tmp_path: Path) -> None:
    name = "it's \n\x1b[31m%i$HOME\udcff.toml"
    (tmp_path / name).write_text(GOOD)
    done = run("generate", name)
    assert (done.status, done.err) == (0, "")
    units = (tmp_path / "build/etc/systemd/system").iterdir()
    for path in units:
        assert path.read_text().startswith("# Generated by aiosystemd from it's \\n\\x1b[31m%i$HOME\\udcff.toml; edits")


def test_a_hostile_name_is_printed_in_escapes(run: Runner, tmp_path: Path) -> None:
    name = "a\x1b[31m\udcff.toml"
    (tmp_path / name).write_text(GOOD)
    for command in (("check",), ("check", "--json"), ("generate", "--output", f"tree {name}")):
        done = run(*command, name, PYTHONIOENCODING="utf-8:strict")
        assert (done.status, done.err) == (0, "")
        assert done.out.replace("\n", "").isprintable()


def test_colours_are_for_terminals(run: Runner) -> None:
    assert "\x1b" not in run("check", "bad.toml").err


def test_a_locale_without_unicode_is_no_obstacle(run: Runner, tmp_path: Path) -> None:
    (tmp_path / "good.toml").write_text(GOOD + 'directory = "漢"\n')
    for variables in ({"LC_ALL": "C"}, {"LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}):
        assert run("check", "good.toml", **variables).status == 1


def test_the_schema_is_a_json_schema_with_a_description_for_every_key(run: Runner) -> None:
    done = run("schema")
    assert (done.status, done.err) == (0, "")
    schema = json.loads(done.out)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["type"] == "object"
    assert schema["required"] == ["name", "app"]
    tables = [schema, *schema["$defs"].values()]
    assert len(tables) == 11
    for table in tables:
        assert table["additionalProperties"] is False
        for name, key in table["properties"].items():
            referred = schema["$defs"].get(key.get("$ref", "").removeprefix("#/$defs/"), {})
            assert key.get("description") or referred.get("description"), name


def test_a_reader_that_leaves_is_no_error_to_speak_of() -> None:
    with subprocess.Popen((PROGRAM, "schema"), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.close()
        assert process.stderr.read() == b""
    shell = f"{PROGRAM} schema | head -n 1"
    done = subprocess.run(("sh", "-c", shell), capture_output=True, check=False)
    assert (done.stdout, done.stderr) == (b"{\n", b"")


def test_an_interruption_has_the_shells_status(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "slow.toml")
    # A shell that starts tests in the background has them ignore SIGINT.
    command = (require("env"), "--default-signal=INT", PROGRAM, "check", tmp_path / "slow.toml")
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        writer = os.open(tmp_path / "slow.toml", os.O_WRONLY)  # returns when the program has opened it
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
        os.close(writer)
    assert (process.returncode, out) == (130, "")
    assert "Traceback" not in err


def test_problems_found_on_the_way_end_the_program_with_status_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise ProblemsError(Problem(Location("a.toml", 1, 2), "is wrong", "mend it", source="a = 1"))

    monkeypatch.setattr(cli, "app", fail)
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == 1
    assert capsys.readouterr().err == "a.toml:1:2: is wrong (mend it)\n    a = 1\n     ^\n"


def test_an_interruption_on_the_way_ends_the_program_with_status_130(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "app", interrupted)
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == 130
    assert capsys.readouterr().err == "interrupted\n"
