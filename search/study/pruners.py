"""When to stop a trial early: rules over what all trials of a study had reached at an epoch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Protocol

from optuna.trial import TrialState

from search.database.transactions import Reached
from space.errors import require_one_of

PRUNERS = ("halving", "median", "hyperband", "none")
STARTUP_TRIALS = 5  # complete trials before the median says anything


class Pruner(Protocol):
    """A pure function of the reported accuracies, so a resumed trial gets the same answer."""

    def judges(self, number: int, epoch: int) -> bool:
        """Whether it may stop trial `number` after this epoch."""
        ...

    def stops(self, number: int, own: Mapping[int, float], others: Sequence[Reached]) -> bool:
        """Whether trial `number` should stop after an epoch that it `judges`.

        Args:
            own: the trial's accuracy after each epoch up to this one.
            others: what the study's other trials had reached at this epoch.
        """
        ...


@dataclass(frozen=True, slots=True)
class Halving:
    """Asynchronous successive halving (Li et al., arXiv:1810.05934).

    At rung k, `first` * `factor`^k epochs, a trial goes on if it is in the best 1 / `factor` of
    all trials that came so far. With several brackets (Hyperband) trials fall into them in turn
    and compete within them; bracket b has no rungs before k = b.

    With one bracket Optuna's own pruner gives the same answers (its Hyperband draws brackets by a
    hash instead of in turn), but it keeps rungs as attributes of the trial: one killed between
    that record and its end would be let through when it is resumed.
    """

    first: int  # epochs
    factor: int = 2
    brackets: int = 1

    def judges(self, number: int, epoch: int) -> bool:
        rung: int = self.first * self.factor ** (number % self.brackets)
        while rung < epoch:
            rung *= self.factor
        return rung == epoch

    def stops(self, number: int, own: Mapping[int, float], others: Sequence[Reached]) -> bool:
        value, bracket = own[max(own)], number % self.brackets
        rivals = [other.value for other in others if other.number % self.brackets == bracket]
        values = sorted([value, *rivals], reverse=True)
        kept = max(1, len(values) // self.factor)
        return value < values[kept - 1]


@dataclass(frozen=True, slots=True)
class Median:
    """Stop a trial whose best epoch is below the median of the complete trials at this epoch.

    The median stopping rule (Golovin et al., "Google Vizier", KDD 2017), as in Optuna's
    `MedianPruner`, which needs a whole study where this needs one query.
    """

    first: int  # epochs before which nothing is stopped

    def judges(self, number: int, epoch: int) -> bool:
        return epoch >= self.first

    def stops(self, number: int, own: Mapping[int, float], others: Sequence[Reached]) -> bool:
        complete = [other.value for other in others if other.state == TrialState.COMPLETE]
        return len(complete) >= STARTUP_TRIALS and max(own.values()) < median(complete)


def make_pruner(name: str, epochs: int) -> Pruner | None:
    """The named pruner; none of them stops a trial before a quarter of its epochs.

    Earlier, the rank of a network says next to nothing of its final rank.
    """
    require_one_of("pruner", name, PRUNERS)
    quarter = -(-epochs // 4)
    if name == "median":
        return Median(quarter)
    if name == "hyperband":
        return Halving(quarter, factor=3, brackets=2)  # from a quarter, and from three quarters
    return Halving(quarter) if name == "halving" else None
