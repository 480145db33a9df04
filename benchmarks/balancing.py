"""Which balancing method nginx should use: the same instances behind each, in interleaved rounds.

    .venv/bin/python benchmarks/balancing.py [INSTANCES] [ROUNDS]

Needs nginx and wrk. Prints requests per second, median of the rounds, as a ratio to round robin.
"""

import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

METHODS = {
    "round robin": [],
    "zone, round robin": ["zone METHOD 64k"],
    "zone, least_conn": ["zone METHOD 64k", "least_conn"],
    "zone, random two least_conn": ["zone METHOD 64k", "random two least_conn"],
}
UNITS = Path(__file__).parent.parent / "units"


def nginx_conf(directory: Path, instances: int) -> str:
    sites = []
    for number, lines in enumerate(METHODS.values()):
        servers = [f"server unix:{directory}/{i}.sock max_fails=0" for i in range(instances)]
        body = "; ".join([*(line.replace("METHOD", f"m{number}") for line in lines), *servers, "keepalive 64"])
        sites.append(f"""
            upstream m{number} {{ {body}; }}
            server {{ listen 127.0.0.1:{9400 + number}; location / {{ proxy_pass http://m{number};
                proxy_http_version 1.1; proxy_set_header Connection ""; }} }}""")
    temporary = f"client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy;"
    return f"""daemon off; pid {directory}/pid; error_log stderr; worker_processes auto; events {{}}
        http {{ access_log off; {temporary} {"".join(sites)} }}"""


def rate(port: int) -> float:
    wrk = ["wrk", "-t2", "-c32", "-d3s", f"http://127.0.0.1:{port}/"]
    output = subprocess.run(wrk, capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in output or "Socket errors" in output:
        raise SystemExit(output)
    [found] = re.findall(r"Requests/sec:\s+([0-9.]+)", output)
    return float(found)


def measure(instances: int, rounds: int) -> dict[str, list[float]]:
    figures: dict[str, list[float]] = {name: [] for name in METHODS}
    serve = [sys.executable, "-m", "aiosystemd.runtime", "--drain=1", "--mode=666", "--path"]
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        directory.chmod(0o755)  # nginx's workers are another user when root starts it
        (directory / "nginx.conf").write_text(nginx_conf(directory, instances))
        sockets = [directory / f"{i}.sock" for i in range(instances)]
        processes = [subprocess.Popen([*serve, str(s), "my_app_module:my_web_app"], cwd=UNITS) for s in sockets]
        try:
            while not all(socket.exists() for socket in sockets):
                time.sleep(0.1)
            processes.append(subprocess.Popen(["nginx", "-e", "stderr", "-c", str(directory / "nginx.conf")]))
            time.sleep(1)
            for _ in range(rounds):
                for number, method in enumerate(METHODS):
                    figures[method].append(rate(9400 + number))
        finally:
            for process in processes:
                process.terminate()
            for process in processes:
                process.wait()
    return figures


def main() -> None:
    instances, rounds = (int(argument) for argument in (*sys.argv[1:], "4", "5")[:2])
    figures = measure(instances, rounds)
    base = statistics.median(figures["round robin"])
    for method, found in figures.items():
        median = statistics.median(found)
        print(f"{method:30} {median:8.0f}/s  {median / base:5.2f}")


if __name__ == "__main__":
    main()
