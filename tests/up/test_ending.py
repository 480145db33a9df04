"""How `aiosystemd up` ends: after the requests, at once, with a reason, and never leaving anything behind."""

import os
import pty
import re
import signal
import socket
import subprocess
import threading

import pytest

from tests.tools import require
from tests.up.conftest import Site
from tests.up.program import AIOSYSTEMD, PATIENCE, ask, ended

_SHARED_TMP = '[service]\nuser = "shop"\n[sandbox]\nshared_tmp = true'
"""Else an interpreter below /tmp is refused."""


class Request(threading.Thread):
    """A request whose answer comes when the file `release` is there."""

    def __init__(self, site: Site) -> None:
        super().__init__()
        self._site = site
        self.answer = b""
        self.start()

    def run(self) -> None:
        """Ask."""
        try:
            self.answer = ask(self._site.port, "/slow")
        except OSError as error:
            self.answer = repr(error).encode()

    def released(self) -> bytes:
        """Let it be answered and return the answer."""
        (self._site.directory / "release").touch()
        self.join()
        return self.answer


@pytest.fixture(params=["nginx", "none"])
def proxy(request: pytest.FixtureRequest) -> str:
    kind: str = request.param
    if kind == "nginx":
        require("nginx")
    return f'[proxy]\nkind = "{kind}"'


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_request_is_answered_before_the_end(site: Site, proxy: str, number: signal.Signals) -> None:
    site.write(proxy)
    program = site.serving()
    request = Request(site)
    program.wait_for("entered slow")
    family = program.family()
    program.send(number)
    program.wait_for(r"shop@1: Draining")
    while _is_accepted(site.port):  # A client that comes now is refused, and does not wait for nobody.
        assert request.is_alive()
    assert request.released() == b"released"
    site.gone(program, family, status=0)


def _is_accepted(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def test_second_ctrl_c_ends_all_at_once(site: Site, proxy: str) -> None:
    site.write(proxy)
    program = site.serving()
    request = Request(site)
    program.wait_for("entered slow")
    family = program.family()
    program.send(signal.SIGINT)
    program.wait_for("Draining")
    program.send(signal.SIGINT)
    site.gone(program, family, status=1)
    assert "shop@1 was killed by SIGKILL" in program.output
    assert request.released() != b"released"


def test_second_ctrl_c_does_not_wait_for_nginx(site: Site) -> None:
    require("nginx")
    program = site.serving()
    request = Request(site)
    program.wait_for("entered slow")
    family = program.family()
    program.send(signal.SIGINT)
    program.wait_for("requests are answered first")
    program.send(signal.SIGINT)
    site.gone(program, family, status=1)
    assert "Draining" not in program.output
    assert request.released() != b"released"


def test_second_term_changes_nothing(site: Site) -> None:
    program = site.serving()
    request = Request(site)
    program.wait_for("entered slow")
    family = program.family()
    program.send(signal.SIGTERM)
    program.wait_for("Draining")
    program.send(signal.SIGTERM)
    assert request.released() == b"released"
    site.gone(program, family, status=0)


def test_instance_that_does_not_end_is_killed(site: Site) -> None:
    (site.directory / "deaf.py").write_text(
        "import asyncio, signal\n"
        "from app import make as real\n"
        "async def ignore(app):\n"
        "    asyncio.get_running_loop().remove_signal_handler(signal.SIGTERM)\n"
        "    signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "def make():\n"
        "    app = real()\n"
        "    app.on_startup.append(ignore)\n"
        "    return app\n"
    )
    times = "[timeouts]\nrequest = 0.1\ndrain = 0.1\nstop = 5.1"
    site.write(times, '[proxy]\nkind = "none"', app="deaf:make")
    program = site.serving()
    family = program.family()
    program.send(signal.SIGINT)
    site.gone(program, family, status=1)
    assert "shop@1 did not end within 5.1 s and is killed" in program.output


def test_ctrl_c_of_a_terminal_reaches_only_the_program(site: Site) -> None:
    ours, theirs = pty.openpty()
    try:
        program = site.up(stdout=theirs, preexec_fn=lambda: os.login_tty(theirs))
        os.close(theirs)
        program.read_from(ours)
        program.wait_for("serving on")
        request = Request(site)
        program.wait_for("entered slow")
        family = program.family()
        os.write(ours, b"\x03")
        program.wait_for("Draining")
        assert request.released() == b"released"
        site.gone(program, family, status=0)
    finally:
        os.close(ours)
    assert "\x1b[36maiosystemd | \x1b[0m" in program.output


def test_output_to_a_file_has_no_colours(site: Site) -> None:
    program = site.up("--try")
    assert program.end() == 0
    assert "\x1b" not in program.output


def test_end_of_the_reader_stops_it_in_order(site: Site) -> None:
    program = site.serving()
    family = program.family()
    assert program.process.stdout
    program.process.stdout.close()
    # Its first line is the one that nobody reads.
    assert Request(site).released() == b"released"
    assert program.process.wait(PATIENCE) == 0
    assert ended(family)
    assert not list(site.temporary.iterdir())


def test_kill_of_the_program_leaves_no_orphan(site: Site, proxy: str) -> None:
    site.write(proxy, instances=2)
    program = site.serving()
    family = program.family()
    assert len(family) == (5 if "nginx" in proxy else 3)
    program.send(signal.SIGKILL)
    assert ended(family)


def test_children_of_an_instance_end_with_it(site: Site) -> None:
    (site.directory / "parent.py").write_text(
        "import os\nfrom app import make\nos.posix_spawnp('sleep', ['sleep', 'infinity'], os.environ)\n"
    )
    site.write('[proxy]\nkind = "none"', app="parent:make")
    program = site.serving()
    assert len(program.family()) == 3
    site.stop(program)


def test_end_of_nginx_is_the_end(site: Site) -> None:
    require("nginx")
    program = site.serving()
    family = program.family()
    master = int((next(site.temporary.iterdir()) / "nginx.pid").read_text())
    os.kill(master, signal.SIGTERM)
    site.gone(program, family, status=1)
    assert "nginx ended with status 0" in program.output


@pytest.mark.parametrize("instances", [1, 2])
def test_taken_port_is_named(site: Site, proxy: str, instances: int) -> None:
    site.write(proxy, instances=instances)
    direct = "none" in proxy
    taken = site.port + (instances - 1 if direct else 0)
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", taken))
        other.listen()
        program = site.up()
        assert program.end() == 1
    expected = f"127.0.0.1:{taken}: cannot be listened on: Address already in use (choose another --port)\n"
    assert program.output == expected
    assert not list(site.temporary.iterdir())


def test_taken_port_of_the_deployment_is_named(site: Site) -> None:
    require("nginx")
    with socket.create_server(("127.0.0.1", 0)) as other:
        site.write(f"[listen]\nport = {other.getsockname()[1]}")
        program = site.up()
        assert program.end() == 1
    assert program.output.endswith("cannot be listened on: Address already in use (choose another listen.port)\n")


def test_port_beyond_the_last_is_named(site: Site) -> None:
    site.write('[proxy]\nkind = "none"', instances=2)
    program = site.up("--port", "65535")
    assert program.end() == 1
    assert re.fullmatch(
        r"127\.0\.0\.1:6553[56]: cannot be listened on: (there is no such port|Address already in use)"
        r" \(choose another --port\)\n",
        program.output,
    )


def test_temporary_directory_with_too_long_a_path_is_named(site: Site) -> None:
    long = site.temporary / ("x" * 100)
    long.mkdir()
    program = site.up(environment={"TMPDIR": str(long)})
    assert program.end() == 1
    assert re.fullmatch(
        rf"{long}: the path of a socket in it would be \d+ bytes long; unix\(7\) allows 107"
        r" \(set TMPDIR to a shorter directory\)\n",
        program.output,
    )


def test_lack_of_a_temporary_directory_is_named(site: Site) -> None:
    # Not one byte may be written anywhere, as on a full disk; root too is bound by that.
    unmeasured = {"COVERAGE_PROCESS_START": "", "COVERAGE_PROCESS_CONFIG": ""}  # Its figures are bytes too.
    program = site.up(wrapper=("sh", "-c", 'ulimit -f 0 && exec "$@"', "sh"), environment=unmeasured)
    assert program.end() == 1
    assert re.fullmatch(
        rf"{site.temporary}: no temporary directory can be made: No usable temporary directory found in .*"
        r" \(set TMPDIR to a directory that you may write\)\n",
        program.output,
    )


def test_missing_file_is_named() -> None:
    done = subprocess.run([AIOSYSTEMD, "up", "missing.toml"], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("missing.toml: no such file")


def test_interpreter_without_the_runtime_says_so(site: Site) -> None:
    bare = site.directory / "bare"
    bare.write_text(f'#!/bin/sh\nexec {require("python3")} -I -S "$@"\n')
    bare.chmod(0o755)
    site.write(f'python = "{bare}"', _SHARED_TMP, '[proxy]\nkind = "none"')
    program = site.up("--try")
    assert program.end() == 1
    assert re.search(r"^shop@1 +\| .*aiosystemd", program.output, re.MULTILINE)
    assert "Traceback" not in program.output


def test_interpreter_that_cannot_run_says_so(site: Site) -> None:
    broken = site.directory / "broken"
    broken.write_text("#!/nowhere/at/all\n")
    broken.chmod(0o755)
    site.write(f'python = "{broken}"', _SHARED_TMP, '[proxy]\nkind = "none"')
    program = site.up("--try")
    assert program.end() == 1
    assert re.search(rf"^shop@1 +\| cannot start {broken}: No such file or directory$", program.output, re.MULTILINE)
    assert "shop@1 ended with status 203 before it was ready\n" in program.output


def test_application_that_cannot_be_imported_is_the_reason(site: Site) -> None:
    site.write(app="nowhere:app", instances=2)
    program = site.up("--try")
    assert program.end() == 1
    assert re.search(r'^shop@[12] +\| aiosystemd-serve: no module named "nowhere"', program.output, re.MULTILINE)
    assert re.search(r"^aiosystemd \| shop@[12] ended with status 1 before it was ready$", program.output, re.MULTILINE)
    assert "Traceback" not in program.output
    assert not list(site.temporary.iterdir())


def test_application_that_cannot_be_imported_is_tried_again_once_mended(site: Site) -> None:
    site.write(app="later:make")
    program = site.up()
    program.wait_for("shop@1 starts again(.*\n)*.*shop@1 starts again")
    (site.directory / "later.py").write_text("from app import make\n")
    program.wait_for("serving on")
    site.stop(program)


def test_start_without_progress_is_ended(site: Site) -> None:
    (site.directory / "hanging.py").write_text("import time\ntime.sleep(3600)\n")
    site.write("[timeouts]\nstart = 0.5", app="hanging:app")
    program = site.up("--try")
    assert program.end() == 1
    assert "shop@1 was not ready after 0.5 s without progress (Importing hanging:app)\n" in program.output
    assert not list(site.temporary.iterdir())


def test_stop_before_it_is_ready_is_clean(site: Site) -> None:
    (site.directory / "hanging.py").write_text("import time\nprint('importing')\ntime.sleep(3600)\n")
    site.write(app="hanging:app")
    program = site.up()
    program.wait_for("importing")
    site.stop(program)
