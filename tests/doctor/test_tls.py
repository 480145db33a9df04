"""Certificates that openssl(1) has made: right ones, and those that nginx or browsers would refuse."""

import shlex
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from aiosystemd.doctor import tls
from aiosystemd.doctor.subject import Subject
from tests.doctor.hosts import nothing_installed, seen_by_root, subject, told
from tests.unprivileged import open_to_others, unprivileged

_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
_CA = """\
[ca]
default_ca = here
[here]
database = {0}/index
new_certs_dir = {0}
serial = {0}/serial
default_md = sha256
policy = any
copy_extensions = copy
[any]
commonName = supplied
"""


def _openssl(*arguments: str | Path) -> None:
    subprocess.run(("openssl", *arguments), check=True, capture_output=True)


def _make(directory: Path, *names: str, days: int = 90, file: str = "crt", key: str = "key") -> None:
    san = ",".join(f"DNS:{name}" for name in names)
    made = ("-keyout", directory / key, "-out", directory / file)
    subject_ = ("-subj", f"/CN={names[0]}", "-addext", f"subjectAltName={san}")
    _openssl("req", "-x509", *_KEY, "-days", str(days), *subject_, *made)


def _make_expired(directory: Path) -> None:
    (directory / "index").touch()
    (directory / "serial").write_text("01\n")
    (directory / "ca.conf").write_text(_CA.format(directory))
    _openssl("req", "-new", *_KEY, "-subj", "/CN=shop.example", "-keyout", directory / "key", "-out", directory / "csr")
    dates = ("-startdate", "20200101000000Z", "-enddate", "20210101000000Z")
    signing = ("-config", directory / "ca.conf", "-selfsign", "-keyfile", directory / "key", "-in", directory / "csr")
    _openssl("ca", "-batch", "-notext", *signing, *dates, "-out", directory / "crt")


def _site(directory: Path, *names: str, certificate: str = "", key: str = "") -> Subject:
    listed = ", ".join(f'"{name}"' for name in names)
    paths = f'certificate = "{certificate or directory / "crt"}", key = "{key or directory / "key"}"'
    return subject(directory, f"proxy.server_names = [{listed}]\nproxy.tls = {{ {paths} }}\n")


def _self_signed(directory: Path, *names: str) -> str:
    san = shlex.quote("subjectAltName=" + ",".join(f"DNS:{name}" for name in names))
    return (
        f"mkdir --parents {directory} && openssl req -x509 -newkey rsa:2048 -nodes -days 90 -subj /CN={names[0]} "
        f"-addext {san} -keyout {directory}/key -out {directory}/crt"
    )


def _renewed(directory: Path, *names: str) -> str:
    moved = " && ".join(f"mv {directory}/{name} {directory}/{name}.old" for name in ("crt", "key"))
    return f"{moved} && {_self_signed(directory, *names)}"


@pytest.fixture(autouse=True)
def _everything_can_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    seen_by_root(monkeypatch)


def test_right_certificate_is_fine_until_its_end(tmp_path: Path) -> None:
    _make(tmp_path, "shop.example", "*.shop.example")
    (finding,) = tls.certificate(_site(tmp_path, "shop.example", "*.shop.example"))
    assert finding.severity == "fine"
    what, _, until = finding.what.partition(" is valid until ")
    assert what == str(tmp_path / "crt")
    end = datetime.strptime(until, "%b %d %H:%M:%S %Y GMT").replace(tzinfo=UTC)
    assert abs(end - datetime.now(UTC) - timedelta(days=90)) < timedelta(hours=1)


def test_site_without_https_needs_no_certificate(tmp_path: Path) -> None:
    assert not list(tls.certificate(subject(tmp_path)))


def test_missing_certificate_and_key_and_what_makes_them(tmp_path: Path) -> None:
    s = _site(tmp_path, "shop.example")
    mend = _self_signed(tmp_path, "shop.example")
    assert list(map(told, tls.certificate(s))) == [
        ("error", f"{tmp_path}/{name} does not exist: nginx would not start", mend) for name in ("crt", "key")
    ]
    subprocess.run(mend, shell=True, check=True, capture_output=True)  # noqa: S602 (the command is what is tested)
    (tmp_path / "key").chmod(0o600)
    assert [finding.severity for finding in tls.certificate(s)] == ["fine"]


def test_certificate_of_certbot_is_asked_of_certbot(tmp_path: Path) -> None:
    live = "/etc/letsencrypt/live/shop.invalid"
    s = _site(tmp_path, "a.invalid", "b.invalid", certificate=f"{live}/fullchain.pem", key=f"{live}/privkey.pem")
    mend = "certbot certonly --nginx --cert-name shop.invalid --domain a.invalid --domain b.invalid"
    assert [finding.mend for finding in tls.certificate(s)] == [mend, mend]


def test_files_that_are_no_certificate_and_no_key(tmp_path: Path) -> None:
    for name in ("crt", "key"):
        (tmp_path / name).write_text("nothing\n")
    found = list(tls.certificate(_site(tmp_path)))
    assert [(finding.severity, finding.mend) for finding in found] == [("error", _renewed(tmp_path, "localhost"))] * 2
    for finding, name in zip(found, ("crt", "key"), strict=True):
        assert finding.what.startswith(f"{tmp_path}/{name} cannot be used: Could not ")


def test_key_of_another_certificate(tmp_path: Path) -> None:
    _make(tmp_path, "shop.example")
    _make(tmp_path, "shop.example", file="other.crt")
    (finding,) = tls.certificate(_site(tmp_path, "shop.example"))
    what = f"{tmp_path}/key is not the key of {tmp_path}/crt: nginx would not start"
    assert told(finding) == ("error", what, _renewed(tmp_path, "shop.example"))


def test_key_that_everyone_can_read(tmp_path: Path) -> None:
    _make(tmp_path, "shop.example")
    (tmp_path / "key").chmod(0o644)
    s = _site(tmp_path, "shop.example")
    (finding,) = tls.certificate(s)
    mend = f"chmod o-rwx {tmp_path}/key"
    assert told(finding) == ("warning", f"{tmp_path}/key can be read by everyone on this host", mend)
    subprocess.run(mend.split(), check=True)
    assert [finding.severity for finding in tls.certificate(s)] == ["fine"]


def test_certificate_that_has_expired(tmp_path: Path) -> None:
    _make_expired(tmp_path)
    (finding,) = tls.certificate(_site(tmp_path))
    what = f"{tmp_path}/crt has expired: it was valid until Jan  1 00:00:00 2021 GMT"
    assert told(finding) == ("error", what, _renewed(tmp_path, "localhost"))


@pytest.mark.parametrize(("days", "severity"), [(13, "warning"), (15, "fine")])
def test_certificate_that_expires_soon(days: int, severity: str, tmp_path: Path) -> None:
    _make(tmp_path, "shop.example", days=days)
    (finding,) = tls.certificate(_site(tmp_path, "shop.example"))
    assert finding.severity == severity
    if severity == "warning":
        what = f"{tmp_path}/crt expires within 14 days"
        assert (finding.what, finding.mend) == (what, _renewed(tmp_path, "shop.example"))


def test_certificate_for_other_names(tmp_path: Path) -> None:
    _make(tmp_path, "shop.example")
    s = _site(tmp_path, "shop.example", "www.shop.example", "*.shop.example")
    mend = _renewed(tmp_path, "shop.example", "www.shop.example", "*.shop.example")
    assert list(map(told, tls.certificate(s))) == [
        ("error", f"{tmp_path}/crt is not for {name}: browsers would refuse it", mend)
        for name in ("www.shop.example", "*.shop.example")
    ]


def test_without_openssl_nothing_is_claimed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    s = _site(tmp_path)
    nothing_installed(tmp_path, monkeypatch)
    what = f"whether {tmp_path}/crt is right: openssl(1) is not installed"
    assert list(map(told, tls.certificate(s))) == [("unseen", what, "")]


def test_only_root_is_told_about_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    open_to_others(tmp_path)
    s = _site(tmp_path)
    what = f"whether {tmp_path}/crt and its key are right: only root may read the key"
    assert unprivileged(lambda: list(map(told, tls.certificate(s)))) == [("unseen", what, "")]
    monkeypatch.setattr(Subject, "root", property(lambda _: False))
    assert list(map(told, tls.certificate(s))) == [("unseen", what, "")]
