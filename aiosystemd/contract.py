"""What the tool writes into ``ExecStart=`` and the runtime reads: names and defaults that both must share.

Imports nothing, because the runtime may not load the tool's model and the tool may not load the runtime.
"""

from typing import Final

INSTANCE_VARIABLE: Final = "AIOSYSTEMD_INSTANCE"
"""Environment variable that carries the instance's name (``%i``) to the application."""

BACKLOG: Final = 4096
"""Length of a socket's accept queue, in connections; Linux caps it at ``net.core.somaxconn``, 4096 by default."""

SERVER_KEEPALIVE: Final = 75.0
"""Seconds for which the server keeps an idle connection; longer than any proxy that closes first."""

PROXY_KEEPALIVE: Final = 5.0
"""Seconds after which the proxy closes an idle connection to an instance."""

REQUEST_TIMEOUT: Final = 30.0
"""Seconds that the longest ordinary request may take."""

CLEANUP_RESERVE: Final = 10.0
"""Seconds between the end of the drain and SIGKILL: cancelled handlers get twice 2 s, clean-up hooks the rest."""

ACCESS_LOG_FORMAT: Final = '%a %t "%r" %s %b "%{Referer}i" "%{User-Agent}i"'
"""aiohttp's own default, ``aiohttp.web_log.AccessLogger.LOG_FORMAT``."""

CONTROL: Final = "control"
"""Name of the socket in ``$RUNTIME_DIRECTORY``, ``/run/NAME/INSTANCE``, on which an instance takes orders."""

PREDECESSOR_VARIABLE: Final = "AIOSYSTEMD_PREDECESSOR"
"""Environment variable that tells the new process of a reload which descriptor leads to the old one."""

TLS_CERTIFICATE: Final = "tls-certificate"
"""The credential that has the certificate of an instance which speaks TLS itself."""

TLS_KEY: Final = "tls-key"
"""The credential that has its key."""
