"""What an ablation's table says: by hand, whatever is missing, and whatever order rows come in."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal
from plans import IMAGES, crossed, plan_of, stated
from scipy import stats
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm
from strategies import settings

from search.ablation import anova, effects, paired
from search.ablation.effects import analyse, interactions
from search.study.plan import AblationSpec


def factorial(factors: Mapping[str, Sequence[str]], **settings: Any) -> AblationSpec:
    """Arms are named by their labels: `0/4`."""
    arms = {"/".join(levels.values()): levels for levels in crossed(factors)}
    return plan_of(arms, design="factorial", factors=factors, **settings)


def rows_of(accuracies: Mapping[str, Sequence[float | str]]) -> pd.DataFrame:
    """Arm -> what its seeds gave: an accuracy, or the way in which they ended without one."""
    rows = [
        {
            "state": "FAIL" if isinstance(value, str) else "COMPLETE",
            "value": math.nan if isinstance(value, str) else value,
            "ended": value if isinstance(value, str) else "finished",
            "params_arm": arm,
            "params_seed": seed,
            "bytes": 1000 + len(arm),
            "params": 900,
            "macs": 10**6,
        }
        for arm, values in accuracies.items()
        for seed, value in enumerate(values)
    ]
    return pd.DataFrame(rows)


def simulated(plan: AblationSpec, seeds: int, rng: Any, **shifts: float) -> pd.DataFrame:
    """Seeds that matter, chance of half a point; shifts by arm."""
    shared = rng.normal(0.6, 0.02, seeds)
    found = {}
    for arm in plan.arms:
        values = shared + rng.normal(shifts.get(arm.name, 0), 0.005, seeds)
        found[arm.name] = np.round(values * IMAGES) / IMAGES
    return rows_of(found)


def by_arm(analysis: effects.Analysis) -> pd.DataFrame:
    return analysis.arms.set_index("arm")


def test_a_table_by_hand() -> None:
    base, other = [0.50, 0.60, 0.55, 0.65], [0.55, 0.64, 0.62, 0.69]
    third = [0.52, 0.57, 0.56, 0.66]
    rows = rows_of({"a": base, "long": other, "c": third})
    analysis = analyse(rows, stated("a", "long", "c"))
    assert tuple(analysis.arms.columns) == effects.ARM_COLUMNS
    assert list(analysis.arms["arm"]) == ["a", "long", "c"]
    row = by_arm(analysis).loc["long"]
    assert list(row[["n", "failed", "pairs", "bytes", "params"]]) == [4, 0, 4, 1004, 900]
    assert (row["mean"], row["sd"]) == pytest.approx((0.625, np.std(other, ddof=1)))
    gains = np.array([0.05, 0.04, 0.07, 0.04])
    error = gains.std(ddof=1) / 2
    assert row["difference"] == pytest.approx(0.05)
    assert row["difference_low"] == pytest.approx(0.05 - stats.t.isf(0.025, 3) * error)
    test = stats.ttest_rel(other, base)
    assert (row["p"], row["p_holm"]) == pytest.approx((test.pvalue, 2 * test.pvalue))
    assert row["bootstrap_low"] == pytest.approx(0.04, abs=0.003)
    assert row["detectable"] == pytest.approx(paired.detectable(4, 2 * error, 2))
    assert list(analysis.arms["verdict"]) == ["baseline", "better", "no difference shown"]
    assert analysis.levels.empty
    assert tuple(analysis.levels.columns) == effects.LEVEL_COLUMNS
    assert tuple(analysis.terms.columns) == anova.COLUMNS


def test_the_notes_of_a_table_by_hand() -> None:
    base, gains = np.array([0.5, 0.6, 0.55, 0.65, 0.6]), np.array([0, 0.01, 0.02, 0, -0.01])
    rows = rows_of({"a": list(base), "b": list(base + gains), "c": list(base - gains)})
    points = 100 * paired.detectable(5, float(gains.std(ddof=1)), 2)
    shown = f"true differences under about {points:.1f} points are shown in less than 80 %"
    assert analyse(rows, stated("a", "b", "c")).notes == (
        f"with 5 seeds, {shown} of all studies (Holm over 2 comparisons)",
        "intervals are for one comparison each; verdicts are corrected over all 2 (Holm)",
    )
    (alone,) = analyse(rows, stated("a", "b")).notes
    assert alone.endswith("of all studies")
    few = analyse(rows[rows["params_seed"] < 3], stated("a", "b")).notes
    assert (
        "bootstrap intervals of 3 seeds are too short: they hold the mean in about 75 %" in few[1]
    )


def test_pairs_are_the_seeds_that_both_have() -> None:
    rows = rows_of({"a": [0.1, 0.5, 0.9, 0.7], "b": [0.12, "diverged", 0.93, 0.71]})
    arms = by_arm(analyse(rows, stated("a", "b")))
    row = arms.loc["b"]
    assert (row["n"], row["failed"], row["pairs"]) == (3, 1, 3)
    assert row["difference"] == pytest.approx(0.02)
    assert arms["mean"]["b"] - arms["mean"]["a"] == pytest.approx(0.58667 - 0.55, abs=1e-4)


@st.composite
def studies(draw: st.DrawFn) -> tuple[pd.DataFrame, AblationSpec]:
    """Three arms, up to five seeds, some of which are lost or yet to be trained."""
    value = st.integers(0, IMAGES // 2).map(lambda hits: hits / IMAGES)
    seed = st.one_of(value, value, value, st.sampled_from(["diverged", "error"]))
    lists = st.lists(seed, max_size=5)
    rows = rows_of({name: draw(lists) for name in "abc"})
    columns = rows_of({"a": [0.5]}).columns
    return rows.reindex(columns=columns), stated(*"abc")


few_examples = settings(max_examples=25)


@few_examples
@given(studies(), st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(
    study: tuple[pd.DataFrame, AblationSpec], random: Any
) -> None:
    rows, plan = study
    order = list(range(len(rows)))
    random.shuffle(order)
    first, second = analyse(rows, plan), analyse(rows.iloc[order], plan)
    assert_frame_equal(first.arms, second.arms, check_exact=True)
    assert first.notes == second.notes


@few_examples
@given(studies(), st.lists(st.integers(0, IMAGES // 2), min_size=5, max_size=5))
def test_what_a_seed_gives_to_all_arms_is_no_difference(
    study: tuple[pd.DataFrame, AblationSpec], shifts: list[int]
) -> None:
    rows, plan = study
    moved = rows.assign(value=rows["value"] + rows["params_seed"].map(lambda s: shifts[s]) / IMAGES)
    columns = [c for c in effects.COMPARED if c != "verdict"]
    first, second = analyse(rows, plan).arms, analyse(moved, plan).arms
    # Differences of sums are exact to some 1e-16, and p of a mean that is 0 but for that is 1.
    assert_frame_equal(first[columns], second[columns], check_exact=False, rtol=1e-6, atol=1e-9)
    assert list(first["verdict"]) == list(second["verdict"])


@few_examples
@given(st.lists(st.integers(0, IMAGES), min_size=2, max_size=8))
def test_an_arm_like_the_baseline_is_no_different(hits: list[int]) -> None:
    values = [count / IMAGES for count in hits]
    row = by_arm(analyse(rows_of({"a": values, "b": values}), stated(*"ab"))).loc["b"]
    assert (row["difference"], row["p"], row["p_holm"]) == (0, 1, 1)
    assert row["verdict"] == "no difference shown"


EMPTY = rows_of({"a": [0.5]}).iloc[:0]
DEGENERATE = {
    "no rows": EMPTY,
    "no columns": pd.DataFrame({"number": [], "state": [], "value": []}),
    "begun": EMPTY.reindex([0]).assign(state="RUNNING"),
    "running": rows_of({"a": [0.5], "b": [0.5]}).assign(state="RUNNING", value=math.nan),
    "one seed": rows_of({"a": [0.5], "b": [0.6], "c": [0.7], "d": [0.7]}),
    "no baseline": rows_of({"b": [0.6, 0.5], "c": [0.7, 0.6]}),
    "lost baseline": rows_of({"a": ["diverged"] * 2, "b": [0.6, 0.5], "c": [0.7, 0.6]}),
    "all equal": rows_of({name: [0.5] * 3 for name in "abcd"}),
    "not a number": rows_of({name: [math.nan, math.inf] for name in "abcd"}),
    "all lost": rows_of({name: ["diverged", "error"] for name in "abcd"}),
    "another's": rows_of({"x": [0.5, 0.6]}),
}


@pytest.mark.parametrize("rows", DEGENERATE.values(), ids=DEGENERATE)
@pytest.mark.parametrize("design", ["arms", "factorial"])
def test_whatever_is_missing_there_is_a_table(rows: pd.DataFrame, design: str) -> None:
    plan = stated(*"abcd")
    if design == "factorial":
        factors = {"f": ["0", "1"], "g": ["0", "1"]}
        arms = dict(zip("abcd", crossed(factors), strict=True))
        plan = plan_of(arms, design="factorial", factors=factors)
    analysis = analyse(rows, plan)
    assert list(analysis.arms["arm"]) == list("abcd")
    assert analysis.arms["verdict"][0] == "baseline"
    assert not set(analysis.arms["verdict"]) & {"better", "worse"}
    assert not set(analysis.levels["verdict"]) & {"better", "worse"}
    assert "effect shown" not in set(analysis.terms["verdict"])
    assert len(analysis.levels) == (4 if design == "factorial" else 0)
    assert len(interactions(rows, plan)) == len(analysis.levels)


def test_notes_tell_what_is_missing() -> None:
    def notes(name: str) -> str:
        return "; ".join(analyse(DEGENERATE[name], stated(*"abcd")).notes)

    assert notes("no rows") == "arms without a result yet: a, b, c, d"
    assert notes("one seed").startswith("one seed says nothing of chance")
    assert "2 of 2 seeds of arm 'a' diverged: it has no figures" in notes("lost baseline")
    assert "the baseline has no result" in notes("lost baseline")
    assert "1 of 2 seeds of arm 'b' failed: it has no figures" in notes("all lost")
    partly = analyse(rows_of({"a": [0.5, 0.6, "diverged"], "b": [0.5, 0.7, 0.6]}), stated(*"ab"))
    told = "1 of 3 seeds of arm 'a' diverged: its figures are of the seeds that finished"
    assert partly.notes[0] == told


def test_marginal_means_are_those_of_whole_seeds() -> None:
    """Two by three, six seeds, of which one lacks a cell."""
    plan = factorial({"se": ["0", "8"], "late groups": ["1", "4", "8"]}, baseline="8/4")
    shifts = {f"0/{label}": -0.03 for label in "148"}
    rows = simulated(plan, 6, np.random.default_rng(3), **shifts)
    lost = (rows["params_arm"] == "0/8") & (rows["params_seed"] == 2)
    rows.loc[lost, "state"] = "FAIL"
    rows.loc[lost, "value"] = math.nan
    analysis = analyse(rows, plan)
    kept = rows[rows["params_seed"] != 2].assign(se=rows["params_arm"].str[0])
    marginal = kept.groupby(["params_seed", "se"])["value"].mean().unstack()
    levels = analysis.levels.set_index(["factor", "level"])
    assert list(levels["n"]) == [5] * 5
    row: Any = levels.loc[("se", "0")]
    assert (row["mean"], row["sd"]) == pytest.approx((marginal["0"].mean(), marginal["0"].std()))
    assert row["p"] == pytest.approx(stats.ttest_rel(marginal["0"], marginal["8"]).pvalue)
    verdicts = ["worse", "baseline", paired.NOT_SHOWN, "baseline", paired.NOT_SHOWN]
    assert list(levels["verdict"]) == verdicts
    assert row["p_holm"] == pytest.approx(3 * row["p"])
    assert "main effects are of the 5 of 6 seeds with a result in each" in " ".join(analysis.notes)
    cells = interactions(rows, plan)
    assert tuple(cells.columns) == effects.INTERACTION_COLUMNS
    assert list(cells["n"]) == [6, 6, 5, 6, 6, 6]
    assert cells["mean"][2] == pytest.approx(rows.loc[rows["params_arm"] == "0/8", "value"].mean())
    assert interactions(rows[rows["params_seed"] < 2], plan)["mean"].isna().all()


def test_two_by_two_sums_of_squares_by_hand() -> None:
    """Two seeds; the interaction's contrast is a + d - b - c."""
    plan = factorial({"f (x)": ["0", "1"], "value": ["0", "1"]})
    table = {"0/0": [0.50, 0.56], "0/1": [0.52, 0.58], "1/0": [0.60, 0.64], "1/1": [0.52, 0.60]}
    terms = analyse(rows_of(table), plan).terms.set_index("term")
    a, b, c, d = (sum(values) for values in table.values())
    contrasts = {"f (x)": c + d - a - b, "value": b + d - a - c, "f (x) x value": a + d - b - c}
    squares = {name: contrast**2 / 8 for name, contrast in contrasts.items()}
    values = np.array(list(table.values()))
    seeds = 4 * ((values.mean(axis=0) - values.mean()) ** 2).sum()
    residual = 8 * values.var() - seeds - sum(squares.values())
    assert list(terms.index) == list(squares)
    assert list(terms["kind"]) == ["main", "main", "interaction"]
    assert list(terms["F"]) == pytest.approx([3 * part / residual for part in squares.values()])
    shares = [part / (part + residual) for part in squares.values()]
    assert list(terms["partial_eta2"]) == pytest.approx(shares)


@pytest.mark.parametrize("lost", [0, 3])
def test_terms_are_type_two_of_statsmodels(lost: int) -> None:
    plan = factorial({"a": ["0", "1"], "b": ["x", "y", "z"], "c": ["0", "1"]})
    rows = simulated(plan, 3, np.random.default_rng(4)).iloc[lost:]
    labels = rows["params_arm"].str.split("/", expand=True)
    frame = rows.assign(a=labels[0], b=labels[1], c=labels[2])
    formula = "value ~ C(params_seed) + (C(a) + C(b) + C(c)) ** 2"
    peer = anova_lm(ols(formula, frame).fit(), typ=2).iloc[1:-1]
    terms = analyse(rows, plan).terms
    assert list(terms["term"]) == ["a", "b", "c", "a x b", "a x c", "b x c"]
    assert list(terms["F"]) == pytest.approx(list(peer["F"]))
    assert list(terms["p"]) == pytest.approx(list(peer["PR(>F)"]))
    assert list(terms["df"]) == list(peer["df"])


def test_planted_effects_are_found_and_none_is_invented() -> None:
    plan, rng = factorial({"f": ["0", "1"], "g": ["0", "1", "2"]}), np.random.default_rng(8)

    def shown(**shifts: float) -> list[str]:
        terms = analyse(simulated(plan, 5, rng, **shifts), plan).terms
        return list(terms.loc[terms["verdict"] == "effect shown", "term"])

    assert shown() == []
    assert shown(**{"1/0": 0.03, "1/1": 0.03, "1/2": 0.03}) == ["f"]
    crossed = {"0/0": 0.02, "1/0": -0.02, "0/2": -0.02, "1/2": 0.02}
    assert shown(**crossed) == ["f x g"]


def test_equal_steps_in_every_cell_are_no_certain_effect() -> None:
    """Without a residual F would be infinite: one step in two seeds is no more than rounding."""
    plan, step = factorial({"f": ["0", "1"], "g": ["0", "1"]}), 1 / IMAGES
    table = {name: [0.5, 0.6] for name in ("0/0", "0/1")}
    table |= {name: [0.5 + step, 0.6 + step] for name in ("1/0", "1/1")}
    terms = analyse(rows_of(table), plan).terms
    assert list(terms["F"]) == pytest.approx([24, 0, 0], abs=1e-6)


def test_an_empty_cell_leaves_its_interaction_out() -> None:
    plan = factorial({"f": ["0", "1"], "g": ["0", "1"]})
    rows = simulated(plan, 4, np.random.default_rng(9), **{"1/0": 0.05})
    analysis = analyse(rows[rows["params_arm"] != "1/1"], plan)
    verdicts = analysis.terms.set_index("term")["verdict"]
    assert (verdicts["f"], verdicts["f x g"]) == ("effect shown", "not estimable")
    assert "judged by part of their cells, others being empty: f x g" in " ".join(analysis.notes)
    assert "main effects are not computed" in " ".join(analysis.notes)
    one_column = rows[rows["params_arm"].isin(["0/0", "1/0"])]
    assert list(analyse(one_column, plan).terms["term"]) == ["f"]


def test_arms_that_share_trainings_get_no_analysis_of_variance() -> None:
    """A storage format has no chance of its own: its rows are not independent of the others'."""
    plan = factorial({"block": ["conv", "group"], "format": ["fp32", "int8"]})
    rng = np.random.default_rng(0)
    trained = {block: list(rng.normal(0.6, 0.02, 5)) for block in ("conv", "group")}
    rows = rows_of(
        {f"{block}/{format}": trained[block] for block in trained for format in ("fp32", "int8")}
    )
    rows["number"] = rows["params_seed"] * 4 + rows.groupby("params_seed").cumcount()
    alone = analyse(rows, plan)
    assert len(alone.terms) == 3
    is_copy = rows["params_arm"].str.endswith("int8")
    rows["trained_as"] = (rows["number"] - 1).where(is_copy)
    shared = analyse(rows, plan)
    assert shared.terms.empty
    assert tuple(shared.terms.columns) == anova.COLUMNS
    assert any("arms 'conv/fp32' and 'conv/int8' store" in note for note in shared.notes)
    assert_frame_equal(shared.levels, alone.levels)  # paired differences are right all the same


def test_one_seed_or_no_freedom_gives_no_terms() -> None:
    plan = factorial({"f": ["0", "1"], "g": ["0", "1"]})
    rows = simulated(plan, 2, np.random.default_rng(9))
    assert analyse(rows[rows["params_seed"] == 0], plan).terms.empty
    little = rows[(rows["params_seed"] == 0) | (rows["params_arm"] == "0/0")]
    assert analyse(little, plan).terms.empty
    assert "no degrees of freedom left for chance" in analyse(little, plan).notes[-1]
