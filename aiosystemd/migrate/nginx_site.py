"""What a server block and its locations mean for the deployment that they pass requests to."""

from collections.abc import Iterable
from dataclasses import dataclass
from posixpath import normpath
from typing import Final

from aiosystemd.migrate.found import Draft
from aiosystemd.migrate.nginx_directives import REDIRECTED, ROLES, tell
from aiosystemd.migrate.nginx_place import Place
from aiosystemd.migrate.nginx_syntax import Directive, walk
from aiosystemd.migrate.nginx_values import seconds

_FOR_ALL: Final = frozenset({"client_max_body_size", "proxy_read_timeout", "gzip"})
"""What a server says that a deployment says for itself, where it joins the site of another one."""
_STREAM: Final = 300.0
"""Seconds of silence that only a stream is given."""


def prefix(location: Directive) -> str:
    """Return the path prefix of a location; of one that is named, or is a server, it is the whole site."""
    last = location.words[-1] if location.words and location.name == "location" else "/"
    return "/" if last.startswith("@") else last


def _pattern(location: Directive) -> bool:
    return len(location.words) > 1 and location.words[0] in {"~", "~*", "="}


@dataclass(frozen=True, slots=True)
class Site:
    """A server, from the point of view of one of the deployments behind it."""

    draft: Draft
    owner: Draft
    """The deployment that the site is called by: the others join it."""
    server: Directive
    own: list[Directive]
    """What passes requests to it: locations, or the server itself."""
    others: list[Directive]
    """Locations that pass requests to no deployment."""
    upstreams: list[Directive]
    joined: tuple[str, ...]
    """Path prefixes of the deployments that join the site."""

    @property
    def joins(self) -> bool:
        return self.draft is not self.owner

    @property
    def base(self) -> str:
        """The shortest path prefix below which all requests are the deployment's."""
        return min((prefix(each) for each in self.own if not _pattern(each)), key=len, default="/")

    def tell(self, outer: Iterable[Directive]) -> None:
        """Say of everything what becomes of it."""
        place = Place(self.draft, "/", self.server.block or ())
        around = [each for each in (*outer, *place.around) if each.name in ROLES or each in place.around]
        for each in around:
            if each.name != "location" and (not self.joins or each.name in _FOR_ALL):
                tell(place, each)
        if self.joins:
            self.join()
        else:
            self.draft.replaced(self.server.setting, "the site of the deployment, made of [proxy]")
        for each in self.own:
            if each is not self.server:
                self.passing(each)
        for each in self.others:
            if self.is_below(each):
                self.other(each)
        for each in self.upstreams:
            self.upstream(each)

    def join(self) -> None:
        first = next((each for each in self.own if not _pattern(each)), self.own[0])
        self.draft.keep(first.setting, ("proxy", "prefix"), f"{self.base.rstrip('/')}/")
        name = str(self.owner.values["name",])
        self.draft.change(self.server.setting, ("proxy", "site"), name, "the site is that deployment's")

    def is_below(self, location: Directive) -> bool:
        path = prefix(location)
        return path.startswith(self.base) if self.joins else not path.startswith(self.joined)

    def passing(self, location: Directive) -> None:
        """Tell of a location that passes requests to the deployment."""
        path, inside = prefix(location), location.block or ()
        place = Place(self.draft, path, inside, self.server.block or (), path == self.base)
        stream = _is_stream(inside)
        if _pattern(location):
            self.draft.replaced(location.setting, "every path that is no static file is the application's")
        elif stream and path != "/":
            self.draft.keep(location.setting, ("proxy", "streams"), (f"{path.rstrip('/')}/",))
        elif path != self.base or (not self.joins and path == "/"):
            self.draft.replaced(location.setting, "its requests are the application's")
        elif not self.joins:
            self.draft.warn(
                location.setting, f"nothing else is on this site: every path, not only {path}, goes there now"
            )
            self.draft.replaced(location.setting, "proxy.prefix is for a deployment that joins the site of another one")
        for each in inside:
            if each.name != "location":
                tell(place, each)

    def other(self, location: Directive) -> None:
        """Tell of a location that nginx answers itself: files, most often."""
        path, block = prefix(location), [each for each in location.block or () if each.name != "location"]
        inside = {each.name: each for each in block if each.words or each.name == "internal"}
        directory = inside.get("alias") or inside.get("root")
        if directory is None or _pattern(location) or path == "/":
            why = _why_not(location, path)
            self.draft.drop(location.setting, why)
            for each in walk(tuple(block)):
                self.draft.drop(each.setting, f"of that location: {why}")
            return
        place = Place(self.draft, path, tuple(block), self.server.block or (), whole=False)
        self.files(location, directory, ("internal" if "internal" in inside else "static", f"{path.rstrip('/')}/"))
        for each in block:
            if each is not directory:
                tell(place, each)

    def files(self, location: Directive, directory: Directive, key: tuple[str, str]) -> None:
        """Keep a directory of files, as what its path was meant to be."""
        path, draft, value = prefix(location), self.draft, directory.words[0]
        draft.replaced(location.setting, f"proxy.{key[0]} has it")
        says = ""
        if directory.name == "root" and normpath(value).endswith(path.rstrip("/")):
            says = f"files are looked for in {normpath(value)}{path}, with the path twice: alias was meant"
            draft.warn(directory.setting, says)
            says = "the directory that was meant"
        elif directory.name == "root":
            value, says = f"{value.rstrip('/')}{path}", "with the path behind it, where root looks for files"
        elif value.endswith("/") and not path.endswith("/"):
            danger = f"{path}../x is a file beside {value}: anyone reads what is there"
            draft.warn(location.setting, f"{danger} (the location lacks a slash at its end, and the alias has one)")
        elif path.endswith("/") and not value.endswith("/"):
            draft.warn(directory.setting, f"{path}x is looked for at {value}x: the alias lacks a slash at its end")
        value = normpath(value) if value.startswith("/") else value
        if says:
            draft.change(directory.setting, ("proxy", *key), value, says)
        else:
            draft.keep(directory.setting, ("proxy", *key), value)

    def upstream(self, upstream: Directive) -> None:
        """Tell of the addresses that requests were passed to, and how."""
        place = Place(self.draft, "/", upstream.block or ())
        self.draft.replaced(upstream.setting, "made of the instances")
        for each in upstream.block or ():
            tell(place, each, "upstream")
        kept = next((each for each in upstream.block or () if each.name == "keepalive"), None)
        every = [*(self.server.block or ()), *(inner for each in self.own for inner in each.block or ())]
        modern = any(each.name == "proxy_http_version" and each.words != ("1.0",) for each in every)
        if kept and not modern:
            self.draft.warn(
                kept.setting, "without proxy_http_version 1.1 no connection is kept open (before nginx 1.29.7)"
            )


def _why_not(location: Directive, path: str) -> str:
    if len(location.words) > 1 and location.words[0] in {"~", "~*"}:
        return "a regular expression: proxy.static, .internal and .streams hold path prefixes"
    if len(location.words) > 1 and location.words[0] == "=":
        return "one path: proxy.static, .internal and .streams hold path prefixes"
    return "every path that is no static file is the application's" if path == "/" else "no key holds it"


def _is_stream(inside: Iterable[Directive]) -> bool:
    """Tell whether a location is one of websockets or server-sent events."""
    for each in inside:
        words = [word.lower() for word in each.words]
        if each.name == "proxy_set_header" and words[:1] == ["upgrade"]:
            return True
        if each.name == "proxy_buffering" and words == ["off"]:
            return True
        if each.name == "proxy_read_timeout" and words and (seconds(words[0]) or 0) > _STREAM:
            return True
    return False


def redirect(server: Directive, drafts: Iterable[Draft]) -> None:
    """Tell of a server that sends clients of these names to HTTPS."""
    inside = list(walk(server.block or ()))
    if not any(each.name == "return" and each.words[-1:] and each.words[-1].startswith("https://") for each in inside):
        return
    names = {word for each in inside if each.name == "server_name" for word in each.words}
    if not names:
        return
    for draft in drafts:
        kept = draft.values.get(("proxy", "server_names"))
        if not draft.left_out and isinstance(kept, tuple) and names <= set(kept):
            draft.replaced(server.setting, REDIRECTED)
            for each in server.block or ():
                tell(Place(draft, "/", tuple(inside)), each)


def finish(draft: Draft) -> None:
    """Take away what is of no use without something else."""
    tls = [key for key in draft.values if key[:2] == ("proxy", "tls")]
    if tls and not {("proxy", "tls", "certificate"), ("proxy", "tls", "key")} <= set(tls):
        for key in tls:
            draft.without(key, "neither is of use without both ssl_certificate and ssl_certificate_key")
    elif tls and ("proxy", "listen") in draft.values and all(each.says != REDIRECTED for each in draft.findings):
        says = "plain HTTP was served, too"
        for setting in draft.sources["proxy", "listen"][:1]:
            draft.keep(setting, ("proxy", "tls", "redirect"), False, says)  # noqa: FBT003 (a value, no switch)
