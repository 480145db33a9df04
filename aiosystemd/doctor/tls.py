"""The certificate: there, valid, with its key, and for the names of the site; openssl(1) is asked."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from aiosystemd.doctor.finding import Finding, command, then
from aiosystemd.doctor.programs import installed, run
from aiosystemd.doctor.subject import Subject, fine, unseen
from aiosystemd.model import Deployment
from aiosystemd.positions import Path as KeyPath

_SOON: Final = 14
"""Days before its end at which a certificate should have been renewed: those of 90 days are renewed at 30."""


class _Served(NamedTuple):
    """A certificate and its key, and who serves with them."""

    table: KeyPath
    certificate: str
    key: str
    fails: str


def certificate(s: Subject) -> Iterator[Finding]:
    """Look whether the proxy, or an instance without a proxy, could serve HTTPS with the certificate."""
    tls = _served(s.deployment)
    if tls is None:
        return
    if not installed("openssl"):
        yield unseen(f"whether {tls.certificate} is right: openssl(1) is not installed")
        return
    if not s.root:
        yield unseen(f"whether {tls.certificate} and its key are right: only root may read the key")
        return
    unreadable = list(_unreadable(s, tls))
    found = unreadable or [*_key(s, tls), *_time(s, tls), *_names(s, tls)]
    yield from found
    if not found:
        until = run("openssl", "x509", "-in", tls.certificate, "-noout", "-enddate").stdout.strip().partition("=")[2]
        yield fine(f"{tls.certificate} is valid until {until}")


def _served(d: Deployment) -> "_Served | None":
    if tls := d.proxy.tls:
        return _Served(("proxy", "tls"), tls.certificate, tls.key, f"{d.proxy.kind} would not start")
    if own := d.listen.tls:
        return _Served(("listen", "tls"), own.certificate, own.key, "no instance would start")
    return None


def _unreadable(s: Subject, tls: "_Served") -> Iterator[Finding]:
    for key, path, command_name in (("certificate", tls.certificate, "x509"), ("key", tls.key, "pkey")):
        where = (*tls.table, key)
        if not Path(path).exists():
            yield s.error(where, f"{path} does not exist: {tls.fails}", _new(s, tls))
            continue
        done = run("openssl", command_name, "-in", path, "-noout", stdin="")
        if done.returncode:
            why = done.stderr.strip().partition("\n")[0]
            yield s.error(where, f"{path} cannot be used: {why}", _new(s, tls))


def _key(s: Subject, tls: "_Served") -> Iterator[Finding]:
    of_certificate = run("openssl", "x509", "-in", tls.certificate, "-noout", "-pubkey").stdout
    of_key = run("openssl", "pkey", "-in", tls.key, "-pubout").stdout
    if of_certificate.strip() != of_key.strip():
        what = f"{tls.key} is not the key of {tls.certificate}: {tls.fails}"
        yield s.error((*tls.table, "key"), what, _new(s, tls))
    elif Path(tls.key).stat().st_mode & 0o004:
        what = f"{tls.key} can be read by everyone on this host"
        yield s.warning((*tls.table, "key"), what, command("chmod", "o-rwx", tls.key))


def _time(s: Subject, tls: "_Served") -> Iterator[Finding]:
    where = (*tls.table, "certificate")
    if _ends_within(tls, 0):
        end = run("openssl", "x509", "-in", tls.certificate, "-noout", "-enddate").stdout.strip().partition("=")[2]
        yield s.error(where, f"{tls.certificate} has expired: it was valid until {end}", _new(s, tls))
    elif _ends_within(tls, _SOON):
        yield s.warning(where, f"{tls.certificate} expires within {_SOON} days", _new(s, tls))


def _ends_within(tls: "_Served", days: int) -> bool:
    return run("openssl", "x509", "-in", tls.certificate, "-noout", "-checkend", str(days * 86400)).returncode == 1


def _names(s: Subject, tls: "_Served") -> Iterator[Finding]:
    for index, name in enumerate(s.deployment.proxy.server_names):
        # A name that the wildcard stands for: x509(1) takes host names only.
        host = name.replace("*", "any")
        said = run("openssl", "x509", "-in", tls.certificate, "-noout", "-checkhost", host).stdout
        if "does NOT match" in said:
            what = f"{tls.certificate} is not for {name}: browsers would refuse it"
            yield s.error(("proxy", "server_names", index), what, _new(s, tls))


def _new(s: Subject, tls: "_Served") -> str:
    """Return the command that gets a certificate: from Let's Encrypt where the paths are certbot's, else self-signed.

    Nothing is overwritten: what is there already is kept beside it.
    """
    names = s.deployment.proxy.server_names or ("localhost",)
    parts = Path(tls.certificate).parts
    if parts[:4] == ("/", "etc", "letsencrypt", "live"):
        how = "--nginx" if tls.table[0] == "proxy" else "--standalone"
        domains = [word for name in names for word in ("--domain", name)]
        return command("certbot", "certonly", how, "--cert-name", parts[4], *domains)
    keep = [command("mv", path, f"{path}.old") for path in (tls.certificate, tls.key) if Path(path).exists()]
    san = ",".join(f"DNS:{name}" for name in names)
    request = ("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "90", "-subj", f"/CN={names[0]}")
    paths = ("-keyout", tls.key, "-out", tls.certificate)
    directories = dict.fromkeys(str(Path(path).parent) for path in (tls.certificate, tls.key))
    make = [command("mkdir", "--parents", *directories)]
    return then(*keep, *make, command(*request, "-addext", f"subjectAltName={san}", *paths))
