"""optuna.Trial -> the parameters of a space."""

import hashlib
import random
import warnings
from itertools import pairwise

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from search.database.storage import stored
from space.errors import require_one_of
from space.spaces import SearchSpace, Value
from trainers.ranges import Range, Ranges

SAMPLERS = ("tpe", "random", "gp", "nsga2")


def distributions(
    search_space: SearchSpace, ranges: Ranges | None = None
) -> dict[str, BaseDistribution]:
    """Every parameter's distribution: evenly spaced numbers are ordered, the rest are not.

    Args:
        ranges: what is drawn of the recipe, after the architecture.
    """
    found = {name: _distribution(values) for name, values in search_space.choices.items()}
    for name, wanted in ranges.parameters.items() if ranges else ():
        found[name] = _ranged(wanted) if isinstance(wanted, Range) else _distribution(wanted.labels)
    return found


def suggest(
    trial: optuna.Trial, search_space: SearchSpace, ranges: Ranges | None = None
) -> dict[str, Value]:
    """A value for every parameter of the space, and of what is drawn of the recipe.

    A trial that a killed process left has some of them already. Those that are drawn one by one
    are drawn once more for nothing, so that the others are those of a trial that was not killed.
    """
    params: dict[str, Value] = {}
    for name, distribution in distributions(search_space, ranges).items():
        if name in trial.params and name not in trial.relative_params:
            trial.study.sampler.sample_independent(trial.study, stored(trial), name, distribution)
        if isinstance(distribution, IntDistribution):
            low, high, step = distribution.low, distribution.high, distribution.step
            params[name] = trial.suggest_int(name, low, high, step=step, log=distribution.log)
        elif isinstance(distribution, FloatDistribution):
            ends = distribution.low, distribution.high
            params[name] = trial.suggest_float(name, *ends, log=distribution.log)
        else:
            assert isinstance(distribution, CategoricalDistribution)
            params[name] = trial.suggest_categorical(name, distribution.choices)  # type: ignore
    return params


def make_sampler(name: str, seed: int, number: int) -> optuna.samplers.BaseSampler:
    """The named sampler for one trial.

    Its seed depends on the study's seed and the trial's number alone, so a study that was stopped
    and resumed suggests what it would have suggested without the stop.
    """
    require_one_of("sampler", name, SAMPLERS)
    digest = hashlib.sha256(f"{seed}/{number}".encode()).digest()
    seed = random.Random(digest).randrange(2**31)
    with warnings.catch_warnings():  # Optuna warns at every call that this sampler is experimental
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return _sampler(name, seed)


def _sampler(name: str, seed: int) -> optuna.samplers.BaseSampler:
    if name == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    if name == "gp":
        return optuna.samplers.GPSampler(seed=seed)
    if name == "nsga2":
        return optuna.samplers.NSGAIISampler(seed=seed)
    return optuna.samplers.TPESampler(multivariate=True, group=True, seed=seed)


def _ranged(wanted: Range) -> BaseDistribution:
    if isinstance(wanted.low, int) and isinstance(wanted.high, int):
        return IntDistribution(wanted.low, wanted.high, log=wanted.log)
    return FloatDistribution(wanted.low, wanted.high, log=wanted.log)


def _distribution(values: tuple[Value, ...]) -> BaseDistribution:
    if all(type(value) is int for value in values):
        numbers = [int(value) for value in values]
        gaps = {after - before for before, after in pairwise(numbers)}
        if len(gaps) == 1 and min(gaps) > 0:
            return IntDistribution(numbers[0], numbers[-1], step=gaps.pop())
    return CategoricalDistribution(values)
