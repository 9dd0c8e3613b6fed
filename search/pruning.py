"""When to stop a trial early."""

import optuna
from optuna.trial import FrozenTrial

from space.errors import require_one_of

PRUNERS = ("halving", "median", "hyperband", "none")


class Halving(optuna.pruners.BasePruner):
    """Asynchronous successive halving (Li et al., arXiv:1810.05934), as a pure function.

    At rung k, `first` * `factor`^k epochs, a trial goes on if it is in the best 1 / `factor` of
    all trials that came so far. With several brackets (Hyperband) trials fall into them in turn
    and compete within them; bracket b has no rungs before k = b.

    With one bracket Optuna's own pruner gives the same answers (its Hyperband draws brackets by a
    hash instead of in turn), but it keeps rungs as attributes of the trial: one killed between
    that record and its end would be let through when it is resumed.
    """

    def __init__(self, first: int, factor: int = 2, brackets: int = 1) -> None:
        self.first, self.factor, self.brackets = first, factor, brackets  # first: epochs

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        """Whether `trial`, which reports after every epoch, should stop here."""
        step, bracket = trial.last_step, trial.number % self.brackets
        if step is None or not self.is_rung(step, bracket):
            return False
        value = trial.intermediate_values[step]
        values = [value]
        for other in study.get_trials(deepcopy=False):
            # A copy of an earlier trial was not trained: it is no second witness.
            trained = other.number != trial.number and "duplicate_of" not in other.user_attrs
            rival = trained and other.number % self.brackets == bracket
            if rival and step in other.intermediate_values:
                values.append(other.intermediate_values[step])
        kept = max(1, len(values) // self.factor)
        return value < sorted(values, reverse=True)[kept - 1]

    def is_rung(self, step: int, bracket: int = 0) -> bool:
        rung: int = self.first * self.factor**bracket
        while rung < step:
            rung *= self.factor
        return rung == step


def make_pruner(name: str, epochs: int) -> optuna.pruners.BasePruner:
    """The named pruner; none of them stops a trial before a quarter of its epochs.

    Earlier, the rank of a network says next to nothing of its final rank.
    """
    require_one_of("pruner", name, PRUNERS)
    quarter = -(-epochs // 4)
    if name == "median":
        return optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=quarter)
    if name == "hyperband":
        return Halving(quarter, factor=3, brackets=2)  # from a quarter, and from three quarters
    return Halving(quarter) if name == "halving" else optuna.pruners.NopPruner()
