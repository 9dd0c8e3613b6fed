"""One trial's charts: its network, where its bytes go, how it learned, what it confuses."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from html import escape
from itertools import product

import numpy as np
import numpy.typing as npt
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots
from scipy import stats

from dashboards.figures.architecture import architecture, bytes_by_layer
from dashboards.library import card_of
from dashboards.plotting.axes import SHARES, amount_axis, count_axis, share_axis
from dashboards.plotting.heatmap import SCALE, write_cells
from dashboards.plotting.names import DOWN, places
from dashboards.plotting.picture import (
    BLUE,
    GREY,
    ORANGE,
    VERMILION,
    Chart,
    Picture,
    listed,
    nothing,
    styled,
    value_axis,
)
from dashboards.views import TrialView
from search.terminal import trial_facts
from space.architecture import Architecture
from space.file_format import EXACT_FORMAT, FORMATS, stored_bytes

Counts = npt.NDArray[np.int64]

NO_CONFUSION = (
    "No confusion matrix is stored with this trial: it ended without a file, it has more than "
    "100 classes, or an earlier version trained it."
)
NO_IMAGE = "The confusion matrix counts no image."
NO_EPOCH = "No epoch has been reported yet: the curve appears here with the first."
CONFUSED = ("true class", "predicted class", "images")  # columns
BY_CLASS = ("class", "images", "accuracy", "low", "high")
NAME = 20  # characters of a class's name beside the matrix, in one line
WRITTEN_CLASSES = 12  # with more of them numbers do not fit into cells


def facts(view: TrialView) -> list[tuple[str, str]]:
    """What is known of the trial, as (name, words); without its accuracies, which are drawn."""
    known = trial_facts.facts(view.row, view.subject.spec)
    return [(name, words) for name, words in known if name != "epochs"]


def formats(view: TrialView) -> pd.DataFrame:
    """The student in every storage format: bytes, share of the budget, accuracy, what it loses."""
    columns = ["format", "bytes", "of the budget", "accuracy", "against fp32"]
    given = view.row["architecture"]
    if not isinstance(given, Mapping) or not view.subject.classes:
        return pd.DataFrame(columns=columns)
    network, size = Architecture.from_dict(given), trial_facts.size_of(view.row, view.subject.spec)
    card = replace(card_of(view.subject), size=size)
    sizes = {format: stored_bytes(network, format, card) for format in FORMATS}
    rows = [
        (format, f"{size:,}", _share(view, size), _measured(view, format), _lost(view, format))
        for format, size in sizes.items()
    ]
    return pd.DataFrame(rows, columns=columns)


def _share(view: TrialView, size: int) -> str:
    budget = view.subject.budget
    if budget is None or budget.unit != "bytes":
        return ""
    share = size / budget.limit
    return f"{share:.1%}" + (" (too large)" if share > 1 else "")


def own_format(view: TrialView) -> str | None:
    own, budget = view.row["format"], view.subject.budget
    return own if isinstance(own, str) else budget.format if budget else None


def _measured(view: TrialView, format: str) -> str:
    row = view.row
    if view.formats is not None and format in view.formats:
        accuracy = view.formats[format]
        return "cannot hold it" if accuracy is None else f"{accuracy:.2%}"
    if format == own_format(view) and not pd.isna(row["file_accuracy"]):
        return f"{row['file_accuracy']:.2%}"
    if format == EXACT_FORMAT and not pd.isna(row["network_accuracy"]):
        return f"{row['network_accuracy']:.2%}"
    return "not measured"


def _lost(view: TrialView, format: str) -> str:
    """Percentage points of accuracy that a format loses against fp32."""
    known = view.formats or {}
    whole, stored = known.get(EXACT_FORMAT), known.get(format)
    if format == EXACT_FORMAT or whole is None or stored is None:
        return ""
    return f"{100 * (stored - whole):+.2f} points"


def curve(view: TrialView) -> Picture:
    """Accuracy by epoch, with a cross where it was pruned; and training loss."""
    found, losses, goal = view.curve, _losses(view), view.subject.goal
    columns = ("epoch", goal.name, "loss")
    if found.empty:
        return nothing(NO_EPOCH, columns)
    panels = 2 if len(losses) else 1
    figure = styled(make_subplots(1, panels, horizontal_spacing=0.2))
    _add_curve(figure, found["epoch"], found["accuracy"], BLUE, goal.digits, 1)
    if panels == 2:
        _add_curve(figure, losses.index, losses, ORANGE, ".4g", 2)
        figure.update_yaxes(amount_axis(losses), title={"text": "mean training loss"}, col=2)
    was_pruned = view.row["state"] == "PRUNED"
    if was_pruned:
        figure.add_scatter(
            x=found["epoch"].tail(1),
            y=found["accuracy"].tail(1),
            mode="markers",
            marker={"symbol": "x", "size": 12, "color": VERMILION},
            showlegend=False,
            hoverinfo="skip",
            row=1,
            col=1,
        )
    figure.update_xaxes(count_axis(found["epoch"]), title={"text": "epoch"})
    value_axis(figure, found["accuracy"], goal, col=1)
    data = found.assign(loss=found["epoch"].map(losses)).rename(columns={"accuracy": goal.name})
    data = data[[*columns]]
    return Picture(figure, data, "Cross: pruned here." if was_pruned else "")


def _losses(view: TrialView) -> pd.Series:
    """Mean training loss by epoch, from 1."""
    known = view.row["losses"] if isinstance(view.row["losses"], list) else []
    return pd.Series(known, index=range(1, len(known) + 1), dtype=float)


def _add_curve(
    figure: go.Figure,
    epochs: Iterable[int],
    values: pd.Series,
    colour: str,
    format: str,
    column: int,
) -> None:
    figure.add_scatter(
        x=list(epochs),
        y=values,
        mode="lines+markers",
        line={"color": colour, "width": 2},
        showlegend=False,
        hovertemplate=f"epoch %{{x}}: %{{y:{format}}}<extra></extra>",
        row=1,
        col=column,
    )


def class_names(view: TrialView, count: int) -> list[str]:
    names = view.subject.classes
    return list(names) if len(names) == count else [str(place) for place in range(count)]


def confusion(view: TrialView) -> Picture:
    """Validation images, true class by predicted class, as shares of the true class."""
    if view.confusion is None:
        return nothing(NO_CONFUSION, CONFUSED)
    counts = np.array(view.confusion)
    names = class_names(view, len(counts))
    shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    figure = styled(go.Figure(), height=max(380, min(900, 90 + 30 * len(counts))))
    figure.add_heatmap(
        z=shares,
        customdata=[
            [_mistaken(a, b, n) for b, n in zip(names, row, strict=True)]
            for a, row in zip(names, counts, strict=True)
        ],
        colorscale=SCALE,
        zmin=0,
        zmax=1,
        colorbar={"tickformat": SHARES, "thickness": 12},
        hovertemplate="%{customdata} (%{z:.1%})<extra></extra>",
    )
    if len(counts) <= WRITTEN_CLASSES:
        texts = [[str(count) if count else "" for count in row] for row in counts]
        write_cells(figure, shares, texts, (0.0, 1.0))
    shown = [name if len(name) <= NAME else f"{name[: NAME - 1]}…" for name in names]
    downwards = {"range": [len(names) - 0.5, -0.5], "title": {"text": "true"}}
    figure.update_xaxes(places(shown, NAME) | {"title": {"text": "predicted"}})
    figure.update_yaxes(places(shown, NAME) | downwards)
    note = "Numbers: validation images; colour: share of the true class. Of the file as read back."
    return Picture(figure, confused(names, counts), note)


def _mistaken(true: str, predicted: str, count: int) -> str:
    return f"{escape(true)} taken for {escape(predicted)}: {count:,} images"


def confused(names: Sequence[str], counts: Counts) -> pd.DataFrame:
    """One row a cell of the confusion matrix."""
    cells = zip(product(names, names), counts.ravel().tolist(), strict=True)
    rows = [(true, predicted, count) for (true, predicted), count in cells]
    return pd.DataFrame(rows, columns=CONFUSED)


def classes(view: TrialView) -> Picture:
    """Accuracy by true class with Wilson's interval, best first."""
    if view.confusion is None:
        return nothing(NO_CONFUSION, BY_CLASS)
    data = by_class(view).sort_values("accuracy", kind="stable")
    if data.empty:
        return nothing(NO_IMAGE, BY_CLASS)
    figure = styled(go.Figure(), height=max(280, 90 + 26 * len(data)))
    figure.add_scatter(
        x=data["accuracy"],
        y=list(range(len(data))),
        mode="markers",
        cliponaxis=False,
        marker={"color": BLUE, "size": 9},
        error_x={
            "symmetric": False,
            "array": data["high"] - data["accuracy"],
            "arrayminus": data["accuracy"] - data["low"],
            "color": GREY,
        },
        customdata=np.stack([data["low"], data["high"], data["images"]], axis=1),
        hovertemplate="%{x:.1%} [%{customdata[0]:.1%}, %{customdata[1]:.1%}] of "
        "%{customdata[2]} images<extra></extra>",
    )
    figure.update_xaxes(share_axis([0, 1]), title={"text": "accuracy"})
    figure.update_layout(margin={"r": 32})  # room for the last tick's label
    names = zip(data["class"], data["images"], strict=True)
    figure.update_yaxes(places([f"{name} ({images:,})" for name, images in names], DOWN))
    note = "In brackets: validation images. Intervals: Wilson's, 95 %, for each class by itself."
    return Picture(figure, data.iloc[::-1].reset_index(drop=True), note)


def by_class(view: TrialView) -> pd.DataFrame:
    """class, images, accuracy, low, high; classes without an image are left out."""
    counts = np.array(view.confusion)
    rows: list[tuple[object, ...]] = []
    for place, name in enumerate(class_names(view, len(counts))):
        right, images = int(counts[place, place]), int(counts[place].sum())
        if images:
            interval = stats.binomtest(right, images).proportion_ci(method="wilson")
            rows.append((name, images, right / images, interval.low, interval.high))
    return pd.DataFrame(rows, columns=BY_CLASS)


TRIAL_CHARTS = listed(
    Chart("architecture", "Architecture", architecture, wide=True),
    Chart("bytes", "Where the bytes go", bytes_by_layer, wide=True),
    Chart("curve", "Learning curve", curve),
    Chart("classes", "Accuracy by class", classes),
    Chart("confusion", "Confusion matrix", confusion),
)
