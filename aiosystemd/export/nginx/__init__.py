"""nginx: an upstream of the instances' sockets, and the site in front of it."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from aiosystemd.export import File, header
from aiosystemd.export.nginx.locations import joined
from aiosystemd.export.nginx.server import servers
from aiosystemd.export.nginx.upstream import around, server_address
from aiosystemd.host import Host
from aiosystemd.model import Deployment
from aiosystemd.render.nginx import Directive, block, directive, raw, render
from aiosystemd.rules import location

__all__ = [
    "Configuration",
    "export",
    "locations_path",
    "server_address",
    "server_around",
    "site_path",
    "standalone",
]


@dataclass(frozen=True, slots=True)
class Configuration:
    """An nginx configuration file."""

    directives: tuple[Directive, ...]
    header: tuple[str, ...] = ()

    def render(self) -> str:
        """Return the file's text."""
        return render(self.directives, header=self.header)


def site_path(d: Deployment) -> PurePosixPath:
    """Return where the site goes: nginx packages of Debian and of nginx itself both read ``conf.d``."""
    return PurePosixPath(f"/etc/nginx/conf.d/{d.name}.conf")


def locations_path(d: Deployment) -> PurePosixPath:
    """Return where the locations of a deployment go that joins a site; each has a file of its own there."""
    return PurePosixPath(f"/etc/nginx/aiosystemd/{d.proxy.site}/{d.name}.conf")


def export(d: Deployment, host: Host, source: str, also: tuple[str, ...] = ()) -> Iterator[File]:
    """Yield the site of ``d``, unless it has another proxy or none; ``also`` are more addresses of its instances."""
    if d.proxy.kind != "nginx":
        return
    shared = tuple(around(d, host, also))
    if d.proxy.prefix is None:
        yield File(site_path(d), Configuration((*shared, *servers(d, host)), header(source)))
    else:
        yield File(site_path(d), Configuration(shared, header(source)))
        yield File(locations_path(d), Configuration((joined(d, location(d.proxy.prefix)),), header(source)))


def standalone(
    site: PurePosixPath, directory: PurePosixPath, mime_types: PurePosixPath | None, *servers: Directive
) -> Configuration:
    """Return an ``nginx.conf`` that reads ``site`` and nothing of the host's own nginx.

    Everything it writes goes to ``directory``, so that it needs no privileges; ``mime_types`` is the host's
    ``mime.types``, where it has one; ``servers`` are more of them.
    """
    modules = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = (directive(f"{module}_temp_path", f"{directory}/{module}") for module in modules)
    types = (directive("include", str(mime_types)),) if mime_types else ()
    http = (*types, directive("access_log", raw("off")), *temporary, directive("include", str(site)), *servers)
    return Configuration(
        (
            directive("daemon", raw("off")),
            directive("pid", f"{directory}/nginx.pid"),
            directive("error_log", raw("stderr")),
            block("events", body=()),
            block("http", body=http),
        )
    )


def server_around(locations: PurePosixPath, listen: str) -> Directive:
    """Return the least server that the locations of a deployment that joins a site can stand in."""
    return block("server", body=(directive("listen", listen), directive("include", str(locations))))
