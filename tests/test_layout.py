"""The house: imports run one way, torch stays where it belongs, files stay short."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("space", "trainers", "search", "dashboards")  # each may import itself and those before it
SOURCES = [path for room in ROOMS for path in sorted((ROOT / room).glob("*.py"))]
LINES = 320


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield str(node.module)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_imports_run_downward(path: Path) -> None:
    allowed = ROOMS[: ROOMS.index(path.parent.name) + 1]
    rooms = {name.split(".")[0] for name in imported(path)} & set(ROOMS)
    assert rooms <= set(allowed)
    if path.parent.name == "space" and path.name != "build.py":
        assert "torch" not in {name.split(".")[0] for name in imported(path)}
    if path.parent.name == "trainers":
        assert "optuna" not in {name.split(".")[0] for name in imported(path)}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_files_are_short_and_say_what_they_are(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= LINES
    assert not text or ast.get_docstring(ast.parse(text)) or path.name == "__init__.py"


@pytest.mark.parametrize(
    "program",
    [
        "import search.table",
        "import search.show",
        "import search.ablation_views, search.effects",
        "import search.cli",
        "import dashboards.app, dashboards.report, dashboards.serving",
        "from space import families, budget, count, storage",
    ],
)
def test_torch_is_not_loaded(program: str) -> None:
    check = f"{program}; import sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", check], cwd=ROOT, check=True)
