"""``aiosystemd init`` as a person runs it: on a terminal, without one, again, and where something is in the way."""

import json
import os
import pty
import re
import select
import subprocess
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from aiosystemd.build import build
from aiosystemd.errors import ProblemsError
from aiosystemd.host import Host
from aiosystemd.init import around, choose, document, write
from aiosystemd.init.document import Draft
from tests.init.trees import write as put
from tests.tools import own_command, require

PAGE = Path(__file__).parents[2] / "docs/init.md"
CTRL_C = "\x03"
APP = "from aiohttp import web\napp = web.Application()\n"
COMPUTED = (
    "import os\nfrom aiohttp import web\napp = web.Application()\n"
    "app.router.add_static(os.environ.get('PREFIX', '/static'), 'static')\n"
)


class Run:
    """One run of the program, beside no terminal."""

    def __init__(self, directory: Path, *arguments: str) -> None:
        command = (own_command("aiosystemd"), *arguments)
        environment = {**os.environ, "VIRTUAL_ENV": "", "LC_ALL": "C.UTF-8"}
        done = subprocess.run(
            command,
            cwd=directory,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        self.status, self.out, self.err = done.returncode, done.stdout, done.stderr
        assert "Traceback" not in self.err


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """Return a directory with an application, whose static directory is there."""
    put(tmp_path / "shop", "app.py", APP + "app.router.add_static('/static', 'static')\n")
    (tmp_path / "shop/static").mkdir()
    return tmp_path / "shop"


def test_what_is_written_passes_check_and_a_second_run_changes_nothing(shop: Path) -> None:
    done = Run(shop, "init")
    assert (done.status, done.err) == (0, "")
    assert done.out.splitlines() == [
        "created   aiosystemd.toml: app:app",
        "assumed:  the site answers to the machine's host name (proxy.server_names)",
        f"assumed:  on the server the application is in /srv/shop: instances cannot see {shop} (directory)",
        "next:     aiosystemd check aiosystemd.toml",
    ]
    before = (shop / "aiosystemd.toml").stat().st_mtime_ns
    checked = Run(shop, "check", "--introspect")
    assert (checked.status, checked.err) == (0, "")
    again = Run(shop, "init", str(shop))
    assert again.out.splitlines()[0] == f"unchanged {shop}/aiosystemd.toml: app:app"
    assert (shop / "aiosystemd.toml").stat().st_mtime_ns == before


def test_a_file_that_is_there_is_never_overwritten(shop: Path) -> None:
    (shop / "mine.toml").write_text("# mine\n")
    done = Run(shop, "init", "-o", "mine.toml")
    assert (done.status, done.out) == (1, "")
    assert done.err == "mine.toml: is there already (use --force, which keeps a copy, or -o FILE)\n"
    done = Run(shop, "init", "-o", "mine.toml", "--force")
    assert done.out.startswith("replaced  mine.toml: app:app\n")
    assert (shop / "mine.toml.aiosystemd-old").read_text() == "# mine\n"


@pytest.mark.parametrize("place", ["app.py", "/proc/nowhere/x.toml", "static"])
def test_what_cannot_be_written_is_an_error(place: str, shop: Path) -> None:
    found = around(shop)
    file = shop / place
    before = (shop / "app.py").read_bytes()
    with pytest.raises(ProblemsError, match=r"is there already|cannot be written|a directory is in the way"):
        write(Draft(found, choose(found, None, imports=False, pick=None)), file)
    assert (shop / "app.py").read_bytes() == before


def test_what_is_found_is_printed_as_json_and_nothing_is_written(shop: Path) -> None:
    put(shop, "other.py", APP)
    done = Run(shop, "init", "--json")
    assert (done.status, done.err) == (0, "")
    document = json.loads(done.out)
    application, other = document["applications"]
    assert (document["name"], document["directory"]) == ("shop", str(shop))
    assert application == {
        "app": "app:app",
        "file": f"{shop}/app.py",
        "line": 2,
        "import_from": str(shop),
        "served": False,
        "static": [{"prefix": "/static", "directory": f"{shop}/static", "file": f"{shop}/app.py", "line": 3}],
        "routes": [],
        "client_max_size_bytes": 1048576,
        "notes": [],
    }
    assert other["app"] == "other:app"
    assert not (shop / "aiosystemd.toml").exists()


def test_an_application_is_imported_only_when_it_is_asked_for(tmp_path: Path) -> None:
    put(tmp_path, "app.py", f"open({str(tmp_path / 'imported')!r}, 'w').close()\n{COMPUTED}")
    (tmp_path / "static").mkdir()
    done = Run(tmp_path, "init")
    assert "app.py:5:1: warning: the prefix of this static route is computed" in done.err
    assert not (tmp_path / "imported").exists()
    assert "/static/" not in (tmp_path / "aiosystemd.toml").read_text()
    done = Run(tmp_path, "init", "--import", "-o", "asked.toml")
    assert (done.status, done.err) == (0, "")
    assert (tmp_path / "imported").exists()
    deployment = build(str(tmp_path / "asked.toml"), Host()).deployment
    assert list(deployment.proxy.static) == ["/static/"]


def test_an_application_that_cannot_be_imported_is_an_error_with_its_place(tmp_path: Path) -> None:
    put(tmp_path, "app.py", f"{APP}1 / 0\n")
    done = Run(tmp_path, "init", "--import")
    what = f'importing "app" failed: ZeroDivisionError: division by zero ({tmp_path}/app.py:3)'
    assert (done.status, done.out, done.err) == (1, "", f"{tmp_path}/app.py:2: {what}\n")
    assert not (tmp_path / "aiosystemd.toml").exists()


def test_one_of_several_is_chosen_by_its_name(tmp_path: Path) -> None:
    for name in ("public", "admin"):
        put(tmp_path, f"{name}.py", APP)
    found = around(tmp_path)
    assert choose(found, "admin:app", imports=False, pick=None).app == "admin:app"
    with pytest.raises(ProblemsError, match=r"no application admin:ap is seen \(did you mean admin:app\?\)"):
        choose(found, "admin:ap", imports=False, pick=None)
    with pytest.raises(ProblemsError, match=r"no application xyz is seen \(--import takes it all the same\)"):
        choose(found, "xyz", imports=False, pick=None)
    with pytest.raises(ProblemsError) as caught:
        choose(found, None, imports=False, pick=None)
    assert list(map(str, caught.value.problems)) == [
        f"{tmp_path}/{name}.py:2: {name}:app is one of 2 applications (choose it with --app {name}:app)"
        for name in ("admin", "public")
    ]


def test_two_of_one_name_are_told_apart_by_their_directories(tmp_path: Path) -> None:
    for name in ("one", "the other"):
        put(tmp_path, f"{name}/app.py", APP)
    with pytest.raises(ProblemsError) as caught:
        choose(around(tmp_path), "app:app", imports=False, pick=None)
    assert [each.hint for each in caught.value.problems] == [
        f"look at it alone: aiosystemd init {tmp_path}/one",
        f"look at it alone: aiosystemd init '{tmp_path}/the other'",
    ]


def test_an_application_that_is_not_seen_is_taken_by_its_name_when_it_is_imported(tmp_path: Path) -> None:
    put(tmp_path, "hidden.py", f"exec({APP!r})\n")
    chosen = choose(around(tmp_path), "hidden:app", imports=True, pick=None)
    assert (chosen.app, chosen.facts.body_limit) == ("hidden:app", 1 << 20)


def _on_a_terminal(directory: Path, *typed: str) -> tuple[int, str]:
    """Run it on a terminal of its own, type a line each time it asks, and return its status and what was shown."""
    ours, theirs = pty.openpty()
    command = (require("setsid"), "--ctty", own_command("aiosystemd"), "init")
    with subprocess.Popen(command, cwd=directory, stdin=theirs, stdout=theirs, stderr=theirs) as program:
        os.close(theirs)
        shown, lines, line = b"", iter(typed), ""
        with suppress(OSError):  # the other end is closed, pty(7)
            while True:
                if not select.select([ours], [], [], 1)[0]:
                    # A signal just before Python's read(2) is seen after it: people press the keys once more.
                    os.write(ours, line.encode() if line == CTRL_C else b"")
                    continue
                shown += os.read(ours, 4096)
                if shown.endswith(b": "):
                    line = next(lines, CTRL_C)
                    os.write(ours, line.encode())
    os.close(ours)
    return program.returncode, shown.decode()


def test_on_a_terminal_it_asks_what_it_cannot_know(tmp_path: Path) -> None:
    for name in ("public", "admin"):
        put(tmp_path, f"{name}.py", APP)
    status, shown = _on_a_terminal(tmp_path, "3\n", "2\n", "not/a/name\n", "example.com www.example.com\n")
    assert status == 0, shown
    assert f"2  public:app  {tmp_path}/public.py:2" in shown
    assert "a number from 1 to 2" in shown
    assert "no server name: not/a/name" in shown
    deployment = build(str(tmp_path / "aiosystemd.toml"), Host()).deployment
    assert (deployment.app, deployment.proxy.server_names) == ("public:app", ("example.com", "www.example.com"))
    status, shown = _on_a_terminal(tmp_path)
    assert status == 1
    assert "aiosystemd.toml: is there already (use --force, which keeps a copy, or -o FILE)" in shown


def test_ctrl_c_at_a_question_writes_nothing(shop: Path) -> None:
    status, shown = _on_a_terminal(shop, CTRL_C)
    assert status
    assert "Traceback" not in shown
    assert not (shop / "aiosystemd.toml").exists()


def test_the_page_shows_what_is_written(tmp_path: Path) -> None:
    code, toml = re.findall(r"```\w+\n(.*?)```", PAGE.read_text(), re.DOTALL)
    put(tmp_path / "shop", "shop.py", code)
    (tmp_path / "shop/static").mkdir()
    found = replace(around(tmp_path / "shop"), interpreter=None)
    draft = Draft(found, choose(found, None, imports=False, pick=None))
    assert document.text(draft).replace(str(tmp_path), "/home/anna") == toml
    example = [line.removeprefix("    ") for line in PAGE.read_text().splitlines() if line.startswith("    assumed:")]
    assert [line.replace("assumed:  ", "") for line in example] == [
        each.replace(str(tmp_path), "/home/anna") for each in draft.assumed()
    ]


def test_every_application_can_be_asked_what_it_serves(tmp_path: Path) -> None:
    put(tmp_path, "app.py", COMPUTED)
    (tmp_path / "static").mkdir()
    done = Run(tmp_path, "init", "--json", "--import")
    (application,) = json.loads(done.out)["applications"]
    assert application["static"] == [{"prefix": "/static", "directory": f"{tmp_path}/static", "file": None, "line": 0}]
    assert application["notes"] == []
