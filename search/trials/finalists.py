"""The best students once more, over further seeds: the best trial of many is a lucky one."""

from dataclasses import replace

import optuna
from optuna.trial import FrozenTrial

from search.study.ranking import FAILED, FURTHER_SEEDS, Finalist, attribute, ranked
from search.study.spec import Spec
from search.study.study import best_trials
from search.training.context import Job
from search.training.drafts import discard, publish
from search.training.objective import Trained, checkpoint_at, results
from search.training.watcher import Watcher
from search.workers import crashes
from search.workers.executor import Crew, Failure, keep_busy, reason_of
from search.workers.worker import Worker
from space.architecture import Architecture
from trainers.engine.result import Epoch, Leave


def run_finalists(
    spec: Spec, worker: Worker, count: int, crew: Crew, watcher: Watcher
) -> list[Finalist]:
    """Train the best `count` students again over three further seeds; best mean first.

    What is done is kept with the study, so an interrupted final goes on where it stopped. The
    views stay those of the search, and with them the bank of teacher logits. Returns early when
    the worker should leave.
    """
    study = worker.study

    def start_next() -> bool:
        if worker.leaving.asked:
            return False
        for trial, seed in untrained(study, count):
            where = place(trial.number, seed)
            if worker.holds(where):
                continue  # in training here
            if worker.claim(where, attribute(trial.number, seed)):
                _start(trial, seed, spec, worker, crew, watcher)
                return True
        return False

    def pending() -> bool:
        return not worker.leaving.asked and bool(untrained(study, count))

    keep_busy(crew, start_next, pending)
    return finalists(study)


def untrained(study: optuna.Study, count: int) -> list[tuple[FrozenTrial, int]]:
    """The best `count` trials with the seeds that they still lack."""
    return [
        (trial, seed)
        for trial in best_trials(study, count)
        for seed in FURTHER_SEEDS
        if attribute(trial.number, seed) not in study.user_attrs
    ]


def _start(
    trial: FrozenTrial, seed: int, spec: Spec, worker: Worker, crew: Crew, watcher: Watcher
) -> None:
    architecture = Architecture.from_dict(trial.user_attrs["architecture"])
    label, where = f"finalist {trial.number}, seed {seed}", place(trial.number, seed)
    draft, epochs = worker.draft(where), spec.recipe.epochs
    watcher.began(label, architecture.words, epochs)

    def report(epoch: Epoch) -> bool:
        watcher.epoch_done(label, epoch)
        if not worker.holds(where):
            raise Leave(keep=False)
        if worker.leaving.asked and epoch.epoch < epochs:
            raise Leave(keep=True)
        return False

    def done(trained: Trained | Failure | Leave) -> None:
        watcher.ended(label)
        if isinstance(trained, Leave):
            worker.release(where)
            return
        if isinstance(trained, Trained):
            row = results(trained)
        else:
            row = {"file_accuracy": None, "ended": FAILED, "reason": reason_of(trained)}
            watcher.said(f"{label} failed: {row['reason']}; its mean leaves this seed out")
        key, folder = attribute(trial.number, seed), worker.folder
        if worker.end_finalist(where, key, row, lambda: publish(folder, where, draft)):
            checkpoint_at(folder, where).remove()
        else:
            discard(folder, draft)

    failure = crashes.failure(worker.crashes(where), label, watcher.said)
    if failure is not None:
        done(failure)
        return
    recipe = replace(spec.recipe, seed=spec.recipe.seed + seed)
    job = Job(architecture, recipe, spec.budget.format, spec.taught_by, where, draft)
    crew.start(job, report, done)


def finalists(study: optuna.Study) -> list[Finalist]:
    """Finalists whose seeds have all ended; best mean first."""
    students = (
        (trial.number, trial.user_attrs["words"], trial.user_attrs["bytes"])
        for trial in best_trials(study, len(study.trials))
    )
    return ranked(study.user_attrs, students)


def best_seed(finalist: Finalist) -> str:
    """Where the file of the finalist's most accurate seed lies, within the study's folder."""
    best = max(zip(finalist.accuracies, finalist.seeds, strict=True), key=lambda pair: pair[0])
    return place(finalist.number, best[1])


def place(number: int, seed: int) -> str:
    return f"trial{number:04d}/seed{seed}"
