"""How long the first request waits for an instance that sleeps, beside what importing the application takes.

Runs inside the machine, with the standard library alone, and prints milliseconds as JSON:

    python3 first_request.py UNIT SOCKET DIRECTORY ROUNDS
"""

import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial

PYTHON = "/usr/bin/python3"


def milliseconds(call: Callable[[], object]) -> float:
    begin = time.perf_counter()
    call()
    return (time.perf_counter() - begin) * 1000


def ask(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        with connection.makefile("rb") as stream:
            answer = stream.read()
    if not answer.startswith(b"HTTP/1.1 200 OK\r\n"):
        raise SystemExit(f"wrong answer: {answer!r}")


def main() -> None:
    unit, path, directory, rounds = sys.argv[1:]
    commands = {
        "python": [PYTHON, "-c", "pass"],
        "import": [PYTHON, "-c", "import my_app_module"],
        "import with uvloop": [PYTHON, "-c", "import my_app_module, uvloop"],
    }
    taken: dict[str, list[float]] = {name: [] for name in (*commands, "first request", "request")}
    for _ in range(int(rounds)):
        for name, command in commands.items():
            taken[name].append(milliseconds(partial(subprocess.run, command, cwd=directory, check=True)))
        subprocess.run(["systemctl", "stop", unit], check=True)
        for name in ("first request", "request"):
            taken[name].append(milliseconds(partial(ask, path)))
    print(json.dumps(taken))


if __name__ == "__main__":
    main()
