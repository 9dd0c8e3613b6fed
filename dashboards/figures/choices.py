"""What a search chose and how accurate it was: observed, not designed, so only a hint."""

from html import escape

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from dashboards.plotting.axes import (
    FEW_COUNTS,
    even_ticks,
    finite,
    nice_ticks,
    share_ends,
    size_range,
    tick_words,
)
from dashboards.plotting.picture import (
    BLUE,
    GREY,
    ORANGE,
    SEQUENCE,
    VERMILION,
    Picture,
    accuracy_axis,
    nothing,
    styled,
)
from dashboards.plotting.reasons import OBSERVED, complete, drawable, trial_numbers, why_nothing
from dashboards.views import View
from search.database import table

CHOICES = {
    "block": "block type",
    "groups": "most groups",
    "se": "stages with SE",
    "depth": "blocks",
    "width": "widest stage",
}
MEDIANS = ("choice", "level", "trials", "median accuracy")  # columns
SE_ORDER = ("none", "some", "all")
BINNED = ("depth", "width")
BINS = 5
MOST_POINTS = 400  # of a level
FEW = 30
DOTS, CLOUD = {"size": 8, "opacity": 0.8}, {"size": 4, "opacity": 0.45}
MOST_LINES = 5_000
ALWAYS = 500  # best trials that are among the lines
COLOURS = [[0, ORANGE], [0.5, GREY], [1, BLUE]]  # visible on white and on black


def choices(view: View) -> Picture:
    """Strips of accuracies by block type, groups, SE, depth and width, with medians."""
    done = complete(view)
    done = done[done["block"] != ""]
    if done.empty:
        return nothing(why_nothing(view, described=True), MEDIANS)
    levels = {choice: labelled(done, choice) for choice in CHOICES}
    figure = make_subplots(
        1,
        len(CHOICES),
        shared_yaxes=True,
        horizontal_spacing=0.02,
        subplot_titles=[*CHOICES.values()],
        column_widths=[1 + len(found.cat.categories) for found in levels.values()],
    )
    parts = []
    for place, (choice, title) in enumerate(CHOICES.items()):
        _add_strips(figure, done, levels[choice], place + 1, SEQUENCE[place])
        parts.append(_medians(done, levels[choice], title))
    styled(figure)
    figure.update_annotations(font={"size": 13})
    figure.update_layout(margin={"t": 36}, showlegend=False)
    figure.update_yaxes(title={"text": "validation accuracy"}, col=1)
    accuracy_axis(figure, done["value"])
    figure.update_xaxes(showgrid=False, tickangle=0, tickfont={"size": 11})
    note = f"Bars: medians, with the number of trials. {OBSERVED}"
    return Picture(figure, pd.concat(parts, ignore_index=True), note)


def labelled(trials: pd.DataFrame, choice: str) -> pd.Series:
    """Each trial's level as an ordered category."""
    values = trials[choice]
    if choice in BINNED and values.nunique() > BINS:
        # Quantiles that occur in the data: others may give an empty bin, or two bins of one name.
        quantiles = np.linspace(0, 1, BINS + 1)
        edges = np.unique(np.quantile(values, quantiles, method="inverted_cdf"))
        edges[0] -= 1  # a bin does not contain its left end, and the smallest trial must be in one
        return pd.cut(values, list(edges)).map(_interval_words)
    found = set(values.unique())
    order = [se for se in SE_ORDER if se in found] if choice == "se" else sorted(found)
    names = [escape(str(v)) if isinstance(v, str) else f"{v:.0f}" for v in order]
    return values.map(dict(zip(order, names, strict=True))).astype(
        pd.CategoricalDtype(names, ordered=True)
    )


def _interval_words(interval: pd.Interval) -> str:
    """An interval of whole numbers in words; it does not contain its left end."""
    first, last = int(interval.left) + 1, int(interval.right)
    return f"{first}-{last}" if first < last else f"{last}"


def _add_strips(
    figure: go.Figure, done: pd.DataFrame, levels: pd.Series, column: int, colour: str
) -> None:
    names = list(levels.cat.categories)
    rng = np.random.default_rng(0)
    for place, name in enumerate(names):
        group = done[levels == name]
        shown = group.sample(min(MOST_POINTS, len(group)), random_state=0)
        figure.add_scatter(
            x=place + rng.uniform(-0.28, 0.28, len(shown)),
            y=shown["value"],
            customdata=trial_numbers(shown),
            mode="markers",
            marker={"color": colour, **(CLOUD if len(group) > FEW else DOTS)},
            hovertemplate="trial %{customdata}: %{y:.2%}<extra></extra>",
            row=1,
            col=column,
        )
        median = group["value"].median()
        figure.add_scatter(
            x=[place - 0.36, place + 0.36],
            y=[median, median],
            mode="lines",
            line={"color": VERMILION, "width": 3},
            hovertemplate=f"median {median:.2%} of {len(group):,} trials<extra></extra>",
            row=1,
            col=column,
        )
    counts = [f"{name}<br>{int((levels == name).sum()):,}" for name in names]
    figure.update_xaxes(tickvals=list(range(len(names))), ticktext=counts, col=column)


def _medians(done: pd.DataFrame, levels: pd.Series, title: str) -> pd.DataFrame:
    groups = done["value"].groupby(levels, observed=True)
    names = groups.median().index.astype(str)
    columns = (title, names, groups.size().to_numpy(), groups.median().to_numpy())
    return pd.DataFrame(dict(zip(MEDIANS, columns, strict=True)))


def parallel(view: View) -> Picture:
    """Every choice, the size and the accuracy of each trial as one line."""
    points = drawable(view.trials)
    points = points[points["block"] != ""]
    if points.empty:
        none = _lines(points, view.filters.axis)
        return nothing(why_nothing(view, described=True), none)
    leaders = table.best_first(points).head(ALWAYS)
    others = points.drop(leaders.index)
    drawn = pd.concat(
        [others.sample(min(MOST_LINES - ALWAYS, len(others)), random_state=0), leaders]
    )
    drawn = drawn.sort_values("value")
    axis = view.filters.axis
    dimensions = [_dimension(drawn, choice, title) for choice, title in CHOICES.items()]
    if (finite(drawn[axis]) & (drawn[axis] > 0)).all():
        dimensions.append(_size_dimension(drawn, axis))
    dimensions.append(_accuracy_dimension(drawn["value"]))
    figure = styled(go.Figure(), height=420)
    figure.add_trace(
        go.Parcoords(
            dimensions=dimensions,
            line={"color": drawn["value"], "colorscale": COLOURS},
            labelfont={"size": 13},
            tickfont={"size": 11},
        )
    )
    figure.update_layout(margin={"l": 70, "r": 50, "t": 50, "b": 24})
    few = (
        f"{len(drawn):,} of {len(points):,} trials, the best among them. "
        if len(others) > (MOST_LINES - ALWAYS)
        else ""
    )
    note = (
        f"{few}Blue lines are the most accurate, orange ones the least. "
        f"Drag along an axis to pick lines. {OBSERVED}"
    )
    return Picture(figure, _lines(drawn, axis), note)


def _lines(trials: pd.DataFrame, axis: str) -> pd.DataFrame:
    columns = trials[["number", *CHOICES, axis, "value"]]
    return columns.rename(columns={"number": "trial", "value": "accuracy"} | CHOICES)


def _dimension(trials: pd.DataFrame, choice: str, title: str) -> dict[str, object]:
    if choice in BINNED:
        return {"label": title, "values": trials[choice], **_counts(trials[choice])}
    levels = labelled(trials, choice)
    names = list(levels.cat.categories)
    return {
        "label": title,
        "values": levels.cat.codes,
        "tickvals": list(range(len(names))),
        "ticktext": names,
    }


def _counts(values: pd.Series) -> dict[str, object]:
    """Ticks at whole numbers only; a single value lies in the middle of its axis."""
    low, high = int(values.min()), int(values.max())
    few: dict[str, object] = {"tickvals": list(range(low, high + 1))}
    ticks = few if high - low < FEW_COUNTS else {}
    return ticks if low < high else ticks | {"range": [low - 1, high + 1]}


def _accuracy_dimension(accuracies: pd.Series) -> dict[str, object]:
    """An axis with its own ticks: Plotly would also write the ends, however long they are."""
    axis: dict[str, object] = {"label": "accuracy", "values": accuracies}
    if ends := share_ends(accuracies):
        ticks = even_ticks(*ends)
        words = [f"{100 * tick:.6g}%" for tick in ticks]
        axis |= {"range": [*ends], "tickvals": ticks, "ticktext": words}
    return axis


def _size_dimension(trials: pd.DataFrame, axis: str) -> dict[str, object]:
    ends = size_range(trials[axis].tolist())
    ticks = nice_ticks(*ends)
    return {
        "label": axis,
        "values": np.log10(trials[axis]),
        "range": np.log10(ends).tolist(),
        "tickvals": np.log10(ticks).tolist(),
        "ticktext": tick_words(axis, ticks),
    }
