"""Environment files and credentials: there, readable for systemd, and secrets for nobody else."""

from pathlib import Path

import pytest

from aiosystemd.doctor import inputs
from aiosystemd.doctor.subject import Subject
from tests.doctor.hosts import editor, seen_by_root, subject, told
from tests.unprivileged import open_to_others, unprivileged


@pytest.fixture(autouse=True)
def _everything_can_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    seen_by_root(monkeypatch)


def _with_credential(directory: Path, file: Path) -> Subject:
    return subject(directory, f'[service.credentials]\ntoken = "{file}"\n')


def _with_environment(directory: Path, file: str) -> Subject:
    return subject(directory, f'[service]\nenvironment_files = ["{file}"]\n')


def test_readable_inputs_are_fine(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("secret")
    file.chmod(0o600)
    expected = ("fine", "the credentials can be read, and not by everyone", "")
    assert list(map(told, inputs.credentials(_with_credential(tmp_path, file)))) == [expected]
    assert list(map(told, inputs.environment_files(_with_environment(tmp_path, str(file))))) == [
        ("fine", "the environment files can be read", "")
    ]


def test_deployment_without_inputs_has_nothing_to_tell(tmp_path: Path) -> None:
    s = subject(tmp_path)
    assert not list(inputs.credentials(s))
    assert not list(inputs.environment_files(s))


def test_missing_input_is_made_by_the_command_that_is_told(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    mend = f"install --mode=600 /dev/stdin {file}"
    expected = ("error", f"{file} does not exist: no instance would start", mend)
    assert list(map(told, inputs.credentials(_with_credential(tmp_path, file)))) == [expected]
    assert list(map(told, inputs.environment_files(_with_environment(tmp_path, str(file))))) == [expected]


def test_optional_environment_file_may_be_missing(tmp_path: Path) -> None:
    (finding,) = inputs.environment_files(_with_environment(tmp_path, f"-{tmp_path}/secret"))
    assert finding.severity == "fine"


def test_secret_that_everyone_can_read_is_warned_of(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("secret")
    file.chmod(0o644)
    expected = ("warning", f"{file} can be read by everyone on this host", f"chmod o-rwx {file}")
    assert list(map(told, inputs.credentials(_with_credential(tmp_path, file)))) == [expected]


def test_directory_is_no_credential(tmp_path: Path) -> None:
    s = _with_credential(tmp_path, tmp_path)
    assert list(map(told, inputs.credentials(s))) == [
        ("error", f"{tmp_path} cannot be read: Is a directory", editor(s, 4))
    ]


@pytest.mark.parametrize("root", [True, False])
def test_only_what_root_cannot_read_is_an_error(*, root: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Subject, "root", property(lambda _: root))
    file = tmp_path / "secret"
    file.write_text("secret")
    file.chmod(0)
    s = _with_credential(tmp_path, file)
    open_to_others(tmp_path)
    found = unprivileged(lambda: [told(each) for each in inputs._of_credentials(s)])
    assert found == ([("error", f"{file} cannot be read by root", f"ls -lZ {file}")] if root else [])
