"""What is told of a study's trainings while they go on, and to whom."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple, Protocol

from optuna.trial import TrialState

from search.database.row import Row
from trainers.engine.result import Epoch

NOTHING_MORE: Mapping[int, float] = MappingProxyType({})


class Outcome(NamedTuple):
    """How a trial ended."""

    number: int
    state: TrialState
    value: float | None  # validation accuracy of the file, as read back
    row: Row
    label: str  # for people
    reported: Mapping[int, float] = NOTHING_MORE  # of a copy: its original's accuracies by epoch

    @property
    def counted(self) -> bool:
        """Whether something was trained for it."""
        return self.row.was_trained


class ProgressListener(Protocol):
    """Who is told how a study goes (`search.terminal.progress`); labels say whose training."""

    def began(self, label: str, words: str, epochs: int) -> None: ...

    def epoch_done(self, label: str, epoch: Epoch) -> None: ...

    def ended(self, label: str) -> None: ...

    def trial_done(self, outcome: Outcome) -> None: ...

    def ended_so_far(self, done: int) -> None:
        """So many trials of the study have ended, whoever trained them."""

    def message(self, text: str) -> None: ...
