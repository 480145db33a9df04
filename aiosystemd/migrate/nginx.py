"""The server blocks of an nginx configuration, and the programs that they pass requests to."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Final

from aiosystemd.errors import Location, Problem, ProblemsError
from aiosystemd.migrate.found import Draft, Text
from aiosystemd.migrate.nginx_site import Site, finish, prefix, redirect
from aiosystemd.migrate.nginx_syntax import Directive, read, walk

Opener = Callable[[str], list[Text]]
"""Reads the files that a pattern names."""

_ENTRIES: Final = frozenset({"types", "map", "geo", "split_clients", "charset_map"})
"""Blocks of which the contents are no directives."""
_HOME: Final = PurePosixPath("/etc/nginx")
_NESTED: Final = 10
"""Files that include one another."""
_LOCAL: Final = frozenset({"", "*", "0.0.0.0", "127.0.0.1", "localhost", "[::]", "[::1]"})  # noqa: S104 (compared)


@dataclass(slots=True)
class _Configuration:
    """What the files say, in order."""

    outer: list[Directive] = field(default_factory=list)
    servers: list[Directive] = field(default_factory=list)
    upstreams: dict[str, Directive] = field(default_factory=dict)
    everything: list[Directive] = field(default_factory=list)

    def add(self, directives: Iterable[Directive]) -> None:
        for each in directives:
            if each.name == "server" and each.block is not None:
                self.servers.append(each)
            elif each.name == "upstream" and each.block is not None and each.words:
                self.upstreams[each.words[0]] = each
            elif each.name == "http" and each.block is not None:
                self.add(each.block)
            else:
                self.outer.append(each)

    def addresses(self, passed: Directive) -> Iterator[str]:
        """Yield the addresses behind a ``proxy_pass``, each in one spelling."""
        target = passed.words[0] if passed.words else ""
        scheme, _, rest = target.partition("://")
        if not rest or scheme not in {"http", "https"}:
            return
        if rest.startswith("unix:"):
            yield address(rest.removeprefix("unix:").partition(":")[0])
        elif upstream := self.upstreams.get(rest.partition("/")[0]):
            yield from (address(each.words[0]) for each in upstream.block or () if each.name == "server" and each.words)
        else:
            host = rest.partition("/")[0]
            yield address(host if host.rpartition(":")[2].isdigit() else f"{host}:80")


def address(text: str) -> str:
    """Return the one spelling of an address: a path, a port of this machine, or ``HOST:PORT``."""
    text = text.removeprefix("http://").removeprefix("tcp://")
    if text.startswith(("unix:", "/")):
        path = text.removeprefix("unix:")
        return f"/{path.lstrip('/')}" if path.startswith("/") else path
    host, _, port = text.rpartition(":")
    return f":{port}" if host in _LOCAL else text


def apply(texts: Iterable[Text], drafts: list[Draft], opener: Opener) -> Iterator[Draft]:
    """Let ``drafts`` have what the servers that pass requests to them say, and yield a draft of everything else.

    Raises ProblemsError for what cannot be read.
    """
    found = _Configuration()
    texts = list(texts)
    for text in texts:
        _Includes(text, found, opener).add()
    for server in found.servers:
        _serve(found, server, drafts)
    for draft in drafts:
        finish(draft)
    told = {each.setting.at for draft in drafts for each in draft.findings}
    passed = any(_behind(found, each, drafts) for server in found.servers for each in (server, *_locations(server)))
    why = "not of a site of these applications" if passed else "no server passes requests to these applications"
    rest = Draft("nginx", Location(texts[0].file), left_out=why)
    for each in found.everything:
        if each.at not in told:
            rest.drop(each.setting, "")
    if rest.findings:
        yield rest


@dataclass(slots=True)
class _Includes:
    """Puts what files include in the place of the ``include``."""

    text: Text
    found: _Configuration
    opener: Opener

    def add(self) -> None:
        self.found.add(self.expanded(read(self.text), (self.text.file,)))

    def expanded(self, directives: Iterable[Directive], files: tuple[str, ...]) -> Iterator[Directive]:
        for each in directives:
            self.found.everything.append(each)
            block = each.block
            if block is not None:
                block = () if each.name in _ENTRIES else tuple(self.expanded(block, files))
            texts = self.texts(each.words[0]) if each.name == "include" and each.words else []
            yield Directive(each.at, each.name, each.words, () if texts else block)
            yield from self.included(each, texts, files)

    def included(self, each: Directive, texts: Iterable[Text], files: tuple[str, ...]) -> Iterator[Directive]:
        for text in texts:
            if text.file in files or len(files) > _NESTED:
                raise ProblemsError(Problem(each.at, f"{text.file} includes itself"))
            yield from self.expanded(read(text), (*files, text.file))

    def texts(self, pattern: str) -> list[Text]:
        """Return the files: from the directory of nginx.conf on, which the first file is in, or below."""
        first = PurePosixPath(self.text.file).parent
        for base in (first, first.parent, _HOME):
            if texts := self.opener(str(base / pattern)):
                return texts
        return []


def _serve(found: _Configuration, server: Directive, drafts: list[Draft]) -> None:
    """Tell the drafts behind a server what it says."""
    locations = [server, *_locations(server)]
    behind = {each.at: draft for each in locations if (draft := _behind(found, each, drafts))}
    if not behind:
        redirect(server, drafts)
        return
    paths = sorted(((prefix(each), each.at) for each in locations if each.at in behind), key=lambda each: len(each[0]))
    owner = behind[paths[0][1]]
    drafts_behind = list({id(each): each for each in behind.values()}.values())
    joined = tuple(path for path, at in paths if behind[at] is not owner)
    for draft in drafts_behind:
        own = [each for each in locations if behind.get(each.at) is draft]
        upstreams = {each.name: each for location in own for each in _upstreams(found, location)}
        others = [each for each in locations[1:] if each.at not in behind]
        Site(draft, owner, server, own, others, list(upstreams.values()), joined).tell(found.outer)


def _locations(block: Directive) -> Iterator[Directive]:
    return (each for each in walk(block.block or ()) if each.name == "location")


def _passed(location: Directive) -> Iterator[Directive]:
    for each in location.block or ():
        if each.name == "proxy_pass":
            yield each
        elif each.name in {"if", "limit_except"}:
            yield from _passed(each)


def _behind(found: _Configuration, location: Directive, drafts: list[Draft]) -> Draft | None:
    """Return the draft that a location passes requests to."""
    targets = {target for each in _passed(location) for target in found.addresses(each)}
    bound = ((draft, {address(each) for each in draft.bound}) for draft in drafts if not draft.left_out)
    return next((draft for draft, addresses in bound if addresses & targets), None)


def _upstreams(found: _Configuration, location: Directive) -> Iterator[Directive]:
    for each in _passed(location):
        name = each.words[0].partition("://")[2].partition("/")[0] if each.words else ""
        if name in found.upstreams:
            yield found.upstreams[name]
