"""The best students once more, over further seeds: the best trial of many is a lucky one."""

from dataclasses import replace

import optuna
from optuna.trial import FrozenTrial

from search.bench import Job
from search.crew import Crew, Failure, keep_busy, reason_of
from search.objective import Trained, results
from search.places import CHECKPOINT, Folder
from search.ranking import FAILED, SEEDS, Finalist, attribute, ranked
from search.spec import Spec
from search.study import best_trials
from search.trials import Watcher
from space.architecture import Architecture
from trainers.checkpoint import Checkpoint
from trainers.result import Epoch


def run_finalists(
    spec: Spec, folder: Folder, study: optuna.Study, count: int, crew: Crew, watcher: Watcher
) -> list[Finalist]:
    """Train the best `count` students again over three further seeds; best mean first.

    What is done is kept with the study, so an interrupted final goes on where it stopped. The
    views stay those of the search, and with them the bank of teacher logits.
    """
    left = iter(untrained(study, count))

    def start_next() -> bool:
        found = next(left, None)
        if found is not None:
            _start(*found, spec, folder, study, crew, watcher)
        return found is not None

    keep_busy(crew, start_next)
    return finalists(study)


def untrained(study: optuna.Study, count: int) -> list[tuple[FrozenTrial, int]]:
    """The best `count` trials with the seeds that they still lack."""
    return [
        (trial, seed)
        for trial in best_trials(study, count)
        for seed in SEEDS
        if attribute(trial.number, seed) not in study.user_attrs
    ]


def _start(
    trial: FrozenTrial,
    seed: int,
    spec: Spec,
    folder: Folder,
    study: optuna.Study,
    crew: Crew,
    watcher: Watcher,
) -> None:
    architecture = Architecture.from_dict(trial.user_attrs["architecture"])
    label, where = f"finalist {trial.number}, seed {seed}", place(trial.number, seed)
    watcher.began(label, architecture.words, spec.recipe.epochs)

    def report(epoch: Epoch) -> bool:
        watcher.epoch_done(label, epoch)
        return False

    def done(trained: Trained | Failure) -> None:
        watcher.ended(label)
        if isinstance(trained, Trained):
            row = results(trained)
        else:
            row = {"file_accuracy": None, "ended": FAILED, "reason": reason_of(trained)}
            watcher.said(f"{label} failed: {row['reason']}; its mean leaves this seed out")
        study.set_user_attr(attribute(trial.number, seed), row)
        Checkpoint(folder.path / where / CHECKPOINT).remove()

    recipe = replace(spec.recipe, seed=spec.recipe.seed + seed)
    job = Job(architecture, recipe, spec.budget.format, spec.taught_by, where)
    crew.start(job, report, done)


def finalists(study: optuna.Study) -> list[Finalist]:
    """Finalists whose seeds have all ended; best mean first."""
    words = {t.number: t.user_attrs["words"] for t in best_trials(study, len(study.trials))}
    return ranked(study.user_attrs, words)


def best_seed(finalist: Finalist) -> str:
    """Where the file of the finalist's most accurate seed lies, within the study's folder."""
    best = max(zip(finalist.accuracies, finalist.seeds, strict=True), key=lambda pair: pair[0])
    return place(finalist.number, best[1])


def place(number: int, seed: int) -> str:
    return f"trial{number:04d}/seed{seed}"
