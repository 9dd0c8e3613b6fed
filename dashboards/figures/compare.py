"""Several studies side by side: fronts, best so far, the best at each budget."""

import math
from collections.abc import Callable
from html import escape
from itertools import repeat

import pandas as pd
import plotly.graph_objects as go

from dashboards.figures.progress import best_steps
from dashboards.figures.search import limit_of, pareto
from dashboards.filters import Filters
from dashboards.plotting.axes import AXES, count_axis, size_axis, size_range, tick_words
from dashboards.plotting.picture import (
    SEQUENCE,
    Chart,
    Picture,
    listed,
    nothing,
    styled,
    value_axis,
)
from dashboards.plotting.reasons import complete, drawable
from dashboards.views import View
from search.database import table
from search.database.goal import ACCURACY, Goal

OTHERS = "Not drawn, because they measure something else: "
NOTHING = "None of these studies has a complete trial yet."
CHOOSE = "Choose one or more studies above."
DASHES = ("solid", "dash", "dot", "dashdot")
SYMBOLS = ("circle", "diamond", "square", "cross")


def fronts(views: list[View]) -> Picture:
    """The Pareto front of each study, on one axis of size."""
    axis, goal = axis_of(views), goal_of(views)
    found = [(view, pareto(drawable(view.trials, axis), axis, goal)) for view in views]
    found = [(view, front) for view, front in found if len(front)]
    if not found:
        none = ("study", "trial", axis, goal.name, "architecture")
        return nothing(why_none(views), none)
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
            hovertemplate=f"%{{y:{goal.digits}}} at %{{x:,}}<extra>{escape(view.subject.name)}"
            "</extra>",
        )
    figure.update_xaxes(**size_axis(axis, low, high))
    values = [value for _, front in found for value in front["value"]]
    value_axis(figure, values, goal)
    note = f"{'Down' if goal.minimised else 'Up'} and to the left is better."
    return Picture(figure, _rows(found, axis, goal), note)


def axis_of(views: list[View]) -> str:
    """The size axis, the same for all views; the default if there are none."""
    return next((view.filters.axis for view in views), Filters().axis)


def goal_of(views: list[View]) -> Goal:
    """What these studies measure, which is the same for all."""
    return next((view.subject.goal for view in views), ACCURACY)


def of_one_goal(draw: Callable[[list[View]], Picture]) -> Callable[[list[View]], Picture]:
    """Draw only studies that measure the same: accuracy, or else what the first one measures."""

    def drawn(views: list[View]) -> Picture:
        goal = min((view.subject.goal for view in views), key=lambda g: not g.ours, default=None)
        others = [view.subject.name for view in views if view.subject.goal != goal]
        found = draw([view for view in views if view.subject.goal == goal])
        left_out = f"{OTHERS}{', '.join(others)}." if others else ""
        return found._replace(note=" ".join(filter(None, (found.note, left_out))))

    return drawn


def why_none(views: list[View]) -> str:
    return NOTHING if views else CHOOSE


def _rows(found: list[tuple[View, pd.DataFrame]], axis: str, goal: Goal) -> pd.DataFrame:
    parts = [
        pd.DataFrame(
            {
                "study": view.subject.name,
                "trial": front["number"].astype(int),
                axis: front[axis].astype(int),
                goal.name: front["value"],
                "architecture": front["words"],
            }
        )
        for view, front in found
    ]
    return pd.concat(parts, ignore_index=True)


def _line(place: int) -> dict[str, object]:
    """The line of the study at this place: when colours repeat, dashes differ."""
    round_, colour = divmod(place, len(SEQUENCE))
    return {"color": SEQUENCE[colour], "width": 2, "dash": DASHES[round_ % len(DASHES)]}


def _mark(place: int) -> dict[str, object]:
    """The marker of the study at this place: when colours repeat, symbols differ."""
    round_, colour = divmod(place, len(SEQUENCE))
    return {"color": SEQUENCE[colour], "symbol": SYMBOLS[round_ % len(SYMBOLS)]}


def best_so_far(views: list[View]) -> Picture:
    """Best value of each study over the trials that ended."""
    goal = goal_of(views)
    columns = ("study", "trial", "trials ended", f"best {goal.name}")
    found = [(view, best_steps(view)) for view in views if len(complete(view))]
    if not found:
        return nothing(why_none(views), columns)
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
    value_axis(figure, values, goal, "best ")
    data = [
        pd.DataFrame(
            zip(repeat(view.subject.name), steps.number, steps.ended, steps.value), columns=columns
        )
        for view, steps in found
    ]
    return Picture(figure, pd.concat(data, ignore_index=True))


def best_at_budgets(views: list[View]) -> Picture:
    """For each budget of these studies, the best trial of each study that keeps it."""
    axis, goal = axis_of(views), goal_of(views)
    limits = sorted({limit for view in views if (limit := limit_of(view)) is not None})
    budgets = [*zip(limits, tick_words(axis, limits), strict=True), (math.inf, "no limit")]
    rows = [
        {"budget": words, "study": view.subject.name, **row}
        for limit, words in budgets
        for view in views
        if (row := _best_under(view, axis, limit)) is not None
    ]
    if not rows:
        none = ("budget", "study", "trial", goal.name, axis, "architecture")
        return nothing(why_none(views), none)
    data = pd.DataFrame(rows)
    figure = styled(go.Figure(), height=480)
    for place, (study, group) in enumerate(data.groupby("study", sort=False)):
        figure.add_scatter(
            x=group["budget"],
            y=group[goal.name],
            customdata=group["trial"],
            mode="markers",
            marker={"size": 12, **_mark(place)},
            name=escape(str(study)),
            hovertemplate=f"trial %{{customdata}}: %{{y:{goal.digits}}}"
            f"<extra>{escape(str(study))}</extra>",
        )
    figure.update_xaxes(title={"text": f"at most, in {AXES[axis].title}"}, type="category")
    value_axis(figure, data[goal.name].tolist(), goal, "best ")
    note = "A single training each: finalists and ablations say how much of it is chance."
    return Picture(figure, data, note)


def _best_under(view: View, axis: str, limit: float) -> dict[str, object] | None:
    goal, trials = view.subject.goal, view.trials
    within = trials[trials[axis] <= limit] if limit < math.inf else trials
    found = table.best(within, 1, goal)
    if found.empty:
        return None
    row = found.iloc[0]
    return {
        "trial": int(row["number"]),
        goal.name: row["value"],
        axis: row[axis],
        "architecture": row["words"],
    }


COMPARE_CHARTS = listed(
    Chart("fronts", "Pareto fronts", of_one_goal(fronts), wide=True),
    Chart("best_so_far", "Best so far", of_one_goal(best_so_far)),
    Chart("best_at_budgets", "The best at each budget", of_one_goal(best_at_budgets)),
)
