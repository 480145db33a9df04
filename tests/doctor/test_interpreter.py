"""The interpreter and the application's directory, and the import of the application where no systemd runs."""

import os
import pwd
import sys
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import pytest

from aiosystemd.doctor import attempt, interpreter, trial
from aiosystemd.doctor.identity import Identity
from aiosystemd.doctor.subject import Interpreter, Subject
from tests.doctor.hosts import editor, says, seen_by_root, stand_in, subject, told

_TOML = """\
python = "{python}"
directory = "{directory}"
service.user = "daemon"
sandbox = {{ home = true, shared_tmp = true }}
timeouts.start = 20
"""
_FINE = "application can be imported as "


@pytest.fixture(autouse=True)
def _as_this_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run as who runs the tests, whose interpreter nobody else may be able to reach."""
    seen_by_root(monkeypatch)
    me = Identity.of_user(pwd.getpwuid(os.geteuid()).pw_name)
    user = cached_property(lambda _: me)
    user.__set_name__(Subject, "user")
    monkeypatch.setattr(Subject, "user", user)


def _site(directory: Path, toml: str = "", python: str = sys.executable, code: str | None = None) -> Subject:
    (directory / "app.py").write_text(code or "from aiohttp import web\napplication = web.Application()\n")
    return subject(directory, _TOML.format(python=python, directory=directory) + toml)


def test_interpreter_with_everything_is_fine(tmp_path: Path) -> None:
    s = _site(tmp_path, 'server.loop = "uvloop"\n')
    (finding,) = interpreter.libraries(s)
    number = ".".join(map(str, sys.version_info[:3]))
    assert finding.severity == "fine"
    assert finding.what.startswith(f"{sys.executable} is Python {number} with aiosystemd {version('aiosystemd')}")
    (finding,) = interpreter.reach(s)
    assert told(finding) == ("fine", f"{tmp_path} and {sys.executable} can be reached by {s.user.name}", "")


@pytest.mark.parametrize(
    ("found", "severity", "what", "mend"),
    [
        ({"version": (3, 10, 4)}, "error", "is Python 3.10.4; 3.11 is the oldest supported", None),
        ({"version": ()}, "error", "cannot be run by", None),
        ({"failures": {"aiohttp": "No module"}}, "error", "cannot import aiohttp: No module", "'aiohttp>=3.11,<4'"),
        ({"failures": {"uvloop": "No module"}}, "error", "cannot import uvloop: No module", "uvloop"),
        ({"versions": {"aiohttp": "3.8.1"}}, "error", "has aiohttp 3.8.1; 3.11 or newer is needed, below 4", "<4'"),
        ({"versions": {"aiosystemd": "0.0.1"}}, "warning", "units may ask for what it has not", "aiosystemd[serve]=="),
        ({"managed": True, "failures": {"uvloop": "No"}}, "error", "cannot import uvloop: No", "python3 -m venv"),
    ],
)
def test_interpreter_that_lacks_something(  # noqa: PLR0913 (a table)
    *,
    found: dict[str, object],
    severity: str,
    what: str,
    mend: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    s = _site(tmp_path, 'server.loop = "uvloop"\n')
    right: dict[str, object] = {
        "version": (3, 13, 5),
        "versions": {"aiosystemd": version("aiosystemd"), "aiohttp": "3.11.16", "systemd-python": "235", "uvloop": ""},
        "failures": dict.fromkeys(("aiosystemd", "aiohttp", "systemd-python", "uvloop"), ""),
    }
    for key, value in found.items():
        right[key] = {**right[key], **value} if isinstance(value, dict) else value  # type: ignore[dict-item]
    python = cached_property(lambda _: Interpreter(**right))  # type: ignore[arg-type]
    python.__set_name__(Subject, "interpreter")
    monkeypatch.setattr(Subject, "interpreter", python)
    (finding,) = interpreter.libraries(s)
    assert finding.severity == severity
    assert what in finding.what
    assert (editor(s, 3) if mend is None else mend) in finding.mend


@pytest.mark.parametrize(
    ("script", "words"),
    [(says("no such option", 2) + "; exit 3", "no such option"), ("exit 3", "exit status 3"), (says("{}"), "status 0")],
)
def test_program_that_is_no_python_is_told_in_its_words(
    script: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(tmp_path, monkeypatch, "python3", script)
    (finding,) = interpreter.libraries(_site(tmp_path, python=f"{tmp_path}/programs/python3"))
    assert "cannot be run by" in finding.what
    assert words in finding.what


def test_what_is_missing_is_made_by_the_command_that_is_told(tmp_path: Path) -> None:
    s = subject(tmp_path, _TOML.format(python=f"{tmp_path}/venv/bin/python", directory=f"{tmp_path}/code"))
    assert list(map(told, interpreter.obstacles(s))) == [
        ("error", f"{tmp_path}/code does not exist", f"mkdir --parents {tmp_path}/code"),
        (
            "error",
            f"{tmp_path}/venv/bin/python does not exist",
            f"python3 -m venv {tmp_path}/venv && {tmp_path}/venv/bin/pip install 'aiosystemd[serve,uvloop]'",
        ),
    ]
    assert not list(interpreter.libraries(s))
    assert not list(attempt.imports(s))
    elsewhere = subject(tmp_path, 'python = "/usr/bin/python9"\n')
    (finding,) = interpreter.obstacles(elsewhere)
    assert told(finding) == ("error", "/usr/bin/python9 does not exist", editor(elsewhere, 3))


def test_links_into_hidden_places_are_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interpreter, "_HOMES", (str(tmp_path),))
    monkeypatch.setattr(interpreter, "_TEMPORARY", (str(tmp_path),))
    s = _site(tmp_path, python="/usr/bin/env")
    hidden = s.deployment.sandbox.model_copy(update={"home": False, "shared_tmp": False})
    build = s.build._replace(deployment=s.deployment.model_copy(update={"sandbox": hidden}))
    shown = Subject(s.source, build, s.host)
    found = [each.what for each in interpreter._hidden(shown, "directory", str(tmp_path))]
    assert found == [
        f"{tmp_path} leads to {tmp_path}, a home directory, which the sandbox hides",
        f"{tmp_path} leads to {tmp_path}, of which instances get an empty directory of their own",
    ]


def test_directory_that_the_user_may_not_enter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Identity, "blocked", lambda _, path, *, read: str(tmp_path.parent) if read else path)
    s = _site(tmp_path)
    name = s.user.name
    assert list(map(told, interpreter.obstacles(s))) == [
        (
            "error",
            f"{tmp_path.parent} cannot be entered by {name}, on the way to {tmp_path}",
            f"chmod o+x {tmp_path.parent}",
        ),
        ("error", f"{sys.executable} cannot be run by {name}", f"chmod o+rx {sys.executable}"),
    ]


def test_interpreter_on_a_disk_without_programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_flag=os.ST_NOEXEC))
    (finding,) = interpreter.obstacles(_site(tmp_path))
    assert "which is mounted with noexec" in finding.what
    assert finding.mend.startswith("mount --options remount,exec /")


def test_nothing_is_claimed_of_a_user_that_cannot_be_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Identity, "can_be_taken", property(lambda _: False))
    s = _site(tmp_path)
    assert {each.severity for each in interpreter.obstacles(s)} == {"unseen"}
    (finding,) = attempt.imports(s)
    what = f"whether app:application can be imported: only root can become {s.user.name}"
    assert told(finding) == ("unseen", what, "")


def test_application_that_can_be_imported_is_fine(tmp_path: Path) -> None:
    s = _site(tmp_path)
    (finding,) = attempt.imports(s)
    assert told(finding) == ("fine", f"app:{_FINE}{s.user.name}", "")


@pytest.mark.parametrize(
    ("code", "what", "line"),
    [
        ("import nowhere\n", "ModuleNotFoundError: No module named 'nowhere'", 1),
        ("\napplicatoin = 1\n", '"app" has no attribute "application" (did you mean "applicatoin"?)', 0),
        ("application = 1\n", '"app:application" is a int, not an aiohttp.web.Application or a function', 0),
        ("import os\nos._exit(3)\n", "the import ends the process: exit status 3", 0),
        ("import sys\nprint('aiosystemd-doctor: x')\nsys.exit('gone')\n", "SystemExit: gone", 3),
    ],
)
def test_application_that_cannot_be_served_is_told_with_its_place(
    code: str, what: str, line: int, tmp_path: Path
) -> None:
    s = _site(tmp_path, code=code)
    (finding,) = attempt.imports(s)
    assert finding.severity == "error"
    assert what in finding.what
    at = f"+{line} {tmp_path}/app.py" if line else f"+2 {s.source.file}"
    assert finding.mend == f'"${{EDITOR:-vi}}" {at}'


def test_import_that_never_ends_is_told_with_what_it_waits_for(tmp_path: Path) -> None:
    code = "import threading\nthreading.Event().wait()\n"
    s = _site(tmp_path, "", code=code)
    timeouts = s.deployment.timeouts.model_copy(update={"start": 2.0})
    build = s.build._replace(deployment=s.deployment.model_copy(update={"timeouts": timeouts}))
    (finding,) = attempt.imports(Subject(s.source, build, s.host))
    assert f'it waits in File "{tmp_path}/app.py", line 2' in finding.what


def test_interpreter_that_does_not_begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempt, "libraries", lambda _: ())
    stand_in(tmp_path, monkeypatch, "python3", says("broken", 2) + "; exit 1")
    (finding,) = attempt.imports(_site(tmp_path, python=f"{tmp_path}/programs/python3"))
    assert "it cannot be run: broken" in finding.what
    (tmp_path / "programs/python3").write_text("#!/nowhere\n")
    (finding,) = attempt.imports(_site(tmp_path, python=f"{tmp_path}/programs/python3"))
    assert "No such file or directory" in finding.what


def test_what_only_systemd_passes_is_not_tried_without(tmp_path: Path) -> None:
    s = _site(tmp_path, 'service.credentials = { token = "/etc/token" }\n')
    (finding,) = attempt.imports(s)
    assert finding.severity == "unseen"
    assert "passed by systemd, which does not run here" in finding.what


_EVERYTHING = """
service.group = "daemon"
service.groups = ["daemon"]
service.environment_files = ["/etc/shop.env"]
service.credentials = { token = "/etc/token" }
service.memory_max = "1G"
service.tasks_max = 100
service.environment = { A = "b" }
service.directives = { Nice = 5, CPUSchedulingResetOnFork = true, ExecStartPre = "/bin/true" }
"""


def _answering(directory: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> Subject:
    """Return a site of a machine whose systemd runs, and whose systemd-run does what is given."""
    seen_by_root(monkeypatch, systemd=True)
    stand_in(directory, monkeypatch, "systemd-run", f'printf "%s\\n" "$@" >{directory}/told; {script}')
    stand_in(directory, monkeypatch, "systemctl", "true")
    return _site(directory, _EVERYTHING)


def test_import_under_systemd_has_the_view_of_an_instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    s = _answering(tmp_path, monkeypatch, says(trial.MARK + '""'))
    (finding,) = attempt.imports(s)
    assert finding.what == f"app:{_FINE}{s.user.name}, in the sandbox"
    options = (tmp_path / "told").read_text().splitlines()
    for wanted in (
        *("User=daemon", "Group=daemon", "SupplementaryGroups=daemon", "NoNewPrivileges=yes", "Nice=5"),
        *("CPUSchedulingResetOnFork=yes", "MemoryMax=1073741824", "TasksMax=100", "LoadCredential=token:/etc/token"),
        *("EnvironmentFile=/etc/shop.env", "ReadWritePaths=-/tmp"),
    ):
        assert f"--property={wanted}" in options
    assert "--setenv=A=b" in options
    assert not any("ExecStartPre" in option for option in options)


@pytest.mark.parametrize(
    ("script", "severity", "what"),
    [
        (says("Failed to connect to bus", 2) + "; exit 1", "unseen", "systemd-run: Failed to connect to bus"),
        ("exit 1", "error", "systemd cannot start it: Failed at step USER"),
    ],
)
def test_import_that_systemd_does_not_begin(
    script: str, severity: str, what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    s = _answering(tmp_path, monkeypatch, script)
    stand_in(tmp_path, monkeypatch, "journalctl", says("Failed at step USER"))
    (finding,) = attempt.imports(s)
    assert finding.severity == severity
    assert what in finding.what
