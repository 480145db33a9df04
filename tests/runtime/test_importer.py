"""From ``MODULE:ATTRIBUTE`` to an application, or to one exact line."""

import sys
from pathlib import Path

import pytest

from tests.runtime.lab import HERE, Lab


@pytest.mark.parametrize(
    "target",
    [
        "starts:app",
        "starts:plain",
        "starts:coroutine",
        "starts:optional_arguments",
        "starts:web.Application",
        "wrong:Namespace.app",
    ],
)
def test_application_is_found(lab: Lab, target: str) -> None:
    server = lab.run(target, listeners=[lab.unix()]).ready()
    assert server.ask("/").status in (200, 404)
    server.signal()
    assert server.exit() == 0
    assert server.errors == ""


@pytest.mark.parametrize("factory", ["with_arguments", "coroutine_with_arguments", "optional_arguments"])
@pytest.mark.parametrize("arguments", [["--port", "1", "x y"], ["--", "--help"]])
def test_factory_gets_arguments(lab: Lab, factory: str, arguments: list[str]) -> None:
    server = lab.run(f"starts:{factory}", *arguments, listeners=[lab.unix()]).ready()
    assert server.left("argv") == repr([argument for argument in arguments if argument != "--"])


def test_factory_with_required_list_gets_an_empty_one(lab: Lab) -> None:
    server = lab.run("starts:with_arguments", listeners=[lab.unix()]).ready()
    assert server.left("argv") == "[]"


@pytest.mark.parametrize(("arguments", "status"), [(["--help"], 0), ([], 3)])
def test_factory_may_end_the_process(lab: Lab, arguments: list[str], status: int) -> None:
    server = lab.run("starts:reads_arguments", *arguments, listeners=[lab.unix()])
    assert server.exit() == status
    assert server.errors == ""


APPS = HERE / "apps"


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("starts", '"starts" is not MODULE:ATTRIBUTE (such as my_app_module:my_web_app)'),
        ("starts:", '"starts:" is not MODULE:ATTRIBUTE (such as my_app_module:my_web_app)'),
        ("starts:app()", '"starts:app()" is not MODULE:ATTRIBUTE (such as my_app_module:my_web_app)'),
        ("a/b.py:app", '"a/b.py:app" is not MODULE:ATTRIBUTE (such as my_app_module:my_web_app)'),
        (".starts:app", '".starts:app" is not MODULE:ATTRIBUTE (such as my_app_module:my_web_app)'),
        ("nowhere:app", f'no module named "nowhere" (looked in {APPS} and on the path of {sys.executable})'),
        ("nowhere.at.all:app", f'no module named "nowhere" (looked in {APPS} and on the path of {sys.executable})'),
        ("starts.below:app", f'no module named "starts.below" (looked in {APPS} and on the path of {sys.executable})'),
        ("starts:ap", 'module "starts" has no attribute "ap" (did you mean "app"?)'),
        ("starts:zzzz", 'module "starts" has no attribute "zzzz"'),
        ("wrong:Namespace.ap", 'a type in "wrong" has no attribute "ap" (did you mean "app"?)'),
        ("wrong:number", '"wrong:number" is an int, not an aiohttp.web.Application or a function that returns one'),
        ("wrong:nothing", '"wrong:nothing" is None, not an aiohttp.web.Application or a function that returns one'),
        ("wrong:asyncio", '"wrong:asyncio" is a module, not an aiohttp.web.Application or a function that returns one'),
        ("wrong:returns_list", '"wrong:returns_list" is a function that returned list, not aiohttp.web.Application'),
        (
            "wrong:returns_nothing",
            '"wrong:returns_nothing" is a function that returned None, not aiohttp.web.Application',
        ),
        ("wrong:wants_two", '"wrong:wants_two" needs one, two; a factory takes nothing, or one list of arguments'),
        ("wrong:wants_keyword", '"wrong:wants_keyword" needs name; a factory takes nothing, or one list of arguments'),
        ("starts:inner", '"starts:inner" was already started, or added to another application: name that one'),
    ],
)
def test_mistake_is_told_in_one_line(lab: Lab, target: str, message: str) -> None:
    server = lab.run(target, listeners=[lab.unix()])
    assert server.exit() == 1
    assert server.errors == f"aiosystemd-serve: {message}\n"
    server.manager.wait_for(f"STATUS={message}")


@pytest.mark.parametrize("target", ["starts:plain", "starts:app"])
def test_unwanted_arguments_are_refused(lab: Lab, target: str) -> None:
    server = lab.run(target, "--one", "two", listeners=[lab.unix()])
    assert server.exit() == 1
    assert server.errors.endswith("takes no arguments, but was given: --one two\n")


@pytest.mark.parametrize(
    ("target", "frame", "message"),
    [
        ("broken:app", "divide(0)", 'importing "broken" failed: ZeroDivisionError: division by zero'),
        ("needs:app", "needs.py", "importing \"needs\" failed: ModuleNotFoundError: No module named 'not_there'"),
        ("wrong:raises", "in raises", '"wrong:raises" failed: ValueError: two lines'),
        ("wrong:raises_later", "in raises_later", '"wrong:raises_later" failed: ValueError: later'),
        ("starts:fails", "in fail", 'the start of "starts:fails" failed: OSError: no database'),
    ],
)
def test_failure_of_users_code_is_traced(lab: Lab, target: str, frame: str, message: str) -> None:
    server = lab.run(target, listeners=[lab.unix()])
    assert server.exit() == 1
    lines = server.errors.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert str(APPS) in lines[1]
    assert any(frame in line for line in lines)
    assert lines[-1] == f"aiosystemd-serve: {message}"
    for machinery in ("aiosystemd/runtime", "importlib", "asyncio/", "site-packages"):
        assert machinery not in server.errors
    server.manager.wait_for(f"STATUS={message}")


def test_syntax_error_is_shown(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "typo.py").write_text("def app(:\n")
    server = lab.run("typo:app", listeners=[lab.unix()], cwd=tmp_path)
    assert server.exit() == 1
    assert "def app(:" in server.errors
    assert 'importing "typo" failed: SyntaxError: invalid syntax' in server.errors.splitlines()[-1]


def test_failed_start_closes_what_it_had_opened(lab: Lab) -> None:
    server = lab.run("starts:fails", listeners=[lab.unix()])
    assert server.exit() == 1
    assert (lab.path / "closed").exists()
