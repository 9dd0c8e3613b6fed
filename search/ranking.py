"""Finalists and their order: what further seeds say of the best students."""

import math
from collections.abc import Mapping
from statistics import fmean, stdev
from typing import Any, NamedTuple

SEEDS = (1, 2, 3)  # added to the recipe's own


class Finalist(NamedTuple):
    """One student over several seeds."""

    number: int  # of its trial
    words: str
    accuracies: tuple[float, ...]  # of the files, one a further seed; the lucky first is left out
    seeds: tuple[int, ...]

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


def ranked(attributes: Mapping[str, Any], words: Mapping[int, str]) -> list[Finalist]:
    """Trials whose further seeds are all trained, best mean first.

    A seed that diverged counts as what it is worth: nothing.
    """
    found = []
    for number, text in words.items():
        rows = [attributes.get(attribute(number, seed)) for seed in SEEDS]
        done = [row for row in rows if row is not None]
        if len(done) == len(SEEDS):
            accuracies = tuple(row["file_accuracy"] or 0.0 for row in done)
            found.append(Finalist(number, text, accuracies, SEEDS))
    return sorted(found, key=lambda finalist: -finalist.mean)
