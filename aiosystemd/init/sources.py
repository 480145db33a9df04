"""The modules of a directory, parsed and never run: each with the name that it is imported by."""

import ast
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from aiosystemd.errors import Location, Problem, ProblemsError

MAX_FILES: Final = 2000
MAX_SIZE: Final = 1 << 20
"""Bytes of a module; more is data."""
MAX_DEPTH: Final = 12

_NOT_THE_APPLICATION: Final = frozenset(
    "venv env virtualenv node_modules __pycache__ site-packages dist-packages build dist tests test testing docs doc "
    "migrations alembic benchmarks debian".split()
)


@dataclass(frozen=True, eq=False)
class Module:
    """A module, as it is imported with ``root`` on the path."""

    name: str
    file: Path
    root: Path
    tree: ast.Module

    def at(self, node: ast.AST) -> Location:
        """Return where something stands in it."""
        column = getattr(node, "col_offset", -1) + 1
        return Location(str(self.file), getattr(node, "lineno", 0), column)

    @property
    def package(self) -> str:
        """The package that its relative imports begin at, importlib's ``__package__``."""
        return self.name if self.file.name == "__init__.py" else self.name.rpartition(".")[0]


@dataclass(slots=True)
class Sources:
    """The modules of a directory."""

    directory: Path
    modules: list[Module] = field(default_factory=list)
    told: list[Problem] = field(default_factory=list)
    """What could not be looked at, and why."""
    _named: dict[str, list[Module]] = field(default_factory=dict)
    """By name: two folders that are no packages may each have a module of that name."""
    _packages: set[tuple[Path, str]] = field(default_factory=set)

    def add(self, module: Module) -> None:
        """Take a module in."""
        self.modules.append(module)
        self._named.setdefault(module.name, []).append(module)
        parts = module.name.split(".")
        self._packages |= {(module.root, ".".join(parts[:end])) for end in range(1, len(parts))}

    def find(self, name: str, near: Path) -> Module | None:
        """Return the module of that name, the one with the same root first."""
        found = self._named.get(name, [])
        return min(found, key=lambda each: (each.root != near, each.root != self.directory), default=None)

    def is_package(self, name: str, root: Path) -> bool:
        """Tell whether a folder of modules is called so, though it may have no ``__init__.py``."""
        return (root, name) in self._packages or (self.directory, name) in self._packages


def read(directory: Path) -> Sources:
    """Parse what may belong to an application: no virtual environments, tests, or hidden files.

    Raises ProblemsError when the directory cannot be read.
    """
    sources = Sources(directory)
    trees = {file: tree for file in _files(directory, sources.told) if (tree := _parsed(file, sources.told))}
    imported = {name.partition(".")[0] for tree in trees.values() for name in imports(tree)}
    for file, tree in trees.items():
        root = _root(file, directory, imported)
        parts = file.relative_to(root).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        sources.add(Module(name, file, root, tree))
    return sources


def _files(directory: Path, told: list[Problem]) -> Iterator[Path]:
    try:
        os.scandir(directory).close()
    except OSError as error:
        raise ProblemsError(Problem(Location(str(directory)), f"cannot be read: {error.strerror}")) from None
    count = 0
    for folder, folders, names in os.walk(directory):
        depth = len(Path(folder).relative_to(directory).parts)
        folders[:] = sorted(each for each in folders if depth < MAX_DEPTH and _may_hold(Path(folder, each)))
        for name in sorted(filter(_may_be, names)):
            count += 1
            if count > MAX_FILES:
                told.append(_told(directory, f"has more than {MAX_FILES} modules: the others are not looked at"))
                return
            yield Path(folder, name)


def _may_hold(folder: Path) -> bool:
    name = folder.name
    hidden = name.startswith(".") or name in _NOT_THE_APPLICATION or name.endswith(".egg-info")
    return not hidden and not (folder / "pyvenv.cfg").exists()


def _may_be(name: str) -> bool:
    test = name.startswith("test_") or name.endswith("_test.py") or name in {"conftest.py", "setup.py"}
    return name.endswith(".py") and not name.startswith(".") and not test


def _parsed(file: Path, told: list[Problem]) -> ast.Module | None:
    try:
        if not file.is_file():  # a pipe would be waited for
            return None
        if file.stat().st_size > MAX_SIZE:
            told.append(_told(file, f"is larger than {MAX_SIZE} bytes, and not looked at"))
            return None
        with warnings.catch_warnings():  # of the application's own spelling, such as "\d"
            warnings.simplefilter("ignore")
            return ast.parse(file.read_bytes())
    except OSError as error:
        told.append(_told(file, f"cannot be read: {error.strerror}"))
    except SyntaxError as error:
        told.append(_told(file, f"is not looked at: {error.msg}", error.lineno or 0))
    except (ValueError, RecursionError, MemoryError) as error:
        told.append(_told(file, f"is not looked at: {str(error) or type(error).__name__}"))
    return None


def _told(file: Path, what: str, line: int = 0) -> Problem:
    return Problem(Location(str(file), line), what, severity="warning")


def imports(tree: ast.Module) -> Iterator[str]:
    """Yield the names of the modules that are imported anywhere in one."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module


def _root(file: Path, directory: Path, imported: set[str]) -> Path:
    """Return what must be on the path for ``file`` to be imported as its own code imports it."""
    root = file.parent
    while (root / "__init__.py").is_file() and root != root.parent:
        root = root.parent
    if root == directory or not root.is_relative_to(directory):
        return root
    # A folder without __init__.py: a package all the same where somebody imports it, and else a place such as src.
    return directory if root.relative_to(directory).parts[0] in imported else root
