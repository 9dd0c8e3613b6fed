"""The best students once more, over further seeds: the best trial of many is a lucky one."""

from dataclasses import replace
from typing import Any

import optuna

from search.objective import Bench, Watcher, results, train_student
from search.places import CHECKPOINT
from search.ranking import SEEDS, Finalist, attribute, ranked
from search.study import best_trials
from space.architecture import Architecture
from trainers.checkpoint import Checkpoint


def run_finalists(
    bench: Bench, study: optuna.Study, count: int, watcher: Watcher
) -> list[Finalist]:
    """Train the best `count` students again over three further seeds; best mean first.

    What is done is kept with the study, so an interrupted final goes on where it stopped. The
    views stay those of the search, and with them the bank of teacher logits.
    """
    for trial in best_trials(study, count):
        for seed in SEEDS:
            if attribute(trial.number, seed) not in study.user_attrs:
                study.set_user_attr(
                    attribute(trial.number, seed), _train(bench, trial, seed, watcher)
                )
                Checkpoint(bench.folder.path / place(trial.number, seed) / CHECKPOINT).remove()
    return finalists(study)


def finalists(study: optuna.Study) -> list[Finalist]:
    """Finalists whose seeds are all trained; best mean first."""
    words = {t.number: t.user_attrs["words"] for t in best_trials(study, len(study.trials))}
    return ranked(study.user_attrs, words)


def best_seed(finalist: Finalist) -> str:
    """Where the file of the finalist's most accurate seed lies, within the study's folder."""
    best = max(zip(finalist.accuracies, finalist.seeds, strict=True), key=lambda pair: pair[0])
    return place(finalist.number, best[1])


def place(number: int, seed: int) -> str:
    return f"trial{number:04d}/seed{seed}"


def _train(
    bench: Bench, trial: optuna.trial.FrozenTrial, seed: int, watcher: Watcher
) -> dict[str, Any]:
    row = trial.user_attrs
    architecture = Architecture.from_dict(row["architecture"])
    recipe = replace(bench.spec.recipe, seed=bench.spec.recipe.seed + seed)
    watcher.finalist_began(trial.number, seed, architecture.words)

    def report(epoch: Any) -> bool:
        watcher.epoch_done(epoch)
        return False

    return results(train_student(bench, architecture, recipe, place(trial.number, seed), report))
