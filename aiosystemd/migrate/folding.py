"""A Python file of settings, read as syntax: its assignments, as far as they can be told without running it."""

import ast
import operator
import posixpath
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

from aiosystemd.errors import Location, Problem, ProblemsError
from aiosystemd.migrate.found import Draft, Setting, Text
from aiosystemd.migrate.gunicorn import CPUS, EITHER_LOOP, SETTINGS
from aiosystemd.render.text import is_unicode

_ARITHMETIC: Final[Mapping[type[ast.operator], Callable[[int, int], object]]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.FloorDiv: operator.floordiv,
}  # fmt: skip
_LARGEST: Final = 1 << 32
_LONGEST: Final = 10_000
"""Characters of a text, and items of a list, that are worked out."""
_BOTH: Final = set(EITHER_LOOP.split(" or "))
_CPUS: Final = ("cpu_count", "sched_getaffinity", "process_cpu_count")


class _Unknown(Exception):  # noqa: N818 (it is no error: the value is computed when the file runs)
    """Raised for what only running the file would tell."""


def settings(text: Text, draft: Draft) -> list[Setting]:
    """Return the settings of a gunicorn.conf.py that can be told; of everything else ``draft`` is told why not.

    Raises ProblemsError for what is not Python.
    """
    return list(_Module(text, draft).settings())


def _parse(text: Text) -> ast.Module:
    try:
        return ast.parse(text.text)
    except SyntaxError as error:
        at = Location(text.file, error.lineno or 0, max(error.offset or 0, 0))
        source = (error.text or "").rstrip("\n")[:200]
        raise ProblemsError(Problem(at, f"not Python: {error.msg}", source=source)) from None
    except (ValueError, RecursionError, MemoryError):  # a NUL; nested too deeply
        raise ProblemsError(Problem(Location(text.file), "not Python: it cannot be parsed")) from None


class _Module:
    def __init__(self, text: Text, draft: Draft) -> None:
        self.text, self.draft = text, draft
        self.tree = _parse(text)
        self.names: dict[str, object] = {}
        self.used = {node.id for node in ast.walk(self.tree) if isinstance(node, ast.Name) and _is_read(node)}

    def settings(self) -> Iterator[Setting]:
        for statement in self.tree.body:
            match statement:
                case ast.Assign(targets=targets, value=value):
                    yield from self.assigned(statement, targets, value)
                case ast.AnnAssign(target=target, value=ast.expr() as value):
                    yield from self.assigned(statement, [target], value)
                case ast.Expr(value=ast.Constant()) | ast.Pass():
                    pass  # a docstring
                case ast.Import() | ast.ImportFrom():
                    self.imported(statement)
                case _:
                    self.code(statement)

    def at(self, node: ast.AST) -> Location:
        return Location(self.text.file, getattr(node, "lineno", 0), getattr(node, "col_offset", -1) + 1)

    def assigned(self, statement: ast.stmt, targets: list[ast.expr], value: ast.expr) -> Iterator[Setting]:
        for target in targets:
            match target, value:
                case ast.Name(id=name), _:
                    yield from self.setting(statement, name, value)
                case (ast.Tuple(elts=[*parts]), ast.Tuple(elts=[*values])) if len(parts) == len(values):
                    for part, item in zip(parts, values, strict=True):
                        yield from self.assigned(statement, [part], item)
                case _:
                    for name in _names(target):
                        yield from self.setting(statement, name, None)

    def setting(self, statement: ast.stmt, name: str, value: ast.expr | None) -> Iterator[Setting]:
        shown = Setting(self.at(statement), name, ast.unparse(value) if value else "")
        try:
            known = self.fold(value)
        except (_Unknown, RecursionError):
            self.names.pop(name, None)
            self.draft.drop(shown, "computed: this file is read, never run; set what it means yourself")
            return
        self.names[name] = known
        if name not in SETTINGS and name in self.used:
            self.draft.drop(shown, "a variable of the file: it is in the settings that use it")
        elif known is None:
            self.draft.drop(shown, "nothing: the default of gunicorn")
        else:
            yield Setting(shown.at, name, _text(known))

    def imported(self, statement: ast.Import | ast.ImportFrom) -> None:
        names = {(alias.asname or alias.name).split(".")[0] for alias in statement.names}
        for name in names:
            self.names.pop(name, None)
        shown = Setting(self.at(statement), ast.unparse(statement))
        if names & (set(SETTINGS) | {"*"}):
            self.draft.drop(shown, "settings of another module, which is not read")
        else:
            self.draft.drop(shown, "for the code of the file")

    def code(self, statement: ast.stmt) -> None:
        """Tell of code, and of each setting that it may set or not."""
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            self.names.pop(statement.name, None)
            role = SETTINGS.get(statement.name)
            shown = Setting(self.at(statement), statement.name, "code")
            self.draft.drop(shown, role if isinstance(role, str) else "code of the file, which is not run")
            return
        first = ast.unparse(statement).partition("\n")[0]
        self.draft.drop(Setting(self.at(statement), first), "code of the file, which is not run")
        for node in ast.walk(statement):
            if isinstance(node, ast.Name) and not _is_read(node):
                self.names.pop(node.id, None)
                says = "depends on what the file does when it runs: set what it means yourself"
                self.draft.drop(Setting(self.at(node), node.id), says)

    def fold(self, node: ast.expr | None) -> object:
        """Return the value of an expression; raises _Unknown."""
        match node:
            case ast.Constant(value=str() as value):
                return _limited(value)
            case ast.Constant(value=int() | float() | None as value):
                return value
            case ast.Name(id=name) if name in self.names:
                return self.names[name]
            case ast.List(elts=items) | ast.Tuple(elts=items):
                return [self.fold(item) for item in items]
            case ast.BinOp(left=left, op=op, right=right):
                return self.computed(left, op, right)
            case ast.JoinedStr() | ast.Call() | ast.IfExp():
                return self.filled(node)
            case _:
                raise _Unknown

    def filled(self, node: ast.JoinedStr | ast.Call | ast.IfExp) -> object:
        if isinstance(node, ast.Call):
            return self.called(node)
        if isinstance(node, ast.IfExp):
            if {_text(self.fold(node.body)), _text(self.fold(node.orelse))} == _BOTH:
                return EITHER_LOOP
            raise _Unknown
        return _limited("".join(_text(self.part(part)) for part in node.values))

    def part(self, node: ast.expr) -> object:
        if isinstance(node, ast.FormattedValue):
            if node.format_spec or node.conversion != -1:
                raise _Unknown
            return self.fold(node.value)
        return self.fold(node)

    def computed(self, left: ast.expr, op: ast.operator, right: ast.expr) -> object:
        if _names_cpus(left) or _names_cpus(right):
            return CPUS
        pair = self.fold(left), self.fold(right)
        if CPUS in pair:
            return CPUS
        match pair:
            case (str() as one, str() as other) if isinstance(op, ast.Add):
                return _limited(one + other)
            case (int() as one, int() as other) if type(op) in _ARITHMETIC and max(abs(one), abs(other)) < _LARGEST:
                try:
                    return _ARITHMETIC[type(op)](one, other)
                except ZeroDivisionError:
                    raise _Unknown from None
            case _:
                raise _Unknown

    def called(self, node: ast.Call) -> object:
        called, arguments = ast.unparse(node.func), node.args
        if _names_cpus(node):
            return CPUS
        if called in {"str", "int"} and len(arguments) == 1:
            return self.converted(called, self.fold(arguments[0]))
        if called == "os.path.join" and arguments:
            parts = [self.fold(each) for each in arguments]
            if all(isinstance(each, str) for each in parts):
                return _limited(posixpath.join(*map(str, parts)))
        if called in {"os.environ.get", "os.getenv"} and len(arguments) == 2:  # noqa: PLR2004 (a name and a default)
            return self.default(node)
        raise _Unknown

    def converted(self, kind: str, value: object) -> object:
        if kind == "str" or value == CPUS:
            return _text(value)
        try:
            return int(str(value)[:20])
        except ValueError:
            raise _Unknown from None

    def default(self, node: ast.Call) -> object:
        """Return what is taken when a variable is not set, and say that this was taken."""
        value = self.fold(node.args[1])
        shown = Setting(self.at(node), ast.unparse(node))
        self.draft.replaced(shown, "as if the variable were not set")
        return value


def _is_read(node: ast.Name) -> bool:
    return isinstance(node.ctx, ast.Load)


def _names(target: ast.expr) -> Iterable[str]:
    names = [node.id for node in ast.walk(target) if isinstance(node, ast.Name) and not _is_read(node)]
    return names or [ast.unparse(target)]


def _names_cpus(node: ast.expr) -> bool:
    return any(
        isinstance(each, ast.Call) and ast.unparse(each.func).rpartition(".")[2] in _CPUS for each in ast.walk(node)
    )


def _limited(text: str) -> str:
    if len(text) > _LONGEST or not all(map(is_unicode, text)):
        raise _Unknown
    return text


def _text(value: object) -> str:
    if isinstance(value, list):
        return "\n".join(map(_text, value))
    return "true" if value is True else "false" if value is False else str(value)
