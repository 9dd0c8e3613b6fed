"""Paired differences: by hand, at the edges, and how often their verdicts are wrong."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower
from strategies import settings

from search.ablation import paired

STEP = 1 / 359


def test_a_difference_by_hand() -> None:
    found = paired.difference_of(np.array([0.01, 0.03, 0.02, 0.06]), STEP)
    sd = math.sqrt((0.02**2 + 0 + 0.01**2 + 0.03**2) / 3)
    half = 3.182446 * sd / 2  # t of 3 degrees of freedom, four pairs
    assert found.difference_sd == pytest.approx(sd)
    assert found[0] == 4
    assert found[1] == pytest.approx(0.03)
    assert (found.difference_low, found.difference_high) == pytest.approx(
        (0.03 - half, 0.03 + half)
    )
    assert found.p == pytest.approx(stats.ttest_1samp([0.01, 0.03, 0.02, 0.06], 0).pvalue)


@pytest.mark.parametrize("steps", [0, 1, -4])
def test_equal_differences_are_not_certain(steps: int) -> None:
    """By chance a few are: they count as uncertain as rounding makes them."""
    found = paired.difference_of(np.full(3, steps * STEP), STEP)
    assert found.difference_sd == pytest.approx(STEP / math.sqrt(6))
    assert found.p == pytest.approx(2 * stats.t.sf(abs(steps) * math.sqrt(18), 2))
    assert (found.p == 1) == (steps == 0)


def test_few_pairs_say_little() -> None:
    frame = paired.judged([np.empty(0), np.array([0.5]), np.array([0.5, 0.51])], STEP)
    assert list(frame["pairs"]) == [0, 1, 2]
    assert list(frame["difference"].isna()) == [True, False, False]
    assert list(frame["detectable"].isna()) == [True, True, False]
    assert list(frame["verdict"]) == [paired.TOO_FEW, paired.TOO_FEW, paired.BETTER]
    assert paired.judged([], STEP).empty


def test_a_family_is_corrected_by_holm_and_missing_tests_do_not_count() -> None:
    rng = np.random.default_rng(5)
    samples = [rng.normal(mean, 0.01, 6) for mean in (0.014, 0.05, 0.0, -0.05)]
    frame = paired.judged([*samples, np.empty(0)], STEP)
    p_K = [stats.ttest_1samp(sample, 0).pvalue for sample in samples]
    assert list(frame["p_holm"])[:4] == pytest.approx(list(multipletests(p_K, method="holm")[1]))
    assert frame["verdict"][1] == paired.BETTER
    assert frame["verdict"][3] == paired.WORSE
    assert frame["verdict"][2] == paired.NOT_SHOWN
    expected = [paired.detectable(6, float(sample.std(ddof=1)), 4) for sample in samples]
    assert list(frame["detectable"])[:4] == pytest.approx(expected)


@settings(max_examples=25)
@given(st.lists(st.floats(0, 1) | st.just(math.nan), max_size=8))
def test_holm_steps_down(p: list[float]) -> None:
    found = paired.holm(np.array(p, dtype=float))
    assert [math.isnan(value) for value in found] == [math.isnan(value) for value in p]
    order = sorted((k for k, value in enumerate(p) if value == value), key=lambda k: p[k])
    least = 0.0
    for place, k in enumerate(order):
        least = max(least, min(1.0, p[k] * (len(order) - place)))
        assert found[k] == pytest.approx(least)


@pytest.mark.parametrize("comparisons", [1, 3, 10])
@pytest.mark.parametrize("pairs", [2, 3, 5, 10, 100])
def test_what_is_detectable_has_the_stated_power(pairs: int, comparisons: int) -> None:
    """Statsmodels' power is right where it is a number."""
    effect = paired.detectable(pairs, 1.0, comparisons)
    power = TTestPower().power(effect, pairs, 0.05 / comparisons)
    chi2, critical = stats.chi2(pairs - 1), stats.t.isf(0.025 / comparisons, pairs - 1)
    share_N = (np.arange(20_000) + 0.5) / 20_000  # over the quantiles of the variance
    spread_N = np.sqrt(chi2.ppf(share_N) / (pairs - 1))
    integral = stats.norm.sf(critical * spread_N - effect * math.sqrt(pairs)).mean()
    assert integral == pytest.approx(0.8, abs=0.001)
    assert math.isnan(power) or power == pytest.approx(0.8, abs=1e-4)


def test_bootstrap_intervals() -> None:
    values_N = np.array([0.1, 0.5, 0.3, 0.2, 0.4])
    low, high = paired.bootstrap_interval(values_N)
    assert paired.bootstrap_interval(values_N) == (low, high)
    inner = stats.bootstrap((values_N,), np.mean, method="percentile", rng=1).confidence_interval
    assert 0.1 <= low < inner.low < 0.3 < inner.high < high <= 0.5
    assert paired.bootstrap_interval(np.full(4, 0.25)) == (0.25, 0.25)
    assert all(map(math.isnan, paired.bootstrap_interval(values_N[:1])))
    many_N = np.random.default_rng(0).normal(0.5, 0.1, 60)
    assert paired.bootstrap_interval(many_N) == pytest.approx(
        stats.t.interval(0.95, 59, many_N.mean(), many_N.std(ddof=1) / math.sqrt(60)), abs=0.004
    )


def study(rng: np.random.Generator, effects: list[float], sd: float, step: float) -> set[str]:
    """The verdicts on arms over five seeds, which matter themselves; accuracies are rounded."""
    means = 0.6 + np.array([0, *effects])[:, None] + rng.normal(0, 0.02, 5)
    accuracies = np.round(rng.normal(means, sd) / step) * step
    return set(paired.judged(list(accuracies[1:] - accuracies[0]), step)["verdict"])


@pytest.mark.parametrize(("sd", "step"), [(0.01, STEP), (0.01, 1 / 60)])
def test_equal_arms_are_rarely_told_apart(sd: float, step: float) -> None:
    """At most 5 % false alarms a study, and three standard errors: also with coarse steps."""
    rng = np.random.default_rng(11)
    alarms = [study(rng, [0.0] * 3, sd, step) != {paired.NOT_SHOWN} for _ in range(1_000)]
    assert np.mean(alarms) <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 1_000)


def test_what_is_stated_as_detectable_is_shown_in_four_of_five_studies() -> None:
    rng, sd = np.random.default_rng(12), 0.01
    effect = paired.detectable(5, math.hypot(math.sqrt(2) * sd, STEP / math.sqrt(6)))
    shown = [study(rng, [effect], sd, STEP) == {paired.BETTER} for _ in range(1_000)]
    assert np.mean(shown) == pytest.approx(0.8, abs=3 * math.sqrt(0.8 * 0.2 / 1_000))
