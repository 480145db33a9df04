"""Whatever is in the files, reading them ends well, and every setting is in the report."""

import ast
import configparser
import io
import re
import sys
from collections.abc import Iterable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from aiosystemd.errors import ProblemsError
from aiosystemd.load import parse, validate
from aiosystemd.migrate import Format, imported, ini, nginx_syntax, unit
from aiosystemd.migrate.circus import _SETTINGS as CIRCUS
from aiosystemd.migrate.found import Text
from aiosystemd.migrate.gunicorn import _OPTIONS, SETTINGS
from aiosystemd.migrate.nginx_directives import ROLES
from aiosystemd.migrate.supervisord import _SETTINGS as SUPERVISORD
from aiosystemd.migrate.unit import _SERVICE, _SOCKET
from tests.render.hostile import texts

ONE_LINE = texts.map(lambda text: re.sub(r"[\r\n]+", " ", text))
VALUES = ONE_LINE | st.sampled_from(
    "4 0 -1 30.5 60 3600 1e9 none true false KILL root www-data /srv/web /home/u /tmp/x 0666 0660 unix:/tmp/x.sock "
    "0.0.0.0:80 A=1,B='2' A=\"1 %(ENV_X)s %(process_num)9999d %(process_num)02d %% %(here)s/x 1min infinity 150% 512M "
    "text uvloop %i ${X:-y} $X".split()
)
COMMANDS = (
    "gunicorn web:app -k aiohttp.GunicornWebWorker",
    "/srv/web/venv/bin/gunicorn 'web:make()' --worker-class=aiohttp.GunicornUVLoopWebWorker",
    "gunicorn -w 4",
    "venv/bin/python -m aiohttp.web web:init",
    "aiosystemd-serve --drain=50 web:init",
    "python3 serve.py --path=/run/x.sock",
    "celery -A x",
    "",
)
WORDS = st.lists(
    VALUES
    | st.sampled_from(tuple(_OPTIONS))
    | st.sampled_from(
        "-m -c gunicorn.conf.py exec env sh && ; | > `x` cd poetry run -w4 --unknown --unknown=1 \" ' \\ -- "
        "- $(circus.sockets.web) ((circus.wid)) web:other".split(" ")
    ),
    max_size=5,
).map(" ".join)
STARTS = st.tuples(st.sampled_from(COMMANDS), WORDS).map(" ".join)


def _lines(first: str, sections: Iterable[str], names: Iterable[str]) -> st.SearchStrategy[str]:
    """Return an INI file or unit: a section that starts a server, and more, seldom wrong."""
    setting = st.tuples(st.sampled_from(tuple(names)), st.sampled_from(("=", " = ")), VALUES | STARTS).map("".join)
    more = st.sampled_from((*sections, *sections, "; c", "# c", "", "wrong")) | ONE_LINE.map("\tx{} = ; c".format)
    lines = st.lists(setting, max_size=8), st.lists(setting | more, max_size=4)
    return st.tuples(STARTS, *lines).map(lambda parts: "\n".join((first + parts[0], *parts[1], *parts[2])))


SUPERVISORD_TEXTS = _lines(
    "[program:web]\ncommand=",
    ("[program:web]", "[program:a b]", "[fcgi-program:x]", "[supervisord]", "[programm:x]", "[DEFAULT]"),
    (*SUPERVISORD, "Command", "comand", "environment"),
)
CIRCUS_TEXTS = _lines(
    "[watcher:web]\ncmd = ",
    ("[watcher:x]", "[env]", "[env:w*]", "[env:web,x]", "[socket:web]", "[circus]", "[plugin:x]"),
    (*CIRCUS, "A", "path", "stdout_stream.class", "rlimit_nofile", "hooks.x", "Cmd"),
)
UNIT_TEXTS = _lines(
    "[Service]\nExecStart=",
    ("[Unit]", "[Service]", "[Socket]", "[Install]", "[service]", "[X-Own]"),
    (*_SERVICE, *_SOCKET, "Nice", "Nicee", "ExecStartPre", "type", "PrivateTmp", "Description"),
)


def _joined(beginnings: str, *rest: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Return lines, each of one of ``beginnings`` and what follows it."""
    line = st.tuples(st.sampled_from(beginnings.split("|")), *rest).map("".join)
    return st.lists(line, max_size=5).map("\n".join)


ENVIRONMENTS = _joined("A=|export B = |PORT=|# |GUNICORN_CMD_ARGS=|", VALUES | WORDS)
PROCFILES = _joined("web: |a-b:|web: |# |api: cd /srv && A=1 exec ", STARTS)
SCRIPTS = _joined("|exec |export A=|cd |  # |A=1 ", STARTS | VALUES, st.sampled_from(("", " \\")))
EXPRESSIONS = st.recursive(
    VALUES.map(repr)
    | st.sampled_from(
        "4|-1|0.5|None|True|'web:app'|'aiohttp.GunicornWebWorker'|BASE|workers|b'x'|...|multiprocessing.cpu_count()|"
        "os.getenv('X', '4')|os.environ['X']|f'{BASE}/x'|f'{BASE!r:>4}'|{}|'\\ud800'".split("|")
    ),
    lambda inner: (
        st.tuples(inner, st.sampled_from((" + ", " * ", " // ", ", ")), inner).map("".join)
        | inner.map("[{}]".format)
        | inner.map("os.path.join('x', {})".format)
    ),
    max_leaves=5,
)
STATEMENTS = st.tuples(
    st.sampled_from(tuple(f"{name} = " for name in SETTINGS))
    | st.sampled_from(
        "BASE = |worder_class = |a, b = |user, group = |x.y = ||def post_fork(a): return |if x: workers = |workers += |"
        "workers: int = |z[0] = ".split("|")
    ),
    EXPRESSIONS,
).map("".join)
CONFIGURATIONS = st.lists(
    STATEMENTS | st.sampled_from(("import os", "from x import *", '"""d"""', "pass")), max_size=8
).map(lambda lines: "\n".join(("wsgi_app = 'web:app'", "worker_class = 'aiohttp.GunicornWebWorker'", *lines)))
NGINX_VALUES = st.sampled_from(
    "on off 80 [::]:443 1m 4G /srv/x/ /srv/x $x https://$host http://web http://unix:/run/x.sock:/y http://[::1]:8000 "
    "Upgrade all 10.0.0.0/8 '' \"a;b\" web.example ~x _ ssl default_server".split()
)
DIRECTIVES = st.tuples(
    st.sampled_from((*ROLES, "include", "unknown")), st.lists(NGINX_VALUES, max_size=3).map(" ".join)
).map("{0[0]} {0[1]};".format)
LOCATIONS = st.tuples(
    st.sampled_from("location|location = |location ~ |if (x) |location ^~ |location @w ".split("|")),
    st.sampled_from(("/", "/ws", "/static/", "/api/x")),
    st.lists(DIRECTIVES, max_size=4).map("\n".join),
).map("{0[0]} {0[1]} {{\n{0[2]}\n}}".format)
SERVERS = st.lists(DIRECTIVES | LOCATIONS, max_size=6).map("\n".join).map("server {{\n{}\n}}\n".format)
UPSTREAM = "upstream web { server 127.0.0.1:8000; keepalive 4; }\nserver {\nlocation / { proxy_pass http://web; }\n"
INI = st.lists(st.sampled_from("[a]|[b x]|a=1|a:2|B|A|=|;|#|\n| \n|\t|  |x|%(y)s|é|\x0c".split("|")), max_size=24)


def _reported(kind: Format, texts: Iterable[Text], proxies: Iterable[Text] = ()) -> set[tuple[str, int]] | None:
    """Import ``texts``, check what holds of every result, and return the places that are in the report, or None."""
    try:
        found = list(imported(kind, texts, proxies=proxies))
    except ProblemsError:
        return None
    names = [each.name for each in found if each.name]
    assert len(names) == len(set(names))
    places: set[tuple[str, int]] = set()
    for each in found:
        assert bool(each.name) == bool(each.text) != bool(each.left_out)
        if each.name:
            each.text.encode()
            assert validate(parse("FILE", each.text))[0].name == each.name
        assert {finding.outcome for finding in each.findings if each.left_out} <= {"left out", "mistake"}
        told = [finding for finding in each.findings if finding.outcome != "mistake"]
        places |= {(finding.setting.at.file, finding.setting.at.line) for finding in told}
        keys = {finding.key for finding in each.findings if finding.outcome in {"kept", "changed"} and finding.key}
        assert all(_written(each.text, key) for key in keys)
    return places


def _written(text: str, key: tuple[str, ...]) -> bool:
    data: object = parse("FILE", text).data
    for part in key:
        assert isinstance(data, dict)
        if part not in data:
            return False
        data = data[part]
    return True


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="takes the first comment of all, not of one of its two kinds")
@given(INI.map("".join))
@example("[a]\nx = 1\n\n  more\n;c\n y\n")
@example("[a]\nx = 1#2 = #3 ; 4\n")
@example("[a]\n  x = 1\n  y = 2\n    z\n")
def test_ini_files_are_read_as_supervisord_reads_them(text: str) -> None:
    parser = pytest.importorskip("supervisor.options").UnhosedConfigParser()
    try:
        parser.read_file(io.StringIO(text, newline=None))
    except configparser.Error:
        with pytest.raises(ProblemsError):
            ini.read(Text("FILE", text))
        return
    sections = {each.name: each for each in ini.merged(ini.read(Text("FILE", text)))}
    assert {name: parser._sections[name] for name in parser.sections()} == {
        name: {key: each.value for key, each in ini.last_of_each(section).items()}
        for name, section in sections.items()
        if name != "DEFAULT"
    }


@given(SUPERVISORD_TEXTS)
def test_no_setting_of_supervisord_is_silently_dropped(text: str) -> None:
    places = _reported("supervisord", [Text("s.conf", text)])
    if places is not None:
        assert places >= {(each.at.file, each.at.line) for s in ini.read(Text("s.conf", text)) for each in s.settings}


@given(CIRCUS_TEXTS)
def test_no_setting_of_circus_is_silently_dropped(text: str) -> None:
    places = _reported("circus", [Text("c.ini", text)])
    if places is not None:
        sections = ini.read(Text("c.ini", text), circus=True)
        assert places >= {(each.at.file, each.at.line) for s in sections for each in s.settings}


@given(UNIT_TEXTS, UNIT_TEXTS)
def test_no_directive_of_a_unit_is_silently_dropped(service: str, socket: str) -> None:
    units = [Text("web@.service", service), Text("web@.socket", socket)]
    places = _reported("unit", units)
    if places is not None:
        assert places >= {(each.at.file, each.at.line) for text in units for each in unit.read(text)}


def _numbers(file: str, text: str) -> set[tuple[str, int]]:
    lines = enumerate(re.split(r"\r\n|\r|\n", text), 1)
    return {(file, number) for number, line in lines if line.strip() and not line.lstrip().startswith("#")}


@given(PROCFILES, ENVIRONMENTS)
def test_no_line_of_a_procfile_is_silently_dropped(procfile: str, environment: str) -> None:
    places = _reported("procfile", [Text("Procfile", procfile), Text(".env", environment)])
    if places:
        assert places >= _numbers("Procfile", procfile) | _numbers(".env", environment)


@given(SCRIPTS)
def test_no_line_of_a_script_is_silently_dropped(script: str) -> None:
    places = _reported("gunicorn", [Text("start.sh", script.replace("\\", "/"))])
    assert places is not None
    assert places >= _numbers("start.sh", script.replace("\\", "/"))


@given(SCRIPTS)
def test_joined_lines_of_a_script_do_no_harm(script: str) -> None:
    assert _reported("gunicorn", [Text("start.sh", script)]) is not None


@given(CONFIGURATIONS)
def test_no_statement_of_a_configuration_is_silently_dropped(text: str) -> None:
    places = _reported("gunicorn", [Text("gunicorn.conf.py", text)])
    if places is not None:
        quiet = (ast.Pass, ast.Expr)
        statements = {("gunicorn.conf.py", each.lineno) for each in ast.parse(text).body if not isinstance(each, quiet)}
        assert places >= statements


@given(st.lists(DIRECTIVES | LOCATIONS, max_size=6).map("\n".join), st.lists(SERVERS, max_size=2).map("".join))
def test_no_directive_of_nginx_is_silently_dropped(inside: str, others: str) -> None:
    text = Text("nginx.conf", f"{UPSTREAM}{inside}\n}}\n{others}")
    places = _reported("procfile", [Text("Procfile", "web: gunicorn a:b -k aiohttp.GunicornWebWorker")], [text])
    assert places is not None
    assert places >= {(each.at.file, each.at.line) for each in nginx_syntax.walk(nginx_syntax.read(text))}


@pytest.mark.parametrize("kind", ["supervisord", "gunicorn", "procfile", "unit", "circus"])
@given(text=texts | WORDS)
def test_no_text_is_too_strange(kind: Format, text: str) -> None:
    _reported(kind, [Text("file", text)])
    _reported(kind, [Text("file.py", text)])
