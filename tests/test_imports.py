"""What may import what, and who may write, beyond what the contracts in ``pyproject.toml`` can say."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "aiosystemd"
MODULES = sorted(PACKAGE.rglob("*.py"))
HEAVY = {"pydantic", "pydantic_core", "typer", "click", "rich"}

WRITING = {
    *("write_text", "write_bytes", "touch", "mkdir", "makedirs", "rmdir", "removedirs", "unlink", "remove"),
    *("rename", "renames", "link", "symlink", "symlink_to", "hardlink_to", "mkfifo", "mknod", "truncate"),
    *("chmod", "fchmod", "lchmod", "chown", "lchown", "fchown", "copy2", "copyfile", "copytree", "move", "rmtree"),
    *("mkstemp", "mkdtemp", "NamedTemporaryFile", "TemporaryFile"),
}
"""Methods and functions of pathlib, os, shutil and tempfile that change a file system."""

SOCKETS = {"deploy/moving.py", "runtime/control.py", "runtime/listening.py", "up/place.py", "up/sockets.py"}
"""What makes room for sockets, and makes directories below a scratch one; neither writes a file."""

LOCK = {"rollout/lock.py"}
"""What writes who holds a lock into it."""

FLAGS = {"O_WRONLY", "O_RDWR", "O_CREAT", "O_APPEND", "O_TRUNC"}


def loaded_by(code: str) -> set[str]:
    """Return the modules that a fresh interpreter has loaded after ``code``, by their first names."""
    script = f"{code}\nimport sys\nprint(*sys.modules, sep='\\n')"
    done = subprocess.run((sys.executable, "-c", script), capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in done.stdout.split()}


@pytest.mark.parametrize(
    "module", [f"aiosystemd.runtime.{path.stem}" for path in sorted((PACKAGE / "runtime").glob("[a-z]*.py"))]
)
def test_the_runtime_loads_nothing_of_the_tool(module: str) -> None:
    loaded = loaded_by(f"import aiosystemd.runtime, {module}, sys\nprint(*sys.modules, sep='\\n')")
    assert loaded & HEAVY == set()


def test_the_tool_loads_nothing_of_the_runtime() -> None:
    names = [path.stem for path in PACKAGE.glob("[a-z]*.py")]
    loaded = loaded_by(
        "\n".join(f"import aiosystemd.{name}" for name in names) + "\nimport aiosystemd.up, aiosystemd.drill"
    )
    assert loaded & {"aiohttp", "asyncio", "systemd", "uvloop"} == set()
    assert "pydantic" in loaded


def test_help_does_not_wait_for_the_model() -> None:
    assert "pydantic" not in loaded_by("import aiosystemd.cli")


def test_click_is_typers_business() -> None:
    names = [name for path in MODULES for name in _imported(path)]
    assert "typer" in names
    assert "click" not in names


def test_only_apply_writes_files() -> None:
    writers = {str(path.relative_to(PACKAGE)) for path in MODULES for _ in _writes(path)}
    assert writers - SOCKETS - LOCK == {"apply.py"}


@pytest.mark.parametrize(
    "code",
    [
        "open(path, 'w')",
        "path.open('ab')",
        "open(path, mode=mode)",
        "path.write_text('')",
        "os.open(path, os.O_WRONLY)",
        "shutil.rmtree(path)",
        "os.unlink(path)",
    ],
)
def test_writing_is_recognised(code: str, tmp_path: Path) -> None:
    file = tmp_path / "module.py"
    file.write_text(code)
    assert list(_writes(file))


@pytest.mark.parametrize("code", ["open(path)", "path.open('rb')", "os.open(path, os.O_RDONLY)", "text.replace(a, b)"])
def test_reading_is_not_writing(code: str, tmp_path: Path) -> None:
    file = tmp_path / "module.py"
    file.write_text(code)
    assert not list(_writes(file))


def test_the_version_is_the_newest_of_the_changelog() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    headings = re.findall(r"^## \[?([^\] ]+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0] == version
    assert (ROOT / "debian/changelog").read_text().startswith(f"aiosystemd ({version}) ")


def _imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def _writes(path: Path) -> Iterator[int]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and _is_writing(node):
            yield node.lineno


def _is_writing(call: ast.Call) -> bool:
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    of = getattr(call.func.value, "id", "") if isinstance(call.func, ast.Attribute) else ""
    if name != "open":
        return name in WRITING and of != "self"
    if of == "os":
        flags = {node.attr for node in ast.walk(call) if isinstance(node, ast.Attribute)}
        return bool(flags & FLAGS) and "devnull" not in flags
    modes = [keyword.value for keyword in call.keywords if keyword.arg == "mode"]
    modes += call.args[(0 if isinstance(call.func, ast.Attribute) else 1) :][:1]
    return any(not isinstance(mode, ast.Constant) or set(str(mode.value)) & set("wax+") for mode in modes)
