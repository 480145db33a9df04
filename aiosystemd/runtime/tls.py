"""The certificate, where the server itself speaks TLS."""

import os
import ssl
from pathlib import Path
from typing import Final, NoReturn
from weakref import WeakSet

from aiosystemd.runtime.errors import StartError
from aiosystemd.runtime.options import Options

_ANOTHER_KEY: Final = {"KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED"}
"""OpenSSL's reasons for a key that is another one, or of another kind: the certificates are kept by kind of key."""


class Context(ssl.SSLContext):
    """What speaks TLS, and knows of the handshakes that are under way: a drain must not leave before their requests."""

    def __init__(self, _: int) -> None:
        """Know of none so far."""
        handshakes: WeakSet[ssl.SSLObject] = WeakSet()

        class Noted(ssl.SSLObject):
            def do_handshake(self) -> None:
                handshakes.add(self)
                try:
                    super().do_handshake()
                except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                    raise
                except BaseException:
                    handshakes.discard(self)
                    raise
                handshakes.discard(self)

        self.sslobject_class = Noted
        # Whoever goes away in the middle of it is forgotten with the object.
        self.handshakes = handshakes


def context(options: Options) -> Context | None:
    """Return what speaks TLS with the certificate of ``options``; None without one.

    Raises:
        StartError: when it cannot be used; the text names the file and the reason.

    """
    if options.tls_certificate is None or options.tls_key is None:
        return None
    certificate, key = _readable(options.tls_certificate), _readable(options.tls_key)
    made = Context(ssl.PROTOCOL_TLS_SERVER)
    # RFC 8996: older versions must not be negotiated. aiohttp speaks no other protocol than HTTP/1.1.
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.set_alpn_protocols(["http/1.1"])
    _check_certificate(certificate)
    try:
        made.load_cert_chain(certificate, key, lambda: _no_passphrase(key))
    except ssl.SSLError as error:
        if error.reason in _ANOTHER_KEY:
            raise StartError(f"{key} is not the key of {certificate}") from None
        raise StartError(f"{key} cannot be used as the key of {certificate}: {_reason(error)}") from None
    return made


def _readable(name: Path) -> Path:
    """Return the path of a file that can be read: a name without a directory is a credential, if systemd passes any."""
    directory = os.environ.get("CREDENTIALS_DIRECTORY")
    path = Path(directory, name) if directory and len(name.parts) == 1 else name
    try:
        with path.open("rb"):
            return path
    except OSError as error:
        raise StartError(f"{path} cannot be read: {error.strerror}") from None


def _check_certificate(path: Path) -> None:
    # load_cert_chain() does not say which of its two files is at fault.
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(path)
    except ssl.SSLError as error:
        raise StartError(f"{path} is no certificate in PEM: {_reason(error)}") from None


def _no_passphrase(key: Path) -> NoReturn:
    # OpenSSL would ask for it on the terminal.
    raise StartError(f"{key} has a passphrase, which nobody is there to type: give the key without one")


def _reason(error: ssl.SSLError) -> str:
    return (error.reason or str(error)).replace("_", " ").lower()
