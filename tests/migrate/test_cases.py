"""What ``import`` makes of each of ``cases/``: the report and the deployment files, or the errors.

The first line of ``cases/NAME.txt`` is the command, its files follow, each below its ``==> PATH <==``.
``cases/NAME.expected`` is written anew by ``pytest tests/migrate/test_cases.py --update-golden``, and then read.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

from aiosystemd.errors import ProblemsError
from aiosystemd.load import parse, validate
from aiosystemd.migrate import Format, Imported, importing

CASES = sorted((Path(__file__).parent / "cases").glob("*.txt"))


def _unpack(case: Path, directory: Path) -> tuple[Format, list[Path], list[str], list[Path]]:
    """Write the files of a case, and return what its command names: format, files, applications, nginx's files."""
    command, *parts = re.split(r"(?m)^==> (.+) <==\n", case.read_text())
    for path, text in zip(parts[::2], parts[1::2], strict=True):
        file = directory / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    words, _, proxies = command.partition("--nginx ")
    words, _, apps = words.partition("--app ")
    _, kind, *files = words.split()
    (known,) = (each for each in get_args(Format) if each == kind)
    return known, [Path(file) for file in files], apps.split(), [Path(file) for file in proxies.split()]


def _report(found: tuple[Imported, ...]) -> Iterator[str]:
    for each in found:
        yield f"{each.program} ({each.at}): {f'left out, {each.left_out}' if each.left_out else each.name}"
        for finding in each.findings:
            column = finding.setting.at.column
            key = f" -> {'.'.join(finding.key)}" if finding.key else ""
            place = f"{finding.setting.place}:{column}" if column else finding.setting.place
            yield f"  {finding.outcome:8}  {place} {finding.setting}{key}: {finding.says}"
        yield from (f"  {warning}" for warning in each.warnings)
    for each in found:
        if each.name:
            yield f"\n==> {each.name}.toml <==\n{each.text}"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_the_report_and_the_files_are_the_reviewed_ones(
    case: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    command = _unpack(case, tmp_path)
    monkeypatch.chdir(tmp_path)
    try:
        found = importing(*command)
        written = "\n".join(_report(found)) + "\n"
        for each in found:
            if each.name:
                assert validate(parse("FILE", each.text))[0].name == each.name
    except ProblemsError as error:
        written = "".join(f"{each}\n{each.excerpt()}\n" for each in error.problems)
    expected = case.with_suffix(".expected")
    if request.config.getoption("--update-golden"):
        expected.write_text(written)
    assert written == expected.read_text()


def test_each_case_has_its_expectation_and_no_other_is_there() -> None:
    cases = Path(__file__).parent / "cases"
    assert {each.stem for each in cases.glob("*.expected")} == {each.stem for each in CASES}
