"""What a few differences paired by seed may say: intervals, tests, and what they cannot show.

Accuracies are shares, 0 to 1; so are differences, intervals and standard deviations. How often
these intervals hold, and how often a verdict is a false alarm: `benchmarks/inference.py`.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import special, stats

CONFIDENCE = 0.95
POWER = 0.8
RESAMPLES = 9_999
BOOTSTRAP_SEED = 0  # the same rows give the same table

BASELINE, BETTER, WORSE = "baseline", "better", "worse"
NOT_SHOWN, TOO_FEW = "no difference shown", "too few seeds"

Floats = npt.NDArray[np.float64]


class Interval(NamedTuple):
    low: float
    high: float


UNKNOWN = Interval(math.nan, math.nan)


class Difference(NamedTuple):
    """What one sample of paired differences says by itself."""

    pairs: int
    difference: float  # the mean
    difference_sd: float  # never below what rounding alone gives
    difference_low: float  # Student's t interval
    difference_high: float
    p: float  # paired t test, both sides


def difference_of(differences_N: Floats, step: float) -> Difference:
    """Student's paired t, which needs two pairs; what it cannot say is NaN.

    Args:
        step: what the accuracies are multiples of.
    """
    pairs = len(differences_N)
    mean = float(differences_N.mean()) if pairs else math.nan
    if pairs < 2:
        return Difference(pairs, mean, math.nan, *UNKNOWN, math.nan)
    # Accuracies move in steps, so a few equal differences come by chance: they would make a
    # deviation of 0 and any difference certain. Rounding to a step has variance step^2 / 12, as
    # in Sheppard's correction; a difference has it twice.
    sd = max(float(differences_N.std(ddof=1)), step / math.sqrt(6))
    error = sd / math.sqrt(pairs)
    low, high = stats.t.interval(CONFIDENCE, pairs - 1, loc=mean, scale=error)
    p = 2 * stats.t.sf(abs(mean) / error, pairs - 1)
    return Difference(pairs, mean, sd, float(low), float(high), float(p))


def detectable(pairs: int, sd: float, comparisons: int = 1) -> float:
    """The smallest true difference that a paired t test shows with a power of POWER.

    The test is at Bonferroni's level, which every comparison of Holm's procedure exceeds or meets.
    The noncentrality of Student's t is solved for directly: where pairs are few and comparisons
    several, statsmodels' `TTestPower.solve_power` silently answers another question (with 3 pairs
    and 3 comparisons its effect has a power of 0.61).

    Args:
        sd: of the differences.
    """
    if pairs < 2:
        return math.nan
    critical = stats.t.isf((1 - CONFIDENCE) / (2 * comparisons), pairs - 1)
    return float(special.nctdtrinc(pairs - 1, 1 - POWER, critical)) * sd / math.sqrt(pairs)


def holm(p_K: Floats) -> Floats:
    """Holm's adjusted p-values (1979); NaN is no test, and stays.

    As statsmodels' `multipletests`, which collects garbage at every call: that takes a second in
    a process that has loaded torch.
    """
    tested_K, adjusted_K = np.isfinite(p_K), p_K.copy()
    p_T = p_K[tested_K]
    order_T = np.argsort(p_T)
    steps_T = np.arange(len(p_T), 0, -1) * p_T[order_T]
    p_T[order_T] = np.minimum(np.maximum.accumulate(steps_T), 1)
    adjusted_K[tested_K] = p_T
    return adjusted_K


def judged(samples: Sequence[Floats], steps: float | Sequence[float]) -> pd.DataFrame:
    """A family of comparisons, one row a sample; the verdicts are right together.

    Args:
        samples: paired differences to the baseline; an empty one is no comparison.
        steps: what the accuracies are multiples of, of each sample or of all.

    Returns:
        The columns of `Difference`, then p_holm, detectable and verdict.
    """
    each = np.broadcast_to(steps, len(samples))
    rows = [difference_of(sample, float(step)) for sample, step in zip(samples, each, strict=True)]
    frame = pd.DataFrame(rows, columns=list(Difference._fields))
    frame["p_holm"] = holm(frame["p"].to_numpy(dtype=float))
    comparisons = int(frame["p"].notna().sum())
    frame["detectable"] = [detectable(row.pairs, row.difference_sd, comparisons) for row in rows]
    frame["verdict"] = [
        verdict(row.difference, p) for row, p in zip(rows, frame["p_holm"], strict=True)
    ]
    return frame


def verdict(difference: float, p_holm: float) -> str:
    if math.isnan(p_holm):
        return TOO_FEW
    if p_holm >= 1 - CONFIDENCE:
        return NOT_SHOWN
    return BETTER if difference > 0 else WORSE


def bootstrap_interval(values_N: Floats) -> Interval:
    """Bootstrap interval of the mean: expanded percentiles.

    Percentiles of so few values make too short an interval; they are moved out by what Student's
    t and the divisor n - 1 add (Hesterberg, "What Teachers Should Know About the Bootstrap",
    arXiv:1411.5279). The interval still ends at the smallest and the largest value: `reach`.
    """
    count = len(values_N)
    if count < 2:
        return UNKNOWN
    quantile = math.sqrt(count / (count - 1)) * stats.t.isf((1 - CONFIDENCE) / 2, count - 1)
    found = stats.bootstrap(
        (values_N,),
        np.mean,
        n_resamples=RESAMPLES,
        confidence_level=1 - 2 * float(stats.norm.sf(quantile)),
        method="percentile",
        rng=BOOTSTRAP_SEED,
    ).confidence_interval
    return Interval(float(found.low), float(found.high))


def reach(count: int) -> float:
    """How often the middle of a symmetric distribution lies between the ends of `count` draws."""
    return 1 - 2.0 ** (1 - count)
