"""The trials of a study: which comes next, and what becomes of each in the database."""

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from search.database.leases import trial_key
from search.database.row import INFEASIBLE, Row
from search.database.storage import open_trial, stored
from search.database.transactions import Claim
from search.study.ranking import FAILED
from search.training.listener import Outcome, ProgressListener
from search.training.row import Trained, completed
from search.trials.ended import EndedTrials
from search.trials.lifecycle import Trainings
from search.trials.source import Draw, Source
from search.workers.executor import Executor, Failure, keep_busy, reason_of
from search.workers.worker import Worker
from space.solver import InfeasibleError
from trainers.engine.result import Epoch, StopTraining


class _Drawn(NamedTuple):
    """A trial whose student is known."""

    claim: Claim
    trial: optuna.Trial
    draw: Draw
    training: str  # what is trained; see `Source.training_attribute`


def run_trials(
    source: Source, worker: Worker, executor: Executor, listener: ProgressListener
) -> None:
    """Run trials until the source wants no more and those of other workers have ended.

    Unfinished trials come first, from their checkpoints. Returns early when asked to stop.
    """
    run = _Run(source, worker, executor, listener)
    keep_busy(executor, run.start_next, run.pending)


class _Run:
    def __init__(
        self, source: Source, worker: Worker, executor: Executor, listener: ProgressListener
    ) -> None:
        self.source, self.worker, self.study = source, worker, worker.study
        self.listener, self.trainings = listener, Trainings(worker, executor, listener)
        self.ended_trials = EndedTrials(worker.study, source.training_attribute)
        # What is in training here, with the trials that drew the same student meanwhile.
        self.training: dict[str, list[_Drawn]] = {}
        self.elsewhere: list[_Drawn] = []  # trials whose student another worker trains
        self.idle = 0  # trials in a row for which nothing was trained

    def start_next(self) -> bool:
        """Begin one trial, or end it without training; False where there is none to begin now."""
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
        """Whether there may be trials for this worker later, though there are none now."""
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
        trial = open_trial(self.study, claim.trial_id, self.source.sampler(claim.number))
        self.idle += 1
        try:
            draw = self.source.draw(trial)
        except UpdateFinishedTrialError:
            self.trainings.stored(trial_key(claim.number), f"trial {claim.number}", is_ours=False)
            return
        except InfeasibleError as error:
            row, label = Row(ended=INFEASIBLE, reason=str(error)), f"trial {claim.number}"
            self.store(claim, Outcome(claim.number, TrialState.FAIL, None, row, label))
            return
        drawn = _Drawn(claim, trial, draw, str(draw.row.attributes[self.source.training_attribute]))
        if drawn.training in self.training:
            self.training[drawn.training].append(drawn)
        else:
            self.settle_later(drawn)

    def settle_later(self, drawn: _Drawn) -> None:
        """End or train it: now, or when another worker has trained the same student."""
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
        draw = drawn.draw
        self.training[drawn.training] = []
        known = dict(stored(drawn.trial).intermediate_values)

        def ended(trained: Trained | Failure) -> None:
            twins = self.training.pop(drawn.training)
            self.store(drawn.claim, _outcome(drawn, trained))
            for twin in twins:
                self.settle_later(twin)

        def left() -> None:
            for twin in self.training.pop(drawn.training):
                self.worker.release(trial_key(twin.claim.number))

        self.trainings.start(
            draw.job,
            draw.label,
            draw.row.words or "",
            is_hopeless=lambda epoch: self.is_hopeless(drawn, epoch, known),
            ended=ended,
            left=left,
        )

    def is_hopeless(self, drawn: _Drawn, epoch: Epoch, known: dict[int, float]) -> bool:
        """Store what a trial reached after an epoch, and say whether it should stop.

        Args:
            known: what it had reached before, by epoch; kept up to date.
        """
        claim, draw = drawn.claim, drawn.draw
        if epoch.epoch not in known:
            if not self.worker.report(claim, epoch.epoch, epoch.accuracy):
                raise StopTraining(keep=False)
            known[epoch.epoch] = epoch.accuracy
        self.listener.epoch_done(draw.label, epoch)
        # An epoch that is trained again, from an older checkpoint, was judged the first time.
        is_new = epoch.epoch == max(known)
        is_last = epoch.epoch == draw.job.recipe.epochs
        return is_new and not is_last and self.should_stop(claim.number, known)

    def should_stop(self, number: int, own: Mapping[int, float]) -> bool:
        """Whether a trial is stopped early, judged by what the database holds of the others."""
        pruner, epoch = self.source.pruner, max(own)
        if pruner is None or not pruner.judges(number, epoch):
            return False
        others = [other for other in self.worker.reached(epoch) if other.number != number]
        return pruner.stops(number, own, others)

    def copied(self, twin: FrozenTrial, drawn: _Drawn) -> Outcome:
        """The outcome of a trial whose student was trained before."""
        whole = Row.of(self.worker.backend.whole(twin).user_attrs)
        state, value, row = self.source.copied(twin, whole, drawn.draw)
        label, reported = drawn.draw.label, twin.intermediate_values
        return Outcome(drawn.claim.number, state, value, row, label, reported)

    def store(self, claim: Claim, outcome: Outcome) -> None:
        key, value = trial_key(claim.number), outcome.value
        if outcome.state == TrialState.PRUNED and value is None:
            value = self.last_report(claim)  # as Optuna keeps it
        is_ours = self.worker.end(
            claim,
            outcome.state,
            value,
            outcome.row.attributes,
            lambda: self.trainings.publish(key),
            outcome.reported,
        )
        self.trainings.stored(key, outcome.label, is_ours)
        if is_ours:
            self.listener.trial_done(outcome)

    def last_report(self, claim: Claim) -> float | None:
        reported = self.worker.backend.storage.get_trial(claim.trial_id).intermediate_values
        return reported[max(reported)] if reported else None


def _outcome(drawn: _Drawn, trained: Trained | Failure) -> Outcome:
    number, row, label = drawn.trial.number, drawn.draw.row, drawn.draw.label
    if not isinstance(trained, Trained):
        failed = replace(row, ended=FAILED, reason=reason_of(trained))
        return Outcome(number, TrialState.FAIL, None, failed, label)
    row = completed(row, trained)
    if trained.accuracy is not None:
        return Outcome(number, TrialState.COMPLETE, trained.accuracy, row, label)
    pruned = trained.result.ended == "pruned"
    state = TrialState.PRUNED if pruned else TrialState.FAIL
    return Outcome(number, state, None, row, label)
