"""Every link of the pages to a file or a heading of ours leads there; the site has every room."""

import re
from pathlib import Path

import pytest
from commands import ROOT
from test_layout import ROOMS, SOURCES

from benchmarks import site

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#{1,6} +(.+?)\s*$", re.MULTILINE)
FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
pages = pytest.mark.parametrize("page", site.pages(), ids=lambda page: str(page.relative_to(ROOT)))


def anchors(page: Path) -> set[str]:
    """What a page's headings are called in addresses: lower case, hyphens for spaces."""
    headings = HEADING.findall(FENCED.sub("", page.read_text()))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pages
def test_links_lead_somewhere(page: Path) -> None:
    for link in LINK.findall(page.read_text()):
        if re.match(r"\w+:", link):
            continue  # another host's, which no test asks
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), link
        assert target.resolve().is_relative_to(ROOT), link
        assert not anchor or anchor in anchors(target), link


def test_links_and_headings_are_found() -> None:
    readme = ROOT / "README.md"
    assert {"speed", "your-own-photographs", "ablations-what-earns-its-bytes"} <= anchors(readme)
    assert len(LINK.findall(readme.read_text())) > 8


def test_the_site_has_a_page_for_every_room_and_module() -> None:
    rooms = site.rooms()
    # `search` is a hall whose rooms hold all of its modules.
    assert set(rooms) == set(ROOMS) - {"search"}
    modules = {name for names in rooms.values() for name in names}
    own = ("__init__.py", "__main__.py")
    assert len(modules) == sum(path.name not in own for path in SOURCES)
    navigation = (ROOT / "mkdocs.yml").read_text().partition("\nnav:\n")[2]
    named = re.findall(r": (\S+\.md)$", navigation, re.MULTILINE)
    written = {str(page.relative_to(ROOT)) for page in site.pages()}
    assert set(named) == written | {f"api/{room}.md" for room in rooms}
