"""Several studies side by side: fronts, best so far, the best at each budget."""

from collections.abc import Callable, Mapping
from html import escape
from itertools import repeat

import pandas as pd
import plotly.graph_objects as go

from dashboards.axes import TITLES, count_axis, size_axis, size_range, tick_words
from dashboards.filters import Filters
from dashboards.picture import SEQUENCE, Picture, accuracy_axis, nothing, styled
from dashboards.progress_figures import best_steps
from dashboards.reasons import complete, drawable
from dashboards.search_figures import limit_of, pareto
from dashboards.views import View
from search import table

FRONTS_TITLE, BEST_TITLE = "Pareto fronts", "Best so far"
BUDGETS_TITLE = "The best at each budget"
NOTHING = "None of these studies has a complete trial yet."
CHOOSE = "Choose one or more studies above."
BEST = ("study", "trial", "trials ended", "best accuracy")  # columns
DASHES = ("solid", "dash", "dot", "dashdot")
SYMBOLS = ("circle", "diamond", "square", "cross")


def fronts(views: list[View]) -> Picture:
    """The Pareto front of each study, on one axis of size."""
    axis = axis_of(views)
    found = [(view, pareto(drawable(view.trials, axis), axis)) for view in views]
    found = [(view, front) for view, front in found if len(front)]
    if not found:
        none = ("study", "trial", axis, "accuracy", "architecture")
        return nothing(FRONTS_TITLE, why_none(views), none)
    sizes = [size for _, front in found for size in front[axis]]
    low, high = size_range(sizes)
    figure = styled(go.Figure(), height=480)
    for place, (view, front) in enumerate(found):
        figure.add_scatter(
            x=[*front[axis], high],
            y=[*front["value"], front["value"].iloc[-1]],
            mode="lines+markers",
            line={"shape": "hv", **_line(place)},
            marker={"size": [8] * len(front) + [0]},
            name=escape(view.subject.name),
            hovertemplate="%{y:.2%} at %{x:,}<extra>" + escape(view.subject.name) + "</extra>",
        )
    figure.update_xaxes(**size_axis(axis, low, high))
    values = [value for _, front in found for value in front["value"]]
    figure.update_yaxes(title={"text": "validation accuracy"})
    accuracy_axis(figure, values)
    return Picture(FRONTS_TITLE, figure, _rows(found, axis), "Up and to the left is better.")


def axis_of(views: list[View]) -> str:
    """The axis of sizes, which is the same for all; the usual one where nothing is compared."""
    return next((view.filters.axis for view in views), Filters().axis)


def why_none(views: list[View]) -> str:
    return NOTHING if views else CHOOSE


def _rows(found: list[tuple[View, pd.DataFrame]], axis: str) -> pd.DataFrame:
    parts = [
        pd.DataFrame(
            {
                "study": view.subject.name,
                "trial": front["number"].astype(int),
                axis: front[axis].astype(int),
                "accuracy": front["value"],
                "architecture": front["words"],
            }
        )
        for view, front in found
    ]
    return pd.concat(parts, ignore_index=True)


def _line(place: int) -> dict[str, object]:
    """Colours come again with other dashes."""
    round_, colour = divmod(place, len(SEQUENCE))
    return {"color": SEQUENCE[colour], "width": 2, "dash": DASHES[round_ % len(DASHES)]}


def _mark(place: int) -> dict[str, object]:
    """Colours come again with other symbols."""
    round_, colour = divmod(place, len(SEQUENCE))
    return {"color": SEQUENCE[colour], "symbol": SYMBOLS[round_ % len(SYMBOLS)]}


def best_so_far(views: list[View]) -> Picture:
    """Best accuracy of each study over the trials that ended."""
    found = [(view, best_steps(view)) for view in views if len(complete(view))]
    if not found:
        return nothing(BEST_TITLE, why_none(views), BEST)
    figure = styled(go.Figure(), height=480)
    for place, (view, steps) in enumerate(found):
        figure.add_scatter(
            x=steps.ended,
            y=steps.value,
            mode="lines+markers",
            marker={"size": 5},
            line={"shape": "hv", **_line(place)},
            name=escape(view.subject.name),
        )
    ended = [count for _, steps in found for count in steps.ended]
    figure.update_xaxes(count_axis(ended), title={"text": "trials that ended"})
    values = [value for _, steps in found for value in steps.value]
    figure.update_yaxes(title={"text": "best validation accuracy"})
    accuracy_axis(figure, values)
    data = [
        pd.DataFrame(
            zip(repeat(view.subject.name), steps.number, steps.ended, steps.value), columns=BEST
        )
        for view, steps in found
    ]
    return Picture(BEST_TITLE, figure, pd.concat(data, ignore_index=True))


def best_at_budgets(views: list[View]) -> Picture:
    """For each budget of these studies, the best trial of each study that keeps it."""
    axis = axis_of(views)
    limits = sorted({limit for view in views if (limit := limit_of(view)) is not None})
    budgets = [*zip(limits, tick_words(axis, limits), strict=True), (float("inf"), "no limit")]
    rows = [
        {"budget": words, "study": view.subject.name, **row}
        for limit, words in budgets
        for view in views
        if (row := _best_under(view, axis, limit)) is not None
    ]
    if not rows:
        none = ("budget", "study", "trial", "accuracy", axis, "architecture")
        return nothing(BUDGETS_TITLE, why_none(views), none)
    data = pd.DataFrame(rows)
    figure = styled(go.Figure(), height=480)
    for place, (study, group) in enumerate(data.groupby("study", sort=False)):
        figure.add_scatter(
            x=group["budget"],
            y=group["accuracy"],
            customdata=group["trial"],
            mode="markers",
            marker={"size": 12, **_mark(place)},
            name=escape(str(study)),
            hovertemplate="trial %{customdata}: %{y:.2%}<extra>" + escape(str(study)) + "</extra>",
        )
    figure.update_xaxes(title={"text": f"at most, in {TITLES[axis]}"}, type="category")
    values = data["accuracy"].tolist()
    figure.update_yaxes(title={"text": "best validation accuracy"})
    accuracy_axis(figure, values)
    note = "A single training each: finalists and ablations say how much of it is chance."
    return Picture(BUDGETS_TITLE, figure, data, note)


def _best_under(view: View, axis: str, limit: float) -> dict[str, object] | None:
    done = complete(view)
    done = done[done[axis] <= limit] if limit < float("inf") else done
    if done.empty:
        return None
    row = table.best_first(done).iloc[0]
    return {
        "trial": int(row["number"]),
        "accuracy": row["value"],
        axis: row[axis],
        "architecture": row["words"],
    }


COMPARE: Mapping[str, Callable[[list[View]], Picture]] = {
    "fronts": fronts,
    "best_so_far": best_so_far,
    "best_at_budgets": best_at_budgets,
}
