"""What all tests share: the option that rewrites expected files, and hypothesis without surprises."""

import os

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "tests",
    # The examples of one property share processes of nginx and systemd, which takes as long as it takes.
    deadline=None,
    derandomize=os.environ.get("CI") == "true",
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("tests")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the only way in which expected files are written."""
    parser.addoption("--update-golden", action="store_true", help="write tests/golden/ and units/ anew")
