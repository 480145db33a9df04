"""What is known of an expression without running it: constants and paths as they are, and aiohttp's own objects."""

import ast
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from aiosystemd.errors import Location
from aiosystemd.init.sources import Module

Value: TypeAlias = object
"""None for what is not known; str, int, PurePosixPath and list as they are; or one of the types below."""


@dataclass(frozen=True, slots=True)
class External:
    """Something of a library, by its whole name, as ``aiohttp.web.Application``."""

    name: str


@dataclass(frozen=True, slots=True)
class Imported:
    """A module or package of the directory."""

    root: Path
    name: str


@dataclass(eq=False, slots=True)
class Scope:
    """Names and what they stand for."""

    module: Module
    parent: "Scope | None" = None
    names: dict[str, Value] = field(default_factory=dict)
    returned: list[Value] = field(default_factory=list)

    def get(self, name: str) -> Value:
        """Return what a name stands for here or in the scopes around, as far as that is known."""
        scope: Scope | None = self
        while scope is not None:
            if name in scope.names:
                return scope.names[name]
            scope = scope.parent
        return None


@dataclass(frozen=True, eq=False, slots=True)
class Function:
    """A function of the directory, or a method with its object."""

    node: ast.FunctionDef | ast.AsyncFunctionDef
    scope: Scope
    """Where it was defined."""
    owner: Value = None

    @property
    def at(self) -> Location:
        """Where it stands."""
        return self.scope.module.at(self.node)


@dataclass(frozen=True, eq=False, slots=True)
class Class:
    """A class of the directory."""

    node: ast.ClassDef
    scope: Scope
    bases: tuple[Value, ...]
    members: Scope

    def get(self, name: str) -> Value:
        """Return a member, a base's where it has none of its own."""
        seen: list[Class] = [self]
        for each in seen:
            if name in each.members.names:
                return each.members.names[name]
            seen += (base for base in each.bases if isinstance(base, Class) and base not in seen)
        return None

    def is_a(self, *names: str) -> bool:
        """Tell whether a class of a library is among its bases."""
        seen: list[Class] = [self]
        for each in seen:
            if any(isinstance(base, External) and base.name in names for base in each.bases):
                return True
            seen += (base for base in each.bases if isinstance(base, Class) and base not in seen)
        return False


@dataclass(frozen=True, eq=False, slots=True)
class Instance:
    """An object of a class of the directory."""

    of: Class
    attributes: dict[str, Value] = field(default_factory=dict)


@dataclass(frozen=True, eq=False, slots=True)
class RouteDef:
    """A path and who answers; None for what is computed."""

    path: str | None
    handler: Value
    at: Location


@dataclass(frozen=True, eq=False, slots=True)
class StaticDef:
    """A path prefix and a directory; None for what is computed."""

    prefix: str | None
    directory: str | None
    at: Location


@dataclass(eq=False, slots=True)
class App:
    """An application, by the place where it is made."""

    at: Location
    body_limit: int | None = 1 << 20
    """aiohttp's default; None where it is computed."""
    routes: list[RouteDef | StaticDef] = field(default_factory=list)
    mounted: "list[tuple[str | None, App]]" = field(default_factory=list)
    computed: list[Location] = field(default_factory=list)
    """Where routes are added that are not known."""


@dataclass(eq=False, slots=True)
class Table:
    """A ``RouteTableDef``."""

    items: list[Value] = field(default_factory=list)


@dataclass(frozen=True, eq=False, slots=True)
class Decorator:
    """What a ``RouteTableDef`` gives to put above a handler."""

    table: Table
    path: str | None


@dataclass(frozen=True, eq=False, slots=True)
class Router:
    """The router of an application."""

    app: App


@dataclass(frozen=True, eq=False, slots=True)
class Resource:
    """A path that routes are added to."""

    app: App
    path: str | None


@dataclass(frozen=True, eq=False, slots=True)
class Method:
    """A method of one of these, of a path or of a string, that is about to be called."""

    of: Value
    name: str
