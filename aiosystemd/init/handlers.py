"""What a handler answers with: a whole response, a stream, or a websocket."""

import ast
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

from aiosystemd.errors import Location
from aiosystemd.init.follow import Follower, TooMuchError
from aiosystemd.init.values import Class, External, Function, Instance, Scope, Value
from aiosystemd.introspect import Kind

_SOCKET: Final = "WebSocketResponse"
_STREAMS: Final = frozenset({"StreamResponse", "EventSourceResponse", "sse_response"})
"""aiohttp's, and what aiohttp-sse makes of it."""
_DEPTH: Final = 3
"""Functions that are looked at behind a handler, each called by the one before."""


class Handlers:
    """Looks at handlers, and remembers which functions belong to one."""

    def __init__(self, follower: Follower) -> None:
        self._follower = follower
        self.looked_at: set[Location] = set()

    def kind(self, handler: Value) -> Kind | None:
        """Return what a handler answers with, None for a whole response, or when that is not known."""
        seen: set[Location] = set()
        kinds: set[Kind] = set()
        self._follower.start()
        with suppress(TooMuchError, RecursionError):
            kinds.update(self._kinds(handler, 0, seen))
        self.looked_at |= seen
        return "websocket" if "websocket" in kinds else "stream" if "stream" in kinds else None

    def _kinds(self, handler: Value, depth: int, seen: set[Location]) -> Iterator[Kind]:
        if isinstance(handler, Class):
            for member in handler.members.names.values():
                if isinstance(member, Function):
                    yield from self._kinds(Function(member.node, member.scope, Instance(handler)), depth + 1, seen)
        elif isinstance(handler, Instance):
            yield from self._kinds(handler.of.get("__call__"), depth, seen)
        if not isinstance(handler, Function) or depth > _DEPTH or handler.at in seen:
            return
        seen.add(handler.at)
        for called in self._called(handler):
            if kind := _made(called):
                yield kind
            else:
                yield from self._kinds(called, depth + 1, seen) if isinstance(called, Function) else ()

    def _called(self, function: Function) -> Iterator[Value]:
        scope = Scope(function.scope.module, function.scope)
        first = next(iter((*function.node.args.posonlyargs, *function.node.args.args)), None)
        if first and function.owner is not None:
            scope.names[first.arg] = function.owner
        for node in ast.walk(function.node):
            if isinstance(node, ast.Call) and (name := _last_name(node.func)):
                # What is imported within the function is told by its name alone.
                yield self._follower.value(node.func, scope) or External(f"?.{name}")


def makes_socket(node: ast.AST) -> bool:
    """Tell whether a function makes a websocket, by the name alone."""
    return any(isinstance(each, ast.Call) and _last_name(each.func) == _SOCKET for each in ast.walk(node))


def _made(called: Value) -> Kind | None:
    if isinstance(called, Class):
        sockets = (f"aiohttp.web.{_SOCKET}", f"aiohttp.web_ws.{_SOCKET}")
        return "websocket" if called.is_a(*sockets) else "stream" if called.is_a("aiohttp.web.StreamResponse") else None
    if not isinstance(called, External):
        return None
    name = called.name.rpartition(".")[2]
    return "websocket" if name == _SOCKET else "stream" if name in _STREAMS else None


def _last_name(node: ast.expr) -> str:
    """Return the last name of a dotted one, "" for what is none."""
    of = node
    while isinstance(of, ast.Attribute):
        of = of.value
    if not isinstance(of, ast.Name):
        return ""
    return node.attr if isinstance(node, ast.Attribute) else of.id
