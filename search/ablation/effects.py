"""What an ablation shows: arms, main effects and interactions, and what so few seeds cannot say.

Everything is computed from the trials' rows and the study's plan, both as the database has them.
Accuracies are shares of the validation images, 0 to 1; so are differences and intervals.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations, product
from typing import NamedTuple

import numpy as np
import pandas as pd

from search.ablation import anova
from search.ablation.paired import (
    BASELINE,
    POWER,
    Floats,
    Interval,
    bootstrap_interval,
    detectable,
    judged,
    reach,
)
from search.database.row import SIZES
from search.study.plan import FACTORIAL, AblationSpec
from search.study.ranking import UNSTORABLE

FEWEST_POINTS = 3  # below it a cell's mean is no news
ENDED = ("COMPLETE", "FAIL", "PRUNED")
HOW = {  # any other end: "failed"
    "diverged": "diverged",
    "infeasible": "could not be built",
    UNSTORABLE: "could not be stored",
}
# Columns of `search.database.table`.
READ = ("number", "state", "value", "params_arm", "params_seed", "ended", "trained_as", *SIZES)
COMPARED = (
    *("pairs", "difference", "difference_sd", "difference_low", "difference_high"),
    *("bootstrap_low", "bootstrap_high", "p", "p_holm", "detectable", "verdict"),
)
ARM_COLUMNS = ("arm", "n", "failed", "mean", "sd", "low", "high", *SIZES, *COMPARED)
LEVEL_COLUMNS = ("factor", "level", "n", "mean", "sd", "low", "high", *COMPARED)
INTERACTION_COLUMNS = ("factor_a", "level_a", "factor_b", "level_b", "n", "mean")


class Analysis(NamedTuple):
    """The evidence of an ablation, finished or not; rows in the plan's order.

    arms: one row an arm: arm, n (seeds that finished), failed (seeds that ended without a value),
        mean, sd and bootstrap interval (low, high) of the accuracy, bytes, params, macs, and the
        columns of a comparison.
    levels: one row a level of a factorial design's factors, averaged over the other factors in
        every seed that has all cells: factor, level, n, mean, sd, low, high, and the comparison.
    terms: the analysis of variance of a factorial design: see `search.ablation.anova.terms`.
    notes: sentences for the reader.

    A comparison is with the baseline (of a factor, its level in the baseline arm), paired by seed:
    pairs, mean difference, its standard deviation, t interval (difference_low, difference_high),
    bootstrap interval, p of the paired t test, p_holm (corrected for all comparisons of the
    table), detectable (the smallest true difference that is shown with 80 % power), verdict.
    Intervals are of 95 %, each by itself. Verdicts follow p_holm only.
    """

    arms: pd.DataFrame
    levels: pd.DataFrame
    terms: pd.DataFrame
    notes: tuple[str, ...]


def analyse(trials: pd.DataFrame, plan: AblationSpec) -> Analysis:
    """The evidence in a study's trials.

    Args:
        trials: of `search.database.table.trials`, in any order.
        plan: the study's.
    """
    rows = _of_plan(trials, plan)
    accuracy = _accuracies(rows, plan)
    arms = _arms(rows, accuracy, plan)
    notes = [*_notes_on_ends(rows, arms), *_notes_on_chance(arms)]
    if plan.design != FACTORIAL:
        none = pd.DataFrame(columns=list(LEVEL_COLUMNS))
        return Analysis(arms, none, pd.DataFrame(columns=list(anova.COLUMNS)), tuple(notes))
    notes += _notes_on_cells(accuracy, plan)
    shared = _sharing(rows)
    if shared is None:
        terms, more = anova.terms(accuracy, plan)
        notes += more
    else:
        terms = pd.DataFrame(columns=list(anova.COLUMNS))
        notes.append(
            f"no analysis of variance: it takes all results for independent, but arms {shared[0]!r}"
            f" and {shared[1]!r} store the same trainings"
        )
    if len(terms):
        notes.append(
            "main effects are tested twice: by the spread of their own differences, and in the "
            "analysis of variance by one error for all arms; near the threshold the two may differ"
        )
    return Analysis(arms, _levels(accuracy, plan), terms, tuple(notes))


def interactions(trials: pd.DataFrame, plan: AblationSpec) -> pd.DataFrame:
    """Cell means of every pair of a factorial design's factors, for heat maps.

    Returns:
        factor_a, level_a, factor_b, level_b, n (results in the cell, over seeds and the other
        factors' levels) and mean, NaN below FEWEST_POINTS results.
    """
    accuracy = _accuracies(_of_plan(trials, plan), plan)
    factors = plan.factors if plan.design == FACTORIAL else {}
    rows = []
    for a, b in combinations(factors, 2):
        for level_a, level_b in product(factors[a], factors[b]):
            cell = accuracy[_arms_with(plan, {a: level_a, b: level_b})].to_numpy()
            points = cell[np.isfinite(cell)]
            mean = float(points.mean()) if len(points) >= FEWEST_POINTS else math.nan
            rows.append((a, level_a, b, level_b, len(points), mean))
    return pd.DataFrame(rows, columns=list(INTERACTION_COLUMNS))


def _of_plan(trials: pd.DataFrame, plan: AblationSpec) -> pd.DataFrame:
    """The rows that are trainings of the plan's arms; a trial that has only begun may be none.

    `value` is NaN unless the training is complete.
    """
    rows = trials.reindex(columns=list(READ))
    names = [arm.name for arm in plan.arms]
    rows = rows[rows["params_arm"].isin(names) & rows["params_seed"].notna()]
    value = pd.to_numeric(rows["value"]).astype(float)
    return rows.assign(value=value.where((rows["state"] == "COMPLETE") & np.isfinite(value)))


def _accuracies(rows: pd.DataFrame, plan: AblationSpec) -> pd.DataFrame:
    """(seeds, arms), seeds rising: what is computed does not depend on the order of the rows."""
    done = rows[rows["value"].notna()]
    names = [arm.name for arm in plan.arms]
    if done.empty:
        return pd.DataFrame(columns=names, dtype=float)
    wide = done.pivot_table(index="params_seed", columns="params_arm", values="value")
    return wide.reindex(columns=names)


def _sharing(rows: pd.DataFrame) -> tuple[str, str] | None:
    """Two arms whose results come of the same trainings, if there are any."""
    copies = rows[rows["trained_as"].notna()]
    if copies.empty:
        return None
    copy = copies.iloc[0]
    first = rows.loc[rows["number"] == copy["trained_as"], "params_arm"].iloc[0]
    return str(first), str(copy["params_arm"])


def _arms(rows: pd.DataFrame, accuracy: pd.DataFrame, plan: AblationSpec) -> pd.DataFrame:
    baseline, ended = str(plan.baseline), rows[rows["state"].isin(ENDED)]
    samples = [
        np.empty(0) if name == baseline else _paired(accuracy[name], accuracy[baseline])
        for name in accuracy
    ]
    found = pd.DataFrame({"arm": accuracy.columns, "n": accuracy.count().to_numpy()})
    lost = ended.loc[ended["value"].isna(), "params_arm"].value_counts()
    found["failed"] = found["arm"].map(lost).fillna(0).astype(int)
    found["mean"], found["sd"] = accuracy.mean().to_numpy(), accuracy.std().to_numpy()
    found[["low", "high"]] = _intervals([accuracy[name].dropna() for name in accuracy])
    sizes = rows.groupby("params_arm")[list(SIZES)].first().astype(float)
    found = found.join(sizes, on="arm")
    compared = _compared(samples, 1 / plan.validation, found["arm"] == baseline)
    return pd.concat([found, compared], axis=1)[list(ARM_COLUMNS)]


def _levels(accuracy: pd.DataFrame, plan: AblationSpec) -> pd.DataFrame:
    """Marginal means. A mean of m roundings moves in finer steps: by sqrt(m), as its deviation."""
    whole, step = _complete(accuracy, plan), 1 / plan.validation
    own = plan.arm(plan.baseline).levels
    rows, samples, steps, marginals = [], [], [], []
    for factor, labels in plan.factors.items():
        cells = {label: _arms_with(plan, {factor: label}) for label in labels}
        over = {label: whole[names].mean(axis=1) for label, names in cells.items()}
        for label, marginal in over.items():
            is_own, reference = label == own[factor], over[own[factor]]
            rows.append((factor, label, len(marginal), marginal.mean(), marginal.std(), is_own))
            samples.append(np.empty(0) if is_own else _paired(marginal, reference))
            steps.append(step / math.sqrt(max(1, len(cells[label]))))
            marginals.append(marginal)
    found = pd.DataFrame(rows, columns=["factor", "level", "n", "mean", "sd", "is_baseline"])
    found[["low", "high"]] = _intervals(marginals)
    compared = _compared(samples, steps, found["is_baseline"])
    return pd.concat([found, compared], axis=1)[list(LEVEL_COLUMNS)]


def _complete(accuracy: pd.DataFrame, plan: AblationSpec) -> pd.DataFrame:
    """The seeds that have every cell of the design: their marginal means are balanced."""
    cells = math.prod(map(len, plan.factors.values()))
    return accuracy.dropna() if len(plan.arms) == cells else accuracy.iloc[:0]


def _arms_with(plan: AblationSpec, levels: Mapping[str, str]) -> list[str]:
    """Names of the arms that have these levels."""
    return [arm.name for arm in plan.arms if levels.items() <= arm.levels.items()]


def _paired(values: pd.Series, reference: pd.Series) -> Floats:
    """Differences over the seeds that both have."""
    return (values - reference).dropna().to_numpy(dtype=float)


def _intervals(samples: Sequence[pd.Series]) -> list[Interval]:
    return [bootstrap_interval(sample.to_numpy(dtype=float)) for sample in samples]


def _compared(
    samples: Sequence[Floats], steps: float | Sequence[float], is_baseline: pd.Series
) -> pd.DataFrame:
    """The columns of a comparison, one row a sample."""
    frame = judged(samples, steps)
    intervals = list(map(bootstrap_interval, samples))
    frame[["bootstrap_low", "bootstrap_high"]] = intervals or np.empty((0, 2))
    frame["verdict"] = frame["verdict"].mask(is_baseline, BASELINE)
    return frame[list(COMPARED)]


def _notes_on_ends(rows: pd.DataFrame, arms: pd.DataFrame) -> list[str]:
    """Seeds that ended without a value, and arms that have none yet."""
    notes = []
    lost = rows[rows["state"].isin(ENDED) & rows["value"].isna()]
    for _, arm in arms[arms["failed"] > 0].iterrows():
        ends = lost.loc[lost["params_arm"] == arm["arm"], "ended"]
        seeds = f"{arm['n'] + arm['failed']} seeds of arm {arm['arm']!r}"
        left = "its figures are of the seeds that finished" if arm["n"] else "it has no figures"
        counts = Counter(HOW.get(end, "failed") for end in ends)
        notes += [f"{count} of {seeds} {end}: {left}" for end, count in sorted(counts.items())]
    waiting = arms.loc[(arms["n"] == 0) & (arms["failed"] == 0), "arm"]
    if len(waiting):
        notes.append(f"arms without a result yet: {', '.join(waiting)}")
    baseline = arms[arms["verdict"] == BASELINE]
    if not baseline["n"].sum() and arms["n"].sum():
        notes.append("the baseline has no result: there is nothing to compare the others with")
    return notes


def _notes_on_chance(arms: pd.DataFrame) -> list[str]:
    """What the number of seeds and of comparisons means."""
    if arms["n"].max() == 1:
        return ["one seed says nothing of chance: differences are shown, and none is judged"]
    tested = arms[arms["p"].notna()]
    if tested.empty:
        return []
    count, pairs = len(tested), tested["pairs"].astype(int)
    degrees = pairs - 1
    pooled = math.sqrt(float(np.average(tested["difference_sd"] ** 2, weights=degrees)))
    points = 100 * detectable(int(pairs.max()), pooled, count)
    seeds = f"{pairs.max()} seeds" if pairs.nunique() == 1 else f"at most {pairs.max()} seeds"
    corrected = f" (Holm over {count} comparisons)" if count > 1 else ""
    notes = [
        f"with {seeds}, true differences under about {points:.1f} points are shown in less than "
        f"{100 * POWER:.0f} % of all studies{corrected}"
    ]
    if count > 1:
        notes.append(
            f"intervals are for one comparison each; verdicts are corrected over all {count} (Holm)"
        )
    return notes + _notes_on_bootstrap(int(arms.loc[arms["n"] > 1, "n"].min()))


def _notes_on_bootstrap(seeds: int) -> list[str]:
    if reach(seeds) >= 0.9:
        return []
    return [
        f"bootstrap intervals of {seeds} seeds are too short: they hold the mean in about "
        f"{100 * reach(seeds):.0f} % of all cases, not 95 %; the t intervals are right"
    ]


def _notes_on_cells(accuracy: pd.DataFrame, plan: AblationSpec) -> list[str]:
    seeds, whole = len(accuracy), len(_complete(accuracy, plan))
    if seeds in (0, whole):
        return []
    which = f"of the {whole} of {seeds} seeds" if whole else "not computed: there is no seed"
    return [f"main effects are {which} with a result in each of the {len(plan.arms)} cells"]
