"""aiosystemd.toml(5), made from the model: its tables and keys, their types, and the rules between them."""

from collections.abc import Iterator
from types import NoneType
from typing import Final, get_args, get_type_hints

from aiosystemd import rules, values
from aiosystemd.commands import DEFAULT_FILE
from aiosystemd.manual.kinds import alias, default, kind, limits, spelt
from aiosystemd.manual.overview import USER
from aiosystemd.manual.words import begin, paragraphs, parts, phrase
from aiosystemd.model import Deployment, Table, descriptions
from aiosystemd.render.roff import Bold, Italic, Page, Part, Reference
from aiosystemd.scope import SYSTEM

DESCRIPTION: Final = """
A deployment file describes how one aiohttp application is served. It is TOML (https://toml.io) in UTF-8. Every key but
the first two has a default, and an unknown one is an error: aiosystemd-check(1) tells everything that is wrong with a
file, with line and column.

A key of a table can be written below the table's header or, before the first header, with the table's name before it:
``mode`` below ``[listen]`` is ``listen.mode``.
"""

SMALLEST: Final = """\
name = "example"
app = "my_app_module:my_web_app\""""

LARGER: Final = """\
name = "shop"
app = "shop.web:make_app"
directory = "/srv/shop/current"
python = "/srv/shop/current/venv/bin/python"
instances = "auto"

[service]
memory_max = "512M"
credentials = { database = "/etc/shop/database" }
directives = { Nice = 5 }

[sandbox]
addresses = ["localhost", "10.0.0.0/8"]

[timeouts]
request = 60

[proxy]
server_names = ["shop.example.com"]
static = { "/static/" = "/srv/shop/current/static" }
streams = ["/events/"]

[proxy.tls]
certificate = "/etc/letsencrypt/live/shop.example.com/fullchain.pem"
key = "/etc/letsencrypt/live/shop.example.com/privkey.pem\""""


def page(source: str) -> Page:
    """Return the page of the deployment file."""
    page = Page("aiosystemd.toml", 5, source)
    begin(page, f"deployment file: {phrase(Deployment.__doc__ or '')}")
    page.heading("synopsis")
    for directory in (f"{SYSTEM.files}/", f"{USER.files}/"):
        page.paragraph(Bold(directory), Italic("NAME"), Bold(".toml"))
    page.paragraph(Bold(DEFAULT_FILE))
    page.heading("description")
    for text in paragraphs(DESCRIPTION):
        page.paragraph(*parts(text))
    page.paragraph("The smallest one:")
    page.example(SMALLEST)
    page.heading("keys")
    for path, table in tables():
        _table(page, path, table)
    _values(page)
    page.heading("rules between keys")
    for rule in rules.described():
        page.item(("•",), parts(rule))
    page.heading("example")
    page.example(LARGER)
    sections = ("exec", "resource-control", "service", "socket", "time")
    page.references |= {Reference(7 if name == "time" else 5, f"systemd.{name}") for name in sections}
    page.references |= {Reference(1, "aiosystemd"), Reference(1, "aiosystemd-serve")}
    return page


def tables(path: str = "", table: type[Table] = Deployment) -> Iterator[tuple[str, type[Table]]]:
    """Yield each table of the deployment file and how its header calls it, ``""`` for the keys before any header."""
    yield path, table
    for key, hint in _hints(table).items():
        if below := _table_in(hint):
            yield from tables(f"{path}.{key}".lstrip("."), below)


def _table_in(hint: object) -> type[Table] | None:
    [hint, *others] = [each for each in get_args(hint) or (hint,) if each is not NoneType] or [hint]
    return hint if not others and isinstance(hint, type) and issubclass(hint, Table) else None


def _table(page: Page, path: str, table: type[Table]) -> None:
    page.subheading(f"[{path}]" if path else "Before the first header")
    page.paragraph(*parts(table.__doc__ or ""))
    described = dict(descriptions(table))
    for key, hint in _hints(table).items():
        if key in table.model_fields and not _table_in(hint):
            page.item((Bold(key), " = ", *kind(hint)), *_description(table, key, described[key]))


def _description(table: type[Table], key: str, text: str) -> Iterator[tuple[Part, ...]]:
    field = table.model_fields[key]
    if field.is_required():
        yield (*parts(text), " Required.")
    elif shown := default(field.default):
        yield (*parts(text), " Default: ", Bold(shown), ".")
    else:
        yield parts(text)


def _values(page: Page) -> None:
    page.heading("values")
    page.paragraph("What stands for a value above, and what it may be:")
    described = dict(descriptions(values))
    for name in sorted({name for _, table in tables() for hint in _hints(table).values() for name in _names(hint)}):
        page.item((Italic(spelt(name)),), (*parts(described[name]), *_within(limits(getattr(values, name)))))


def _hints(table: type[Table]) -> dict[str, object]:
    """Return the types of the keys, as they are written."""
    return get_type_hints(table, include_extras=True)


def _within(limit: str) -> tuple[str, ...]:
    return (f" {limit.strip().capitalize()}.",) if limit else ()


def _names(hint: object) -> Iterator[str]:
    if name := alias(hint):
        yield name
    else:
        for each in get_args(hint):
            yield from _names(each)
