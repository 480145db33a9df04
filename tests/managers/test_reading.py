"""Circus's files are read as Circus reads them."""

import configparser
import io

import pytest
from circus.util import StrictConfigParser
from hypothesis import given

from aiosystemd.errors import ProblemsError
from aiosystemd.migrate import ini
from aiosystemd.migrate.found import Text
from tests.migrate.test_properties import CIRCUS_TEXTS


@given(CIRCUS_TEXTS)
def test_ini_files_are_read_as_circus_reads_them(text: str) -> None:
    parser = StrictConfigParser()
    parser.optionxform = lambda name: name
    try:
        parser._read(io.StringIO(text, newline=None), "FILE")
    except configparser.Error:
        with pytest.raises(ProblemsError):
            ini.read(Text("FILE", text), circus=True)
        return
    sections = {each.name: each for each in ini.merged(ini.read(Text("FILE", text), circus=True))}
    assert {name: dict(parser._sections[name]) for name in parser.sections()} == {
        name: {"__name__": name} | {key: each.value for key, each in ini.first_of_each(section).items()}
        for name, section in sections.items()
        if name != "DEFAULT"
    }
