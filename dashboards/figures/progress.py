"""How a search went: best so far, hypervolume, learning curves."""

import math
from bisect import bisect_left, bisect_right
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from dashboards.plotting.axes import AXES, amount_axis, count_axis, finite, share_range
from dashboards.plotting.picture import (
    BLUE,
    GREY,
    SEQUENCE,
    Picture,
    nothing,
    styled,
    value_axis,
)
from dashboards.plotting.reasons import complete, drawable, trial_numbers, why_nothing
from dashboards.views import View
from search.database import table
from search.database.goal import Goal

NARROW = 0.9  # of the largest size: if the smallest is closer, the area says nothing
SAMPLE = 300  # learning curves from which medians and quartiles are computed
PRUNED = 60  # drawn one by one
NAMED = 5
ACTIVE = ("RUNNING", "WAITING")
UNITS = ((1, "hours"), (60, "minutes"), (3600, "seconds"))  # the first unit that gives at least two

Floats = npt.NDArray[np.float64]


class Steps(NamedTuple):
    """Something that grows in steps, over trials and over compute time."""

    number: list[int]  # the trial that made the step; at the end, the last step's again
    ended: list[int]  # trials that had ended by then
    hours: list[float]  # of training, all trials together
    value: list[float]


NO_STEPS = Steps([], [], [], [])


def in_order(view: View) -> pd.DataFrame:
    """Ended trials in the order of their ends; `hours`: training time of all trials until then."""
    ended = view.trials[~view.trials["state"].isin(ACTIVE)]
    ended = ended.sort_values(["completed", "number"])
    seconds = ended["seconds"].where(finite(ended["seconds"]), 0)
    return ended.assign(ended=np.arange(1, len(ended) + 1), hours=seconds.cumsum() / 3600)


def best_steps(view: View) -> Steps:
    """Trials that were better than all that ended before; of equal values the smaller is better."""
    ended, leaders = in_order(view), table.best_first(complete(view), view.subject.goal)
    places = pd.Series(range(len(leaders)), leaders.index)  # 0 is the best
    place = places.reindex(ended.index).to_numpy(dtype=float, na_value=np.inf)
    found = ended[place < np.concatenate([[np.inf], np.minimum.accumulate(place)[:-1]])]
    return _steps(found, found["value"].tolist(), ended)


def _steps(found: pd.DataFrame, values: list[float], ended: pd.DataFrame) -> Steps:
    """Steps at the trials in `found`; the last value is kept until the last trial that ended."""
    last = ended.tail(1)
    return Steps(
        [*found["number"].astype(int), *found["number"].tail(1).astype(int)],
        [*found["ended"], *last["ended"]],
        [*found["hours"], *last["hours"]],
        [*values, *values[-1:]],
    )


def best(view: View) -> Picture:
    """Best value so far, over trials and over compute time."""
    goal = view.subject.goal
    column = f"best {goal.name}"
    if complete(view).empty:
        return nothing(why_nothing(view), _data(NO_STEPS, column))
    steps = best_steps(view)
    figure = _panels(steps, BLUE, goal.digits)
    value_axis(figure, steps.value, goal, "best ", col=1)
    found, last = goal.exactly(steps.value[-1]), steps.number[-1]
    note = f"{found} by trial {last}, number {steps.ended[-2]:,} to end."
    return Picture(figure, _data(steps, column), note)


def hypervolume(view: View) -> Picture:
    """Dominated hypervolume of accuracy against size, over trials and over compute time."""
    none = _data(NO_STEPS, "hypervolume")
    if not view.subject.goal.ours:
        why = "A hypervolume needs accuracies, and another program's values may be something else."
        return nothing(why, none)
    points = complete(view, view.filters.axis)
    if points.empty:
        return nothing(why_nothing(view, sized=True), none)
    axis, sizes = view.filters.axis, points[view.filters.axis]
    reference, smallest = float(sizes.max()), float(sizes.min())
    if smallest / reference > NARROW:
        return nothing(
            "All trials have nearly the same size, as usual under one budget: see the best so far.",
            none,
        )
    ended = in_order(view)
    ended = ended.assign(volume=volumes(ended, points, axis, smallest, reference))
    grown = ended[ended["volume"].diff().fillna(1) > 0]
    steps = _steps(grown, grown["volume"].tolist(), ended)
    figure = _panels(steps, SEQUENCE[2], ".3f")
    figure.update_yaxes(share_range(steps.value))
    figure.update_yaxes(title={"text": "hypervolume, 0 to 1"}, col=1)
    note = (
        "Area under the Pareto front, accuracy (from 0) by the logarithm of size, up to "
        f"{AXES[axis].words(reference)}, the size of the largest trial; 1 is full accuracy at the "
        "smallest size."
    )
    return Picture(figure, _data(steps, "hypervolume"), note)


def volumes(
    ended: pd.DataFrame, points: pd.DataFrame, axis: str, smallest: float, reference: float
) -> Floats:
    """Hypervolume after each trial that ended, as a share of the whole rectangle.

    Between a point of the front and the next larger one the area is as high as its accuracy.
    """
    whole = math.log(reference / smallest)
    counts = ended.index.isin(points.index)
    front = StaircaseArea(whole)
    found, area = np.zeros(len(ended)), 0.0
    depths = np.log(ended[axis].to_numpy(dtype=float) / smallest, where=counts, out=found.copy())
    for place, value in enumerate(ended["value"].to_numpy(dtype=float)):
        if counts[place]:
            area = front.add(float(depths[place]), float(value))
        found[place] = area / whole
    return found


class StaircaseArea:
    """The area under a rising staircase, from its first step to `end`."""

    def __init__(self, end: float) -> None:
        self.end, self.area = end, 0.0
        self.x: list[float] = []
        self.y: list[float] = []  # rising with x, from above 0

    def add(self, x: float, y: float) -> float:
        """Add a point; returns the area."""
        upto = bisect_right(self.x, x)
        if y <= (self.y[upto - 1] if upto else 0):
            return self.area
        place = last = bisect_left(self.x, x)
        while last < len(self.x) and self.y[last] <= y:  # beaten by the new point
            last += 1
        self.x[place:last], self.y[place:last] = [x], [y]
        ends = np.array([*self.x[1:], self.end])
        self.area = float(((ends - np.array(self.x)) * np.array(self.y)).sum())
        return self.area


def curves(view: View) -> Picture:
    """Median and quartiles of complete trials, the best few, and where others were pruned."""
    done, points, goal = complete(view), drawable(view.trials), view.subject.goal
    columns = ("trial", "epoch", goal.name)
    leaders = table.best(view.trials, NAMED, goal)
    pruned = _sample(points[points["state"] == "PRUNED"], PRUNED)
    sample = _sample(done, SAMPLE)
    wanted = {int(n) for part in (leaders, pruned, sample) for n in part["number"]}
    if not wanted:
        return nothing(why_nothing(view), columns)
    found = view.curves(sorted(wanted))
    found = found[finite(found["accuracy"])]
    if found.empty:
        return nothing("These trials reported nothing by epoch.", columns)
    figure = styled(go.Figure())
    _add_pruned(figure, found[found["number"].isin(pruned["number"])], goal)
    _add_band(figure, found[found["number"].isin(sample["number"])])
    for colour, (_, trial) in zip(SEQUENCE, leaders.iterrows(), strict=False):
        curve = found[found["number"] == trial["number"]]
        figure.add_scatter(
            x=curve["epoch"],
            y=curve["accuracy"],
            mode="lines",
            line={"color": colour, "width": 1.8},
            name=f"trial {int(trial['number'])}, {goal.words(trial['value'])}",
        )
    figure.update_xaxes(count_axis(found["epoch"]), title={"text": "epoch"})
    value_axis(figure, found["accuracy"], goal)
    note = _curves_note(len(done), int((points["state"] == "PRUNED").sum()))
    data = found.set_axis(columns, axis=1)
    return Picture(figure, data, note)


def _curves_note(done: int, pruned: int) -> str:
    drawn = f"{SAMPLE} trials drawn at random" if done > SAMPLE else "complete trials"
    few = f"{PRUNED} of {pruned:,} pruned trials" if pruned > PRUNED else "pruned trials"
    return " ".join(
        [
            *([f"Band: the middle half of {drawn}; line: their median."] if done else []),
            *([f"Crosses: where {few} ended."] if pruned else []),
        ]
    )


def _sample(trials: pd.DataFrame, count: int) -> pd.DataFrame:
    return trials.sample(min(count, len(trials)), random_state=0)


def _add_pruned(figure: go.Figure, curves: pd.DataFrame, goal: Goal) -> None:
    if curves.empty:
        return
    x: list[float | None] = []
    y: list[float | None] = []
    ends = curves.sort_values("epoch").groupby("number").tail(1)
    for _, curve in curves.groupby("number"):
        x += [*curve["epoch"], None]
        y += [*curve["accuracy"], None]
    line = {"color": GREY, "width": 0.8}
    figure.add_scatter(
        x=x, y=y, mode="lines", line=line, opacity=0.45, hoverinfo="skip", showlegend=False
    )
    figure.add_scatter(
        x=ends["epoch"],
        y=ends["accuracy"],
        customdata=trial_numbers(ends),
        mode="markers",
        marker={"symbol": "x-thin-open", "size": 7, "color": GREY, "line": {"width": 1.5}},
        name="pruned",
        hovertemplate="trial %{customdata}, stopped after epoch %{x}: "
        f"%{{y:{goal.digits}}}<extra></extra>",
    )


def _add_band(figure: go.Figure, curves: pd.DataFrame) -> None:
    if curves.empty:
        return
    middle = curves.groupby("epoch")["accuracy"].quantile(np.array([0.25, 0.5, 0.75])).unstack()
    edge = {"width": 0, "color": BLUE}
    for quantile, fill in ((0.25, None), (0.75, "tonexty")):
        figure.add_scatter(
            x=middle.index,
            y=middle[quantile],
            mode="lines",
            line=edge,
            fill=fill,
            fillcolor="rgba(0,114,178,0.18)",
            showlegend=False,
            hoverinfo="skip",
        )
    figure.add_scatter(
        x=middle.index, y=middle[0.5], mode="lines", line={"color": BLUE, "width": 3}, name="median"
    )


def _panels(steps: Steps, colour: str, digits: str) -> go.Figure:
    """Two panels: over trials that ended, and over compute time."""
    factor, unit = next((f, unit) for f, unit in UNITS if f * steps.hours[-1] >= 2 or f == 3600)
    panels = [steps.ended, [hour * factor for hour in steps.hours]]
    if not steps.hours[-1]:
        del panels[1]  # another program's trials do not say how long they were trained
    figure = make_subplots(1, len(panels), shared_yaxes=True, horizontal_spacing=0.05)
    for column, x in enumerate(panels, 1):
        figure.add_scatter(
            x=x,
            y=steps.value,
            customdata=steps.number,
            mode="lines+markers",
            marker={"size": 5},
            line={"shape": "hv", "color": colour, "width": 2},
            showlegend=False,
            hovertemplate=f"trial %{{customdata}}: %{{y:{digits}}}<extra></extra>",
            row=1,
            col=column,
        )
    styled(figure)
    figure.update_xaxes(count_axis(steps.ended), title={"text": "trials ended"}, col=1)
    if len(panels) > 1:
        figure.update_xaxes(amount_axis(steps.hours), title={"text": f"{unit} trained"}, col=2)
    return figure


def _data(steps: Steps, name: str) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "trial": steps.number,
            "trials ended": steps.ended,
            "hours of training": steps.hours,
            name: steps.value,
        }
    )
