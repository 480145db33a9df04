"""What one change alone is worth: the set-up as generated, and copies of it with something put otherwise."""

from typing import Final

from benchmarks.contenders import NGINX, SITE, Contender

_SERVICE: Final = "/etc/systemd/system/example@.service"
_LISTEN: Final = "    listen 80;\n"
_LOG: Final = "    access_log /var/log/nginx/access.log combined buffer=64k flush=1s;\n"


def variants(base: Contender) -> tuple[Contender, ...]:
    """Return ``base`` and its copies, one change each."""

    def site(name: str, *pairs: tuple[str, str]) -> Contender:
        return base.changed(name, SITE, *pairs)

    def service(name: str, line: str) -> Contender:
        return base.changed(name, _SERVICE, ("[Service]\n", f"[Service]\n{line}\n"))

    return (
        base,
        site("round robin", ("    least_conn;\n", "")),
        site("random two least_conn", ("    least_conn;\n", "    random two least_conn;\n")),
        site("access log off", (_LISTEN, f"{_LISTEN}    access_log off;\n")),
        site("access log buffered", (_LISTEN, _LISTEN + _LOG)),
        site("proxy_buffering off", ("proxy_buffering on;", "proxy_buffering off;")),
        base.changed("workers not pinned", NGINX, ("worker_cpu_affinity auto;", "")),
        base.changed("one nginx worker", NGINX, ("worker_processes auto;", "worker_processes 1;")),
        service("SCHED_BATCH", "CPUSchedulingPolicy=batch"),
        base.changed("asyncio loop", _SERVICE, ("-m aiosystemd.runtime ", "-m aiosystemd.runtime --loop=asyncio ")),
        base.changed("without sandbox", _SERVICE, *_without_sandbox(base.files[_SERVICE])),
    )


def _without_sandbox(text: str) -> tuple[tuple[str, str], ...]:
    begin, end = (text.index(line) for line in ("UMask=", "[Install]"))
    return ((text[begin:end], ""),)
