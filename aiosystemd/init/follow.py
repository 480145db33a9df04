"""Follows what modules do, statement by statement, without running them: each way of an ``if``, a loop item by item."""

import ast
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Final

from aiosystemd.init import known, meaning
from aiosystemd.init.sources import Module, Sources
from aiosystemd.init.values import (
    App,
    Class,
    External,
    Function,
    Imported,
    Instance,
    Method,
    Router,
    Scope,
    Value,
)

_STEPS: Final = 50_000
"""Expressions and statements after which a module, or a function of it, is too much to follow."""
_ALL_STEPS: Final = 2_000_000
"""The same, of everything together: some ten seconds."""
_CALLS: Final = 40
"""Calls within one another."""
_OWN: Final = ("str", "super", "list", "tuple")


class TooMuchError(Exception):
    """There is more to follow than anybody waits for."""


class Follower:
    """Follows the modules of a directory."""

    def __init__(self, sources: Sources) -> None:
        self.sources = sources
        self.seen = meaning.Seen()
        self._scopes: dict[Module, Scope] = {}
        self._steps = self._all_steps = 0
        self._calls: list[ast.AST] = []
        self._results: dict[tuple[object, ...], tuple[tuple[Value, ...], Value]] = {}
        """What calls have returned; what they were given is kept with it, since it is known by its identity."""

    def module(self, module: Module) -> Scope:
        """Return the names of a module, as they are when it has been imported; raises TooMuchError."""
        if module not in self._scopes:
            scope = self._scopes[module] = Scope(module)
            scope.names |= {"__file__": str(module.file), "__name__": module.name}
            before, self._steps = self._steps, 0
            self._body(module.tree.body, scope)
            self._steps = before
        return self._scopes[module]

    def start(self) -> None:
        """Allow as many steps again as at the beginning."""
        self._steps, self._calls = 0, []

    def call(self, function: Function, arguments: Sequence[Value] = (), **keywords: Value) -> Value:
        """Return what a function returns, as far as it is known; an application before anything else."""
        if len(self._calls) >= _CALLS or function.node in self._calls:
            return None
        given = (function.scope, function.owner, *arguments, *keywords.values())
        key = (function.node, len(arguments), *keywords, *map(_identity, given))
        # The same call again gives the same: without that, functions that call one another twice take for ever.
        if key not in self._results:
            self._results[key] = given, self._called(function, arguments, keywords)
        return self._results[key][1]

    def _called(self, function: Function, arguments: Sequence[Value], keywords: dict[str, Value]) -> Value:
        scope = Scope(function.scope.module, function.scope)
        self._bind(function, list(arguments), keywords, scope)
        self._calls.append(function.node)
        try:
            self._body(function.node.body, scope)
        finally:
            self._calls.pop()
        application = next((value for value in scope.returned if isinstance(value, App)), None)
        return application or known.first(*scope.returned) or self._promised(function)

    def _promised(self, function: Function) -> Value:
        """Return an application where the signature promises one, though it is not seen where it is made."""
        returns = function.node.returns
        if isinstance(returns, ast.Constant) and isinstance(returns.value, str):
            try:
                returns = ast.parse(returns.value, mode="eval").body
            except (SyntaxError, ValueError):
                return None
        kind = self.value(returns, function.scope) if returns else None
        return App(function.at, None) if known.is_application(kind) else None

    def _bind(self, function: Function, given: list[Value], keywords: dict[str, Value], scope: Scope) -> None:
        parameters = function.node.args
        names = [each.arg for each in (*parameters.posonlyargs, *parameters.args)]
        if function.owner is not None and not known.is_decorated(function, "staticmethod"):
            given.insert(0, function.owner)
        defaults = dict(zip(reversed(names), reversed(parameters.defaults), strict=False))
        defaults |= {a.arg: d for a, d in zip(parameters.kwonlyargs, parameters.kw_defaults, strict=True) if d}
        scope.names |= dict.fromkeys(names)
        scope.names |= {name: self.value(default, function.scope) for name, default in defaults.items()}
        scope.names |= dict(zip(names, given, strict=False))
        own = {*names, *(each.arg for each in parameters.kwonlyargs)}
        scope.names |= {name: value for name, value in keywords.items() if name in own}

    def _step(self) -> None:
        self._steps += 1
        self._all_steps += 1
        if self._steps > _STEPS or self._all_steps > _ALL_STEPS:
            raise TooMuchError

    # Statements

    def _body(self, body: Sequence[ast.stmt], scope: Scope) -> None:
        for statement in body:
            self._step()
            self._statement(statement, scope)

    def _statement(self, node: ast.stmt, scope: Scope) -> None:  # noqa: C901, PLR0912 (one case a kind of statement)
        match node:
            case ast.Expr(value):
                self.value(value, scope)
            case ast.Assign(targets, value):
                found = self.value(value, scope)
                for target in targets:
                    self._assign(target, found, scope)
            case ast.AnnAssign(target, _, value):
                self._assign(target, self.value(value, scope) if value else None, scope)
            case ast.AugAssign(target, op, value):
                self._assign(target, known.operation(op, self.value(target, scope), self.value(value, scope)), scope)
            case ast.Return(value):
                scope.returned.append(self.value(value, scope) if value else None)
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                scope.names[node.name] = self._function(node, scope)
            case ast.ClassDef():
                scope.names[node.name] = self._class(node, scope)
            case ast.Import() | ast.ImportFrom():
                scope.names |= self._imported(node, scope)
            case ast.If(test, body, orelse):
                self.value(test, scope)
                # What only a script has is nobody's to import, but it may tell what is served.
                self._body(body, Scope(scope.module, scope) if known.is_of_script(test) else scope)
                self._body(orelse, scope)
            case ast.For() | ast.AsyncFor():
                for item in known.items(self.value(node.iter, scope)):
                    self._assign(node.target, item, scope)
                    self._body(node.body, scope)
                self._body(node.orelse, scope)
            case ast.With() | ast.AsyncWith():
                for each in node.items:
                    self.value(each.context_expr, scope)
                self._body(node.body, scope)
            case _:
                for name in ("test", "subject"):
                    self.value(getattr(node, name, None), scope)
                for part in known.bodies(node):
                    self._body(part, scope)

    def _assign(self, target: ast.expr, value: Value, scope: Scope) -> None:
        match target:
            case ast.Name(name):
                scope.names[name] = value
            case ast.Tuple(targets) | ast.List(targets):
                items = value if isinstance(value, list) and len(value) == len(targets) else [None] * len(targets)
                for each, item in zip(targets, items, strict=True):
                    self._assign(each, item, scope)
            case ast.Attribute(of, name):
                if isinstance(owner := self.value(of, scope), Instance):
                    owner.attributes[name] = value

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef, scope: Scope) -> Function:
        function = Function(node, scope)
        for decorator in reversed(node.decorator_list):
            meaning.decorated(self.value(decorator, scope), function)
        return function

    def _class(self, node: ast.ClassDef, scope: Scope) -> Class:
        bases = tuple(self.value(base, scope) for base in node.bases)
        found = Class(node, scope, bases, Scope(scope.module, scope))
        for decorator in node.decorator_list:
            self.value(decorator, scope)
        # A method sees the names around the class, not those in it; its own are looked up through the object.
        for statement in node.body:
            self._step()
            self._statement(statement, found.members)
        for name, member in found.members.names.items():
            if isinstance(member, Function):
                found.members.names[name] = Function(member.node, scope)
        return found

    def _imported(self, node: ast.Import | ast.ImportFrom, scope: Scope) -> dict[str, Value]:
        module = scope.module
        if isinstance(node, ast.Import):
            bound = (
                (each.asname, each.name) if each.asname else (each.name.partition(".")[0],) * 2 for each in node.names
            )
            return {name: self._named(full, module.root) for name, full in bound}
        base = node.module or ""
        if node.level:
            parts = module.package.split(".") if module.package else []
            kept = parts[: len(parts) - node.level + 1]
            base = ".".join((*kept, *([base] if base else [])))
        origin = self._named(base, module.root)
        found: dict[str, Value] = {}
        for alias in node.names:
            if alias.name == "*":
                found |= self._public(origin)
            else:
                found[alias.asname or alias.name] = self._attribute(origin, alias.name)
        return found

    def _public(self, origin: Value) -> dict[str, Value]:
        module = self.sources.find(origin.name, origin.root) if isinstance(origin, Imported) else None
        names = self.module(module).names if module else {}
        return {name: value for name, value in names.items() if not name.startswith("_")}

    def _named(self, name: str, root: Path) -> Value:
        if found := self.sources.find(name, root):
            self.module(found)
            return Imported(found.root, name)
        return Imported(root, name) if self.sources.is_package(name, root) else External(name)

    # Expressions

    def value(self, node: ast.expr | None, scope: Scope) -> Value:  # noqa: C901, PLR0911, PLR0912 (one case a kind)
        """Return what is known of an expression."""
        self._step()
        match node:
            case None:
                return None
            case ast.Constant(value):
                return value if isinstance(value, str | int) and not isinstance(value, bool) else None
            case ast.Name(name):
                return External(name) if (found := scope.get(name)) is None and name in _OWN else found
            case ast.Attribute(of, name):
                return self._attribute(self.value(of, scope), name)
            case ast.Call():
                return self._call(node, scope)
            case ast.BinOp(left, op, right):
                return known.operation(op, self.value(left, scope), self.value(right, scope))
            case ast.UnaryOp(ast.USub(), operand):
                return known.operation(ast.Sub(), 0, self.value(operand, scope))
            case ast.JoinedStr(parts):
                return known.joined([self.value(part, scope) for part in parts])
            case ast.FormattedValue(value, -1, None):
                return self.value(value, scope)
            case ast.List(items) | ast.Tuple(items):
                return [each for item in items for each in self._item(item, scope)]
            case ast.Subscript(of, index):
                return known.item(self.value(of, scope), self.value(index, scope))
            case ast.IfExp(test, body, orelse):
                self.value(test, scope)
                return known.either(test, self.value(body, scope), self.value(orelse, scope))
            case ast.BoolOp(_, values):
                return known.first(*(self.value(value, scope) for value in values))
            case ast.NamedExpr(target, value):
                found = self.value(value, scope)
                self._assign(target, found, scope)
                return found
            case ast.Await(value) | ast.YieldFrom(value):
                return self.value(value, scope)
            case ast.ListComp(element, [ast.comprehension(target, of, _)]) | ast.GeneratorExp(
                element, [ast.comprehension(target, of, _)]
            ):
                return self._comprehension(element, target, of, scope)
            case _:
                return None

    def _item(self, node: ast.expr, scope: Scope) -> Sequence[Value]:
        if isinstance(node, ast.Starred):
            return known.items(self.value(node.value, scope))
        return [self.value(node, scope)]

    def _comprehension(self, element: ast.expr, target: ast.expr, of: ast.expr, scope: Scope) -> list[Value]:
        inner, found = Scope(scope.module, scope), []
        for item in known.items(self.value(of, scope)):
            self._assign(target, item, inner)
            found.append(self.value(element, inner))
        return found

    def _attribute(self, of: Value, name: str) -> Value:  # noqa: PLR0911 (one case a kind)
        match of:
            case External(whole):
                return External(f"{whole}.{name}")
            case Imported():
                return self._member(of, name)
            case Instance(cls, attributes):
                return attributes[name] if name in attributes else known.bound(cls.get(name), of)
            case Class():
                return known.bound(of.get(name), of if known.is_decorated(of.get(name), "classmethod") else None)
            case App() if name == "router":
                return Router(of)
            case PurePosixPath() if name in {"parent", "parents", "name", "stem"}:
                parent: Value = getattr(of, name)
                return list(of.parents) if name == "parents" else parent
            case None | int() | Function():
                return None
            case _:
                return Method(of, name)

    def _member(self, of: Imported, name: str) -> Value:
        module = self.sources.find(of.name, of.root)
        names = self.module(module).names if module else {}
        inner = f"{of.name}.{name}" if of.name else name
        if name not in names and (self.sources.find(inner, of.root) or self.sources.is_package(inner, of.root)):
            return self._named(inner, of.root)
        return names.get(name)

    def _call(self, node: ast.Call, scope: Scope) -> Value:
        of = self.value(node.func, scope)
        arguments = [each for argument in node.args for each in self._item(argument, scope)]
        keywords = {each.arg or "": self.value(each.value, scope) for each in node.keywords}
        call = meaning.Call(arguments, keywords, scope.module.at(node), PurePosixPath(scope.module.root))
        match of:
            case External(name):
                return known.short(meaning.external(name, call, self.seen))
            case Method():
                return known.short(meaning.method(of, call, self.seen))
            case Function():
                return self.call(of, arguments, **keywords)
            case Class():
                return self._new(of, call)
            case _:
                meaning.decorated(of, arguments[0]) if arguments and isinstance(arguments[0], Function) else None
                return None

    def _new(self, of: Class, call: meaning.Call) -> Value:
        made = meaning.new(call) if of.is_a(*meaning.APPLICATION) else Instance(of)
        if isinstance(initialiser := of.get("__init__"), Function):
            self.call(Function(initialiser.node, initialiser.scope, made), call.arguments, **call.keywords)
        return made


def _identity(value: Value) -> object:
    return value if isinstance(value, str | int | PurePosixPath) else id(value)
