"""``aiosystemd import`` as a person runs it, the page about it included."""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from aiosystemd.errors import ProblemsError
from aiosystemd.load import load
from aiosystemd.migrate import imported
from aiosystemd.migrate.found import Text
from tests.tools import own_command

PAGE = Path(__file__).parents[2] / "docs/import.md"
ONE = "[program:shop]\ncommand=gunicorn shop:app -k aiohttp.GunicornWebWorker\n"
TWO = f"{ONE}[program:api]\ncommand=python -m aiohttp.web api:init\n"


class Run:
    """One run of the program."""

    def __init__(self, directory: Path, *arguments: str) -> None:
        done = subprocess.run(
            (own_command("aiosystemd"), *arguments),
            cwd=directory,
            env={**os.environ, "LC_ALL": "C.UTF-8"},
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        self.status, self.out, self.err = done.returncode, done.stdout, done.stderr
        assert "Traceback" not in self.err


def _blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"(?ms)^```{language}\n(.*?)^```$", page)


def test_the_page_shows_what_the_commands_do(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    page = PAGE.read_text()
    (tmp_path / "supervisord.conf").write_text(_blocks(page, "ini")[0])
    first, named, proxied, check = re.findall(r"(?m)^    \$ aiosystemd (.*)$", page)
    done = Run(tmp_path, *first.split())
    assert (done.status, done.err) == (0, "")
    written = (tmp_path / "aiosystemd.toml").read_text()
    if request.config.getoption("--update-golden"):
        for language, text in (("toml", written), ("text", done.out)):
            page = page.replace(f"```{language}\n{_blocks(page, language)[0]}```", f"```{language}\n{text}```")
        PAGE.write_text(page)
    assert _blocks(page, "toml")[0] == written
    assert _blocks(page, "text") == [done.out]
    assert Run(tmp_path, *named.split()).status == 1  # celery takes no application
    (tmp_path / "site.conf").write_text(_blocks(page, "nginx")[0])
    assert Run(tmp_path, *proxied.split()).status == 0
    with_proxy = (tmp_path / "aiosystemd.toml").read_text()
    assert with_proxy == f"{written}\n{_blocks(page, 'toml')[1]}"
    (tmp_path / "aiosystemd.toml").rename(tmp_path / "shop.toml")
    assert Run(tmp_path, *check.split()).status == 0


def test_a_second_run_changes_nothing_and_nobodys_file_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "s.conf").write_text(ONE)
    arguments = ("import", "supervisord", "s.conf", "-o", "shop.toml")
    assert "created   shop.toml\nnext:     aiosystemd check shop.toml\n" in Run(tmp_path, *arguments).out
    before = (tmp_path / "shop.toml").stat().st_mtime_ns
    assert "unchanged shop.toml\n" in Run(tmp_path, *arguments).out
    assert (tmp_path / "shop.toml").stat().st_mtime_ns == before
    (tmp_path / "shop.toml").write_text("# mine\n")
    refused = Run(tmp_path, *arguments)
    assert (refused.status, refused.out) == (1, "")
    assert refused.err.startswith("shop.toml: is there already (use --force, ")
    assert (tmp_path / "shop.toml").read_text() == "# mine\n"
    assert "replaced  shop.toml\n" in Run(tmp_path, *arguments, "--force").out
    assert (tmp_path / "shop.toml.aiosystemd-old").read_text() == "# mine\n"


def test_several_deployments_are_several_files_all_or_none(tmp_path: Path) -> None:
    (tmp_path / "s.conf").write_text(TWO)
    one = Run(tmp_path, "import", "supervisord", "s.conf", "-o", "x.toml")
    assert (one.status, one.err) == (1, "x.toml: would be 2 files: shop.toml, api.toml (give a directory: -o DIR)\n")
    assert Run(tmp_path, "import", "supervisord", "s.conf", "-o", "new/dir").status == 0
    assert {each.name: load(each)[0].name for each in (tmp_path / "new/dir").iterdir()} == {
        "shop.toml": "shop",
        "api.toml": "api",
    }
    (tmp_path / "api.toml").write_text("# mine\n")
    assert Run(tmp_path, "import", "supervisord", "s.conf").status == 1
    assert not (tmp_path / "shop.toml").exists()


def test_the_json_report_has_every_setting_and_hides_secrets(tmp_path: Path) -> None:
    (tmp_path / "s.conf").write_text(f'{TWO}environment=API_TOKEN="s3cr3t"\nnumproc=3\n')
    done = Run(tmp_path, "import", "supervisord", "s.conf", "--json")
    assert "s3cr3t" not in done.out + done.err
    report = json.loads(done.out)
    assert report["files"] == [{"file": "shop.toml", "done": "created"}, {"file": "api.toml", "done": "created"}]
    settings = {(each["line"], each["outcome"], each["key"]) for p in report["programs"] for each in p["settings"]}
    assert settings >= {(5, "kept", "service.environment.API_TOKEN"), (6, "dropped", None), (6, "mistake", None)}


def test_a_file_without_an_application_is_reported_and_fails(tmp_path: Path) -> None:
    (tmp_path / "Procfile").write_text("worker: celery -A x worker\n")
    done = Run(tmp_path, "import", "procfile", "Procfile")
    assert (done.status, done.err) == (1, "no aiohttp application was found\n")
    assert "worker is left out: celery is a worker of a queue" in done.out
    assert [each.name for each in tmp_path.iterdir()] == ["Procfile"]


@pytest.mark.parametrize("content", [b"\xff\xfe", b"[program:x]\ncommand\n"])
def test_what_cannot_be_read_is_a_problem_with_its_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "s.conf").write_bytes(content)
    done = Run(tmp_path, "import", "supervisord", "s.conf")
    assert done.status == 1
    assert re.match(r"s\.conf:\d:\d: ", done.err)


def test_nothing_of_a_configuration_is_run(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    text = f"import pathlib\nworkers = pathlib.Path({str(mark)!r}).touch() or 4\n"
    text += "worker_class = 'aiohttp.GunicornWebWorker'\nwsgi_app = 'a:b'\n"
    (found,) = imported("gunicorn", [Text("gunicorn.conf.py", text)])
    assert found.name == "a"
    assert not mark.exists()


def test_a_socket_in_a_directory_for_everyone_is_a_mistake() -> None:
    text = ONE.replace("shop:app", "shop:app -b unix:/tmp/x.sock")
    (found,) = imported("supervisord", [Text("s.conf", text)])
    assert any(each.outcome == "mistake" and "everyone may write" in each.says for each in found.findings)


def test_an_include_that_cannot_be_read_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "s.conf").write_text("[include]\nfiles = more.ini\n")
    (tmp_path / "more.ini").write_text("no section\n")
    done = Run(tmp_path, "import", "supervisord", "s.conf")
    assert (done.status, done.err.partition(": ")[0]) == (1, "more.ini:1:1")


def test_an_nginx_that_is_not_in_front_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "s.conf").write_text(ONE)
    (tmp_path / "nginx.conf").write_text("server { location / { proxy_pass http://127.0.0.1:9999; } }\n")
    done = Run(tmp_path, "import", "supervisord", "s.conf", "--nginx", "nginx.conf")
    assert done.status == 0
    assert (
        "nginx is left out: no server passes requests to these applications\n  left out  nginx.conf:1 server"
        in done.out
    )
    (tmp_path / "nginx.conf").write_text("server {\n")
    wrong = Run(tmp_path, "import", "supervisord", "s.conf", "--nginx", "nginx.conf")
    assert (wrong.status, wrong.out) == (1, "")
    assert wrong.err.startswith('nginx.conf:1:1: the block does not end (it lacks a "}")\n')
    missing = Run(tmp_path, "import", "supervisord", "s.conf", "--nginx", "gone.conf")
    assert (missing.status, missing.err) == (1, "gone.conf: no such file\n")


def test_unknown_formats_are_refused(tmp_path: Path) -> None:
    assert Run(tmp_path, "import", "runit", "run").status == 2
    with pytest.raises(ProblemsError):
        list(imported("procfile", [Text("Procfile", "no process")]))
