"""Where the students of a study come from: a sampler (`search.trials.sampled`) or a plan."""

from typing import NamedTuple, Protocol

import optuna
from optuna.trial import FrozenTrial, TrialState

from search.database.row import Row
from search.study.pruners import Pruner
from search.training.job import Job


class Draw(NamedTuple):
    """The student that a trial stands for."""

    job: Job
    row: Row  # what is known of it before it is trained
    label: str  # of its training, for people


class Copied(NamedTuple):
    """What a trial gets from an earlier one that trained the same student."""

    state: TrialState
    value: float | None
    row: Row


class Source(Protocol):
    """What is to be trained, trial by trial."""

    @property
    def training_attribute(self) -> str:
        """The field that rows share if, and only if, their training is the same."""
        ...

    @property
    def pruner(self) -> Pruner | None: ...

    def sampler(self, number: int) -> optuna.samplers.BaseSampler:
        """The sampler of one trial."""
        ...

    def most(self, study: optuna.Study, uncounted: int, idle: int) -> int:
        """How many trials may be begun in all, as far as is known now.

        Args:
            uncounted: ended trials for which nothing was trained.
            idle: trials in a row for which nothing was trained.
        """
        ...

    def draw(self, trial: optuna.Trial) -> Draw:
        """The trial's student; the same at every call.

        Raises:
            InfeasibleError: there is none within the budget.
        """
        ...

    def copied(self, twin: FrozenTrial, row: Row, draw: Draw) -> Copied:
        """What becomes of a trial whose student an earlier trial has trained.

        Args:
            row: the earlier trial's.
        """
        ...
