"""What calls of aiohttp, pathlib and os.path come to, as far as their arguments are known."""

import os.path
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Final

from aiosystemd.errors import Location
from aiosystemd.init.values import (
    App,
    Decorator,
    Function,
    Method,
    Resource,
    RouteDef,
    Router,
    StaticDef,
    Table,
    Value,
)

APPLICATION: Final = frozenset({"aiohttp.web.Application", "aiohttp.web_app.Application"})
_RUNS: Final = frozenset({"aiohttp.web.run_app", "aiohttp.web._run_app", "aiohttp.web.AppRunner"})
_VERBS: Final = frozenset("get post put patch delete head options view".split())
_MANY: Final = 1000
"""Most routes and items that a list is followed to."""


@dataclass(slots=True)
class Call:
    """The arguments of a call, where it stands, and the directory that relative paths begin at."""

    arguments: Sequence[Value]
    keywords: Mapping[str, Value]
    at: Location
    working: PurePosixPath

    def get(self, index: int, name: str) -> Value:
        """Return an argument, by its place or its name."""
        return self.arguments[index] if index < len(self.arguments) else self.keywords.get(name)

    def text(self, index: int, name: str) -> str | None:
        """Return an argument that is text, or None."""
        value = self.get(index, name)
        return value if isinstance(value, str) else None

    def path(self, index: int, name: str) -> str | None:
        """Return an argument that is a path, absolute, or None."""
        value = self.get(index, name)
        return os.path.normpath(self.working / value) if isinstance(value, str | PurePosixPath) else None


@dataclass(slots=True)
class Seen:
    """What else calls tell: which applications are served, and which are a part of another one."""

    served: set[Location] = field(default_factory=set)
    mounted: set[Location] = field(default_factory=set)


def external(name: str, call: Call, seen: Seen) -> Value:
    """Return what a function of a library gives."""
    if name in APPLICATION:
        return new(call)
    if name in _RUNS:
        if isinstance(app := call.get(0, "app"), App):
            seen.served.add(app.at)
        return None
    module, _, function = name.rpartition(".")
    if module in {"aiohttp.web", "aiohttp.web_routedef"}:
        return _of_aiohttp(function, call)
    if name == "functools.partial":
        return call.get(0, "func")
    if name in {"asyncio.run", "asyncio.ensure_future"}:
        return call.get(0, "main")
    return _of_paths(name, call)


def new(call: Call) -> App:
    """Return an application that is made here."""
    if "client_max_size" not in call.keywords:
        return App(call.at)
    limit = call.keywords["client_max_size"]
    return App(call.at, limit if isinstance(limit, int) and limit >= 0 else None)


def _of_aiohttp(function: str, call: Call) -> Value:
    match function:
        case "RouteTableDef":
            return Table()
        case "static":
            return StaticDef(call.text(0, "prefix"), call.path(1, "path"), call.at)
        case "route":
            return RouteDef(call.text(1, "path"), call.get(2, "handler"), call.at)
        case _ if function in _VERBS:
            return RouteDef(call.text(0, "path"), call.get(1, "handler"), call.at)
        case _:
            return None


def _of_paths(name: str, call: Call) -> Value:  # noqa: PLR0911 (one case a function)
    values = [value for value in call.arguments if isinstance(value, str | PurePosixPath)]
    if len(values) != len(call.arguments) or call.keywords:
        return None
    first = str(values[0]) if values else ""
    match name:
        case "pathlib.Path" | "pathlib.PurePath" | "pathlib.PosixPath" | "pathlib.PurePosixPath":
            return PurePosixPath(*values)
        case "os.path.join":
            return str(PurePosixPath(*values)) if values else None
        case "os.path.dirname":
            return os.path.dirname(first)  # noqa: PTH120 (what the application has called)
        case "os.path.abspath" | "os.path.realpath":
            return os.path.normpath(call.working / first)
        case "os.path.normpath" | "os.fspath" | "str":
            return first
        case "os.getcwd":
            return str(call.working)
        case "pathlib.Path.cwd":
            return call.working
        case _:
            return None


def method(called: Method, call: Call, seen: Seen) -> Value:  # noqa: PLR0911 (one case a kind)
    """Return what a method of an application, a router, a table of routes, a list or a path gives."""
    match called.of:
        case App() as app:
            _of_application(app, called.name, call, seen)
            return None
        case Router(app):
            return _of_router(app, called.name, call)
        case Resource(app, path):
            if called.name == "add_route":
                add(app, [RouteDef(path, call.get(1, "handler"), call.at)], call.at)
            return None
        case Table() as table:
            return _of_table(table, called.name, call)
        case list() as items:
            _of_list(items, called.name, call)
            return None
        case PurePosixPath() as path:
            return _of_path(path, called.name, call)
        case str() as text if called.name in {"strip", "rstrip", "lstrip"} and isinstance(call.get(0, ""), str | None):
            stripped: str = getattr(text, called.name)(call.get(0, ""))
            return stripped
        case _:
            return None


def _of_application(app: App, name: str, call: Call, seen: Seen) -> None:
    if name == "add_routes":
        add(app, call.get(0, "routes"), call.at)
    elif name in {"add_subapp", "add_domain"}:
        inner = call.get(1, "subapp") or call.keywords.get("domain_app")
        if isinstance(inner, App) and inner is not app:
            seen.mounted.add(inner.at)
            app.mounted.append((call.text(0, "prefix") if name == "add_subapp" else "", inner))
        else:
            app.computed.append(call.at)


def _of_router(app: App, name: str, call: Call) -> Value:
    match name:
        case "add_static":
            add(app, [StaticDef(call.text(0, "prefix"), call.path(1, "path"), call.at)], call.at)
        case "add_routes":
            add(app, call.get(0, "routes"), call.at)
        case "add_route":
            add(app, [RouteDef(call.text(1, "path"), call.get(2, "handler"), call.at)], call.at)
        case "add_resource":
            return Resource(app, call.text(0, "path"))
        case _ if name.removeprefix("add_") in _VERBS:
            add(app, [RouteDef(call.text(0, "path"), call.get(1, "handler"), call.at)], call.at)
    return None


def _of_table(table: Table, name: str, call: Call) -> Value:
    if name == "static":
        table.items.append(StaticDef(call.text(0, "prefix"), call.path(1, "path"), call.at))
        return None
    if name == "route":
        return Decorator(table, call.text(1, "path"))
    return Decorator(table, call.text(0, "path")) if name in _VERBS else None


def _of_list(items: list[Value], name: str, call: Call) -> None:
    if len(items) > _MANY:
        return
    if name == "append":
        items.append(call.get(0, ""))
    elif name == "extend":
        more = call.get(0, "")
        items.extend(more[:_MANY] if isinstance(more, list) else [more])


def _of_path(path: PurePosixPath, name: str, call: Call) -> Value:
    parts = [part for part in call.arguments if isinstance(part, str | PurePosixPath)]
    match name:
        case "joinpath" if len(parts) == len(call.arguments):
            return path.joinpath(*parts)
        case "resolve" | "absolute":
            return PurePosixPath(os.path.normpath(call.working / path))
        case "as_posix" | "__str__":
            return str(path)
        case _:
            return None


def add(app: App, routes: Value, at: Location) -> None:
    """Add routes to an application, or remember that some are added that are not known."""
    items = routes.items if isinstance(routes, Table) else routes
    for each in items if isinstance(items, list) else [None]:
        match each:
            case RouteDef() | StaticDef() if len(app.routes) < _MANY:
                app.routes.append(each)
            case Table() | list():
                add(app, _flat(each), at)
            case _:
                app.computed.append(at)


def _flat(routes: Table | list[Value]) -> list[Value]:
    """Return the routes among items, such as of ``[*routes, web.static(...)]``; lists go no deeper."""
    items: Iterable[Value] = routes.items if isinstance(routes, Table) else routes
    return [None if isinstance(each, Table | list) else each for each in items]


def decorated(decorator: Value, function: Function) -> None:
    """Register a handler with the table whose decorator stands above it."""
    if isinstance(decorator, Decorator):
        decorator.table.items.append(RouteDef(decorator.path, function, function.at))
