"""The trials of a study: which comes next, and what becomes of each in the database."""

from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

import optuna
from optuna.trial import FrozenTrial, TrialState

from search.bench import Job
from search.crew import Crew, Failure, keep_busy, reason_of
from search.objective import Trained, results
from search.places import Folder
from search.ranking import FAILED
from space.budget import InfeasibleError
from trainers.checkpoint import Checkpoint
from trainers.result import Epoch, Report


class Outcome(NamedTuple):
    """How a trial ended."""

    number: int
    state: TrialState
    value: float | None  # validation accuracy of the file, as read back
    attributes: dict[str, Any]  # the row's user attributes
    label: str  # for people

    @property
    def counted(self) -> bool:
        """Whether something was trained for it."""
        return "duplicate_of" not in self.attributes and self.attributes["ended"] != "infeasible"


class Watcher(Protocol):
    """Who is told how a study goes; labels say whose training it is. See `search.progress`."""

    def began(self, label: str, words: str, epochs: int) -> None: ...

    def epoch_done(self, label: str, epoch: Epoch) -> None: ...

    def ended(self, label: str) -> None: ...

    def trial_done(self, row: Outcome) -> None: ...

    def said(self, text: str) -> None: ...


class Draw(NamedTuple):
    """The student that a trial stands for."""

    job: Job
    described: dict[str, Any]  # the first half of its row
    label: str  # of its training, for people


class Copied(NamedTuple):
    """What a trial gets from an earlier one that trained the same student."""

    state: TrialState
    value: float | None
    attributes: dict[str, Any]  # over the earlier one's


class Source(Protocol):
    """Where the students of a study come from: a sampler (`search.sampled`) or a plan."""

    @property
    def identity(self) -> str:
        """The attribute that rows share if, and only if, their training is the same."""
        ...

    @property
    def pruner(self) -> optuna.pruners.BasePruner: ...

    def sampler(self, number: int) -> optuna.samplers.BaseSampler:
        """For one trial."""
        ...

    def wants(self, study: optuna.Study, training: int, idle: int) -> bool:
        """Whether a trial should be added.

        Args:
            training: students in training.
            idle: trials in a row for which nothing was trained.
        """
        ...

    def draw(self, trial: optuna.Trial) -> Draw:
        """The trial's student, the same however often it is asked.

        Raises:
            InfeasibleError: there is none within the budget.
        """
        ...

    def copied(self, twin: FrozenTrial, draw: Draw) -> Copied:
        """What becomes of a trial whose student an earlier trial has trained."""
        ...


class _Drawn(NamedTuple):
    """A trial whose student is known."""

    trial: optuna.Trial
    draw: Draw


def run_trials(
    source: Source, folder: Folder, study: optuna.Study, crew: Crew, watcher: Watcher
) -> None:
    """Run trials while the source wants some; unfinished ones first, from where they stood."""
    study.pruner = source.pruner
    keep_busy(crew, _Run(source, folder, study, crew, watcher).start_next)


class _Run:
    def __init__(
        self, source: Source, folder: Folder, study: optuna.Study, crew: Crew, watcher: Watcher
    ) -> None:
        self.source, self.folder, self.study = source, folder, study
        self.crew, self.watcher = crew, watcher
        left = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        self.unfinished = [(trial.number, trial._trial_id) for trial in left]  # of dead processes
        # Students in training, by identity, with the trials that drew the same one meanwhile.
        self.training: dict[str, list[_Drawn]] = {}
        self.idle = 0  # trials in a row for which nothing was trained

    def start_next(self) -> bool:
        """Begin one trial; False where there is none to begin now."""
        if self.unfinished:
            number, identity = self.unfinished.pop(0)
            self.study.sampler = self.source.sampler(number)
            self.begin(optuna.Trial(self.study, identity))
            return True
        if not self.source.wants(self.study, len(self.training), self.idle):
            return False
        number = len(self.study.get_trials(deepcopy=False))
        self.study.sampler = self.source.sampler(number)
        self.begin(self.study.ask())
        return True

    def begin(self, trial: optuna.Trial) -> None:
        """Draw a student; train it unless that was done, is being done, or cannot be."""
        self.idle += 1
        try:
            drawn = _Drawn(trial, self.source.draw(trial))
        except InfeasibleError as error:
            attributes = {"ended": "infeasible", "reason": str(error)}
            self.store(
                trial,
                Outcome(trial.number, TrialState.FAIL, None, attributes, f"trial {trial.number}"),
            )
            return
        identity = self.identity(drawn)
        if identity in self.training:
            self.training[identity].append(drawn)
        elif (twin := self.twin(drawn)) is not None:
            self.store(trial, self.copied(twin, drawn))
        else:
            self.idle = 0
            self.train(drawn)

    def identity(self, drawn: _Drawn) -> str:
        return str(drawn.draw.described[self.source.identity])

    def twin(self, drawn: _Drawn) -> FrozenTrial | None:
        return find_twin(self.study, drawn.trial.number, self.source.identity, self.identity(drawn))

    def train(self, drawn: _Drawn) -> None:
        (trial, draw), identity = drawn, self.identity(drawn)
        self.training[identity] = []
        self.watcher.began(draw.label, draw.described["words"], draw.job.recipe.epochs)

        def done(trained: Trained | Failure) -> None:
            twins = self.training.pop(identity)
            self.watcher.ended(draw.label)
            self.store(trial, _outcome(drawn, trained))
            for twin in twins:
                first = self.twin(twin)
                assert first is not None, "it was stored the moment before"
                self.store(twin.trial, self.copied(first, twin))

        self.crew.start(draw.job, self.reporter(drawn), done)

    def reporter(self, drawn: _Drawn) -> Report:
        """Store a trial's epochs, and say whether it should stop."""
        trial, draw = drawn
        known = set(_reported(trial))

        def report(epoch: Epoch) -> bool:
            if epoch.epoch not in known:
                trial.report(epoch.accuracy, epoch.epoch)
                known.add(epoch.epoch)
            self.watcher.epoch_done(draw.label, epoch)
            # Epochs that are trained again for want of a checkpoint were judged the first time.
            again = epoch.epoch < max(known)
            return not again and epoch.epoch < draw.job.recipe.epochs and trial.should_prune()

        return report

    def copied(self, twin: FrozenTrial, drawn: _Drawn) -> Outcome:
        """The outcome of a trial whose student was trained before."""
        trial, known = drawn.trial, _reported(drawn.trial)
        for step, accuracy in twin.intermediate_values.items():
            if step not in known:
                trial.report(accuracy, step)
        state, value, attributes = self.source.copied(twin, drawn.draw)
        attributes = twin.user_attrs | drawn.draw.described | attributes
        return Outcome(trial.number, state, value, attributes, drawn.draw.label)

    def store(self, trial: optuna.Trial, outcome: Outcome) -> None:
        for key, value in outcome.attributes.items():
            trial.set_user_attr(key, value)
        self.study.tell(trial.number, outcome.value, outcome.state)
        # Only now: a trial whose end is not yet stored goes on from its checkpoint.
        Checkpoint(self.folder.checkpoint(trial.number)).remove()
        self.watcher.trial_done(outcome)


def _outcome(drawn: _Drawn, trained: Trained | Failure) -> Outcome:
    number, described, label = drawn.trial.number, drawn.draw.described, drawn.draw.label
    if not isinstance(trained, Trained):
        attributes = described | {"ended": FAILED, "reason": reason_of(trained)}
        return Outcome(number, TrialState.FAIL, None, attributes, label)
    attributes = described | results(trained)
    if trained.accuracy is not None:
        return Outcome(number, TrialState.COMPLETE, trained.accuracy, attributes, label)
    pruned = trained.result.ended == "pruned"
    state = TrialState.PRUNED if pruned else TrialState.FAIL
    return Outcome(number, state, None, attributes, label)


def find_twin(study: optuna.Study, number: int, attribute: str, value: str) -> FrozenTrial | None:
    """An earlier ended trial whose row has that value of an attribute."""
    for trial in _ended_trials(study):
        if trial.number < number and trial.user_attrs.get(attribute) == value:
            return trial
    return None


def _ended_trials(study: optuna.Study) -> Iterator[FrozenTrial]:
    for trial in study.get_trials(deepcopy=False):
        if trial.state.is_finished() and "duplicate_of" not in trial.user_attrs:
            yield trial


def _reported(trial: optuna.Trial) -> dict[int, float]:
    return trial.storage.get_trial(trial._trial_id).intermediate_values
