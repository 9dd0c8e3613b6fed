"""Analysis of variance of a factorial ablation: which factors and which pairs of them matter."""

import math
import warnings
from collections.abc import Sequence
from functools import cache
from itertools import combinations
from typing import NamedTuple

import pandas as pd
from scipy import stats
from statsmodels.formula.api import ols
from statsmodels.tools.sm_exceptions import SingularMatrixWarning

from search.ablation.paired import CONFIDENCE, holm
from search.study.plan import AblationSpec

COLUMNS = ("term", "kind", "df", "F", "p", "p_holm", "partial_eta2", "verdict")
MAIN, INTERACTION = "main", "interaction"
SHOWN, NOT_SHOWN, UNKNOWN = "effect shown", "no effect shown", "not estimable"

Term = tuple[int, ...]  # places of its factors


class Fit(NamedTuple):
    """What a linear model leaves."""

    squares: float  # residual sum of squares
    df: int  # residual degrees of freedom


def terms(accuracy: pd.DataFrame, plan: AblationSpec) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Main effects and two-way interactions, seeds as blocks; type II sums of squares.

    Each term is tested beside all terms that do not contain it (Langsrud 2003), against the
    residual of the model with all of them, which holds the higher interactions too.

    Args:
        accuracy: (seeds, arms); what has not finished is NaN.

    Returns:
        One row a term, columns as in COLUMNS, none where nothing can be estimated; and notes.
    """
    rows, factors = _long(accuracy, plan)
    model = _Model(rows, len(factors))
    if rows["seed"].nunique() < 2 or not model.terms:
        return pd.DataFrame(columns=list(COLUMNS)), ()
    residual = model.fit(model.terms)
    if residual.df < 1:
        return pd.DataFrame(columns=list(COLUMNS)), (
            "the analysis of variance has no degrees of freedom left for chance",
        )
    floor = residual.df / (12 * plan.validation**2)  # rounding alone: see `paired`
    error = Fit(max(residual.squares, floor), residual.df)
    tested = [_test(model, term, error) for term in model.terms]
    frame = pd.DataFrame(tested, columns=["df", "F", "p", "partial_eta2"])
    frame["term"] = [" x ".join(factors[place] for place in term) for term in model.terms]
    frame["kind"] = [MAIN if len(term) == 1 else INTERACTION for term in model.terms]
    frame["p_holm"] = holm(frame["p"].to_numpy(dtype=float))
    frame["verdict"] = list(map(_verdict, frame["p_holm"]))
    return frame[list(COLUMNS)], tuple(_missing(model, frame))


def _long(accuracy: pd.DataFrame, plan: AblationSpec) -> tuple[pd.DataFrame, Sequence[str]]:
    """One row a result: value, seed, f0, f1, ...; and the factors that vary, in order.

    Factors are numbered, as their names are any text, and a formula is not.
    """
    rows = accuracy.rename_axis(index="seed").melt(var_name="arm", ignore_index=False)
    rows = rows.dropna().reset_index()
    levels = {arm.name: arm.levels for arm in plan.arms}
    found = {f: [levels[arm][f] for arm in rows["arm"]] for f in plan.factors}
    varying = {f: labels for f, labels in found.items() if len(set(labels)) > 1}
    columns = {f"f{place}": labels for place, labels in enumerate(varying.values())}
    return rows.assign(**columns), list(varying)


class _Model:
    """Ordinary least squares of the accuracies on the seed and some terms."""

    def __init__(self, rows: pd.DataFrame, factors: int) -> None:
        self.rows = rows
        pairs = list(combinations(range(factors), 2))
        self.terms: tuple[Term, ...] = (*((place,) for place in range(factors)), *pairs)
        self.fit = cache(self._fit)  # main effects share models

    def _fit(self, included: tuple[Term, ...]) -> Fit:
        parts = [":".join(f"C(f{place})" for place in term) for term in included]
        with warnings.catch_warnings():
            # Empty cells make interactions that cannot be told apart: their degrees of freedom
            # are counted, and the residual is right all the same.
            warnings.simplefilter("ignore", SingularMatrixWarning)
            fitted = ols(" + ".join(["value ~ C(seed)", *parts]), self.rows).fit()
        return Fit(float(fitted.ssr), round(fitted.df_resid))

    def explained(self, term: Term) -> Fit:
        """What the term adds to all terms that do not contain it."""
        beside = tuple(other for other in self.terms if not set(term) < set(other))
        without = self.fit(tuple(other for other in beside if other != term))
        within = self.fit(beside)
        return Fit(max(0.0, without.squares - within.squares), without.df - within.df)

    def expected_df(self, term: Term) -> int:
        """Of the term, had every cell a result."""
        return math.prod(self.rows[f"f{place}"].nunique() - 1 for place in term)


def _test(model: _Model, term: Term, error: Fit) -> tuple[int, float, float, float]:
    found = model.explained(term)
    if not found.df:
        return 0, math.nan, math.nan, math.nan
    ratio = (found.squares / found.df) / (error.squares / error.df)
    share = found.squares / (found.squares + error.squares)
    return found.df, ratio, float(stats.f.sf(ratio, found.df, error.df)), share


def _verdict(p_holm: float) -> str:
    if math.isnan(p_holm):
        return UNKNOWN
    return SHOWN if p_holm < 1 - CONFIDENCE else NOT_SHOWN


def _missing(model: _Model, frame: pd.DataFrame) -> list[str]:
    short = [
        name
        for term, name, df in zip(model.terms, frame["term"], frame["df"], strict=True)
        if df < model.expected_df(term)
    ]
    if not short:
        return []
    return [f"judged by part of their cells, others being empty: {', '.join(short)}"]
