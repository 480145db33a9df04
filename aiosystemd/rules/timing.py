"""Seconds and bytes that depend on one another."""

from collections.abc import Iterator

from aiosystemd.contract import CLEANUP_RESERVE
from aiosystemd.model import Deployment
from aiosystemd.rules.rule import Violation, rule


@rule
def _drain_covers_requests(d: Deployment) -> Iterator[Violation]:
    """``timeouts.drain`` covers ``timeouts.request`` and then ``proxy.keepalive``, or a stop would cut requests off."""
    if d.drain < (least := round(d.timeouts.request + d.idle, 3)):
        yield Violation(
            (("timeouts", "drain"), ("timeouts", "request"), ("proxy", "keepalive")),
            f"drain ({d.drain:g} s) is shorter than a request ({d.timeouts.request:g} s) and the time in which "
            f"the proxy closes idle connections ({d.idle:g} s)",
            f"raise timeouts.drain to at least {least:g}",
        )


@rule
def _stop_covers_drain(d: Deployment) -> Iterator[Violation]:
    """``timeouts.stop`` leaves time for the application's clean-up after ``timeouts.drain``."""
    if d.stop < (least := round(d.drain + CLEANUP_RESERVE / 2, 3)):
        yield Violation(
            (("timeouts", "drain"), ("timeouts", "stop"), ("timeouts", "request")),
            f"drain ({d.drain:g} s) is longer than stop ({d.stop:g} s) leaves: systemd would kill what still drains",
            f"raise timeouts.stop to at least {least:g}",
        )


@rule
def _proxy_closes_first(d: Deployment) -> Iterator[Violation]:
    """``proxy.keepalive`` is shorter than ``server.keepalive``: idle connections are the proxy's to close."""
    if d.idle >= d.server.keepalive:
        yield Violation(
            (("server", "keepalive"), ("proxy", "keepalive")),
            f"the server closes idle connections after {d.server.keepalive:g} s, not after the proxy "
            f"({d.idle:g} s): a request could be sent on a connection that is being closed",
            f"raise server.keepalive above {d.idle:g}",
        )


@rule
def _body_fits_the_application(d: Deployment) -> Iterator[Violation]:
    """``proxy.body_size`` is not above ``server.body_limit``."""
    proxy, application = d.proxy.body_size, d.server.body_limit
    if proxy and application and proxy > application:
        yield Violation(
            (("proxy", "body_size"), ("server", "body_limit")),
            f"the proxy would accept bodies of {proxy} bytes, which the application refuses above {application}",
            "raise server.body_limit, or leave proxy.body_size out: it follows",
        )
