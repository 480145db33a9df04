"""The pages are read as CONTRIBUTING.md says."""

from pathlib import Path

import pytest

from tests.docs import pages
from tests.docs.pages import Command, bare, blocks, commands, inline, without_prompt

PAGE = """\
# A page

<!-- file shop.toml -->
```toml
name = "shop"
```

Text with `aiosystemd
check`.

<!-- run touch x -->
<!-- status 2 0 -->

    # aiosystemd diff shop
    update   a file
    $ aiosystemd schema  # of all keys

    # make \\
      more

```sh
# a remark
cat > x <<END
# text
END
make deb
```

    aiosystemd rollout shop
"""


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a page with one of everything."""
    monkeypatch.setattr(pages, "TOP", tmp_path)
    path = tmp_path / "page.md"
    path.write_text(PAGE)
    return path


def test_commands_are_found_with_what_belongs_to_them(page: Path) -> None:
    found = [command for block in blocks(page) for command in commands(block)]
    assert [command[:3] for command in found] == [
        ("aiosystemd diff shop", True, 2),
        ("aiosystemd schema  # of all keys", False, 0),
        ("make \\\n  more", True, 0),
        ("cat > x <<END\n# text\nEND", True, 0),
        ("make deb", True, 0),
    ]
    assert isinstance(found[0], Command)
    assert found[0].place == "page.md:14: aiosystemd diff shop"
    assert bare(found[1].text) == "aiosystemd schema"


def test_comments_above_a_block_are_its_own(page: Path) -> None:
    file, shown, script, last = blocks(page)
    assert (file.file, file.text) == ("shop.toml", 'name = "shop"\n')
    assert (shown.before, shown.file) == ("touch x", None)
    assert (script.before, script.notes, last.notes) == ("", (), ())


def test_a_command_without_a_prompt_is_found(page: Path) -> None:
    assert [line for block in blocks(page) for line in without_prompt(block)] == ["aiosystemd rollout shop"]


def test_words_in_running_text_are_found(page: Path) -> None:
    assert inline(page) == ["aiosystemd check"]
