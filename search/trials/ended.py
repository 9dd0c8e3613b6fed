"""Counts of ended trials, kept up to date: each is read once, however many there are."""

import optuna
from optuna.trial import FrozenTrial

from search.database.row import is_copy
from search.study.study import is_counted


class EndedTrials:
    """Counts of a study's ended trials, and which students they trained."""

    def __init__(self, study: optuna.Study, training_attribute: str) -> None:
        """Take a study.

        Args:
            training_attribute: the one that rows share if, and only if, their training is the
                same.
        """
        self.study, self.training_attribute = study, training_attribute
        self.counted, self.uncounted = 0, 0  # ended trials with a training, and without
        self.trained: dict[str, FrozenTrial] = {}  # by what was trained, the first trial
        self.seen, self.open = 0, set[int]()  # trials looked at, and those that had not ended then

    def look(self) -> "EndedTrials":
        """Bring it up to date."""
        trials = self.study.get_trials(deepcopy=False)
        by_number = trials if _are_numbered(trials) else {trial.number: trial for trial in trials}
        for number in sorted(self.open):
            self._meet(by_number[number])
        for trial in trials[self.seen :]:
            self._meet(trial)
        self.seen = len(trials)
        return self

    def twin(self, number: int, training: str) -> FrozenTrial | None:
        """Another ended trial that trained the same student."""
        found = self.look().trained.get(training)
        return None if found is None or found.number == number else found

    def _meet(self, trial: FrozenTrial) -> None:
        if not trial.state.is_finished():
            self.open.add(trial.number)
            return
        self.open.discard(trial.number)
        counts = is_counted(trial)
        self.counted += counts
        self.uncounted += not counts
        training = trial.user_attrs.get(self.training_attribute)
        if training is not None and not is_copy(trial.user_attrs):
            self.trained.setdefault(training, trial)


def _are_numbered(trials: list[FrozenTrial]) -> bool:
    """Whether trials are numbered 0, 1, 2 ...; another program may have left gaps."""
    return not trials or trials[-1].number == len(trials) - 1
