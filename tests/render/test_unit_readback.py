"""What systemd reads from a unit file equals what was put in, whatever that was."""

import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aiosystemd.render.unit import (
    ARGUMENT_MAX,
    UnitFile,
    command,
    credential,
    environment,
    environment_file,
    path,
    raw,
    text,
    words,
)
from tests.render import hostile, manager

PROPERTY = settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))

LINES = hostile.without(hostile.CONTROLS.replace("\t", "")).map(lambda value: f"x{value}x")
"""Text for directives that unquote nothing."""

PATHS = st.lists(hostile.names(hostile.CONTROLS.replace("\t", "")), min_size=1, max_size=3).map(
    lambda names: "/" + "/".join(names)
)


@contextmanager
def scratch() -> Iterator[Path]:
    """Yield a directory; hypothesis draws many examples for one fixture, so ``tmp_path`` would be shared."""
    with tempfile.TemporaryDirectory(prefix="aiosystemd-") as directory:
        yield Path(directory)


def without_spaces(name: str) -> str:
    """Return ``name`` as the path of a credential may be."""
    return name.replace(" ", "").replace("\\", "")


def service(argv: tuple[str, ...] = ("/bin/true",)) -> UnitFile:
    unit = UnitFile(header=("Generated for a test",))
    unit.add("Service", "ExecStart", command(argv))
    return unit


@PROPERTY
@given(st.lists(LINES, min_size=1, max_size=20))
def test_free_text_reaches_systemd_unchanged(values: list[str]) -> None:
    units = {}
    for index, value in enumerate(values):
        units[f"case{index}.service"] = unit = service()
        unit.add("Unit", "Description", text(value))
    with scratch() as directory:
        read = manager.dump(directory, units)
    assert [read[name]["Description"] for name in units] == [[value] for value in values]


@PROPERTY
@given(st.lists(PATHS, min_size=1, max_size=20))
def test_paths_reach_systemd_unchanged(values: list[str]) -> None:
    units = {}
    for index, value in enumerate(values):
        units[f"case{index}.service"] = unit = service()
        unit.add("Service", "WorkingDirectory", path(value))
        unit.add("Service", "EnvironmentFile", environment_file(value, optional=True))
        unit.add("Service", "ReadWritePaths", words([value]))
        unit.add("Service", "LoadCredential", credential("name", without_spaces(value)))
        units[f"case{index}.socket"] = unit = UnitFile()
        unit.add("Socket", "ListenStream", path("/run", value[:40]))
    with scratch() as directory:
        read = manager.dump(directory, units)
    for index, value in enumerate(values):
        of_service, of_socket = read[f"case{index}.service"], read[f"case{index}.socket"]
        assert of_service["WorkingDirectory"] == [value]
        assert of_service["ReadWritePaths"] == [value]
        assert [manager.unescape(found) for found in of_socket["ListenStream"]] == ["/run" + value[:40]]


@PROPERTY
@given(st.lists(LINES, max_size=20))
def test_lists_keep_their_items_apart(values: list[str]) -> None:
    unit = service()
    unit.add("Service", "Environment", words([f"V{index}={value}" for index, value in enumerate(values)]))
    with scratch() as directory:
        read = manager.dump(directory, {"case.service": unit})
    assert read["case.service"]["Environment"] == [f"V{index}={value}" for index, value in enumerate(values)]


@PROPERTY
@given(st.lists(hostile.texts, max_size=40))
def test_arguments_reach_systemd_unchanged(values: list[str]) -> None:
    with scratch() as directory:
        read = manager.dump(directory, {"case.service": service(("/bin/true", *values))})
    (line,) = read["case.service"]["Command Line"]
    # The dump shows what will be executed after $$ has become $ at the start.
    assert manager.split(line) == ["/bin/true", *(value.replace("$", "$$") for value in values)]


@PROPERTY
@given(st.lists(hostile.texts, max_size=40), hostile.names("\"'\\$" + hostile.CONTROLS), PATHS)
def test_a_service_sees_exactly_what_was_written(values: list[str], program: str, name: str) -> None:
    with scratch() as directory:
        shell = directory / program
        shell.symlink_to("/bin/sh")
        place = directory / "place" / name[1:]
        place.mkdir(parents=True)
        (place / "variables").write_text("FROM_FILE=read")
        secret = Path(without_spaces(f"{place}'s secret"))
        secret.parent.mkdir(parents=True, exist_ok=True)
        secret.write_text("of nobody")
        unit = UnitFile()
        for index, value in enumerate(values):
            unit.add("Service", "Environment", environment(f"V{index}", value))
        unit.add("Service", "WorkingDirectory", path(str(place)))
        unit.add("Service", "EnvironmentFile", environment_file(f"{place}/variables"))
        unit.add("Service", "LoadCredential", credential("name", str(secret)))
        report = manager.run(directory, unit, (str(shell), *values))
        assert report.argv == [str(shell), *values]
        assert {f"V{index}": value for index, value in enumerate(values)}.items() <= report.environ.items()
        assert report.environ["FROM_FILE"] == "read"
        assert report.directory == str(place)
        assert report.credentials == "of nobody"


@PROPERTY
@given(st.lists(hostile.names(hostile.CONTROLS), min_size=1, max_size=10, unique=True))
def test_a_socket_is_bound_to_exactly_its_path(values: list[str]) -> None:
    with scratch() as directory:
        sockets = UnitFile()
        for value in values:
            sockets.add("Socket", "ListenStream", path(str(directory), "/s/", value))
        report = manager.run(directory, UnitFile(), ("/bin/sh",), sockets=sockets)
        assert report.environ["LISTEN_FDS"] == str(len(values))
        found = {entry.name: stat.S_ISSOCK(entry.stat().st_mode) for entry in (directory / "s").iterdir()}
    assert found == dict.fromkeys(values, True)


@pytest.mark.parametrize(("name", "decoy"), [("v*", "vx"), ("v?", "vx"), ("v[a-z]", "vx")])
def test_an_environment_file_is_no_pattern(name: str, decoy: str) -> None:
    with scratch() as directory:
        (directory / name).write_text("READ=the right one")
        (directory / decoy).write_text("READ=the decoy")
        unit = UnitFile()
        unit.add("Service", "EnvironmentFile", environment_file(f"{directory}/{name}"))
        assert manager.run(directory, unit, ("/bin/sh",)).environ["READ"] == "the right one"


def test_specifiers_work_where_they_are_meant() -> None:
    instance = raw("%i")
    unit = UnitFile()
    unit.add("Unit", "Description", text("100%i of ", instance))
    unit.add("Service", "ExecStart", command(["/bin/true", instance, ("a b %i $x=", instance, '"')]))
    unit.add("Service", "Environment", environment("NAME", ("a b %i=", instance)))
    unit.add("Service", "WorkingDirectory", path("/run/a b %i/", instance, "/c"))
    with scratch() as directory:
        read = manager.dump(directory, {"case@.service": unit})["case@an-instance.service"]
    assert read["Description"] == ["100%i of an-instance"]
    assert manager.split(read["Command Line"][0]) == ["/bin/true", "an-instance", 'a b %i $$x=an-instance"']
    assert read["Environment"] == ["NAME=a b %i=an-instance"]
    assert read["WorkingDirectory"] == ["/run/a b %i/an-instance/c"]


def test_values_may_be_as_long_as_linux_takes() -> None:
    longest = "%$\\" * ((ARGUMENT_MAX - 1) // 3)
    variable = longest[: ARGUMENT_MAX - len("V=") - 1]
    unit = UnitFile()
    unit.add("Service", "Environment", environment("V", variable))
    with scratch() as directory:
        report = manager.run(directory, unit, ("/bin/sh", longest))
    assert report.argv == ["/bin/sh", longest]
    assert report.environ["V"] == variable


def test_comments_say_nothing_to_systemd() -> None:
    unit = UnitFile(header=("[Service]\nUser=nobody", "ends with \\"))
    unit.add("Service", "ExecStart", command(["/bin/true"]), comment="why\nUser=nobody\r\n" + "\\" * 300)
    with scratch() as directory:
        read = manager.dump(directory, {"case.service": unit})["case.service"]
    assert "User" not in read
    assert read["Command Line"] == ["/bin/true"]


@pytest.mark.parametrize("spelling", ['/bin/true "', "true \\x", '"/bin/tr\\"ue"'])
def test_the_checker_hears_what_systemd_complains_of(spelling: str) -> None:
    unit = UnitFile()
    unit.add("Service", "ExecStart", raw(spelling))
    with scratch() as directory, pytest.raises(AssertionError):
        manager.dump(directory, {"case.service": unit})
