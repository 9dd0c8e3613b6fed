"""What is reported of a study's trainings while they run, and to whom."""

from collections.abc import Mapping
from typing import NamedTuple, Protocol

from optuna.trial import TrialState

from search.database.row import Row
from search.database.transactions import NOTHING_MORE
from trainers.engine.result import Epoch


class Outcome(NamedTuple):
    """How a trial ended."""

    number: int
    state: TrialState
    value: float | None  # validation accuracy of the file, as read back
    row: Row
    label: str  # for people
    reported: Mapping[int, float] = (
        NOTHING_MORE  # accuracies by epoch, of the trial that this one copies
    )

    @property
    def counted(self) -> bool:
        """Whether something was trained for it."""
        return self.row.was_trained


class ProgressListener(Protocol):
    """Receives a study's progress (`search.terminal.progress`); labels name trainings."""

    def began(self, label: str, words: str, epochs: int) -> None: ...

    def epoch_done(self, label: str, epoch: Epoch) -> None: ...

    def ended(self, label: str) -> None: ...

    def trial_done(self, outcome: Outcome) -> None: ...

    def ended_so_far(self, done: int) -> None:
        """So many trials of the study have ended, whoever trained them."""

    def message(self, text: str) -> None: ...
