"""Sampling and pruning as functions of the study alone."""

import random
from typing import Protocol

import optuna
import pytest
from optuna.trial import TrialState

from search.database.transactions import Reached
from search.study.pruners import Halving, Median, Pruner, make_pruner
from search.study.samplers import SAMPLERS, make_sampler, suggest
from space.spaces import FAMILIES, search_space

EPOCHS = 16


class Study(Protocol):
    """Of simulated trials."""

    def begin(self, number: int) -> None: ...

    def stops(self, number: int, epoch: int, value: float) -> bool: ...

    def complete(self, number: int, value: float) -> None: ...


class Ours:
    def __init__(self, pruner: Pruner | None) -> None:
        self.pruner = pruner
        self.told: dict[int, dict[int, float]] = {}
        self.states: dict[int, TrialState] = {}

    def begin(self, number: int) -> None:
        self.told[number], self.states[number] = {}, TrialState.RUNNING

    def stops(self, number: int, epoch: int, value: float) -> bool:
        self.told[number][epoch] = value
        if self.pruner is None or not self.pruner.judges(number, epoch):
            return False
        others = [
            Reached(other, self.states[other], values[epoch])
            for other, values in self.told.items()
            if other != number and epoch in values
        ]
        stopped = self.pruner.stops(number, self.told[number], others)
        assert stopped == self.pruner.stops(number, self.told[number], others)  # asked again
        if stopped:
            self.states[number] = TrialState.PRUNED
        return stopped

    def complete(self, number: int, value: float) -> None:
        self.told[number][EPOCHS], self.states[number] = value, TrialState.COMPLETE


class Optunas:
    def __init__(self, pruner: optuna.pruners.BasePruner) -> None:
        self.study = optuna.create_study(direction="maximize", pruner=pruner)
        self.trials: dict[int, optuna.Trial] = {}

    def begin(self, number: int) -> None:
        self.trials[number] = self.study.ask()

    def stops(self, number: int, epoch: int, value: float) -> bool:
        trial = self.trials[number]
        trial.report(value, epoch)
        stopped = trial.should_prune()
        if stopped:
            self.study.tell(trial, state=TrialState.PRUNED)
        return stopped

    def complete(self, number: int, value: float) -> None:
        self.trials[number].report(value, EPOCHS)
        self.study.tell(self.trials[number], value)


def decisions(study: Study, seed: int, at_once: int = 1) -> list[int]:
    """The epoch after which each of 40 trials ended, so many of them in training at once."""
    rng = random.Random(seed)
    qualities = [rng.random() for _ in range(40)]
    ends: dict[int, int] = {}
    running: dict[int, int] = {}  # epochs so far
    while len(ends) < len(qualities):
        while len(running) < at_once and len(running) + len(ends) < len(qualities):
            number = len(running) + len(ends)
            running[number] = 0
            study.begin(number)
        for number in sorted(running):
            running[number] = epoch = running[number] + 1
            value = round(qualities[number] * epoch + rng.random(), 1)  # with ties
            if epoch == EPOCHS:
                study.complete(number, value)
            elif not study.stops(number, epoch, value):
                continue
            ends[number] = running.pop(number)
    return [ends[number] for number in sorted(ends)]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("at_once", [1, 3])
@pytest.mark.parametrize("first", [1, 3, 4])
@pytest.mark.parametrize("factor", [2, 3])
def test_halving_decides_as_optuna_does(seed: int, at_once: int, first: int, factor: int) -> None:
    reference = optuna.pruners.SuccessiveHalvingPruner(min_resource=first, reduction_factor=factor)
    ours = decisions(Ours(Halving(first, factor)), seed, at_once)
    assert ours == decisions(Optunas(reference), seed, at_once)
    assert len(set(ours)) > 2


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("at_once", [1, 3])
@pytest.mark.parametrize("first", [1, 4])
def test_the_median_decides_as_optuna_does(seed: int, at_once: int, first: int) -> None:
    reference = optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=first)
    ours = decisions(Ours(Median(first)), seed, at_once)
    assert ours == decisions(Optunas(reference), seed, at_once)
    assert len(set(ours)) > 1


def test_brackets_compete_each_for_itself() -> None:
    """Odd trials are judged later, and only against odd ones."""
    study, pruned = Ours(Halving(2, 3, brackets=2)), []
    for number, value in enumerate((0.9, 0.5, 0.8, 0.6, 0.95, 0.4)):
        study.begin(number)
        for epoch in range(1, 8):
            if study.stops(number, epoch, value):
                pruned.append((number, epoch))
                break
    assert pruned == [(2, 2), (5, 6)]


@pytest.mark.parametrize("name", ["halving", "median", "hyperband", "none"])
def test_no_pruner_stops_before_a_quarter(name: str) -> None:
    assert min(decisions(Ours(make_pruner(name, EPOCHS)), 0)) >= EPOCHS // 4


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_suggestions_are_the_space_s_and_hang_on_the_number_alone(name: str, sampler: str) -> None:
    space = search_space(name, size=64, compressed_stem=True)

    def suggested() -> list[dict[str, object]]:
        study = optuna.create_study(direction="maximize")
        found: list[dict[str, object]] = []
        for number in range(4):
            study.sampler = make_sampler(sampler, 7, number)
            trial = study.ask()
            params = suggest(trial, space)
            space.shape(params, classes=11, channels=3, size=64)
            study.tell(trial, float(number))
            found.append(dict(params))
        return found

    first = suggested()
    assert first == suggested()
    assert len({str(params) for params in first}) > 1
