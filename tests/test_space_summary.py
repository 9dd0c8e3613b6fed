"""An architecture in five values, as stored, and as read from the words of older rows."""

import math

import pytest
from hypothesis import given
from strategies import architectures

from search.database.row import summaries
from space.architecture import Architecture
from space.summary import UNKNOWN, summary, summary_of_words


@given(architectures())
def test_five_values_summarise_the_architecture(architecture: Architecture) -> None:
    stages = [stage.canonical() for stage in architecture.stages]
    found = summary(architecture)
    assert summary_of_words(architecture.words) == found  # of rows of earlier versions
    blocks = [stage.block for stage in stages for _ in range(stage.depth)]
    assert blocks.count(found.block) == max(map(blocks.count, blocks))
    assert found.groups == max(stage.groups for stage in stages)
    with_se = [bool(stage.se) for stage in stages]
    assert found.se == ("all" if all(with_se) else "some" if any(with_se) else "none")
    assert found.depth == len(blocks)
    assert found.width == max(stage.width for stage in stages)


def test_what_is_no_architecture_is_unknown() -> None:
    words = [None, math.nan, "", "<b>|", "conv 4 | 2x group 8 g2 shuffle se4 /2"]
    frame = summaries([None] * 5, words)
    assert list(frame["block"]) == [""] * 4 + ["group"]
    assert list(frame.iloc[4]) == ["group", 2, "all", 2, 8]
    assert summary_of_words("conv 4") == UNKNOWN
    assert summary_of_words("conv 4 | conv 8 | depthwise 8").block == "depthwise"


STORED = {"block": "group", "groups": 2, "se": "all", "depth": 2, "width": 8}


@pytest.mark.parametrize("wrong", [{"block": 1}, {"width": "<b>"}, {"depth": None}, {"se": []}])
def test_a_stored_summary_counts_unless_somebody_else_wrote_it(wrong: dict[str, object]) -> None:
    words = "conv 4 | 3x depthwise 16 /2"
    frame = summaries([STORED, STORED | wrong, 7], [words] * 3)
    assert list(frame["block"]) == ["group", "depthwise", "depthwise"]
    assert list(frame["width"]) == [8, 16, 16]
