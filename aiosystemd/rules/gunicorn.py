"""What gunicorn and its aiohttp workers cannot do (aiohttp/worker.py)."""

from collections.abc import Iterator

from aiosystemd.model import Deployment
from aiosystemd.rules.rule import KeyPath, Violation, rule

_HERE = 'or set server.kind = "aiohttp"'


@rule
def _gunicorns_workers(d: Deployment) -> Iterator[Violation]:
    """``server.kind = "gunicorn"`` goes without what its aiohttp workers cannot do; what it loses is warned of."""
    if d.server.kind != "gunicorn":
        return
    yield from _wanted_in_vain(d)
    if "health" in d.model_fields_set:
        what = "nobody asks gunicorn's workers whether they are healthy"
        hint = 'rollout does, with server.kind = "aiohttp"'
        yield Violation((("health",), ("server", "kind")), what, hint, "warning")
    what = (
        "gunicorn says that it is ready before its workers have imported the application, a reload may lose requests "
        "on connections that are kept alive, and its workers shorten the queue of the socket to 128"
    )
    yield Violation((("server", "kind"),), what, 'server.kind = "aiohttp" does none of that', "warning")


def _wanted_in_vain(d: Deployment) -> Iterator[Violation]:
    wanted: dict[KeyPath, tuple[bool, str, str]] = {
        ("arguments",): (
            bool(d.arguments),
            "gunicorn calls a factory without arguments",
            "read them from service.environment",
        ),
        ("server", "body_limit"): (
            d.server.body_limit is not None,
            "gunicorn's workers take the application's own client_max_size",
            "set it there, and proxy.body_size",
        ),
        ("server", "forwarded"): (
            d.server.forwarded and "forwarded" in d.server.model_fields_set,
            "gunicorn's workers do not read X-Forwarded- headers",
            "have the application do it, as with aiohttp-remotes",
        ),
        ("listen", "shared"): (
            d.listen.shared,
            "gunicorn's workers share its socket anyway",
            "remove it",
        ),
        ("listen", "tls"): (
            d.listen.tls is not None,
            "gunicorn gets no certificate from listen.tls",
            "use proxy.tls",
        ),
        ("server", "access_log"): (
            d.server.access_log == "journal",
            "gunicorn writes no journal entries with fields",
            'use access_log = "text"',
        ),
    }
    for key, (is_wanted, what, hint) in wanted.items():
        if is_wanted:
            yield Violation((key, ("server", "kind")), what, f"{hint}, {_HERE}")
