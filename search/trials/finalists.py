"""The best students once more, over further seeds: the best trial of many is a lucky one."""

from dataclasses import replace

import optuna
from optuna.trial import FrozenTrial

from search.database.row import Row
from search.study.ranking import (
    FAILED,
    FURTHER_SEEDS,
    Finalist,
    attribute,
    ranked,
    seed_key,
)
from search.study.spec import SearchSpec
from search.study.study import best_trials
from search.training.job import Job
from search.training.listener import ProgressListener
from search.training.row import Trained, completed
from search.trials.lifecycle import Trainings
from search.workers.executor import Executor, Failure, keep_busy, reason_of
from search.workers.worker import Worker
from trainers.engine.result import Epoch


def run_finalists(
    spec: SearchSpec, worker: Worker, count: int, executor: Executor, listener: ProgressListener
) -> list[Finalist]:
    """Train the best `count` students again over three further seeds; best mean first.

    What is done is kept with the study, so an interrupted final goes on where it stopped. The
    views stay those of the search, and with them the bank of teacher logits. Returns early when
    the worker should leave.
    """
    study, trainings = worker.study, Trainings(worker, executor, listener)

    def start_next() -> bool:
        if worker.stop_request.asked:
            return False
        for trial, seed in untrained(study, count):
            key = seed_key(trial.number, seed)
            if worker.holds(key):
                continue  # in training here
            if worker.claim(key, attribute(trial.number, seed)):
                _start(trial, seed, spec, trainings)
                return True
        return False

    def pending() -> bool:
        return not worker.stop_request.asked and bool(untrained(study, count))

    keep_busy(executor, start_next, pending)
    return finalists(study)


def untrained(study: optuna.Study, count: int) -> list[tuple[FrozenTrial, int]]:
    """The best `count` trials with the seeds that they still lack."""
    return [
        (trial, seed)
        for trial in best_trials(study, count)
        for seed in FURTHER_SEEDS
        if attribute(trial.number, seed) not in study.user_attrs
    ]


def _start(trial: FrozenTrial, seed: int, spec: SearchSpec, trainings: Trainings) -> None:
    worker, listener = trainings.worker, trainings.listener
    label, key = f"finalist {trial.number}, seed {seed}", seed_key(trial.number, seed)
    row = Row.of(trial.user_attrs)
    architecture, size = row.network, row.size
    assert architecture is not None, "a complete trial of a search has an architecture"

    def progress(epoch: Epoch) -> bool:
        listener.epoch_done(label, epoch)
        return False

    def ended(trained: Trained | Failure) -> None:
        if isinstance(trained, Trained):
            row = completed(Row(), trained)
        else:
            row = Row(ended=FAILED, reason=reason_of(trained))
            listener.message(f"{label} failed: {row.reason}; its mean leaves this seed out")
        stored_as = attribute(trial.number, seed)
        is_ours = worker.end_finalist(
            key, stored_as, row.attributes, lambda: trainings.publish(key)
        )
        trainings.stored(key, label, is_ours)

    recipe = spec.recipe_of(row.searched)
    recipe = replace(recipe, seed=recipe.seed + seed)
    format = spec.budget_of(row.searched).format
    job = Job(architecture, recipe, format, spec.taught_by, key, size=size)
    trainings.start(job, label, architecture.words, is_hopeless=progress, ended=ended)


def finalists(study: optuna.Study) -> list[Finalist]:
    """Finalists whose seeds have all ended; best mean first."""
    students = (
        (trial.number, trial.user_attrs["words"], trial.user_attrs["bytes"])
        for trial in best_trials(study, len(study.trials))
    )
    return ranked(study.user_attrs, students)
