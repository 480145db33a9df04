"""What ``init`` writes for each of ``cases/``: the deployment file, or the errors, and what could not be told.

``cases/NAME.expected`` is written anew by ``pytest tests/init/test_cases.py --update-golden``, and then read. Where
the application can be imported, what was read from its code is compared with what it says of itself.
"""

import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from aiosystemd.errors import ProblemsError
from aiosystemd.init import choose, document
from aiosystemd.init.applications import look
from aiosystemd.init.document import Draft
from aiosystemd.introspect import Facts, Subject, ask
from aiosystemd.load import parse, validate
from tests.init.trees import CASES, around, unpack

LIBRARIES = {
    "aiohttp_jinja2": "def setup(app, loader): ...\ndef template(name):\n    return lambda handler: handler\n",
    "jinja2": "def PackageLoader(*names): ...\n",
    "aiohttp_sse": "from aiohttp import web\nclass EventSourceResponse(web.StreamResponse): ...\n"
    "def sse_response(request): return EventSourceResponse()\n",
}
"""As much of libraries as an import needs."""

COMPUTED = {"computed", "two-applications", "nobody-can-import"}
"""What cannot be imported as it is, or of which nothing is known to compare."""


def _written(directory: Path) -> str:
    found = around(directory)
    try:
        draft = Draft(found, choose(found, None, imports=False, pick=None))
    except ProblemsError as error:
        return "\n".join(map(str, error.problems)) + "\n"
    text = document.text(draft)
    deployment, _ = validate(parse("aiosystemd.toml", text))
    assert deployment.app == draft.application.app
    said = (*found.found.told, *draft.application.notes)
    return "\n".join((text, *(f"#: {each}" for each in said), *(f"#: assumed: {each}" for each in draft.assumed()), ""))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_the_deployment_file_is_the_reviewed_one(case: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    written = _written(unpack(case, tmp_path)).replace(str(tmp_path), "/tmp/TEST")  # noqa: S108 (compared)
    expected = case.with_suffix(".expected")
    if request.config.getoption("--update-golden"):
        expected.write_text(written)
    assert written == expected.read_text()


def _comparable(facts: Facts) -> tuple[object, ...]:
    static = {(each.prefix.rstrip("/"), str(Path(each.directory).resolve())) for each in facts.static}
    return static, {(each.path, each.kind) for each in facts.routes}, facts.body_limit


@pytest.mark.parametrize("case", [case for case in CASES if case.stem not in COMPUTED], ids=lambda case: case.stem)
def test_what_is_read_is_what_the_application_says_of_itself(case: Path, tmp_path: Path) -> None:
    directory = unpack(case, tmp_path)
    for name, text in LIBRARIES.items():
        (tmp_path / f"{name}.py").write_text(text)
    (chosen, *_) = look(directory).applications
    for each in chosen.facts.static:  # aiohttp takes no directory that is not there
        Path(each.directory).mkdir(parents=True, exist_ok=True)
    subject = Subject(chosen.app, sys.executable, chosen.root, environment={"PYTHONPATH": str(tmp_path)})
    said = ask(subject)
    routes = tuple(replace(each, path=re.sub(r"{(\w+):.*}", r"{\1}", each.path)) for each in chosen.facts.routes)
    assert _comparable(said) == _comparable(replace(chosen.facts, routes=routes))
