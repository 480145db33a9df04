"""What is noticed of every response before its head is written."""

import asyncio
from weakref import WeakSet

from aiohttp import web

from aiosystemd.runtime.forwarded import Trust


class Responses:
    """One hook for all of them: what it costs, each request pays."""

    def __init__(self, app: web.Application, trust: Trust) -> None:
        """Install the hook in the root application, which must not be frozen yet; a loop must run.

        It also sees the responses of sub-applications, HTTP exceptions, 404, files and streams.
        """
        self.closing = False
        """Whether each response ends its connection, so that the proxy opens its next one elsewhere."""
        self.errors = 0
        """Responses so far with a status of 500 or more."""
        self.websockets: WeakSet[web.WebSocketResponse] = WeakSet()
        """Those that have got no Close frame from us yet."""
        self._trust = trust
        # A plain function that returns what is done already: a coroutine for each response would cost three times that.
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._done.set_result(None)
        app.on_response_prepare.append(self._see)

    def _see(self, request: web.Request, response: web.StreamResponse) -> "asyncio.Future[None]":
        if response.status >= 500:  # noqa: PLR2004 (RFC 9110, 15.6)
            self.errors += 1
        if isinstance(response, web.WebSocketResponse):
            self.websockets.add(response)
        elif response.status != 101:  # noqa: PLR2004 (an upgrade keeps its connection)
            if not isinstance(response, web.Response | web.FileResponse):
                self._unbuffer(request, response)
            if self.closing:
                # The header makes the proxy forget the connection, force_close() makes aiohttp close it. aiohttp
                # itself does only the second, and a proxy may then send another request before it sees the end.
                response.headers["Connection"] = "close"
                response.force_close()
        return self._done

    def _unbuffer(self, request: web.Request, response: web.StreamResponse) -> None:
        """Tell a trusted nginx to pass a streamed response on as it comes.

        ngx_http_proxy_module, proxy_buffering: "Buffering can also be enabled or disabled by passing “yes” or “no” in
        the “X-Accel-Buffering” response header field." So it may stay on for all others, where it frees this process
        from slow clients.
        """
        if "X-Accel-Buffering" not in response.headers and self._trust(request.get_extra_info("peername")):
            response.headers["X-Accel-Buffering"] = "no"
