"""The deployment file that ``init`` writes: what was found, where, and what was not."""

import os.path
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final

from pydantic import TypeAdapter, ValidationError

from aiosystemd import values
from aiosystemd.errors import Location
from aiosystemd.init.applications import Application
from aiosystemd.init.around import Around
from aiosystemd.introspect import Facts, Route, Static, size
from aiosystemd.render.text import visible
from aiosystemd.rules import location

if TYPE_CHECKING:
    from tomlkit import TOMLDocument
    from tomlkit.items import Table

_DIRECTORY: Final = TypeAdapter[str](values.AbsolutePath)
_PREFIX: Final = TypeAdapter[str](values.Prefix)
_PROGRAM: Final = TypeAdapter[str](values.Program)
_SERVER_NAME: Final = TypeAdapter[str](values.ServerName)
_PROXY: Final = TypeAdapter[str](values.ProxyPath)
_HIDDEN: Final = ("/home", "/root", "/run/user", "/tmp", "/var/tmp", "/dev", "/proc", "/sys")  # noqa: S108 (compared)
"""What instances cannot see, systemd.exec(5): ProtectHome=, PrivateTmp=, and what the kernel makes up."""
_PYTHON: Final = "/venv/bin/python"
_LARGEST: Final = 1 << 50
"""Bytes of a body that ``proxy.body_size`` may allow."""
_DEFAULT_LIMIT: Final = 1 << 20
"""aiohttp's own ``client_max_size``, and the proxy's default."""


@dataclass(frozen=True, slots=True)
class Draft:
    """Everything that the file is made from."""

    around: Around
    application: Application
    server_names: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What the deployment is called."""
        return self.around.name

    @property
    def directory(self) -> Path:
        """Where the application was looked for."""
        return self.around.found.directory

    @property
    def others(self) -> tuple[Application, ...]:
        """Applications that were not chosen."""
        return tuple(each for each in self.around.found.applications if each.at != self.application.at)

    def assumed(self) -> Iterator[str]:
        """Yield what was taken because nobody was asked, or could not be known."""
        if not self.server_names:
            yield "the site answers to the machine's host name (proxy.server_names)"
        if self.home != str(self.base):
            yield f"on the server the application is in {self.home}: instances cannot see {self.base} (directory)"
        if self.others:
            yield f"{self.application.app} is meant, not {', '.join(each.app for each in self.others)} (app)"

    @property
    def base(self) -> Path:
        """What goes to the server as a whole."""
        root = self.application.root
        if root.is_relative_to(self.directory) and _fits(_DIRECTORY, f"/srv/x/{root.relative_to(self.directory)}"):
            return self.directory
        return root

    @property
    def home(self) -> str:
        """Where that is on the server: where it is here, if instances can see that."""
        path = str(self.base)
        fits = path != "/" and _fits(_DIRECTORY, path) and _fits(_PROGRAM, f"{path}{_PYTHON}")
        return path if fits and not _is_hidden(path) else f"/srv/{self.name}"

    def there(self, path: str) -> str:
        """Return where a path of this machine is on the server."""
        if path and Path(path).is_relative_to(self.base):
            return str(PurePosixPath(self.home, PurePosixPath(path).relative_to(self.base)))
        return path

    def place(self, at: Location | None) -> str:
        """Return ``FILE:LINE`` as seen from the directory."""
        if at is None:
            return ""
        file = os.path.relpath(at.file, self.directory) if Path(at.file).is_relative_to(self.directory) else at.file
        return f"{file}:{at.line}" if at.line else file


def text(draft: Draft) -> str:
    """Return the deployment file."""
    import tomlkit  # noqa: PLC0415 (30 ms)

    document = tomlkit.document()
    _comment(document, f"{draft.application.app}, as aiosystemd init has found it; FILE:LINE is where in its code.")
    _comment(document, "aiosystemd check says whether this file is right, aiosystemd up serves it here.")
    document.add(tomlkit.nl())
    document.add("name", draft.name)
    _application(document, draft)
    _python(document, draft)
    proxy = tomlkit.table()
    _server_names(proxy, draft)
    _body_size(proxy, draft)
    static = dict(_static(draft))
    _streams(proxy, draft, set(map(location, static)))
    _add_static(proxy, draft, static)
    document.add(tomlkit.nl())
    document.add("proxy", proxy)
    _rest(document, draft)
    return tomlkit.dumps(document)


def _comment(to: "TOMLDocument | Table", words: str) -> None:
    import tomlkit  # noqa: PLC0415

    to.add(tomlkit.comment(visible(words)))


def _application(document: "TOMLDocument", draft: Draft) -> None:
    served = ", which the code serves itself" if draft.application.served else ""
    _comment(document, draft.place(draft.application.at) + served)
    for other in draft.others:
        _comment(document, f'another one: "{other.app}", {draft.place(other.at)}')
    document.add("app", draft.application.app)
    if draft.home != str(draft.base):
        _comment(document, f"Instances cannot see {draft.base}: where the application goes on the server.")
    document.add("directory", draft.there(str(draft.application.root)))


def _python(document: "TOMLDocument", draft: Draft) -> None:
    found = draft.around.interpreter
    path = draft.there(found.python) if found else ""
    usable = _fits(_PROGRAM, path) and not _is_hidden(path)
    if found:
        have = ", ".join(f"{name} {version}" for name, version in found.versions.items())
        _comment(document, f"{draft.place(Location(found.python))} ({found.what}) has {have or 'no aiohttp'}.")
    else:
        _comment(document, "No virtual environment was found.")
    python = path if usable else f"{draft.home}{_PYTHON}"
    if not usable:
        _comment(document, f"To make this one: python3 -m venv {draft.home}/venv")
    if found is None or not usable or "aiosystemd" not in found.versions:
        _comment(document, f"What it lacks: {python} -m pip install 'aiosystemd[serve,uvloop]'")
    document.add("python", python)


def _server_names(proxy: "Table", draft: Draft) -> None:
    if draft.server_names:
        proxy.add("server_names", list(draft.server_names))
    else:
        _comment(proxy, "Names that the site answers to; without them the machine's host name.")
        _comment(proxy, 'server_names = ["example.com"]')


def _body_size(proxy: "Table", draft: Draft) -> None:
    limit, at = draft.application.facts.body_limit, draft.place(draft.application.at)
    if limit == 0 or (limit or 0) > _LARGEST:
        _comment(proxy, f"client_max_size is {limit} ({at}): bodies of any size. The proxy refuses those above this.")
        proxy.add("body_size", size(_DEFAULT_LIMIT))
    elif limit is not None and limit != _DEFAULT_LIMIT:
        _comment(proxy, f"client_max_size of the application, {at}")
        proxy.add("body_size", size(limit))


def _streams(proxy: "Table", draft: Draft, taken: set[str]) -> None:
    import tomlkit  # noqa: PLC0415

    chosen: dict[str, list[Route]] = {}
    for route in _named_by_prefix(draft.application.facts):
        if location(route.prefix) not in taken:
            chosen.setdefault(location(route.prefix), []).append(route)
    _comment(proxy, "What may be silent for longer than a request: websockets, server-sent events, long polls.")
    if not chosen:
        _comment(proxy, 'None was found.  streams = ["/ws"]')
        return
    array = tomlkit.array()
    for prefix, routes in chosen.items():
        if not prefix.startswith(tuple(chosen.keys() - {prefix})):
            said = "; ".join(f"{each.path}: {each.kind}, {draft.place(each.at)}" for each in routes)
            array.add_line(routes[0].prefix, comment=visible(said))
    array.add_line(indent="")
    proxy.add("streams", array)


def _named_by_prefix(facts: Facts) -> Iterator[Route]:
    """Yield the routes that a prefix can be named for: not those whose path begins with a variable."""
    for route in facts.routes:
        if _fits(_PREFIX, route.prefix) and (route.prefix != "/" or route.path == "/"):
            yield route


def _static(draft: Draft) -> Iterator[tuple[str, Static]]:
    seen: set[str] = set()
    for each in draft.application.facts.static:
        prefix, directory = location(each.prefix), draft.there(each.directory)
        if _fits(_PREFIX, prefix) and _fits(_PROXY, directory) and prefix != "/" and prefix not in seen:
            seen.add(prefix)
            yield prefix, each


def _add_static(proxy: "Table", draft: Draft, static: dict[str, Static]) -> None:
    import tomlkit  # noqa: PLC0415

    if not static:
        return
    table = tomlkit.table()
    for prefix, each in static.items():
        missing = "" if Path(each.directory).is_dir() else f"; there is no {draft.place(Location(each.directory))}"
        _comment(table, f"{draft.place(each.at)}{missing}")
        table.add(prefix, draft.there(each.directory))
    proxy.add(tomlkit.nl())
    proxy.add("static", table)


def _rest(document: "TOMLDocument", draft: Draft) -> None:
    import tomlkit  # noqa: PLC0415

    unknown = (f"{draft.place(each.at)}: {each.what} ({each.hint})" for each in draft.application.notes)
    rest = [*_left_out(draft), *unknown]
    if rest:
        document.add(tomlkit.nl())
        _comment(document, "What is not in this file:")
        for each in rest:
            _comment(document, each)


def _left_out(draft: Draft) -> Iterator[str]:
    facts = draft.application.facts
    written, named = {each for _, each in _static(draft)}, set(_named_by_prefix(facts))
    for each in facts.static:
        if each not in written and each.directory:
            directory = draft.place(Location(each.directory))
            yield f"{draft.place(each.at)}: static {each.prefix} from {directory}, which stays the application's"
    taken = {location(prefix) for prefix, _ in _static(draft)}
    for route in facts.routes:
        if route not in named or location(route.prefix) in taken:
            yield f"{draft.place(route.at)}: {route.kind} {route.path}, which no prefix of proxy.streams names alone"


def _is_hidden(path: str) -> bool:
    return any(f"{path}/".startswith(f"{each}/") for each in _HIDDEN)


def is_server_name(text: str) -> bool:
    """Tell whether ``proxy.server_names`` may hold it."""
    return _fits(_SERVER_NAME, text)


def _fits(kind: TypeAdapter[str], value: str) -> bool:
    try:
        kind.validate_python(value, strict=True)
    except ValidationError:
        return False
    return True
