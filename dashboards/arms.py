"""An ablation's results by arm and seed, and how arms are named on axes."""

from collections.abc import Mapping
from html import escape

import pandas as pd

from dashboards.axes import finite
from dashboards.views import AblationView

WAITING = "No training has ended yet: the first result appears here when one does."


def results(view: AblationView) -> pd.DataFrame:
    """Accuracies: one row a seed, one column an arm, in the plan's order."""
    names = [arm["name"] for arm in view.plan["arms"]]
    if "params_arm" not in view.trials:
        return pd.DataFrame(columns=names, dtype=float)
    done = view.trials[(view.trials["state"] == "COMPLETE") & finite(view.trials["value"])]
    wide = done.pivot_table(index="params_seed", columns="params_arm", values="value")
    return wide.reindex(columns=names)


def arms_with(view: AblationView, levels: Mapping[str, str]) -> list[str]:
    return [arm["name"] for arm in view.plan["arms"] if levels.items() <= arm["levels"].items()]


def short_name(name: object) -> str:
    """An arm's name on an axis: its parts below one another, and no markup."""
    return escape(str(name)).replace(", ", "<br>")
