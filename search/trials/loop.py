"""The trials of a study: which comes next, and what becomes of each in the database."""

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from search.database.leases import trial_key
from search.database.transactions import Claim
from search.study.pruners import Pruner
from search.study.ranking import FAILED
from search.training.context import Job
from search.training.drafts import discard, publish
from search.training.listener import Outcome, ProgressListener
from search.training.objective import Trained, checkpoint_at, results
from search.trials.ended import EndedTrials
from search.workers import crashes
from search.workers.executor import Executor, Failure, keep_busy, reason_of
from search.workers.worker import Worker
from space.solver import InfeasibleError
from trainers.engine.result import Epoch, Report, StopTraining


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
    """Where the students of a study come from: a sampler (`search.trials.sampled`) or a plan."""

    @property
    def training_attribute(self) -> str:
        """The attribute that rows share if, and only if, their training is the same."""
        ...

    @property
    def pruner(self) -> Pruner | None: ...

    def sampler(self, number: int) -> optuna.samplers.BaseSampler:
        """For one trial."""
        ...

    def most(self, study: optuna.Study, uncounted: int, idle: int) -> int:
        """Trials that may be begun in all, as far as is known now: never more than are wanted.

        Args:
            uncounted: ended trials for which nothing was trained.
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

    claim: Claim
    trial: optuna.Trial
    draw: Draw
    training: str  # its identity


def run_trials(
    source: Source, worker: Worker, executor: Executor, listener: ProgressListener
) -> None:
    """Run trials while the source wants some, and until the study's other workers' have ended.

    Unfinished ones come first, from where they stood. Returns early when the worker should leave.
    """
    run = _Run(source, worker, executor, listener)
    keep_busy(executor, run.start_next, run.pending)


class _Run:
    def __init__(
        self, source: Source, worker: Worker, executor: Executor, listener: ProgressListener
    ) -> None:
        self.source, self.worker, self.study = source, worker, worker.study
        self.executor, self.listener = executor, listener
        self.ended_trials = EndedTrials(worker.study, source.training_attribute)
        # Students in training, by identity, with the trials that drew the same one meanwhile.
        self.training: dict[str, list[_Drawn]] = {}
        self.elsewhere: list[_Drawn] = []  # trials whose student another worker trains
        self.idle = 0  # trials in a row for which nothing was trained

    def start_next(self) -> bool:
        """Begin one trial, or settle it; False where there is none to begin now."""
        if self.worker.stop_request.asked:
            return False
        for drawn in self.elsewhere:
            if self.announced(drawn):
                self.elsewhere.remove(drawn)
                self.settle_or_train(drawn)
                return True
        self.listener.ended_so_far(self.ended_trials.look().counted)
        claim = self.worker.take_over() or self.worker.add(self.most())
        if claim is not None:
            self.begin(claim)
        return claim is not None

    def most(self) -> int:
        return self.source.most(self.study, self.ended_trials.uncounted, self.idle)

    def pending(self) -> bool:
        """Whether trials may be left for this worker though it has none now."""
        if self.worker.stop_request.asked:
            for drawn in self.elsewhere:
                self.worker.release(trial_key(drawn.claim.number))
            return False
        if self.elsewhere or self.worker.busy_elsewhere:
            return True
        ended_trials = self.ended_trials.look()
        return ended_trials.counted + ended_trials.uncounted < self.most()

    def begin(self, claim: Claim) -> None:
        """Draw a student; train it unless that was done, is being done, or cannot be."""
        self.study.get_trials(deepcopy=False)  # Optuna must have seen a trial that it fills
        self.study._thread_local.cached_all_trials = None  # as in `ask`: samplers keep an old list
        self.study.sampler = self.source.sampler(claim.number)
        trial = optuna.Trial(self.study, claim.trial_id)
        self.idle += 1
        try:
            draw = self.source.draw(trial)
        except UpdateFinishedTrialError:
            self.lost(trial_key(claim.number), f"trial {claim.number}")
            return
        except InfeasibleError as error:
            attributes = {"ended": "infeasible", "reason": str(error)}
            label = f"trial {claim.number}"
            self.store(claim, Outcome(claim.number, TrialState.FAIL, None, attributes, label))
            return
        drawn = _Drawn(claim, trial, draw, str(draw.described[self.source.training_attribute]))
        if drawn.training in self.training:
            self.training[drawn.training].append(drawn)
        else:
            self.settle_later(drawn)

    def settle_later(self, drawn: _Drawn) -> None:
        """Settle or train it, now or when the worker is done that trains the same student."""
        if self.announced(drawn):
            self.settle_or_train(drawn)
        else:
            self.elsewhere.append(drawn)

    def announced(self, drawn: _Drawn) -> bool:
        return self.worker.announce(trial_key(drawn.claim.number), drawn.training)

    def settle_or_train(self, drawn: _Drawn) -> None:
        twin = self.twin(drawn)
        if twin is not None:
            self.store(drawn.claim, self.copied(twin, drawn))
        else:
            self.idle = 0
            self.train(drawn)

    def twin(self, drawn: _Drawn) -> FrozenTrial | None:
        return self.ended_trials.twin(drawn.claim.number, drawn.training)

    def train(self, drawn: _Drawn) -> None:
        claim, draw, key = drawn.claim, drawn.draw, trial_key(drawn.claim.number)
        self.training[drawn.training] = []
        self.listener.began(draw.label, draw.described["words"], draw.job.recipe.epochs)

        def done(trained: Trained | Failure | StopTraining) -> None:
            twins = self.training.pop(drawn.training)
            self.listener.ended(draw.label)
            if isinstance(trained, StopTraining):
                for left in (drawn, *twins):
                    self.worker.release(trial_key(left.claim.number))
                return
            self.store(claim, _outcome(drawn, trained))
            for twin in twins:
                self.settle_later(twin)

        failure = crashes.failure(self.worker.crashes(key), draw.label, self.listener.message)
        if failure is not None:
            done(failure)
            return
        draft = self.worker.draft(key)
        self.executor.start(draw.job._replace(draft=draft), self.reporter(drawn), done)

    def reporter(self, drawn: _Drawn) -> Report:
        """Store a trial's epochs, and say whether it should stop."""
        claim, draw = drawn.claim, drawn.draw
        epochs, key = draw.job.recipe.epochs, trial_key(claim.number)
        known = dict(_reported(drawn.trial))

        def report(epoch: Epoch) -> bool:
            if not self.worker.holds(key):
                raise StopTraining(keep=False)
            if epoch.epoch not in known:
                if not self.worker.report(claim, epoch.epoch, epoch.accuracy):
                    raise StopTraining(keep=False)
                known[epoch.epoch] = epoch.accuracy
            self.listener.epoch_done(draw.label, epoch)
            # Epochs that are trained again for want of a checkpoint were judged the first time.
            again = epoch.epoch < max(known)
            if not again and epoch.epoch < epochs and self.should_stop(claim.number, known):
                return True
            if self.worker.stop_request.asked and epoch.epoch < epochs:
                raise StopTraining(keep=True)
            return False

        return report

    def should_stop(self, number: int, own: Mapping[int, float]) -> bool:
        """Whether a trial is stopped early, judged by what the database holds of the others."""
        pruner, epoch = self.source.pruner, max(own)
        if pruner is None or not pruner.judges(number, epoch):
            return False
        others = [other for other in self.worker.reached(epoch) if other.number != number]
        return pruner.stops(number, own, others)

    def copied(self, twin: FrozenTrial, drawn: _Drawn) -> Outcome:
        """The outcome of a trial whose student was trained before."""
        state, value, attributes = self.source.copied(twin, drawn.draw)
        whole = self.worker.storage.get_trial(twin._trial_id).user_attrs
        attributes = whole | drawn.draw.described | attributes
        label, reported = drawn.draw.label, twin.intermediate_values
        return Outcome(drawn.claim.number, state, value, attributes, label, reported)

    def store(self, claim: Claim, outcome: Outcome) -> None:
        key, value = trial_key(claim.number), outcome.value
        if outcome.state == TrialState.PRUNED and value is None:
            value = self.last_report(claim)  # as Optuna keeps it
        worker = self.worker
        kept = worker.end(
            claim,
            outcome.state,
            value,
            outcome.attributes,
            lambda: publish(worker.folder, key, worker.draft(key)),
            outcome.reported,
        )
        if not kept:
            self.lost(key, outcome.label)
            return
        # Only now: a trial whose end is not yet stored goes on from its checkpoint.
        checkpoint_at(worker.folder, key).remove()
        self.listener.trial_done(outcome)

    def lost(self, key: str, label: str) -> None:
        """Drop what another worker has taken over, because this process was stopped for long."""
        self.worker.release(key)
        discard(self.worker.folder, self.worker.draft(key))
        self.listener.message(f"{label} was taken over by another worker: dropped here")

    def last_report(self, claim: Claim) -> float | None:
        reported = self.study._storage.get_trial(claim.trial_id).intermediate_values
        return reported[max(reported)] if reported else None


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


def _reported(trial: optuna.Trial) -> dict[int, float]:
    return trial.storage.get_trial(trial._trial_id).intermediate_values
