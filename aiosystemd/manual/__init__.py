"""The manual pages, made from what the commands, the runtime and the model say of themselves.

    python3 -m aiosystemd.manual DIR

writes them to ``DIR/man1`` and ``DIR/man5``: a directory for MANPATH, whose files ``dh_installman DIR/man?/*`` takes.
The same sources give the same bytes. It needs what the tool needs, and runs from the source tree or installed; neither
aiohttp nor systemd has to be there.

Nothing else imports this: it is the one place that knows both the tool and the runtime's options.
"""

from collections.abc import Iterator

from aiosystemd.manual import commands, file, overview, serve
from aiosystemd.render.roff import Page, Reference


def pages(version: str) -> Iterator[Page]:
    """Yield every page, of the program in that version."""
    source = f"aiosystemd {version}"
    for page in (overview.page(source), *commands.pages(source), serve.page(source), file.page(source)):
        page.heading("see also")
        first, *others = sorted(page.references - {Reference(page.section, page.name)})
        page.paragraph(first, *(part for other in others for part in (", ", other)))
        yield page
