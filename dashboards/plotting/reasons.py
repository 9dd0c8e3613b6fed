"""Why there is nothing to draw, and what to do next."""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import pandas as pd

from dashboards.plotting.axes import finite
from dashboards.views import View

Objects = npt.NDArray[np.object_]

OBSERVED = (
    "Observed in search: samplers prefer what did well, so these are not causal effects. "
    "Designed experiments show those: distilnas ablate."
)


def drawable(trials: pd.DataFrame, axis: str | None = None) -> pd.DataFrame:
    """Trials with a value that are no duplicates; with a size, if an axis is given."""
    keep = finite(trials["value"]) & trials["duplicate_of"].isna().to_numpy()
    if axis is not None:
        keep &= finite(trials[axis]) & (trials[axis] > 0).to_numpy()
    return trials[keep]


def trial_numbers(trials: pd.DataFrame) -> Objects:
    """Custom data of points, so that a click opens a trial; objects, since Dash drops numbers."""
    return objects(int(number) for number in trials["number"])


def objects(values: Iterable[object]) -> Objects:
    """An array of objects: Plotly checks and copies a list item by item, which takes a second for
    50,000 texts."""
    return np.array(list(values), dtype=object)


def complete(view: View, axis: str | None = None) -> pd.DataFrame:
    """Trials that were trained to their end; with a size, if an axis is given."""
    points = drawable(view.trials, axis)
    return points[points["state"] == "COMPLETE"]


def why_nothing(view: View, *, sized: bool = False, described: bool = False) -> str:
    """Why a picture is empty and what to do next, in one or two sentences.

    Args:
        sized: the picture needs sizes.
        described: the picture needs to know what was trained.
    """
    trials = view.trials
    if view.all.empty:
        return "This study has no trial yet: the first one appears here when it ends."
    if trials.empty:
        return "No trial passes these filters. Remove some of them."
    counts = trials["state"].value_counts()
    failed, active = counts.get("FAIL", 0), counts.get("RUNNING", 0) + counts.get("WAITING", 0)
    if failed and failed + active == len(trials):
        name = view.subject.name
        return f"{failed:,} of {len(trials):,} trials failed; their reasons: distilnas show {name}"
    if active == len(trials):
        one = view.subject.goal.one
        return f"All trials are still running: {one} appears here when the first one ends."
    if trials["duplicate_of"].notna().all():
        return "These trials drew students that were trained before, and are drawn only there."
    if sized and not finite(trials[view.filters.axis]).any():
        return (
            f"These trials have no {view.filters.axis}: another program made them, or an earlier "
            "version. Other charts show what they have."
        )
    if described and (trials["block"] == "").all():
        return "These trials do not say what was trained: another program made them."
    if len(trials) < len(view.all):
        return (
            "No trial that passes these filters has been trained to its end. Remove some of them."
        )
    return "No trial has been trained to its end yet: the first one appears here when it ends."
