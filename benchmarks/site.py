"""Lay out the documentation's pages: `make docs` builds a site of them.

The pages, and every file that they link to, are copied into the folder `.docs`, at the same places.
Its folder `api` gets a page for each room, which names the room's modules; mkdocstrings fills it
from their docstrings, by reading the source. Needs nothing but Python.
"""

import ast
import re
import shutil
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")
HALLS = ("space", "trainers", "search", "dashboards")
LINK = re.compile(r"\]\((?!\w+:|#)([^)#\s]+)")


def pages() -> list[Path]:
    """The written pages."""
    return [*(ROOT / name for name in PAGES), *sorted((ROOT / "docs").glob("*.md"))]


def linked(page: Path) -> set[Path]:
    """The files of the project that a page links to.

    Raises:
        FileNotFoundError: one of them is not there.
    """
    targets = LINK.findall(page.read_text())
    return {(page.parent / target).resolve(strict=True) for target in targets}


def rooms() -> dict[str, list[str]]:
    """Each folder of modules with a docstring, and the modules in it, by their dotted names."""
    found: dict[str, list[str]] = {}
    for hall in HALLS:
        for path in sorted((ROOT / hall).rglob("*.py")):
            if path.name not in ("__init__.py", "__main__.py"):
                parts = path.relative_to(ROOT).with_suffix("").parts
                found.setdefault(".".join(parts[:-1]), []).append(".".join(parts))
    return found


def room_page(room: str, modules: list[str]) -> str:
    """A page of one room in Markdown: what it is for, then its modules."""
    first = ROOT / room.replace(".", "/") / "__init__.py"
    what = ast.get_docstring(ast.parse(first.read_text())) if first.exists() else None
    return "\n\n".join([f"# {room}", *([what] if what else []), *(f"::: {m}" for m in modules)])


def main() -> None:
    place = ROOT / ".docs"
    shutil.rmtree(place, ignore_errors=True)
    for path in {*pages(), *(target for page in pages() for target in linked(page))}:
        copy = place / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
    (place / "api").mkdir()
    for room, modules in rooms().items():
        (place / "api" / f"{room}.md").write_text(room_page(room, modules) + "\n")


if __name__ == "__main__":
    main()
