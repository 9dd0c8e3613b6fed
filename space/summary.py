"""An architecture in five values, for tables and charts of many trials.

A row keeps them as its `summary`. Rows of earlier versions have the architecture's words alone,
one line, from which they are read.
"""

import re
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache
from math import nan
from typing import NamedTuple

from space.architecture import Architecture

# `2x group 48 g4 se8 skip /2`; see `space.architecture.Architecture.words`.
STAGE = re.compile(r"(?:(\d+)x )?([a-z-]+) (\d+)(.*)")
GROUPS = re.compile(r" g(\d+)")
HEAD = "head"


class Summary(NamedTuple):
    """An architecture in five values."""

    block: str  # the type that most blocks after the stem have; of several, that of the latest
    groups: float  # the largest number of groups; 1 without group convolutions
    se: str  # stages with squeeze-and-excitation: none, some or all
    depth: float  # blocks after the stem
    width: float  # channels of the widest stage


UNKNOWN = Summary("", nan, "", nan, nan)


class _Stage(NamedTuple):
    depth: int
    block: str
    width: int
    groups: int
    has_se: bool


def summary(architecture: Architecture) -> Summary:
    return _summary(
        _Stage(stage.depth, stage.block, stage.width, stage.groups, bool(stage.se))
        for stage in (stage.canonical() for stage in architecture.stages)
    )


@lru_cache(maxsize=100_000)
def summary_of_words(words: str) -> Summary:
    """Of an architecture's words; UNKNOWN where they are none."""
    found = [STAGE.fullmatch(part) for part in words.split(" | ")]
    if None in found:
        return UNKNOWN
    stages = [match.groups("1") for match in found[1:] if match and match[2] != HEAD]
    return _summary(
        _Stage(
            int(depth),
            block,
            int(width),
            int(match[1]) if (match := GROUPS.search(rest)) else 1,
            " se" in rest,
        )
        for depth, block, width, rest in stages
    )


def _summary(given: Iterable[_Stage]) -> Summary:
    stages = list(given)
    if not stages:
        return UNKNOWN
    blocks: Counter[str] = Counter()
    for stage in reversed(stages):  # a counter keeps the order of equal counts
        blocks[stage.block] += stage.depth
    with_se = sum(stage.has_se for stage in stages)
    return Summary(
        block=blocks.most_common(1)[0][0],
        groups=max(stage.groups for stage in stages),
        se="all" if with_se == len(stages) else "some" if with_se else "none",
        depth=blocks.total(),
        width=max(stage.width for stage in stages),
    )
