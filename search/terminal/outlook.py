"""Whether a search is worth going on with: how long ago it gained, and what more trials may add."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from search.database.goal import ACCURACY, Goal
from search.database.row import originals

FEWEST = 10  # complete trials after the random start-up; below it nothing is foretold
# Trials that Optuna's samplers draw at random before they learn: they say little of later ones.
START_UP = {"tpe": 10, "gp": 10, "nsga2": 50, "random": 0}
ENDED = ("COMPLETE", "PRUNED", "FAIL")
DEFAULT_MORE = 16  # trials, where a study does not say how many were asked for

Floats = npt.NDArray[np.float64]


class Outlook(NamedTuple):
    """What a study's trials say of further ones."""

    since: int  # trials that ended after the best so far was found
    more: int  # further trials
    gain: float | None  # that they are expected to add to the best value; None: too few to say


def outlook(
    trials: pd.DataFrame, attributes: Mapping[str, Any], goal: Goal = ACCURACY
) -> Outlook | None:
    """How a search stands; None before a trial is complete.

    Args:
        trials: columns number, state, value and duplicate_of of `search.database.table.trials`.
        attributes: of the study; they say how many trials were asked for last.
        goal: of the study.
    """
    ended = originals(trials[trials["state"].isin(ENDED)]).sort_values("number")
    worth = goal.worth(pd.to_numeric(ended["value"]).astype(float))
    worth = worth.where((ended["state"] == "COMPLETE") & np.isfinite(worth))
    if worth.isna().all():
        return None
    since = len(ended) - 1 - int(np.nanargmax(worth.to_numpy()))
    sampler = attributes.get("spec", {}).get("sampler")
    early = (ended["number"] < START_UP.get(sampler, 0)).to_numpy()
    before, after = worth[early].dropna(), worth[~early]
    more = max(1, min(asked_last(attributes), len(after)))
    gain = expected_gain(
        np.asarray(after.dropna(), np.float64),
        more / max(1, len(after)),
        before.max() if len(before) else -np.inf,
    )
    if gain is not None and goal.ours:
        gain = min(gain, 1 - float(worth.max()))
    return Outlook(since, more, gain)


def expected_gain(
    values_N: Floats, share: float, best_before: float = -np.inf, fewest: int = FEWEST
) -> float | None:
    """How much the largest of N values is expected to grow when share * N more are drawn.

    Order statistics tell without bias how large the largest of k values is, k up to N: `largest`.
    With r = 1 + share, the last step that grew the number by r brought

        d1 = E[largest of N] - E[largest of N / r],    the one before it
        d2 = E[largest of N / r] - E[largest of N / r^2],

    and the next one is foretold as d1 * min(1, d1 / d2). That is exact where the steps' gains
    change by one factor, as they do for a generalised Pareto tail (de Haan & Ferreira, "Extreme
    Value Theory", 2006, section 1.1: the mean of a maximum goes as N^shape). An accuracy has a
    greatest value, so the gains never grow: the factor is at most 1, that of an exponential tail.

    On the average of many studies it is within a third of what more trials bring, for values that
    do not depend on one another (`tests/test_outlook.py`). For one study it is no more than an
    order of magnitude: its standard deviation is nearly as large as itself. A sampler that still
    learns brings more.

    Args:
        values_N: more is better, in any order.
        share: how many more, as a share of N; at most 1.
        best_before: a value from elsewhere (a random start-up) that is to be exceeded, too. Where
            it stands above nearly all values, the gain is told too low, by up to a half.
        fewest: values below which nothing is foretold.

    Returns:
        The gain in the values' unit, 0 or more; None where there are too few values.
    """
    count, ratio = len(values_N), 1 + share
    if count < fewest:
        return None
    sorted_N = np.sort(np.maximum(values_N, best_before))
    one, two = (largest(sorted_N, count / ratio**steps) for steps in (1, 2))
    last, before = float(sorted_N[-1]) - one, one - two
    return max(0.0, last * min(1.0, last / before)) if before > 0 else 0.0


def largest(sorted_N: Floats, count: float) -> float:
    """The expected largest of `count` of the values, drawn without replacement.

    It is the U-statistic of the maximum: P(largest <= x_(i)) = C(i, count) / C(N, count), here from
    the ratio of two neighbours, (i - count) / i, which also serves where `count` is not whole.

    Args:
        sorted_N: rising.
        count: 1 to N.
    """
    place_N = np.arange(len(sorted_N), 0, -1)
    below = np.cumprod(np.maximum(0.0, (place_N - count) / place_N))
    weights_N = np.concatenate(([1.0], below[:-1])) - below  # of the values, falling
    return float(weights_N @ sorted_N[::-1])


def asked_last(attributes: Mapping[str, Any]) -> int:
    """Trials asked for last, as `search.study.study.asked_last` tells it; that one needs Optuna."""
    target = attributes.get("target_trials", DEFAULT_MORE)
    amount, _ = attributes.get("added", {}).get("target_trials", (target, 0))
    return int(amount)
