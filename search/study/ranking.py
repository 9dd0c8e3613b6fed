"""Which student is the best: by accuracy, by size, and over further seeds."""

import math
from collections.abc import Iterable, Mapping
from statistics import fmean, stdev
from typing import Any, NamedTuple

from search.database.goal import order_key
from search.database.row import Row

FURTHER_SEEDS = (1, 2, 3)  # added to the recipe's seed
# How a student ended, beside the ends that `trainers.engine.result` names.
FAILED = "error"  # its training failed, which says nothing of the student
UNSTORABLE = "unstorable"  # trained, but its file cannot hold its weights


class Finalist(NamedTuple):
    """One student over several seeds."""

    number: int  # of its trial
    words: str
    accuracies: tuple[float, ...]  # of the files, one a further seed; the lucky first is left out
    seeds: tuple[int, ...]
    failed: tuple[int, ...] = ()  # seeds whose training failed: they say nothing of the student
    bytes: float = math.inf  # of its file

    @property
    def mean(self) -> float:
        return fmean(self.accuracies)

    @property
    def spread(self) -> float:
        """Standard deviation over the seeds."""
        return stdev(self.accuracies) if len(self.accuracies) > 1 else math.nan


def attribute(number: int, seed: int) -> str:
    """The study's user attribute that keeps a trial's result over one further seed."""
    return f"finalist:{number}:{seed}"


def ranked(
    attributes: Mapping[str, Any], students: Iterable[tuple[int, str, float]]
) -> list[Finalist]:
    """Trials whose further seeds have all ended, best mean first.

    Args:
        attributes: of the study.
        students: number, words and bytes of each trial.

    A seed that diverged or cannot be stored counts as accuracy 0. One whose
    training failed (memory, the device, the process) is left out, and a trial where all failed
    with it.
    """
    found = []
    for number, text, size in students:
        rows = {seed: attributes.get(attribute(number, seed)) for seed in FURTHER_SEEDS}
        ended = {seed: Row.of(row) for seed, row in rows.items() if row is not None}
        kept = {seed: row for seed, row in ended.items() if row.ended != FAILED}
        if len(ended) == len(FURTHER_SEEDS) and kept:
            accuracies = tuple(row.file_accuracy or 0.0 for row in kept.values())
            failed = tuple(seed for seed in ended if seed not in kept)
            known = size if size == size else math.inf  # NaN: of an earlier version
            found.append(Finalist(int(number), text, accuracies, tuple(kept), failed, known))
    return sorted(found, key=lambda one: order_key(one.mean, one.bytes, one.number))
