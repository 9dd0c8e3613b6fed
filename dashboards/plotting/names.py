"""An ablation's results by arm and seed, and axes that have names for ticks."""

import textwrap
from collections.abc import Mapping, Sequence
from html import escape

import pandas as pd

from dashboards.plotting.axes import Axis, finite
from dashboards.views import AblationView

WAITING = "No training has ended with a result yet: the first appears here when one does."
ACROSS, DOWN = 16, 24  # characters in a line of a name on an axis


def results(view: AblationView) -> pd.DataFrame:
    """Accuracies: one row a seed, one column an arm, in the plan's order."""
    names = [arm.name for arm in view.plan.arms]
    if "params_arm" not in view.trials:
        return pd.DataFrame(columns=names, dtype=float)
    done = view.trials[(view.trials["state"] == "COMPLETE") & finite(view.trials["value"])]
    wide = done.pivot_table(index="params_seed", columns="params_arm", values="value")
    return wide.reindex(columns=names).dropna(how="all")


def arms_with(view: AblationView, levels: Mapping[str, str]) -> list[str]:
    return [arm.name for arm in view.plan.arms if levels.items() <= arm.levels.items()]


def by_level(view: AblationView, accuracies: pd.DataFrame, factor: str) -> pd.DataFrame:
    """From columns by arm to one column a level of a factor: the mean of its arms."""
    labels = view.plan.factors[factor]
    return pd.DataFrame(
        {label: accuracies[arms_with(view, {factor: label})].mean(axis=1) for label in labels}
    )


def numbers_in(accuracies: pd.DataFrame) -> list[float]:
    """The numbers in the cells, without the empty ones."""
    values = accuracies.to_numpy(dtype=float).ravel()
    return [float(value) for value in values[finite(values)]]


def short_name(name: object, line: int) -> str:
    """A name on an axis, in lines of at most `line` characters and with markup escaped."""
    lines = textwrap.wrap(str(name), line, break_on_hyphens=False)
    return "<br>".join(map(escape, lines))


def places(names: Sequence[object], line: int = ACROSS) -> Axis:
    """Settings of an axis with names at 0, 1, 2 ...; Plotly takes none for a number or a date."""
    return {
        "tickvals": list(range(len(names))),
        "ticktext": [short_name(name, line) for name in names],
        "range": [-0.5, len(names) - 0.5],
        "showgrid": False,
    }


def row_height(names: Sequence[object]) -> int:
    """Pixels that each name needs in a column of names."""
    return 16 + 16 * max(short_name(name, DOWN).count("<br>") + 1 for name in names)
