"""``check --introspect``: an application that is really imported, and where its deployment file says something else."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from aiosystemd import introspect
from aiosystemd.build import Build, build
from aiosystemd.errors import Problem
from aiosystemd.host import Host
from aiosystemd.introspect import Facts, FailedError, Route, Static, Subject, ask, look
from tests.tools import own_command

_BASE = 'name = "shop"\napp = "shop:app"\n'
_APP = "from aiohttp import web\napp = web.Application()\n"
_NOISE = """
import os, subprocess, sys, threading, time
print("{}")
os.write(1, b'{"failure": "x"}')
subprocess.run(["echo", "noise"])
print("noise", file=sys.stderr)
threading.Thread(target=time.sleep, args=(60,)).start()
"""
_EVERYTHING = """
import functools
from aiohttp import web
from aiohttp.web import WebSocketResponse as Ws

def decorated(handler):
    async def inner(request):
        return await handler(request)
    return inner

@decorated
async def socket(request):
    return Ws()

class Events(web.View):
    async def get(self):
        return await self.answer()
    async def answer(self):
        return web.StreamResponse()

class Chat:
    async def __call__(self, request):
        return await self.later()
    async def later(self):
        return web.WebSocketResponse()

async def whole(request) -> web.StreamResponse:
    return web.FileResponse("x")

async def make(argv):
    app, admin = web.Application(client_max_size=int(argv[0])), web.Application()
    admin.add_routes([web.get("/live/{room}", functools.partial(socket)), web.static("/assets", "assets")])
    app.add_subapp("/admin", admin)
    app.add_routes([web.view("/events", Events), web.get("/chat", Chat()), web.get("/", whole)])
    return app
"""


def _built(directory: Path, toml: str = "", base: str = _BASE) -> Build:
    file = directory / "shop.toml"
    file.write_text(base + toml)
    return build(str(file), Host())


def _subject(directory: Path, source: str, **more: object) -> Subject:
    (directory / "shop.py").write_text(source)
    return Subject("shop:app", sys.executable, directory, **more)  # type: ignore[arg-type]


def _ends(pid: str) -> bool:
    """Tell whether a process comes to its end; nobody may be there to wait for it."""
    for _ in range(1000):
        try:
            if ") Z " in Path("/proc", pid, "stat").read_text():
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.01)
    return False


def test_an_application_says_what_it_serves(tmp_path: Path) -> None:
    (tmp_path / "assets").mkdir()
    (tmp_path / "shop.py").write_text(_EVERYTHING)
    facts = ask(Subject("shop:make", sys.executable, tmp_path, ("4096",)))
    assert facts.static == (Static("/admin/assets", str(tmp_path / "assets")),)
    assert {(each.path, each.kind) for each in facts.routes} == {
        ("/admin/live/{room}", "websocket"),
        ("/events", "stream"),
        ("/chat", "websocket"),
    }
    assert {Path(each.at.file).name for each in facts.routes if each.at} == {"shop.py"}
    assert str(facts) == "1 static route, 2 websockets, 1 stream, bodies up to 4K"


def test_what_an_application_prints_disturbs_nothing(tmp_path: Path) -> None:
    assert ask(_subject(tmp_path, _NOISE + _APP)).body_limit == 1 << 20


def test_what_an_application_starts_is_ended_with_it(tmp_path: Path) -> None:
    start = "import subprocess\nprocess = subprocess.Popen(['sleep', '600'])\n"
    tell = f"open('{tmp_path}/pid', 'w').write(str(process.pid))\n"
    ask(_subject(tmp_path, start + tell + _APP))
    assert _ends((tmp_path / "pid").read_text())


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (
            "\nimport no_such_module\n",
            "importing \"shop\" failed: ModuleNotFoundError: No module named 'no_such_module'",
        ),
        ("def f():\n    raise ValueError('a\\nb')\nf()\n", 'importing "shop" failed: ValueError: a b'),
        ("x = (\n", "importing \"shop\" failed: SyntaxError: '(' was never closed"),
        ("import sys\nsys.exit('no configuration')\n", 'making "shop:app" failed: SystemExit: no configuration'),
        ("def app(): 1 / 0\n", '"shop:app" failed: ZeroDivisionError: division by zero'),
        ("async def app(): 1 / 0\n", '"shop:app" failed: ZeroDivisionError: division by zero'),
    ],
)
def test_what_cannot_be_imported_is_told_with_its_place(source: str, said: str, tmp_path: Path) -> None:
    line = 2 if source.startswith(("\n", "def f", "import sys")) else 1
    with pytest.raises(FailedError) as caught:
        ask(_subject(tmp_path, source))
    assert str(caught.value).replace(" (shop.py, line 1)", "") == f"{said} ({tmp_path}/shop.py:{line})"
    assert not caught.value.of_interpreter


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("import os\nos._exit(3)\n", "ends the process: exit status 3"),
        ("import os, sys\nprint('last', file=sys.stderr, flush=True)\nos._exit(3)\n", "ends the process: last"),
        ("app = 1\n", '"shop:app" is an int, not an aiohttp.web.Application or a function that returns one'),
    ],
)
def test_what_is_no_application_is_told(source: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(FailedError, match=said):
        ask(_subject(tmp_path, source))


def test_an_import_that_does_not_end_is_ended_and_its_line_told(tmp_path: Path) -> None:
    with pytest.raises(FailedError) as caught:
        ask(_subject(tmp_path, "import time\n\ntime.sleep(600)\n", limit=1.0))
    expected = f'does not end within 1 s (timeouts.start): it waits in File "{tmp_path}/shop.py", line 3 in <module>'
    assert str(caught.value) == f"importing shop:app {expected}"


def test_one_that_stops_its_clock_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(introspect, "_SPARE", 0.5)
    source = "import faulthandler, time\nfaulthandler.cancel_dump_traceback_later()\ntime.sleep(600)\n"
    with pytest.raises(FailedError, match=r"does not end within 0.5 s \(timeouts.start\)$"):
        ask(_subject(tmp_path, source, limit=0.5))


def test_no_secret_of_the_environment_is_told(tmp_path: Path) -> None:
    source = "import os\nraise ConnectionError(f'cannot reach {os.environ[\"DATABASE_URL\"]}')\n"
    environment = {"DATABASE_URL": "postgresql://shop:hunter2@db/shop"}
    with pytest.raises(FailedError) as caught:
        ask(_subject(tmp_path, source, environment=environment))
    said = f'importing "shop" failed: ConnectionError: cannot reach $DATABASE_URL ({tmp_path}/shop.py:2)'
    assert str(caught.value) == said


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return an interpreter without any library."""
    directory = tmp_path_factory.mktemp("bare") / "venv"
    subprocess.run((sys.executable, "-m", "venv", "--without-pip", directory), check=True)
    return f"{directory}/bin/python"


def test_an_interpreter_without_aiosystemd_is_told_with_what_mends_it(bare: str, tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(_APP)
    (problem,), note = look(_built(tmp_path, f'python = "{bare}"\nservice.user = "x"\nsandbox.shared_tmp = true\n'))
    assert str(problem).startswith(f"{tmp_path}/shop.toml:3:10: {bare} cannot look at an application: ")
    assert problem.hint.startswith(f"{bare} -m pip install 'aiosystemd[serve]==")
    assert (problem.severity, note) == ("error", "")


def test_what_only_systemd_passes_is_not_there_and_that_is_told(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text("import os\nos.environ['CREDENTIALS_DIRECTORY']\n")
    (problem,), _ = look(_built(tmp_path, 'service.credentials.key = "/srv/key"\n'))
    assert problem.what == f"app: importing \"shop\" failed: KeyError: 'CREDENTIALS_DIRECTORY' ({tmp_path}/shop.py:2)"
    assert problem.hint.endswith("not passed here: aiosystemd doctor imports it as systemd does")


def test_an_interpreter_that_is_none_is_told(tmp_path: Path) -> None:
    with pytest.raises(FailedError, match="/dev/null cannot be run: Permission denied"):
        ask(Subject("shop:app", "/dev/null", tmp_path))


def _differences(facts: Facts, built: Build) -> list[str]:
    return [_without_file(problem) for problem in introspect._differences(facts, built)]


def _without_file(problem: Problem) -> str:
    return str(problem).replace(problem.at.file, "", 1)


_STATIC = Facts(static=(Static("/static", "/srv/shop/static"),))
_STREAMS = Facts(
    routes=(Route("/ws/{room}", "websocket"), Route("/events", "stream"), Route("/{room}/ws", "websocket"))
)
_CLOSED = "the proxy ends it after 30 s of silence"


@pytest.mark.parametrize(
    ("facts", "toml", "said"),
    [
        (_STATIC, '[proxy]\nstatic."/static/" = "/srv/shop/static/"', []),
        (_STATIC, '[proxy]\nkind = "none"', []),
        (_STATIC, 'proxy = { site = "other", prefix = "/shop/" }', []),
        (Facts(static=(Static("/static/deep", "/x"), Static("/", "/y"))), 'proxy.static."/static" = "/x"', []),
        (
            _STATIC,
            "[proxy]\nwebsockets = true",
            [
                (
                    ":3:1: the application serves /static/ itself, from /srv/shop/static: the proxy could, for less "
                    '(write "/static/" = "/srv/shop/static" into [proxy.static])'
                )
            ],
        ),
        (
            _STATIC,
            'proxy.static = { "/static" = "/srv/other" }',
            [
                (
                    ":3:30: the proxy serves /static/ from /srv/other, the application from /srv/shop/static "
                    '(write "/srv/shop/static")'
                )
            ],
        ),
        (
            _STREAMS,
            'proxy.streams = ["/ws"]',
            [
                f':3:17: /events is a stream: {_CLOSED} (add "/events" to proxy.streams)',
                (
                    f':3:17: /{{room}}/ws is a websocket: {_CLOSED} (add "/" to proxy.streams, which is every path, '
                    "or give it a path that does not begin with a variable)"
                ),
            ],
        ),
        (_STREAMS, 'proxy.streams = ["/"]', []),
        (
            _STREAMS,
            '[proxy]\nwebsockets = false\nstreams = ["/events"]',
            [
                (
                    ":4:14: the proxy passes no websockets on, and the application has: /ws/{room}, /{room}/ws "
                    "(remove websockets = false)"
                )
            ],
        ),
        (Facts(body_limit=1 << 20), "", []),
        (Facts(body_limit=None), "proxy.body_size = 5", []),
        (Facts(body_limit=0), 'proxy.body_size = "1G"', []),
        (Facts(body_limit=5 << 20), 'server.body_limit = "5M"', []),
        (
            Facts(body_limit=0),
            "",
            [
                (
                    ":2:7: the proxy refuses bodies above 1M, the application none (client_max_size) "
                    "(write the size of the largest as body_size into [proxy])"
                )
            ],
        ),
        (
            Facts(body_limit=5 << 20),
            "[proxy]",
            [
                (
                    ":3:1: the proxy refuses bodies above 1M, the application above 5M (client_max_size) "
                    '(write body_size = "5M" into [proxy])'
                )
            ],
        ),
        (
            Facts(body_limit=1000),
            'proxy.body_size = "2K"',
            [
                (
                    ":3:19: the proxy accepts bodies of 2K, the application up to 1000 (client_max_size) "
                    '(write "1000", or set server.body_limit)'
                )
            ],
        ),
        (
            Facts(body_limit=2 << 30),
            'server.body_limit = "5M"',
            [
                (
                    ":3:21: the application would take bodies of 2G (client_max_size), and is kept to 5M "
                    '(write "2G", or remove it)'
                )
            ],
        ),
    ],
)
def test_a_difference_is_told_with_its_line(facts: Facts, toml: str, said: list[str], tmp_path: Path) -> None:
    assert _differences(facts, _built(tmp_path, toml)) == said


def test_an_application_that_is_elsewhere_here_is_found_beside_the_file(tmp_path: Path) -> None:
    (tmp_path / "src/static").mkdir(parents=True)
    (tmp_path / "src/shop.py").write_text(f"{_APP}app.router.add_static('/static', 'static')\n")
    toml = (
        'directory = "/srv/no/src"\npython = "/srv/no/venv/bin/python"\nproxy.static."/static" = "/srv/no/src/static"\n'
    )
    problems, note = look(_built(tmp_path, toml))
    assert not problems
    assert note == f"1 static route, bodies up to 1M, with {sys.executable} in place of /srv/no/venv/bin/python"
    python = tmp_path / "venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    (tmp_path / "src").rename(tmp_path / "moved")
    (tmp_path / "shop.py").write_text(_APP)
    assert look(_built(tmp_path, toml.replace("/src", ""))) == (
        (),
        f"bodies up to 1M, with {python} in place of /srv/no/venv/bin/python",
    )


def _check(directory: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = (own_command("aiosystemd"), "check", "--introspect", *options, "shop.toml")
    return subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)


def test_check_warns_and_is_fine(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(_EVERYTHING)
    (tmp_path / "assets").mkdir()
    (tmp_path / "shop.toml").write_text('name = "shop"\napp = "shop:make"\narguments = ["1048576"]\n[proxy]\n')
    done = _check(tmp_path, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    (document,) = json.loads(done.stdout)
    assert {(each["line"], each["severity"]) for each in document["problems"]} == {(4, "warning")}
    application = document["checkers"][-1]
    assert (application["name"], application["verdict"]) == ("application", "passed")
    assert application["note"].startswith("1 static route, 2 websockets, 1 stream, bodies up to 1M")


def test_check_fails_for_an_application_that_cannot_be_imported(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text("raise ValueError('no')\n")
    _built(tmp_path)
    done = _check(tmp_path)
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1].startswith("shop.toml: application: refused")
    what = f'app: importing "shop" failed: ValueError: no ({tmp_path}/shop.py:1)'
    assert done.stderr == f'shop.toml:2:7: {what}\n    app = "shop:app"\n          ^\n'


def test_ctrl_c_ends_the_import_too(tmp_path: Path) -> None:
    fifo = tmp_path / "begun"
    os.mkfifo(fifo)
    (tmp_path / "shop.py").write_text(
        f"import os, time\nopen({str(fifo)!r}, 'w').write(str(os.getpid()))\ntime.sleep(600)\n"
    )
    _built(tmp_path)
    # A shell that starts tests in the background has them ignore SIGINT.
    program = ("env", "--default-signal=INT", own_command("aiosystemd"), "check", "--introspect", "shop.toml")
    with subprocess.Popen(program, cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
        child = fifo.read_text()
        process.send_signal(signal.SIGINT)
        _, said = process.communicate()
    assert process.returncode == 130
    assert b"Traceback" not in said
    assert _ends(child)
