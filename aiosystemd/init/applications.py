"""The applications of a directory: by which name each is imported, and what it serves."""

import ast
import keyword
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from aiosystemd.errors import Location, Problem
from aiosystemd.init import handlers, sources
from aiosystemd.init.follow import Follower, TooMuchError
from aiosystemd.init.handlers import Handlers
from aiosystemd.init.sources import Module, Sources
from aiosystemd.init.values import App, Function, RouteDef, StaticDef, Value
from aiosystemd.introspect import Facts, Route, Static

ASK = "--import asks the application itself"


@dataclass(frozen=True, slots=True)
class Application:
    """An application that a server can import."""

    app: str
    """``MODULE:ATTRIBUTE``."""
    at: Location
    """Where that is."""
    root: Path
    """The directory to import from."""
    facts: Facts
    served: bool = False
    """Whether the code itself runs this one, as with ``web.run_app()``."""
    notes: tuple[Problem, ...] = ()
    """What could not be told without importing it."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a directory holds."""

    directory: Path
    applications: tuple[Application, ...]
    told: tuple[Problem, ...] = ()
    """What could not be looked at, and applications that nobody can import."""


class _Candidate(NamedTuple):
    module: Module
    name: str
    app: App
    function: Function | None

    @property
    def at(self) -> Location:
        return self.function.at if self.function else self.app.at

    @property
    def needs(self) -> str:
        """What the factory must be given, and a server does not."""
        return _needs(self.function) if self.function else ""

    @property
    def target(self) -> str:
        return f"{self.module.name}:{self.name}"

    @property
    def is_importable(self) -> bool:
        names = self.module.name.split(".")
        return all(name.isidentifier() and not keyword.iskeyword(name) for name in names)

    def order(self) -> tuple[object, ...]:
        """Return what comes first among names of one application: what is made where it stands, and the plainest."""
        elsewhere = self.at.file != str(self.module.file)
        hidden = self.name.startswith("_")
        return (not self.is_importable, bool(self.needs), bool(self.function), elsewhere, hidden, self.target)


def look(directory: Path) -> Found:
    """Find the applications of a directory, without running anything of it.

    Raises ProblemsError when it cannot be read.
    """
    read = sources.read(directory)
    follower = Follower(read)
    found = list(_candidates(read, follower))
    groups: dict[Location, list[_Candidate]] = {}
    for each in found:
        if each.app.at not in follower.seen.mounted:
            groups.setdefault(each.app.at, []).append(each)
    for made in follower.seen.served - follower.seen.mounted - groups.keys():
        what, hint = "this application exists only while its script runs", "return it from a function"
        read.told.append(Problem(made, what, f"{hint}, as in def create_app(): …", severity="warning"))
    best = [min(group, key=_Candidate.order) for group in groups.values()]
    reader = _Reader(Handlers(follower), follower.seen.served)
    usable = [each for each in best if each.is_importable and not each.needs]
    read.told.extend(map(_unusable, (each for each in best if each not in usable)))
    applications = sorted((reader.application(each) for each in usable), key=lambda each: (not each.served, each.app))
    read.told.extend(_unused(read, reader) if applications else ())
    return Found(directory, tuple(applications), tuple(sorted(set(read.told))))


def _candidates(read: Sources, follower: Follower) -> Iterator[_Candidate]:
    for module in read.modules:
        for name, value, function in _values(module, read, follower):
            if isinstance(value, App):
                yield _Candidate(module, name, value, function)


def _values(module: Module, read: Sources, follower: Follower) -> Iterator[tuple[str, Value, Function | None]]:
    """Yield what the names of a module stand for, and what its functions return."""
    follower.start()
    try:
        names = list(follower.module(module).names.items())
        for name, value in names:
            follower.start()
            if not isinstance(value, Function):
                yield name, value, None
            elif value.scope.module is module and value.node in module.tree.body:
                yield name, follower.call(value), value
    except (TooMuchError, RecursionError):
        if not any(name.partition(".")[0] == "aiohttp" for name in sources.imports(module.tree)):
            return
        what = "is too much to follow: what it makes is not all known"
        read.told.append(Problem(Location(str(module.file)), what, severity="warning"))


def _needs(function: Function) -> str:
    """Return what a factory needs that a server does not pass: it passes nothing, or one list of arguments."""
    parameters = function.node.args
    positional = [*parameters.posonlyargs, *parameters.args]
    required = [each.arg for each in positional[: len(positional) - len(parameters.defaults)]]
    required += [a.arg for a, d in zip(parameters.kwonlyargs, parameters.kw_defaults, strict=True) if d is None]
    return "" if required in ([], ["argv"], ["args"], ["arguments"]) else ", ".join(required)


def _unusable(each: _Candidate) -> Problem:
    if not each.is_importable:
        what = f"no module can be called {each.module.name}: what it makes cannot be imported"
        return Problem(each.at, what, "rename the file", severity="warning")
    what = f"{each.target} needs {each.needs}, and a server gives a factory nothing"
    return Problem(each.at, what, "write a function without parameters that calls it", severity="warning")


def _unused(read: Sources, reader: "_Reader") -> Iterator[Problem]:
    """Yield what looks like a part of an application, and was not seen to be one."""
    for module in read.modules:
        inner = set(_inner(module))
        for node in ast.walk(module.tree):
            at = module.at(node)
            match node:
                case ast.FunctionDef(name) | ast.AsyncFunctionDef(name) if at not in reader.handlers.looked_at:
                    if node not in inner and handlers.makes_socket(node):
                        yield Problem(at, f"{name} makes a websocket, and no route seen leads to it", ASK, "warning")
                case ast.Call(ast.Attribute(_, "add_static")) if at not in reader.static:
                    yield Problem(at, "a static route, and it is not seen of which application", ASK, "warning")


def _inner(module: Module) -> Iterator[ast.AST]:
    """Yield the functions that stand within another one, which is told of."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from (each for each in ast.walk(node) if each is not node)


class _Reader:
    """Reads what applications serve."""

    def __init__(self, of_handlers: Handlers, served: set[Location]) -> None:
        self.handlers = of_handlers
        self.static: set[Location] = set()
        self._served = served

    def application(self, each: _Candidate) -> Application:
        routes = list(_routes(each.app, "", set()))
        static = dict.fromkeys(found for prefix, route in routes for found in self._static(prefix, route))
        special = dict.fromkeys(found for prefix, route in routes for found in self._special(prefix, route))
        facts = Facts(tuple(static), tuple(special), each.app.body_limit)
        notes = sorted({*self._notes(routes), *_computed(each.app)})
        return Application(each.target, each.at, each.module.root, facts, each.app.at in self._served, tuple(notes))

    def _static(self, prefix: str | None, route: RouteDef | StaticDef) -> Iterator[Static]:
        if isinstance(route, StaticDef):
            self.static.add(route.at)
            if prefix is not None and route.prefix is not None:
                yield Static(_joined(prefix, route.prefix), route.directory or "", route.at)

    def _special(self, prefix: str | None, route: RouteDef | StaticDef) -> Iterator[Route]:
        if not isinstance(route, RouteDef):
            return
        kind = self.handlers.kind(route.handler)
        if kind and prefix is not None and route.path is not None:
            at = route.handler.at if isinstance(route.handler, Function) else route.at
            yield Route(_joined(prefix, route.path), kind, at)

    def _notes(self, routes: list[tuple[str | None, RouteDef | StaticDef]]) -> Iterator[Problem]:
        for prefix, route in routes:
            if isinstance(route, StaticDef) and None in (prefix, route.prefix, route.directory):
                what = "prefix" if None in (prefix, route.prefix) else "directory"
                yield Problem(route.at, f"the {what} of this static route is computed", ASK, "warning")
            elif isinstance(route, RouteDef) and None in (prefix, route.path) and self.handlers.kind(route.handler):
                what = f"the path of this {self.handlers.kind(route.handler)} is computed"
                yield Problem(route.at, what, ASK, "warning")


def _joined(prefix: str, path: str) -> str:
    return prefix.rstrip("/") + path


def _routes(app: App, prefix: str | None, seen: set[App]) -> Iterator[tuple[str | None, RouteDef | StaticDef]]:
    """Yield the routes of an application and those below it, each with the prefix that stands before it."""
    if app in seen:
        return
    seen.add(app)
    yield from ((prefix, route) for route in app.routes)
    for below, inner in app.mounted:
        whole = None if prefix is None or below is None else prefix.rstrip("/") + below
        yield from _routes(inner, whole, seen)


def _computed(app: App) -> Iterator[Problem]:
    if app.body_limit is None:
        yield Problem(app.at, "client_max_size is computed, or is not seen", ASK, "warning")
    apps = [app]
    for each in apps:
        apps += (inner for _, inner in each.mounted if inner not in apps)
        for at in each.computed:
            yield Problem(at, "the routes that are added here are computed", ASK, "warning")
