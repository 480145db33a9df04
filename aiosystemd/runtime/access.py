"""The access log: none, aiohttp's own on stderr, or fields in the journal."""

import logging
import os
from typing import Final, TypedDict

from aiohttp.abc import AbstractAccessLogger
from aiohttp.web import BaseRequest, StreamResponse

from aiosystemd import contract
from aiosystemd.runtime.log import PriorityFormatter, stderr_is_journal


class _Options(TypedDict, total=False):
    access_log: logging.Logger | None
    access_log_class: type[AbstractAccessLogger]
    access_log_format: str


ACCESS: Final = logging.getLogger("aiohttp.access")


def server_options(kind: str, log_format: str) -> _Options:
    """Return the server's options for an access log of ``kind`` (off, text or journal)."""
    if kind == "off":
        return {"access_log": None}
    if kind == "journal":
        return {"access_log": ACCESS, "access_log_class": JournalAccessLogger}
    if not ACCESS.hasHandlers():
        handler = logging.StreamHandler()
        handler.setFormatter(PriorityFormatter() if stderr_is_journal() else None)
        ACCESS.addHandler(handler)
        # Else a root logger that the application configures later prints each line again.
        ACCESS.propagate = False
    if ACCESS.level == logging.NOTSET:
        ACCESS.setLevel(logging.INFO)
    return {"access_log": ACCESS, "access_log_format": log_format}


class JournalAccessLogger(AbstractAccessLogger):
    """One journal entry per request, its parts in fields of their own.

    Values come from the client and may hold line breaks; journald takes them as they are, since each field is sent
    with its length (systemd.io, native journal protocol).
    """

    def __init__(self, logger: logging.Logger, log_format: str) -> None:
        from systemd.journal import sendv  # noqa: PLC0415  (only where it is wanted: 1 MiB)

        super().__init__(logger, log_format)
        self._send = sendv
        self._instance = os.environ.get(contract.INSTANCE_VARIABLE, "")

    def log(self, request: BaseRequest, response: StreamResponse, time: float) -> None:
        fields = {
            "MESSAGE": f"{request.method} {request.path_qs} {response.status}",
            "PRIORITY": "6",
            contract.INSTANCE_VARIABLE: self._instance,
            "HTTP_METHOD": request.method,
            "HTTP_PATH": request.path_qs,
            "HTTP_STATUS": str(response.status),
            "HTTP_BYTES": str(response.body_length),
            "HTTP_DURATION_USEC": str(round(time * 1_000_000)),
            "REMOTE_ADDR": request.remote or "",
            "HTTP_USER_AGENT": request.headers.get("User-Agent", ""),
        }
        # sendv() and not send(), which looks up its caller in the stack for every entry.
        self._send(*(f"{name}={value}".encode(errors="surrogateescape") for name, value in fields.items()))
