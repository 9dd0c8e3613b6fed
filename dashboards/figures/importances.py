"""What accuracy depends on: Optuna's own importances, of the trials that are shown."""

import warnings
from html import escape
from typing import TYPE_CHECKING

import pandas as pd
import plotly.graph_objects as go

from dashboards.plotting.axes import finite, share_axis
from dashboards.plotting.picture import BLUE, Picture, nothing, styled
from dashboards.plotting.reasons import OBSERVED, why_nothing
from dashboards.views import View

if TYPE_CHECKING:
    import optuna

COLUMNS = ("parameter", "share")
EVALUATED = 2_000  # trials that importances are computed from: Optuna takes a second for them
FEWEST = 5  # complete trials, below which importances mean nothing


def importances(view: View) -> Picture:
    """Parameter importances by PED-ANOVA (Watanabe et al., arXiv:2304.10255), from Optuna.

    A student that was drawn a second time counts here: what is judged is what was drawn.
    """
    trials = view.trials
    done = trials[(trials["state"] == "COMPLETE") & finite(trials["value"])]
    if len(done) < FEWEST:
        why = f"Importances need {FEWEST} complete trials or more; there are {len(done)}."
        return nothing(why_nothing(view) if done.empty else why, COLUMNS)
    sample = done.sample(min(EVALUATED, len(done)), random_state=0)
    found = ped_anova(view.study(sample["number"].astype(int).tolist()))
    if not found.sum() > 0:
        name = view.subject.goal.name
        why = f"No parameter varies among the complete trials, or no {name} does."
        return nothing(why, COLUMNS)
    shares = (found / found.sum()).to_numpy()
    data = pd.DataFrame(dict(zip(COLUMNS, (found.index, shares), strict=True)))
    drawn = (
        f"{len(sample):,} trials drawn at random" if len(done) > EVALUATED else "complete trials"
    )
    return Picture(_bars(data), data, f"PED-ANOVA over {drawn}. {OBSERVED}")


def _bars(data: pd.DataFrame) -> go.Figure:
    figure = styled(go.Figure(), height=max(220, 60 + 18 * len(data)))
    figure.add_bar(
        y=[escape(name) for name in data["parameter"]],
        x=data["share"],
        orientation="h",
        marker={"color": BLUE},
        hovertemplate="%{y}: %{x:.1%}<extra></extra>",
    )
    names = {"type": "category", "autorange": "reversed", "showgrid": False}
    figure.update_yaxes(names, tickfont={"size": 12})
    figure.update_xaxes(share_axis([0, *data["share"]]), title={"text": "share of the importance"})
    return figure


def ped_anova(study: "optuna.Study") -> pd.Series:
    """Importance of each parameter, most important first; equal ones by name."""
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    with warnings.catch_warnings():  # Optuna warns at every call that this may change
        warnings.simplefilter("ignore")
        # If all importances are 0, normalising would give all parameters equal shares.
        found = get_param_importances(
            study, evaluator=PedAnovaImportanceEvaluator(), normalize=False
        )
    by_name = pd.Series(found, dtype=float).sort_index()
    return by_name.sort_values(ascending=False, kind="stable")
