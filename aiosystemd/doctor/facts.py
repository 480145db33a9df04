"""What an interpreter has. It runs there, whatever its version, from its standard input: nothing newer than 3.6."""

import importlib
import json
import os
import sys
import sysconfig

MODULES = {
    "aiosystemd": "aiosystemd.runtime",
    "aiohttp": "aiohttp.web",
    "systemd-python": "systemd.daemon",
    "uvloop": "uvloop",
}
"""What an instance imports, by the name under which it is installed."""


def _version(distribution: str) -> str:
    try:
        return str(importlib.import_module("importlib.metadata").version(distribution))
    except Exception:  # noqa: BLE001 (Python 3.7 has no such module, and packages may be without metadata)
        return ""


def _failure(module: str) -> str:
    try:
        importlib.import_module(module)
    except BaseException as error:  # noqa: BLE001 (whatever it is, it is the answer)
        return f"{type(error).__name__}: {error}"
    return ""


def tell() -> None:
    """Print version, location and libraries."""
    # PEP 668: pip refuses to install beside the distribution's own packages.
    mark = os.path.join(sysconfig.get_path("stdlib"), "EXTERNALLY-MANAGED")  # noqa: PTH118
    found = {
        "version": list(sys.version_info[:3]),
        "prefix": sys.base_prefix,
        "managed": sys.prefix == sys.base_prefix and os.path.exists(mark),  # noqa: PTH110
        "versions": {name: _version(name) for name in MODULES},
        "failures": {name: _failure(module) for name, module in MODULES.items()},
    }
    print("\n" + json.dumps(found))  # noqa: T201
