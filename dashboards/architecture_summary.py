"""What an architecture's words say of it as a whole: for tables of many trials.

A row's architecture is a page of JSON; its words are one line, and enough for this.
"""

import re
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

import pandas as pd

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


UNKNOWN = Summary("", float("nan"), "", float("nan"), float("nan"))


@lru_cache(maxsize=100_000)
def summary(words: str) -> Summary:
    """Of an architecture's words; UNKNOWN where they are none."""
    found = [STAGE.fullmatch(part) for part in words.split(" | ")]
    stages = [match.groups("1") for match in found[1:] if match and match[2] != HEAD]
    if not stages or None in found:
        return UNKNOWN
    blocks: Counter[str] = Counter()
    for depth, block, _, _ in reversed(stages):  # a counter keeps the order of equal counts
        blocks[block] += int(depth)
    with_se = sum(" se" in rest for *_, rest in stages)
    return Summary(
        block=blocks.most_common(1)[0][0],
        groups=max(int(match[1]) if (match := GROUPS.search(rest)) else 1 for *_, rest in stages),
        se="all" if with_se == len(stages) else "some" if with_se else "none",
        depth=blocks.total(),
        width=max(int(width) for _, _, width, _ in stages),
    )


def summaries(words: Iterable[object]) -> pd.DataFrame:
    """One row an architecture, columns as in `Summary`."""
    rows = [summary(text) if isinstance(text, str) else UNKNOWN for text in words]
    frame = pd.DataFrame(rows, columns=list(Summary._fields))
    return frame.astype({"groups": float, "depth": float, "width": float})
