"""A package as somebody makes it who has an application, its deployment file, and ``dh $@ --with aiosystemd``."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

CONTROL: Final = """\
Source: hello-site
Section: web
Priority: optional
Maintainer: Packager <packager@example.org>
Build-Depends: debhelper-compat (= 13), dh-sequence-aiosystemd
Standards-Version: 4.7.2

Package: hello-site
Architecture: all
Depends: ${misc:Depends}
Description: site that says hello
 Nothing else.

Package: hello-data
Architecture: all
Depends: ${misc:Depends}
Description: package without a deployment
 Nothing else.
"""

CHANGELOG: Final = """\
hello-site (1.0) unstable; urgency=medium

  * Hello.

 -- Packager <packager@example.org>  Mon, 23 Nov 2026 00:00:00 +0000
"""

APP: Final = """\
from aiohttp import web


async def hello(_: web.Request) -> web.Response:
    return web.Response(text="Hello!")


app = web.Application()
app.router.add_get("/", hello)
"""

DEPLOYMENT: Final = """\
name = "hello"
app = "hello:app"
directory = "/usr/share/hello-site"

[proxy]
server_names = ["hello.test"]
"""

HELLO: Final[Mapping[str, Path | str]] = {
    "debian/changelog": CHANGELOG,
    "debian/control": CONTROL,
    "debian/hello-site.aiosystemd.toml": DEPLOYMENT,
    "debian/hello-site.install": "hello.py usr/share/hello-site\n",
    "debian/rules": "#!/usr/bin/make -f\n%:\n\tdh $@ --with aiosystemd\n",
    "debian/source/format": "3.0 (native)\n",
    "hello.py": APP,
}


def tools(directory: Path) -> list[Path]:
    """Return the packages that such a build needs, of those in a directory."""
    names = ("python3-aiosystemd", "aiosystemd", "dh-sequence-aiosystemd")
    return [next(directory.glob(f"{name}_*.deb")) for name in names]
