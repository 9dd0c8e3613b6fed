"""A search's charts: accuracy against size, with budget, teachers and references; table of all."""

import math
from html import escape
from typing import NamedTuple

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from dashboards.figures.choices import choices, parallel
from dashboards.figures.importances import importances
from dashboards.figures.progress import best, curves, hypervolume
from dashboards.plotting.axes import AXES, size_axis, size_range
from dashboards.plotting.picture import (
    BLUE,
    GREY,
    PINK,
    STATE_SYMBOLS,
    SVG_POINTS,
    VERMILION,
    Chart,
    Picture,
    block_colour,
    listed,
    nothing,
    styled,
    value_axis,
)
from dashboards.plotting.reasons import drawable, objects, trial_numbers, why_nothing
from dashboards.views import Mark, View
from search.database.goal import ACCURACY, Goal
from search.terminal.output import short

REACH = 0.5  # of the range of sizes: how far outside it a reference is still drawn
NAME = 0.12  # of the range: the width of a reference's name
ROWS = (
    0.985,
    0.92,
    0.855,
)  # heights of references, as shares of the chart's: names side by side take different ones


class Front(NamedTuple):
    """What the chart of accuracy against size shows."""

    axis: str
    goal: Goal
    points: pd.DataFrame  # trials with a size and a value; `on_front` says which lead
    limit: float | None  # the budget, where it limits this axis
    references: list[Mark]  # near the points
    far: list[Mark]
    teachers: tuple[Mark, ...]
    low: float  # ends of the axis
    high: float


def front(view: View) -> Picture:
    """Every trial, the Pareto front, the budget, teachers and reference architectures."""
    points, goal = drawable(view.trials, view.filters.axis), view.subject.goal
    if points.empty:
        none = front_data(points.assign(on_front=False), view.filters.axis, goal)
        return nothing(why_nothing(view, sized=True), none)
    info = front_info(view, points)
    data = front_data(info.points, info.axis, goal)
    return Picture(front_figure(info), data, front_note(info, view))


def pareto(points: pd.DataFrame, axis: str, goal: Goal = ACCURACY) -> pd.DataFrame:
    """Complete trials that no other one of at most their size equals or beats; smallest first."""
    done = points[points["state"] == "COMPLETE"]
    done = done.assign(worth=goal.worth(done["value"]))
    done = done.sort_values([axis, "worth", "number"], ascending=[True, False, True])
    before = done["worth"].cummax().shift(fill_value=-np.inf)
    return done[done["worth"] > before].drop(columns="worth")


def front_info(view: View, points: pd.DataFrame) -> Front:
    axis, limit = view.filters.axis, limit_of(view)
    leading = pareto(points, axis, view.subject.goal).index
    sizes = [*points[axis], *([limit] if limit else [])]
    marks = view.references(axis)
    near = [mark for mark in marks if is_near(mark, *size_range(sizes))]
    low, high = size_range([*sizes, *(mark.size for mark in near if mark.size)])
    return Front(
        axis=axis,
        goal=view.subject.goal,
        points=points.assign(on_front=points.index.isin(leading)),
        limit=limit,
        references=near,
        far=[mark for mark in marks if mark not in near],
        teachers=tuple(mark for mark in view.teachers if mark.accuracy is not None),
        low=low,
        high=high,
    )


def is_near(mark: Mark, low: float, high: float) -> bool:
    """Whether a mark is close enough to this range of sizes to be drawn."""
    reach = (high / low) ** REACH
    return mark.size is not None and low / reach <= mark.size <= high * reach


def limit_of(view: View) -> float | None:
    """The budget's limit on this axis; None if it limits another size."""
    budget, axis = view.subject.budget, view.filters.axis
    if budget is None:
        return None
    if axis == "macs":
        return budget.macs
    return budget.limit if budget.unit == axis else None


def front_figure(info: Front) -> go.Figure:
    figure = styled(go.Figure(), height=520)
    kind = go.Scattergl if len(info.points) > SVG_POINTS else go.Scatter
    for block, trials in info.points.groupby("block", sort=True):
        for place, (state, group) in enumerate(trials.groupby("state", sort=True)):
            marks = _points(info, str(block), str(state), group)
            figure.add_trace(kind(**marks, showlegend=place == 0))
    _add_states(figure, info)
    lead = info.points[info.points["on_front"]].sort_values(info.axis)
    figure.add_trace(_front_line(info, lead))
    _add_limit(figure, info)
    _add_teachers(figure, info)
    figure.update_xaxes(**size_axis(info.axis, info.low, info.high))
    teachers = [mark.accuracy for mark in info.teachers if mark.accuracy is not None]
    value_axis(figure, [*info.points["value"], *teachers], info.goal)
    _add_references(figure, info)  # at the end: their axis is no axis of values
    return figure


def _points(info: Front, block: str, state: str, group: pd.DataFrame) -> dict[str, object]:
    many = len(info.points)
    size = 9 if many < 500 else 6 if many < SVG_POINTS else 4
    is_done = state == "COMPLETE"
    words = objects(escape(text) if isinstance(text, str) else "" for text in group["words"])
    return {
        "x": group[info.axis].to_numpy(),
        "y": group["value"].to_numpy(),
        "customdata": trial_numbers(group),
        "text": words,
        "mode": "markers",
        "name": escape(block) or "unknown block",
        "legendgroup": escape(block) if is_done else state_group(state),
        "marker": {
            "color": block_colour(block),
            "symbol": STATE_SYMBOLS.get(state, "circle-open"),
            "size": size,
            "opacity": 0.9 if is_done else 0.55,
            "line": {"width": 0.5 if is_done else 1.2, "color": block_colour(block)},
        },
        "hovertemplate": "trial %{customdata}, " + state.lower() + "<br>%{y:"
        f"{info.goal.digits}}} at %{{x:,}} {info.axis}<br>%{{text}}<extra></extra>",
    }


def state_group(state: str) -> str:
    """The legend group of a state: one entry shows and hides all its trials."""
    return f"state {state}"


def _add_states(figure: go.Figure, info: Front) -> None:
    """Legend entries for the symbols of trials that are not complete."""
    for state in sorted({*info.points["state"]} - {"COMPLETE"}):
        figure.add_scatter(
            x=[None],
            y=[None],
            mode="markers",
            marker={"symbol": STATE_SYMBOLS.get(state, "circle-open"), "size": 9, "color": GREY},
            name=state.lower(),
            legendgroup=state_group(state),
            hoverinfo="skip",
        )


def _front_line(info: Front, lead: pd.DataFrame) -> go.Scatter:
    """The Pareto front, up to the budget or to the largest trial."""
    return go.Scatter(
        x=[*lead[info.axis], max(info.points[info.axis].max(), info.limit or 0)],
        y=[*lead["value"], *lead["value"].tail(1)],
        mode="lines",
        line={"shape": "hv", "color": GREY, "width": 2},
        name="Pareto front",
        hoverinfo="skip",
    )


def _add_limit(figure: go.Figure, info: Front) -> None:
    if info.limit is None:
        return
    figure.add_vrect(
        x0=info.limit, x1=info.high * 10, fillcolor=VERMILION, opacity=0.08, line_width=0
    )
    figure.add_vline(x=info.limit, line={"color": VERMILION, "dash": "dash", "width": 1.5})
    figure.add_annotation(
        x=np.log10(info.limit),
        y=0,
        yref="paper",
        yanchor="bottom",
        xanchor="right",
        showarrow=False,
        text=f"budget {AXES[info.axis].words(info.limit)}",
    )


def _add_teachers(figure: go.Figure, info: Front) -> None:
    for mark in info.teachers:
        size = f", {short(mark.size)} parameters" if mark.size else ""
        words = f"teacher {escape(mark.name)} {mark.accuracy:.1%}{size}"
        figure.add_hline(
            y=mark.accuracy,
            line={"color": PINK, "dash": "dot", "width": 1.5},
            annotation={
                "text": words,
                "font": {"size": 11},  # so that it fits into a narrow window
            },
            annotation_position="top left",
        )


def _add_references(figure: go.Figure, info: Front) -> None:
    if not info.references:
        return
    marks = sorted(info.references, key=lambda mark: mark.size or 0)
    figure.add_trace(
        go.Scatter(
            x=[mark.size for mark in marks],
            y=reference_heights(info, marks),
            cliponaxis=False,
            yaxis="y2",
            mode="markers+text",
            text=[mark.name for mark in marks],
            textposition="bottom center",
            textfont={"size": 11, "color": GREY},
            marker={"symbol": "triangle-down", "color": BLUE, "size": 9},
            showlegend=False,
            hovertemplate="%{text}: %{x:,} " + info.axis + "<extra></extra>",
        )
    )
    hidden = {"overlaying": "y", "range": [0, 1], "visible": False, "fixedrange": True}
    figure.update_layout(yaxis2=hidden)


def reference_heights(info: Front, marks: list[Mark]) -> list[float]:
    """For each mark, from left to right, the highest row where its name overlaps no other."""
    apart = math.log(info.high / info.low) * NAME
    ends = [-math.inf] * len(ROWS)
    heights = []
    for mark in marks:
        x = math.log(mark.size or 1)
        row = next((row for row, end in enumerate(ends) if x > end), len(ROWS) - 1)
        ends[row] = x + apart
        heights.append(ROWS[row])
    return heights


def front_data(points: pd.DataFrame, axis: str, goal: Goal) -> pd.DataFrame:
    points = points.sort_values("number")
    return pd.DataFrame(
        {
            "trial": points["number"].astype(int),
            "state": points["state"].str.lower(),
            "block": points["block"],
            goal.name: points["value"],
            axis: points[axis].astype(int),
            "on front": points["on_front"],
            "architecture": points["words"],
        }
    )


CLICK = "Click a point to open the trial."  # of the page; a report has no trials to open


def front_note(info: Front, view: View) -> str:
    twins = int(view.trials["duplicate_of"].notna().sum())
    unsized = len(view.trials) - twins - len(info.points)
    absent = [
        *([f"{twins:,} that drew a student trained before"] if twins else []),
        *([f"{unsized:,} without a size or {info.goal.one}"] if unsized else []),
    ]
    far = [f"{mark.name} ({AXES[info.axis].words(mark.size or 0)})" for mark in info.far]
    sentences = [
        *(["Triangles: sizes of reference architectures."] if info.references else []),
        *([f"Outside this range: {', '.join(far)}."] if far else []),
        *([f"Trials not drawn: {', '.join(absent)}."] if absent else []),
        CLICK,
    ]
    return " ".join(sentences)


SEARCH_CHARTS = listed(
    Chart("front", "Accuracy against size", front, wide=True),
    Chart("best", "Best so far", best),
    Chart("hypervolume", "Hypervolume", hypervolume),
    Chart("curves", "Learning curves", curves),
    Chart("importances", "What accuracy depends on", importances),
    Chart("choices", "Accuracy by choice, observed in search", choices, wide=True),
    Chart("parallel", "All choices at once", parallel, wide=True),
)
