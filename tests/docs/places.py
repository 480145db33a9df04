"""Where the commands of a page are run."""

import re
from pathlib import Path
from typing import Final

from tests.docs.pages import blocks, commands

_NEEDS_NO_SERVER: Final = re.compile(r"aiosystemd (init|import|check|schema)\b")


def on_the_host(page: Path) -> bool:
    """Tell whether all that the page tells to type needs neither root nor systemd."""
    typed = [command for block in blocks(page) for command in commands(block)]
    return bool(typed) and not any(each.root or not _NEEDS_NO_SERVER.match(each.text) for each in typed)


def begins_empty(page: Path) -> bool:
    """Tell whether the page begins before anything is deployed; the others begin with the reference deployment."""
    return "<!-- begins empty -->" in page.read_text(encoding="utf-8").splitlines()
