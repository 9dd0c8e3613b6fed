"""The trials of a study: which comes next, and what becomes of each in the database."""

from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

import optuna
from optuna.trial import FrozenTrial, TrialState

from search.crew import Crew, Failure, Job, keep_busy, reason_of
from search.objective import Trained, describe, results
from search.places import Folder
from search.pruning import make_pruner
from search.ranking import FAILED
from search.spec import Spec
from search.study import counted, target
from search.suggest import make_sampler, suggest
from space.budget import InfeasibleError, Solution, solve
from trainers.checkpoint import Checkpoint
from trainers.result import Epoch, Report

DUPLICATES_IN_A_ROW = 50  # the space holds nothing new that the sampler finds


class Outcome(NamedTuple):
    """How a trial ended."""

    number: int
    state: TrialState
    value: float | None  # validation accuracy of the file, as read back
    attributes: dict[str, Any]  # the row's user attributes

    @property
    def counted(self) -> bool:
        """Whether something was trained for it."""
        return "duplicate_of" not in self.attributes and self.attributes["ended"] != "infeasible"


class Watcher(Protocol):
    """Who is told how a search goes; labels say whose training it is. See `search.progress`."""

    def began(self, label: str, words: str) -> None: ...

    def epoch_done(self, label: str, epoch: Epoch) -> None: ...

    def ended(self, label: str) -> None: ...

    def trial_done(self, row: Outcome) -> None: ...

    def said(self, text: str) -> None: ...


class _Drawn(NamedTuple):
    """A trial whose network is known."""

    trial: optuna.Trial
    described: dict[str, Any]  # the first half of its row


def run_trials(
    spec: Spec, folder: Folder, study: optuna.Study, crew: Crew, watcher: Watcher
) -> None:
    """Run trials until the study has its target; unfinished ones first, from where they stood."""
    study.pruner = make_pruner(spec.pruner, spec.recipe.epochs)
    keep_busy(crew, _Run(spec, folder, study, crew, watcher).start_next)


class _Run:
    def __init__(
        self, spec: Spec, folder: Folder, study: optuna.Study, crew: Crew, watcher: Watcher
    ) -> None:
        self.spec, self.folder, self.study = spec, folder, study
        self.crew, self.watcher = crew, watcher
        left = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        self.unfinished = [(trial.number, trial._trial_id) for trial in left]  # of dead processes
        # Networks in training, by fingerprint, with the trials that drew the same one meanwhile.
        self.training: dict[str, list[_Drawn]] = {}
        self.idle = 0  # trials in a row for which nothing was trained

    def start_next(self) -> bool:
        """Begin one trial; False where there is none to begin now."""
        if self.unfinished:
            number, identity = self.unfinished.pop(0)
            self.study.sampler = make_sampler(self.spec.sampler, self.spec.seed, number)
            self.begin(optuna.Trial(self.study, identity))
            return True
        full = counted(self.study) + len(self.training) >= target(self.study)
        if full or self.idle >= DUPLICATES_IN_A_ROW:
            return False
        number = len(self.study.get_trials(deepcopy=False))
        self.study.sampler = make_sampler(self.spec.sampler, self.spec.seed, number)
        self.begin(self.study.ask())
        return True

    def begin(self, trial: optuna.Trial) -> None:
        """Draw a network; train it unless that was done, is being done, or cannot be."""
        self.idle += 1
        try:
            solution = self.solution(trial)
        except InfeasibleError as error:
            attributes = {"ended": "infeasible", "reason": str(error)}
            self.store(trial, Outcome(trial.number, TrialState.FAIL, None, attributes))
            return
        drawn = _Drawn(trial, describe(solution, self.spec))
        fingerprint = drawn.described["fingerprint"]
        if fingerprint in self.training:
            self.training[fingerprint].append(drawn)
        elif (twin := find_twin(self.study, trial.number, fingerprint)) is not None:
            self.store(trial, _copied(twin, drawn))
        else:
            self.idle = 0
            self.train(drawn, solution)

    def solution(self, trial: optuna.Trial) -> Solution:
        spec = self.spec
        params = suggest(trial, spec.family)
        shape = spec.family.shape(
            params, classes=len(spec.classes), channels=spec.channels, size=spec.size
        )
        return solve(shape, spec.budget, spec.card, multiple=spec.multiple)

    def train(self, drawn: _Drawn, solution: Solution) -> None:
        trial, fingerprint = drawn.trial, drawn.described["fingerprint"]
        label = f"trial {trial.number}"
        self.training[fingerprint] = []
        self.watcher.began(label, solution.architecture.words)

        def done(trained: Trained | Failure) -> None:
            twins = self.training.pop(fingerprint)
            self.watcher.ended(label)
            self.store(trial, _outcome(drawn, trained))
            for twin in twins:
                first = find_twin(self.study, twin.trial.number, fingerprint)
                assert first is not None, "it was stored the moment before"
                self.store(twin.trial, _copied(first, twin))

        place = self.folder.trial(trial.number).name
        job = Job(solution.architecture, self.spec.recipe, place)
        self.crew.start(job, self.reporter(trial, label), done)

    def reporter(self, trial: optuna.Trial, label: str) -> Report:
        """Store a trial's epochs, and say whether it should stop."""
        known = set(_reported(trial))

        def report(epoch: Epoch) -> bool:
            if epoch.epoch not in known:
                trial.report(epoch.accuracy, epoch.epoch)
                known.add(epoch.epoch)
            self.watcher.epoch_done(label, epoch)
            # Epochs that are trained again for want of a checkpoint were judged the first time.
            again = epoch.epoch < max(known)
            return not again and epoch.epoch < self.spec.recipe.epochs and trial.should_prune()

        return report

    def store(self, trial: optuna.Trial, outcome: Outcome) -> None:
        for key, value in outcome.attributes.items():
            trial.set_user_attr(key, value)
        self.study.tell(trial.number, outcome.value, outcome.state)
        # Only now: a trial whose end is not yet stored goes on from its checkpoint.
        Checkpoint(self.folder.checkpoint(trial.number)).remove()
        self.watcher.trial_done(outcome)


def _outcome(drawn: _Drawn, trained: Trained | Failure) -> Outcome:
    number = drawn.trial.number
    if not isinstance(trained, Trained):
        attributes = drawn.described | {"ended": FAILED, "reason": reason_of(trained)}
        return Outcome(number, TrialState.FAIL, None, attributes)
    attributes = drawn.described | results(trained)
    if trained.accuracy is not None:
        return Outcome(number, TrialState.COMPLETE, trained.accuracy, attributes)
    pruned = trained.result.ended == "pruned"
    state = TrialState.PRUNED if pruned else TrialState.FAIL
    return Outcome(number, state, None, attributes)


def find_twin(study: optuna.Study, number: int, fingerprint: str) -> FrozenTrial | None:
    """An earlier ended trial of the same network; within a study the fidelity is the same."""
    for trial in _ended_trials(study):
        if trial.number < number and trial.user_attrs.get("fingerprint") == fingerprint:
            return trial
    return None


def _ended_trials(study: optuna.Study) -> Iterator[FrozenTrial]:
    for trial in study.get_trials(deepcopy=False):
        if trial.state.is_finished() and "duplicate_of" not in trial.user_attrs:
            yield trial


def _reported(trial: optuna.Trial) -> dict[int, float]:
    return trial.storage.get_trial(trial._trial_id).intermediate_values


def _copied(twin: FrozenTrial, drawn: _Drawn) -> Outcome:
    """The outcome of the trial that trained the same network."""
    known = _reported(drawn.trial)
    for step, accuracy in twin.intermediate_values.items():
        if step not in known:
            drawn.trial.report(accuracy, step)
    attributes = twin.user_attrs | drawn.described | {"duplicate_of": twin.number}
    value = twin.value if twin.values else None
    return Outcome(drawn.trial.number, twin.state, value, attributes)
