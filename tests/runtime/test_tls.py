"""TLS that the server speaks itself: with whom, from which files, and what is said of wrong ones."""

import socket
import ssl
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.runtime.lab import PATIENCE, Lab, Server

_EC = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1")


def _make(directory: Path, name: str, *, passphrase: str = "") -> None:
    kept = ("-passout", f"pass:{passphrase}") if passphrase else ("-nodes",)
    files = ("-keyout", directory / f"{name}.key", "-out", directory / f"{name}.crt")
    subject = ("-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}")
    subprocess.run(("openssl", "req", "-x509", *_EC, *kept, "-days", "2", *subject, *files), check=True, timeout=60)


def _serve(lab: Lab, certificate: str, key: str, *, loop: str = "auto", **environment: str) -> Server:
    options = (f"--loop={loop}", f"--tls-certificate={certificate}", f"--tls-key={key}")
    return lab.run(*options, "shop:app", listeners=[lab.tcp()], environment=environment)


def _trusting(certificate: Path, version: ssl.TLSVersion | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(certificate))
    context.set_alpn_protocols(["h2", "http/1.1"])
    if version:
        context.maximum_version = version
    return context


def _connection(server: Server) -> socket.socket:
    assert isinstance(server.address, tuple)
    return socket.create_connection(server.address, PATIENCE)


def _answer(server: Server, context: ssl.SSLContext, name: str = "a.example") -> tuple[bytes, str | None, str | None]:
    with (
        _connection(server) as raw,
        context.wrap_socket(raw, server_hostname=name) as sock,
    ):
        sock.sendall(f"GET / HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n".encode())
        answer = b"".join(iter(lambda: sock.recv(65536), b""))
        return answer, sock.selected_alpn_protocol(), sock.version()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_client_that_verifies_the_name_is_answered(lab: Lab, loop: str, version: ssl.TLSVersion) -> None:
    _make(lab.path, "a.example")
    certificate = lab.path / "a.example.crt"
    server = _serve(lab, str(certificate), str(lab.path / "a.example.key"), loop=loop).ready()
    answer, protocol, spoken = _answer(server, _trusting(certificate, version))
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(b"hello")
    assert protocol == "http/1.1"
    assert spoken == version.name.replace("_", ".")


def test_a_name_without_a_directory_is_a_credential(lab: Lab) -> None:
    _make(lab.path, "a.example")
    server = _serve(lab, "a.example.crt", "a.example.key", CREDENTIALS_DIRECTORY=str(lab.path)).ready()
    assert b"hello" in _answer(server, _trusting(lab.path / "a.example.crt"))[0]


def test_plain_http_gets_no_answer(lab: Lab) -> None:
    _make(lab.path, "a.example")
    server = _serve(lab, str(lab.path / "a.example.crt"), str(lab.path / "a.example.key")).ready()
    with server.client() as client:
        client.get("/")
        assert client.ended()


def _refused(lab: Lab, certificate: str, key: str) -> str:
    server = _serve(lab, str(lab.path / certificate), str(lab.path / key))
    assert server.exit() == 1
    server.manager.wait_for("STATUS=")
    return server.errors.replace(f"{lab.path}/", "")


def test_a_key_of_another_certificate_ends_the_start(lab: Lab) -> None:
    _make(lab.path, "a.example")
    _make(lab.path, "b.example")
    assert "b.example.key is not the key of a.example.crt" in _refused(lab, "a.example.crt", "b.example.key")
    kind = ("openssl", "genpkey", "-algorithm", "ed25519", "-out", lab.path / "c.key")
    subprocess.run(kind, check=True, timeout=60)
    assert "c.key is not the key of a.example.crt" in _refused(lab, "a.example.crt", "c.key")


def test_what_is_no_certificate_ends_the_start(lab: Lab) -> None:
    _make(lab.path, "a.example")
    (lab.path / "empty").touch()
    assert "empty is no certificate in PEM" in _refused(lab, "empty", "a.example.key")
    assert "empty cannot be used as the key of a.example.crt" in _refused(lab, "a.example.crt", "empty")


def test_a_file_that_is_missing_ends_the_start(lab: Lab) -> None:
    _make(lab.path, "a.example")
    assert "none cannot be read: No such file or directory" in _refused(lab, "a.example.crt", "none")


def test_a_key_with_a_passphrase_ends_the_start(lab: Lab) -> None:
    _make(lab.path, "a.example", passphrase="secret")  # noqa: S106 (of this test)
    assert "a.example.key has a passphrase" in _refused(lab, "a.example.crt", "a.example.key")


def test_certificate_and_key_need_each_other(lab: Lab) -> None:
    server = lab.run("--tls-key=k", "shop:app", listeners=[lab.tcp()])
    assert server.exit() == 2
    assert "--tls-certificate and --tls-key need each other" in server.errors


def _decrypted(spoken: ssl.SSLObject) -> bytes:
    with suppress(ssl.SSLWantReadError):
        return spoken.read(65536)
    return b""


def test_a_handshake_under_way_is_finished_and_its_request_answered(lab: Lab, loop: str) -> None:
    _make(lab.path, "a.example")
    certificate = lab.path / "a.example.crt"
    server = _serve(lab, str(certificate), str(lab.path / "a.example.key"), loop=loop).ready()
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    spoken = _trusting(certificate).wrap_bio(incoming, outgoing, server_hostname="a.example")
    with _connection(server) as raw:
        with pytest.raises(ssl.SSLWantReadError):
            spoken.do_handshake()
        raw.sendall(outgoing.read())
        incoming.write(raw.recv(65536))
        server.signal()
        server.manager.wait_for("STOPPING=1")
        time.sleep(1)
        spoken.do_handshake()
        spoken.write(b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n")
        raw.sendall(outgoing.read())
        while not (answer := _decrypted(spoken)):
            incoming.write(raw.recv(65536))
        assert answer.startswith(b"HTTP/1.1 200 ")
    assert server.exit() == 0
