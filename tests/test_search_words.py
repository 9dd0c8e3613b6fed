"""What words say of an architecture is what the architecture says itself."""

import math

from hypothesis import given
from strategies import architectures

from dashboards.architecture_summary import UNKNOWN, summaries, summary
from space.architecture import Architecture


@given(architectures())
def test_words_summarise_the_architecture(architecture: Architecture) -> None:
    stages = [stage.canonical() for stage in architecture.stages]
    found = summary(architecture.words)
    blocks = [stage.block for stage in stages for _ in range(stage.depth)]
    assert blocks.count(found.block) == max(map(blocks.count, blocks))
    assert found.groups == max(stage.groups for stage in stages)
    with_se = [bool(stage.se) for stage in stages]
    assert found.se == ("all" if all(with_se) else "some" if any(with_se) else "none")
    assert found.depth == len(blocks)
    assert found.width == max(stage.width for stage in stages)


def test_what_is_no_architecture_is_unknown() -> None:
    frame = summaries([None, math.nan, "", "<b>|", "conv 4 | 2x group 8 g2 shuffle se4 /2"])
    assert list(frame["block"]) == [""] * 4 + ["group"]
    assert list(frame.iloc[4]) == ["group", 2, "all", 2, 8]
    assert summary("conv 4") == UNKNOWN
    assert summary("conv 4 | conv 8 | depthwise 8").block == "depthwise"
