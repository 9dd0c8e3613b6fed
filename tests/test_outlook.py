"""What more trials are expected to add agrees with what they add, over many simulated studies."""

import math
from collections.abc import Callable
from itertools import combinations

import numpy as np
import numpy.typing as npt
import optuna
import pandas as pd
import pytest

from search.study.samplers import SAMPLERS, make_sampler
from search.terminal.outlook import START_UP, asked_last, expected_gain, largest, outlook

Floats = npt.NDArray[np.float64]
Draw = Callable[[np.random.Generator, int], Floats]

STUDIES = 1_500  # simulated
TOLERANCE = 1 / 3  # of the mean gain
DRAWS: dict[str, Draw] = {  # accuracies of students
    "normal": lambda rng, count: rng.normal(0.7, 0.03, count),
    "uniform": lambda rng, count: rng.uniform(0.5, 0.8, count),
    "left-skewed": lambda rng, count: rng.beta(8, 3, count),
    "exponential tail": lambda rng, count: 0.5 + rng.exponential(0.02, count),
    "near the top": lambda rng, count: 1 / (1 + np.exp(-rng.normal(2.5, 0.5, count))),
    "counts of 359 images": lambda rng, count: rng.binomial(359, rng.beta(16, 4, count)) / 359,
}


@pytest.mark.parametrize("name", DRAWS)
@pytest.mark.parametrize(("trials", "more"), [(12, 6), (20, 20), (60, 30), (120, 120)])
def test_it_agrees_with_what_more_trials_add(name: str, trials: int, more: int) -> None:
    rng = np.random.default_rng(trials)
    told, came = [], []
    for _ in range(STUDIES):
        values = DRAWS[name](rng, trials + more)
        told.append(expected_gain(values[:trials], more / trials) or 0.0)
        came.append(values.max() - values[:trials].max())
    assert np.mean(told) == pytest.approx(np.mean(came), rel=TOLERANCE)


def test_a_good_start_up_leaves_less_to_gain() -> None:
    """A trial of the start-up stands higher than most later ones: that gain is told with care."""
    rng = np.random.default_rng(0)
    told, came = [], []
    for _ in range(STUDIES):
        values, before = rng.normal(0.7, 0.03, 60), 0.76
        told.append(expected_gain(values[:30], 1.0, before) or 0.0)
        came.append(max(values.max(), before) - max(values[:30].max(), before))
    assert 0.5 < np.mean(told) / np.mean(came) < 1 + TOLERANCE


@pytest.mark.slow
def test_a_sampler_that_learns_brings_more() -> None:
    told, came = [], []
    for seed in range(25):
        values = learned(seed, 50)
        told.append(expected_gain(values[10:30], 1.0, values[:10].max()) or 0.0)
        came.append(values.max() - values[:30].max())
    assert 1.2 < np.mean(came) / np.mean(told) < 3


def learned(seed: int, trials: int) -> Floats:
    """Values of a study that TPE samples: seven parameters, and chance."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    chance, study = np.random.default_rng(seed), optuna.create_study(direction="maximize")
    for number in range(trials):
        study.sampler = make_sampler("tpe", seed, number)
        trial = study.ask()
        x = [trial.suggest_float(f"x{place}", 0, 1) for place in range(4)]
        c = [trial.suggest_categorical(f"c{place}", ["a", "b", "c"]) for place in range(3)]
        lost = 0.3 * sum((one - 0.6) ** 2 for one in x) + 0.02 * sum(one != "b" for one in c)
        study.tell(trial, 0.9 - lost + chance.normal(0, 0.01))
    return np.array([trial.value for trial in study.trials], np.float64)


def test_the_largest_of_k_is_the_mean_over_all_choices() -> None:
    values = np.array([0.1, 0.2, 0.2, 0.5, 0.9])
    for count in range(1, 6):
        every = [max(chosen) for chosen in combinations(values, count)]
        assert largest(values, count) == pytest.approx(np.mean(every))
    assert largest(values, 2) < largest(values, 2.5) < largest(values, 3)


def test_nothing_is_foretold_of_few_trials_or_of_equal_ones() -> None:
    assert expected_gain(np.arange(9.0), 1.0) is None
    assert expected_gain(np.arange(10.0), 1.0) is not None
    assert expected_gain(np.full(30, 0.5), 1.0) == 0


def trials(values: list[float], states: dict[int, str] | None = None) -> pd.DataFrame:
    """A study's table; trials are complete unless `states` says otherwise."""
    named = states or {}
    return pd.DataFrame(
        {
            "number": range(len(values)),
            "state": [named.get(place, "COMPLETE") for place in range(len(values))],
            "value": values,
            "duplicate_of": None,
        }
    )


def test_trials_since_the_last_gain() -> None:
    values = [0.5, 0.7, 0.6, 0.9, 0.7, 0.95, math.nan]
    states = {3: "PRUNED", 4: "FAIL", 5: "RUNNING", 6: "WAITING"}
    seen = outlook(trials(values, states), {})
    assert seen is not None
    assert (seen.since, seen.gain) == (3, None)  # a failed and a stopped trial were trained, too
    assert outlook(trials([0.5], {0: "RUNNING"}), {}) is None
    equal = outlook(trials([0.5, 0.5, 0.5]), {})
    assert equal is not None
    assert equal.since == 2  # to be as good is no gain


def test_the_random_start_up_is_left_out() -> None:
    """Ten bad trials before twelve of a learned kind; and stopped ones, which gain nothing."""
    rng = np.random.default_rng(1)
    values = [*rng.uniform(0.1, 0.2, 10), *rng.uniform(0.8, 0.9, 12)]
    searched = {"spec": {"space": "mixed", "sampler": "tpe"}, "target_trials": 22}
    learned = outlook(trials(values), searched)
    drawn = outlook(trials(values), searched | {"spec": {"space": "mixed", "sampler": "random"}})
    assert learned is not None
    assert drawn is not None
    assert learned.more == 12  # no more than as many again
    assert learned.gain == expected_gain(np.array(values[10:]), 1.0)
    assert learned.gain != drawn.gain
    few = outlook(trials(values, {12: "PRUNED", 13: "PRUNED", 14: "PRUNED"}), searched)
    assert few is not None
    assert few.gain is None


def test_no_more_is_gained_than_is_left() -> None:
    values = [*np.linspace(0.2, 0.9, 20), 0.999]
    seen = outlook(trials(values), {"target_trials": 21})
    assert seen is not None
    assert seen.gain == pytest.approx(0.001)


def test_how_many_were_asked_for_last() -> None:
    assert asked_last({"target_trials": 16}) == 16
    assert asked_last({"target_trials": 56, "added": {"target_trials": [40, 56]}}) == 40


def test_start_ups_are_optuna_s() -> None:
    assert START_UP.keys() == set(SAMPLERS)
    assert vars(make_sampler("tpe", 0, 0))["_n_startup_trials"] == START_UP["tpe"]
    assert vars(make_sampler("gp", 0, 0))["_n_startup_trials"] == START_UP["gp"]
    assert vars(make_sampler("nsga2", 0, 0))["_population_size"] == START_UP["nsga2"]
    assert isinstance(make_sampler("random", 0, 0), optuna.samplers.RandomSampler)
