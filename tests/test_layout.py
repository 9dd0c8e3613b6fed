"""The house: imports run one way, torch stays where it belongs, files stay short."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("space", "trainers", "search", "dashboards")  # each may import itself and those before it
SOURCES = [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]
LINES = 320


def room_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0]


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield str(node.module)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_run_downward(path: Path) -> None:
    allowed = ROOMS[: ROOMS.index(room_of(path)) + 1]
    rooms = {name.split(".")[0] for name in imported(path)} & set(ROOMS)
    assert rooms <= set(allowed)
    if room_of(path) == "space" and path.name != "build.py":
        assert "torch" not in {name.split(".")[0] for name in imported(path)}
    if room_of(path) == "trainers":
        assert "optuna" not in {name.split(".")[0] for name in imported(path)}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_are_short_and_say_what_they_are(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= LINES
    assert not text or ast.get_docstring(ast.parse(text)) or path.name == "__init__.py"


@pytest.mark.parametrize(
    "program",
    [
        "import search.database.table",
        "import search.commands.show",
        "import search.terminal.evidence, search.ablation.effects",
        "import search.cli.main",
        "import dashboards.pages.app, dashboards.report, dashboards.server.serve",
        "from space import spaces, solver, count, file_format",
    ],
)
def test_torch_is_not_loaded(program: str) -> None:
    check = f"{program}; import sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", check], cwd=ROOT, check=True)
