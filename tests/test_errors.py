"""Each file in ``errors/`` says in its first lines what is wrong with it: ``# error: LINE:COLUMN message``.

The message is a prefix of the real one, ``-`` stands for no place, and the lines of the expectation count too.
"""

import inspect
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
from pydantic import AfterValidator

from aiosystemd import load, rules, values
from aiosystemd.errors import Problem, ProblemsError
from aiosystemd.host import OLDEST_HAPROXY, OLDEST_NGINX, OLDEST_SYSTEMD

FILES = sorted((Path(__file__).parent / "errors").glob("*.toml"))

# Too long to keep as files.
LONG = {
    "line": f'[server]\naccess_log = "text"\naccess_log_format = "{"x" * 131_072}"\n',
    "argument": f'arguments = ["{"x" * 131_072}"]\n',
    "variable": f'service.environment.VARIABLE = "{"x" * 131_071}"\n',
    "path": f'directory = "/{"x" * 1024}"\n',
    "prefix": f'health.path = "/{"x" * 1024}"\n',
    "header": f'proxy.headers.X-A = "{"x" * 1025}"\n',
}

_EXPECTATION = re.compile(r"# (error|warning): (\d+:\d+|-) (.+)")


def problems_of(text: str) -> tuple[Problem, ...]:
    """Return every problem of a deployment file."""
    try:
        source = load.parse("t.toml", text)
        deployment, warnings = load.validate(source)
        unknown = rules.unknown_to(OLDEST_SYSTEMD, deployment)
        older = rules.unknown_to_haproxy(OLDEST_HAPROXY, deployment)
        oldest = rules.unknown_to_nginx(OLDEST_NGINX, deployment)
        return (*warnings, *map(source.violation, (*unknown, *older, *oldest)))
    except ProblemsError as error:
        return error.problems


def in_files() -> Iterator[Problem]:
    for file in FILES:
        yield from problems_of(file.read_bytes().decode())
    for text in LONG.values():
        yield from problems_of(f'name = "shop"\napp = "shop:app"\n{text}')


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_problem_of_a_file_is_reported_in_its_place(file: Path) -> None:
    text = file.read_bytes().decode()
    expected = [match.groups() for match in map(_EXPECTATION.match, text.splitlines()) if match]
    assert expected, "the first lines say what is expected"
    found = [_told(problem) for problem in problems_of(text)]
    prefixes = [len(message) for *_, message in expected]
    assert [(*told, message[:length]) for (*told, message), length in zip(found, prefixes, strict=True)] == expected


def _told(problem: Problem) -> tuple[str, str, str]:
    place = f"{problem.at.line}:{problem.at.column}" if problem.at.line else "-"
    message = str(problem).removeprefix(f"{problem.at}: ").removeprefix("warning: ")
    return problem.severity, place, message


@pytest.mark.parametrize("name", LONG)
def test_what_is_too_long_is_refused_where_it_stands(name: str) -> None:
    text = f'name = "shop"\napp = "shop:app"\n{LONG[name]}'
    (problem,) = problems_of(text)
    assert re.search(r"is longer than (131071|1024) bytes", problem.what)
    assert problem.at.line == text.count("\n")
    assert len(str(problem)) < 250


def test_a_file_has_line_ends_of_another_system() -> None:
    assert [file.stem for file in FILES if b"\r\n" in file.read_bytes()] == ["position-crlf"]


def test_the_caret_stands_below_the_place() -> None:
    for problem in in_files():
        if problem.source and problem.at.column <= len(problem.source):
            shown, caret = problem.excerpt().split("\n")
            before = shown[: 4 + problem.at.column - 1]
            # A tab above a tab and a blank above anything else, so that a terminal indents both lines alike.
            assert caret == re.sub(r"[^\t]", " ", before) + "^"


def test_no_problem_brings_control_characters_to_the_terminal() -> None:
    for problem in in_files():
        assert str(problem).isprintable()
        assert re.sub(r"[\n\t]", "", problem.excerpt()).isprintable()


def test_every_rule_is_broken_by_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    met = _lines_that_call(rules, "Violation", monkeypatch)
    assert met == _lines_with(rules, "yield Violation(")


def test_every_kind_of_value_is_refused_by_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    met = _lines_that_call(values, "refuse", monkeypatch)
    assert met == _lines_with(values, "raise refuse(")


def test_every_pattern_of_a_value_is_missed_by_a_file() -> None:
    hints = {problem.hint for problem in in_files()}
    patterns = dict(_patterns())
    assert len(patterns) > 5
    assert {name for name, hint in patterns.items() if hint not in hints} == set()


def _lines_that_call(module: ModuleType, name: str, monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """Return the lines of ``module`` that call a function of it while every file is checked."""
    lines = set()
    function = getattr(module, name)

    def watched(*arguments: object, **named: object) -> object:
        lines.add(sys._getframe(1).f_lineno)
        return function(*arguments, **named)

    monkeypatch.setattr(module, name, watched)
    assert list(in_files())
    return lines


def _lines_with(module: ModuleType, code: str) -> set[int]:
    return {number for number, line in enumerate(inspect.getsource(module).split("\n"), 1) if code in line}


def _patterns() -> Iterable[tuple[str, str]]:
    for name, kind in vars(values).items():
        for validator in getattr(kind, "__metadata__", ()):
            if isinstance(validator, AfterValidator):
                bound = inspect.getclosurevars(validator.func).nonlocals
                if "pattern" in bound:
                    yield name, bound["hint"]
