"""Rules between the keys of a deployment: each is right on its own, and together they would fail."""

from collections.abc import Iterator

from aiosystemd.model import Deployment
from aiosystemd.rules import gunicorn, haproxy, listening, proxy, sandbox, service, timing
from aiosystemd.rules.haproxy import unknown_to_haproxy
from aiosystemd.rules.listening import SUN_PATH
from aiosystemd.rules.proxy import location, normal_address, unknown_to_nginx
from aiosystemd.rules.rule import RULES, Violation
from aiosystemd.rules.service import unknown_to

__all__ = [
    "RULES",
    "SUN_PATH",
    "Violation",
    "described",
    "gunicorn",
    "haproxy",
    "listening",
    "location",
    "normal_address",
    "proxy",
    "sandbox",
    "service",
    "timing",
    "unknown_to",
    "unknown_to_haproxy",
    "unknown_to_nginx",
    "violations",
]


def violations(deployment: Deployment) -> Iterator[Violation]:
    """Yield every rule that ``deployment`` breaks."""
    for rule in RULES:
        yield from rule(deployment)


def described() -> Iterator[str]:
    """Yield what each rule asks for, for the manual page."""
    yield from (rule.__doc__ or "" for rule in RULES)
