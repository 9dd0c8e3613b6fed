"""The house: rooms stand one above the other, torch stays where it belongs, files stay short."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# From the ground up: a room may import itself and those before it.
ROOMS = (
    "space",
    "trainers",
    *(f"trainers.{room}" for room in ("data", "engine", "teachers")),
    *(f"search.{room}" for room in ("database", "study", "training", "ablation", "terminal")),
    *(f"search.{room}" for room in ("workers", "trials", "commands", "cli")),
    "search",
    "dashboards",
    *(f"dashboards.{room}" for room in ("plotting", "figures", "pages", "server")),
)
HALLS = ("trainers", "search", "dashboards")  # their own files: what is read first, or ties rooms
SOURCES = [path for room in ("space", *HALLS) for path in sorted((ROOT / room).rglob("*.py"))]
BESIDE = [path for room in ("benchmarks", "tests") for path in sorted((ROOT / room).rglob("*.py"))]
LINES = 320
FILES = 13  # of a room, with the line that says what it is for


def module(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def room(name: str) -> str:
    """Where a module stands: `search.study` of `search.study.plan`."""
    top, *rest = name.split(".")
    is_room = rest and (ROOT / top / rest[0]).is_dir()
    return f"{top}.{rest[0]}" if is_room else top


def imported(path: Path) -> Iterator[str]:
    """Modules that a file imports, those within functions too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            folder = ROOT / str(node.module).replace(".", "/")
            for alias in node.names:
                is_module = (folder / f"{alias.name}.py").exists()
                yield f"{node.module}.{alias.name}" if is_module else str(node.module)


def ours(path: Path) -> set[str]:
    return {name for name in imported(path) if name.split(".")[0] in ("space", *HALLS)}


def named(paths: list[Path]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("path", paths, ids=lambda path: str(path.relative_to(ROOT)))


def test_every_room_has_its_place() -> None:
    assert {room(module(path)) for path in SOURCES} == set(ROOMS)
    assert len(SOURCES) > 150


@named(SOURCES)
def test_imports_run_downward(path: Path) -> None:
    here = room(module(path))
    above = ROOMS[ROOMS.index(here) + 1 :]
    # Of a hall's own files those that tie its rooms together stand above them: no cycle, below.
    wrong = {
        name
        for name in ours(path)
        if room(name) in above and not (here in HALLS and room(name).startswith(f"{here}."))
    }
    assert not wrong


def test_no_module_needs_itself() -> None:
    graph = {module(path): ours(path) - {module(path)} for path in SOURCES}
    order = list(TopologicalSorter(graph).static_order())
    assert len(order) >= len(SOURCES)


@named(SOURCES)
def test_what_is_loaded_where(path: Path) -> None:
    loaded = {name.split(".")[0] for name in imported(path)}
    here = module(path)
    if here.startswith("space") and here not in ("space.build", "space.modules"):
        assert "torch" not in loaded
    if not here.startswith("search"):
        assert "optuna" not in loaded or here in BORROWED
    if not here.startswith("search.cli") and here not in CLICKS:
        assert "click" not in loaded


# Optuna's importances are drawn; click is known where a command is defined.
BORROWED = ("dashboards.figures.importances", "dashboards.views", "dashboards.library")
CLICKS = ("search.__main__", "dashboards.__main__", "dashboards.cli")


# Names that are private to Optuna's studies, trials and storages.
INSIDE = ("_storage", "_backend", "_study_id", "_trial_id", "_thread_local", "_get_trials")
KNOW_INSIDE = ("search.database", "tests.test_search_storage")


@named([*SOURCES, *BESIDE])
def test_optuna_s_inside_is_known_to_one_room(path: Path) -> None:
    here = module(path)
    if here.startswith(KNOW_INSIDE):
        return
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute):
            assert node.attr not in INSIDE, f"line {node.lineno}: {node.attr}"
    assert not {name for name in imported(path) if name.startswith("optuna") and "._" in name}


@named(SOURCES)
def test_files_are_short_and_say_what_they_are(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= LINES
    assert not text or ast.get_docstring(ast.parse(text))


@named(BESIDE)
def test_what_stands_beside_imports_modules_that_are_there(path: Path) -> None:
    for name in ours(path):
        place = ROOT / name.replace(".", "/")
        assert place.with_suffix(".py").exists() or (place / "__init__.py").exists(), name


PAGES = ["README.md", "CONTRIBUTING.md", *(f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md"))]
NAMED = re.compile(r"`((?:space|trainers|search|dashboards|tests|benchmarks)/[\w/]+\.py)")


@pytest.mark.parametrize("page", PAGES)
def test_files_that_a_page_names_are_there(page: str) -> None:
    for name in NAMED.findall((ROOT / page).read_text()):
        assert (ROOT / name).exists(), name


def test_rooms_say_what_they_are_for() -> None:
    for place in ROOMS:
        assert ast.get_docstring(
            ast.parse((ROOT / place.replace(".", "/") / "__init__.py").read_text())
        )


def test_no_room_is_left_out_of_the_package() -> None:
    """What git ignores is in no wheel, nor read by ruff: `data/` had meant `trainers/data/` too."""
    ask = ["git", "check-ignore", "--no-index", *(str(path) for path in SOURCES)]
    asked = subprocess.run(ask, cwd=ROOT, capture_output=True, text=True, check=False)
    if asked.returncode == 128:
        pytest.skip("no checkout of git's")
    assert asked.stdout == ""


def test_rooms_are_small() -> None:
    for place in ROOMS:
        if place != "space":
            files = list((ROOT / place.replace(".", "/")).glob("*.py"))
            assert len(files) <= FILES, place


@pytest.mark.parametrize(
    "program",
    [
        "import search.database.table",
        "import search.commands.show",
        "import search.terminal.evidence, search.ablation.effects",
        "import search.cli.main",
        "import dashboards.pages.app, dashboards.report, dashboards.server.serve",
        "from space import spaces, solver, count, file_format",
        "import trainers.recipe, trainers.policies",
        "import search.study.spec, search.study.plan, search.study.settings",
    ],
)
def test_torch_is_not_loaded(program: str) -> None:
    check = f"{program}; import sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", check], cwd=ROOT, check=True)
