"""Sampling and pruning as functions of the study alone."""

import random

import optuna
import pytest

from search.pruning import Halving, make_pruner
from search.suggest import SAMPLERS, make_sampler, suggest
from space.families import FAMILIES, family

EPOCHS = 16


def decisions(pruner: optuna.pruners.BasePruner, seed: int) -> list[int]:
    """The epoch behind which each of 40 simulated trials ended."""
    rng = random.Random(seed)
    study = optuna.create_study(direction="maximize", pruner=pruner)
    ends = []
    for _ in range(40):
        trial, quality = study.ask(), rng.random()
        for epoch in range(1, EPOCHS + 1):
            trial.report(round(quality * epoch + rng.random(), 1), epoch)
            if epoch < EPOCHS and trial.should_prune():
                study.tell(trial, state=optuna.trial.TrialState.PRUNED)
                break
        else:
            study.tell(trial, 1.0)
        ends.append(epoch)
    return ends


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("first", [1, 3, 4])
@pytest.mark.parametrize("factor", [2, 3])
def test_halving_decides_as_optuna_does(seed: int, first: int, factor: int) -> None:
    reference = optuna.pruners.SuccessiveHalvingPruner(min_resource=first, reduction_factor=factor)
    ours = decisions(Halving(first, factor), seed)
    assert ours == decisions(reference, seed)
    assert len(set(ours)) > 2


def test_brackets_compete_each_for_itself() -> None:
    """Odd trials are judged later, and only against odd ones."""
    study = optuna.create_study(direction="maximize", pruner=Halving(2, 3, brackets=2))
    pruned = []
    for value in (0.9, 0.5, 0.8, 0.6, 0.95, 0.4):
        trial = study.ask()
        for epoch in range(1, 8):
            trial.report(value, epoch)
            if trial.should_prune():
                pruned.append((trial.number, epoch))
                break
        study.tell(trial, value)
    assert pruned == [(2, 2), (5, 6)]


def test_halving_gives_the_same_answer_when_asked_again() -> None:
    study = optuna.create_study(direction="maximize", pruner=Halving(2))
    for value in (0.9, 0.8, 0.1):
        trial = study.ask()
        trial.report(value, 2)
        answers = {trial.should_prune() for _ in range(3)}
        assert answers == {value < 0.9}
        study.tell(trial, value)


def test_a_copied_trial_is_no_witness() -> None:
    study = optuna.create_study(direction="maximize", pruner=Halving(1))
    for value in (0.9, 0.9, 0.9):
        trial = study.ask()
        trial.report(value, 1)
        trial.set_user_attr("duplicate_of", 0)
        study.tell(trial, value)
    trial = study.ask()
    trial.report(0.5, 1)
    assert not trial.should_prune()


@pytest.mark.parametrize("name", ["halving", "median", "hyperband", "none"])
def test_no_pruner_stops_before_a_quarter(name: str) -> None:
    assert min(decisions(make_pruner(name, EPOCHS), 0)) >= EPOCHS // 4


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_suggestions_are_the_space_s_and_hang_on_the_number_alone(name: str, sampler: str) -> None:
    space = family(name, size=64, compressed_stem=True)

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
