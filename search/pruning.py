"""When to stop a trial early."""

import optuna
from optuna.trial import FrozenTrial

from space.errors import require_one_of

PRUNERS = ("halving", "median", "hyperband", "none")
REDUCTION = 2  # of the trials at a rung, the best one in this many goes on


class Halving(optuna.pruners.BasePruner):
    """Asynchronous successive halving (Li et al., arXiv:1810.05934), as a pure function.

    At rung k, `first` * 2^k epochs, a trial goes on if it is in the best half of all trials that
    came so far. Optuna's own pruner gives the same answers, but keeps rungs as attributes of the
    trial: one killed between that record and its end would be let through when it is resumed.
    """

    def __init__(self, first: int) -> None:
        self.first = first  # epochs

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        """Whether `trial`, which reports after every epoch, should stop here."""
        step = trial.last_step
        if step is None or not self.is_rung(step):
            return False
        value = trial.intermediate_values[step]
        values = [value]
        for other in study.get_trials(deepcopy=False):
            # A copy of an earlier trial was not trained: it is no second witness.
            trained = other.number != trial.number and "duplicate_of" not in other.user_attrs
            if trained and step in other.intermediate_values:
                values.append(other.intermediate_values[step])
        kept = max(1, len(values) // REDUCTION)
        return value < sorted(values, reverse=True)[kept - 1]

    def is_rung(self, step: int) -> bool:
        times, rest = divmod(step, self.first)
        return rest == 0 and times > 0 and times & (times - 1) == 0  # a power of two


def make_pruner(name: str, epochs: int) -> optuna.pruners.BasePruner:
    """The named pruner; none of them stops a trial before a quarter of its epochs.

    Earlier, the rank of a network says next to nothing of its final rank.
    """
    require_one_of("pruner", name, PRUNERS)
    quarter = -(-epochs // 4)
    if name == "median":
        return optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=quarter)
    if name == "hyperband":
        return optuna.pruners.HyperbandPruner(min_resource=quarter, max_resource=epochs)
    return Halving(quarter) if name == "halving" else optuna.pruners.NopPruner()
