"""The commands on the pages that the tests do not run as they stand: why, and what is run in their place."""

from typing import Final, NamedTuple


class Instead(NamedTuple):
    """Why a command is not run."""

    why: str
    run: str = "true"
    """What is run where it stands, so that the page goes on."""


FOREVER: Final = ("--watch", "--follow", "-f")
"""Words of commands that end with Ctrl-C, which they get."""

_USER: Final = Instead("is for somebody who is logged in, as in tests/container/test_user.py")

NOT_RUN: Final = {
    "make demo": Instead("is a program for a person; the same deployment is run by tests/up and tests/container"),
    "make test": Instead("is what runs this"),
    "make deb": Instead("builds in a Debian of its own, in tests/container/test_packages.py"),
    "apt install ./build/deb/*.deb": Instead("is done with the same files in tests/container/test_packages.py"),
    "apt install nginx python3-venv python3-dev gcc pkgconf libsystemd-dev": Instead("needs the network"),
    "apt install certbot python3-certbot-nginx": Instead("needs the network"),
    "certbot certonly --nginx --cert-name example.com --domain example.com": Instead("needs the network and a name"),
    "circusctl reloadconfig": Instead("the machines have no Circus"),
    "supervisorctl update": Instead("the machines have no supervisord"),
    "python3 -m venv /srv/example/venv": Instead(
        "needs python3-venv", "python3 -m venv --without-pip --system-site-packages /srv/example/venv"
    ),
    "/srv/example/venv/bin/pip install 'aiosystemd[serve,uvloop]'": Instead(
        "needs the network", 'ln -s "$(command -v aiosystemd)" /srv/example/venv/bin/'
    ),
    "cat ~/.config/aiosystemd/example.toml": _USER,
    "aiosystemd generate --user example --output /": _USER,
    "aiosystemd rollout --user example": _USER,
    "aiosystemd check --introspect": Instead(
        "the page does not say that the static files are there", "mkdir static && aiosystemd check --introspect"
    ),
    "aiosystemd check shop.toml": Instead(
        "is the name where there are several", "mv aiosystemd.toml shop.toml && aiosystemd check shop.toml"
    ),
}
