"""The smallest and the largest student at smallest widths, over all choices of all stages.

At smallest widths a stage's width follows from its own groups and the next stage's. So the cost
is a sum over stages, each depending on its own choice and its neighbours' groups, and dynamic
programming finds the extreme that changing one stage at a time misses.
"""

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import accumulate
from operator import add
from typing import NamedTuple

from space.architecture import Architecture, Head, Stage, without_defaults
from space.budget import Budget
from space.cost_model import (
    Measure,
    head_count,
    head_peak,
    stage_count,
    stage_peak,
    stored_biases,
    stored_elements,
    stored_scales,
    trainable,
)
from space.count import layer_macs
from space.file_format import ELEMENT_BYTES, StudentMetadata, tensors

STORED: tuple[Measure, Measure, Measure] = (stored_elements, stored_biases, stored_scales)


class _Partial(NamedTuple):
    """Stages chosen so far."""

    cost: int
    stages: tuple[Stage, ...]


def extreme(
    positions: Sequence[Sequence[Stage]],
    budget: Budget,
    metadata: StudentMetadata,
    multiple: int,
    *,
    largest: bool,
) -> Architecture:
    """The network of lowest (or highest) cost, one stage from each place, at smallest widths.

    Counts MACs where the budget has a MAC limit, the peak of activations where it has a RAM limit,
    else its unit. Bytes to within the padding of the header: it is the one part of a file that is
    no sum over stages.

    Args:
        positions: stages to choose from, the stem's first; those of one place share their stride.
    """
    sign = -1 if largest else 1
    together: Callable[[int, int], int] = add  # what stages cost together
    if budget.ram is not None:
        together = min if largest else max  # of signed costs: the largest either way
    groups_at = [sorted({stage.channel_groups for stage in stages}) for stages in positions] + [[1]]
    counter = _Counter(positions, budget, metadata)
    partials = {(len(metadata.mean), groups): _Partial(0, ()) for groups in groups_at[0]}
    for index, stages in enumerate(positions):
        reached: dict[tuple[int, int], _Partial] = {}
        for (inputs, groups), partial in partials.items():
            for stage, following in _moves(stages, groups, groups_at[index + 1]):
                width = math.lcm(multiple, groups, following)
                chosen = replace(stage, width=width)
                cost = together(partial.cost, sign * counter.stage(chosen, inputs, index))
                key = (width, following)
                if key not in reached or cost < reached[key].cost:
                    reached[key] = _Partial(cost, (*partial.stages, chosen))
        partials = reached
    ends = (
        (together(partial.cost, sign * counter.head(width)), partial.stages)
        for (width, _), partial in partials.items()
    )
    stem, *stages = min(ends, key=lambda end: end[0])[1]
    return Architecture(
        stem=stem, stages=tuple(stages), classes=len(metadata.classes), channels=len(metadata.mean)
    )


def _moves(
    stages: Sequence[Stage], groups: int, following: Sequence[int]
) -> Iterator[tuple[Stage, int]]:
    """Stages with that many groups, each with every group count of the next place."""
    for stage in stages:
        if stage.channel_groups == groups:
            for count in following:
                yield stage, count


class _Counter:
    """Cost of a stage, and of the head, in the measure that `extreme` minimises."""

    def __init__(
        self, positions: Sequence[Sequence[Stage]], budget: Budget, metadata: StudentMetadata
    ) -> None:
        self.budget = budget
        self.classes = len(metadata.classes)
        self.simple: Measure | None = trainable if budget.unit == "params" else None
        pixels = 1  # only MACs and activations depend on the size
        if budget.macs is not None:
            self.simple, pixels = layer_macs, metadata.size
        if budget.ram is not None:
            pixels = metadata.size
        strides = [stages[0].stride for stages in positions]
        self.sizes = list(accumulate(strides, _strided, initial=pixels))

    def stage(self, stage: Stage, inputs: int, position: int) -> int:
        """Count of a stage at its width."""
        size = self.sizes[position]
        if self.budget.ram is not None:
            return cached_peak(stage, inputs, size)
        if self.simple:
            return cached_count(stage, inputs, self.simple, size)
        elements, biases, scales = (
            cached_count(stage, inputs, measure, size) for measure in STORED
        )
        return self._bytes(elements, biases, scales) + header_characters(stage)

    def head(self, inputs: int) -> int:
        """Count of the classifier."""

        def count(measure: Measure) -> int:
            return head_count(Head(), inputs, self.classes, measure, self.sizes[-1])

        if self.budget.ram is not None:
            return head_peak(inputs, self.classes, self.sizes[-1])
        return count(self.simple) if self.simple else self._bytes(*map(count, STORED))

    def _bytes(self, elements: int, biases: int, scales: int) -> int:
        flat = tensors(elements, biases, scales, self.budget.format)
        return sum(ELEMENT_BYTES[dtype] * length for dtype, length in flat.values())


cached_count = lru_cache(maxsize=2**16)(stage_count)
cached_peak = lru_cache(maxsize=2**16)(stage_peak)


def _strided(size: int, stride: int) -> int:
    return -(-size // stride)


@lru_cache(maxsize=2**14)
def header_characters(stage: Stage) -> int:
    """Characters of a stage's JSON, escaped inside the JSON of the header."""
    return len(json.dumps(json.dumps(without_defaults(stage), separators=(",", ":"))))
