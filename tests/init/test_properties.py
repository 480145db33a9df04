"""Whatever the code of an application is, looking at it ends well, and what is written is a right deployment file."""

import ast
import copy
import random
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st

from aiosystemd.errors import Location
from aiosystemd.init import document
from aiosystemd.init.applications import Application, Found, look
from aiosystemd.init.around import Around
from aiosystemd.init.document import Draft
from aiosystemd.init.surroundings import Interpreter
from aiosystemd.introspect import Facts, Kind, Route, Static
from aiosystemd.load import parse, validate
from tests.init.trees import CASES, files
from tests.render.hostile import texts

SOURCES = [text for case in CASES for path, text in files(case) if "app = " in text and "print " not in text]

_PARTS = (ast.expr, ast.stmt)


def _slots(tree: ast.AST) -> list[tuple[ast.AST, str, int | None, ast.AST]]:
    """Return every place of an expression or statement in a tree, and what stands there."""
    found: list[tuple[ast.AST, str, int | None, ast.AST]] = []
    for node in ast.walk(tree):
        for name, value in ast.iter_fields(node):
            if isinstance(value, ast.expr):
                found.append((node, name, None, value))
            elif isinstance(value, list):
                found += [
                    (node, name, i, each) for i, each in enumerate(value) if isinstance(each, ast.expr | ast.stmt)
                ]
    return found


def mixed(chance: random.Random) -> str:
    """Return a module in which parts of one or two others have changed places."""
    tree = ast.parse(chance.choice(SOURCES))
    others = _slots(ast.parse(chance.choice(SOURCES)))
    for _ in range(chance.randint(1, 8)):
        slots = _slots(tree)
        node, name, index, old = chance.choice(slots)
        kind = ast.stmt if isinstance(old, ast.stmt) else ast.expr
        new = copy.deepcopy(chance.choice([each for *_, each in (*slots, *others) if isinstance(each, kind)] or [old]))
        if index is None:
            setattr(node, name, new)
        else:
            getattr(node, name)[index] = new
    try:
        return ast.unparse(ast.fix_missing_locations(tree))
    except ValueError:  # such as an f-string with something else in it
        return mixed(chance)


def _every_file_is_right(directory: Path) -> None:
    found = look(directory)
    for each in found.applications:
        validate(parse("f", document.text(Draft(Around(found, "shop", None), each))))


@given(st.integers(0, 1 << 64))
@settings(max_examples=40, phases=[Phase.generate])  # a smaller number is not a smaller example
def test_no_mixture_of_applications_stops_it(seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 (not for a secret)
    with tempfile.TemporaryDirectory() as directory:
        for name in ("main", "views", "routes"):
            Path(directory, f"{name}.py").write_text(mixed(chance))
        _every_file_is_right(Path(directory))


@given(st.text() | st.binary())
@example(b"\xff\xfe")
@example("x = 1\0")
@example("(" * 1000)
@example("-" * 100_000 + "1")
@example("x = " + "9" * 5000)
@example("from . import *\nfrom .. import x\nfrom ...... import y\nimport main\nfrom main import *")
@example("def f(): return [f(), g()]\ndef g(): return [f(), g(), *f()]\nx = f()")
@example("a = 'x'\n" + "a = a + a\n" * 99 + "from pathlib import Path\np = Path('x')\n" + "p = Path(p / p, p)\n" * 99)
@example("a = []\na.append(a)\na.extend(a)\nfrom aiohttp import web\nb = web.Application()\nb.add_routes(a)")
@example(
    "from aiohttp import web\na = web.Application()\na.add_subapp('/x', a)\nb = web.Application()\nb.add_subapp(1, b)"
)
@example("x = 10 ** 10 ** 10\ny = 1 << 10 ** 9\nz = -1 << -1\nw = 2 ** -1")
@example("class A(A): pass\nclass B(A):\n  x = B()\nclass C(C, B):\n  def __init__(self): self.x = C()\nC().x.y.z()")
@example("f = lambda: f()\nasync def g(): await g()\n[x for x in [y for y in x]]\n(x := x)\ndel x\nglobal q")
@example("\n".join(f"{' ' * depth}if x:" for depth in range(90)) + "\n" + " " * 90 + "pass")
@settings(max_examples=60)
def test_no_file_stops_it(content: str | bytes) -> None:
    with tempfile.TemporaryDirectory() as directory:
        raw = content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
        Path(directory, "main.py").write_bytes(raw)
        _every_file_is_right(Path(directory))


def test_more_than_anybody_waits_for_is_given_up(tmp_path: Path) -> None:
    calls = "\n".join(f"def f{n}(x): return [f{n + 1}(x * 2), f{n + 1}(x * 2 + 1)]" for n in range(30))
    (tmp_path / "main.py").write_text(f"import aiohttp\n{calls}\nx = f0(1)\n")
    (tmp_path / "other.py").write_text("from aiohttp import web\napp = web.Application()\n")
    found = look(tmp_path)
    assert [each.app for each in found.applications] == ["other:app"]
    assert str(found.told[0]).endswith("main.py: warning: is too much to follow: what it makes is not all known")


_paths = texts.map(lambda text: f"/{text}") | texts
_places = st.builds(Location, texts, st.integers(0, 9))
_kinds: st.SearchStrategy[Kind] = st.sampled_from(["websocket", "stream"])
_facts: st.SearchStrategy[Facts] = st.builds(
    Facts,
    st.lists(st.builds(Static, _paths, _paths, st.none() | _places), max_size=4).map(tuple),
    st.lists(st.builds(Route, _paths, st.sampled_from(["websocket", "stream"]), st.none() | _places), max_size=4).map(
        tuple
    ),
    st.none() | st.integers(0) | st.sampled_from([0, 1, 1 << 20, 50 << 20]),
)


@given(
    facts=_facts,
    directory=_paths.map(lambda text: f"/{text}".replace("\0", "")),
    python=_paths,
    names=st.lists(st.sampled_from(["example.com", "*.example.com"]), unique=True).map(tuple),
    place=_places,
)
@settings(max_examples=80)
def test_whatever_was_found_the_file_is_right(facts: Facts, directory: str, python: str, **given: Any) -> None:
    root = Path(directory)
    application = Application("app:app", given["place"], root, facts)
    found = Around(Found(root, (application,)), "shop", Interpreter(python, "odd", {}))
    deployment, _ = validate(parse("f", document.text(Draft(found, application, given["names"]))))
    assert deployment.proxy.server_names == given["names"]
    assert (deployment.name, deployment.app) == ("shop", "app:app")
