"""A new block: a row in each of two tables is all that it needs."""

import random
from dataclasses import replace
from pathlib import Path

import pytest
from strategies import plain_card

from space import count
from space.architecture import BLOCK_SETTINGS, Architecture, Stage
from space.build import build
from space.choices import Choices
from space.errors import InputError
from space.floor import check
from space.layers import BLOCKS, Layer, Position
from space.solver import Budget, solve
from space.spaces import FAMILIES, random_params, search_space
from trainers import export


def _grouped_inverted(stage: Stage, position: Position, stride: int) -> tuple[Layer, ...]:
    """Both convolutions of 1x1 pixels in groups: no block of today reads these two settings."""
    hidden, groups = position.inputs * stage.expansion, stage.groups
    return (
        position.conv("expand", position.inputs, hidden, groups=groups),
        position.conv("dw", hidden, hidden, kernel=stage.kernel, stride=stride, groups=hidden),
        position.conv("project", hidden, stage.width, groups=groups),
    )


@pytest.fixture(autouse=True)
def block(monkeypatch: pytest.MonkeyPatch) -> str:
    name = "grouped-inverted"
    monkeypatch.setitem(BLOCKS, name, _grouped_inverted)
    monkeypatch.setitem(BLOCK_SETTINGS, name, frozenset({"residual", "expansion", "groups"}))
    return name


def shape(block: str) -> Architecture:
    settings = {"block": block, "groups": 6, "expansion": 3}
    stages = (
        Stage(width=42, stride=2, se=4, **settings),  # type: ignore[arg-type]
        Stage(width=72, depth=2, residual=True, **settings),  # type: ignore[arg-type]
    )
    return Architecture(stem=Stage(width=30), stages=stages, classes=5)


@pytest.mark.parametrize("limit", ["20KB", "9k params"])
@pytest.mark.parametrize("macs", [None, "1M"])
def test_from_counter_to_reader(block: str, tmp_path: Path, limit: str, macs: str | None) -> None:
    metadata = plain_card(shape(block), size=16)
    solved = solve(shape(block), Budget.parse(limit, "int8", macs), metadata, multiple=4)
    architecture = solved.architecture
    assert 0.9 < solved.share <= 1
    assert all(width % 12 == 0 for width in architecture.widths)  # of 4 and of 6
    student = build(architecture, seed=1)
    assert count.parameters(architecture) == sum(p.numel() for p in student.parameters())
    path = tmp_path / "student.safetensors"
    size = export.write(student.eval(), metadata, "int8", path)
    assert size == count.cost(architecture, metadata).stored["int8"]
    assert (
        export.read(path).architecture
        == architecture
        == Architecture.from_json(architecture.to_json())
    )


def test_groups_must_divide_its_widths(block: str) -> None:
    with pytest.raises(InputError, match="stage 1: groups must divide the widths"):
        build(replace(shape(block), stem=Stage(width=32)))


def test_a_space_of_it_has_its_settings(block: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FAMILIES, "new", Choices(early=(block,), late=(block, "conv")))
    space, budget = search_space("new", size=16), Budget.parse("40KB")
    assert {"expansion", "stage1_groups"} <= space.choices.keys()
    assert "shuffle" not in space.choices
    params = random_params(space, random.Random(0))
    found = space.shape(params, classes=5, channels=3, size=16)
    metadata = plain_card(found, size=16)
    check(space, budget, metadata)
    assert solve(found, budget, metadata).cost <= budget.limit
