"""The best students once more, over further seeds: the best trial of many is a lucky one."""

import math
from dataclasses import replace
from statistics import fmean, stdev
from typing import Any, NamedTuple

import optuna

from search.objective import Bench, Watcher, results, train_student
from search.study import best_trials
from space.architecture import Architecture
from trainers.checkpoint import Checkpoint

SEEDS = (1, 2, 3)  # added to the recipe's own
ATTRIBUTE = "finalist"


class Finalist(NamedTuple):
    """One student over several seeds."""

    number: int  # of its trial
    words: str
    accuracies: tuple[float, ...]  # of the files, one a further seed; the lucky first is left out
    seeds: tuple[int, ...]

    @property
    def mean(self) -> float:
        return fmean(self.accuracies)

    @property
    def spread(self) -> float:
        """Standard deviation over the seeds."""
        return stdev(self.accuracies) if len(self.accuracies) > 1 else math.nan


def run_finalists(
    bench: Bench, study: optuna.Study, count: int, watcher: Watcher
) -> list[Finalist]:
    """Train the best `count` students again over three further seeds; best mean first.

    What is done is kept with the study, so an interrupted final goes on where it stopped. The
    views stay those of the search, and with them the bank of teacher logits.
    """
    for trial in best_trials(study, count):
        for seed in SEEDS:
            if _key(trial.number, seed) not in study.user_attrs:
                study.set_user_attr(_key(trial.number, seed), _train(bench, trial, seed, watcher))
                Checkpoint(bench.folder.path / place(trial.number, seed) / "checkpoint.pt").remove()
    return finalists(study)


def finalists(study: optuna.Study) -> list[Finalist]:
    """Finalists whose seeds are all trained; best mean first."""
    return ranked(study.user_attrs, best_trials(study, len(study.trials)))


def ranked(attributes: dict[str, Any], trials: list[optuna.trial.FrozenTrial]) -> list[Finalist]:
    found = []
    for trial in trials:
        rows = [attributes.get(_key(trial.number, seed)) for seed in SEEDS]
        if all(rows):
            # A seed that diverged counts as what it is worth: nothing.
            accuracies = tuple(row["file_accuracy"] or 0.0 for row in rows if row)
            found.append(Finalist(trial.number, trial.user_attrs["words"], accuracies, SEEDS))
    return sorted(found, key=lambda finalist: -finalist.mean)


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


def _key(number: int, seed: int) -> str:
    return f"{ATTRIBUTE}:{number}:{seed}"
