"""One trial as pictures: its network, where its bytes go, how it learned, what it confuses."""

from collections.abc import Callable, Mapping
from html import escape
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots
from scipy import stats

from dashboards.architecture_figures import architecture, bytes_by_layer
from dashboards.library import card_of
from dashboards.picture import BLUE, GREY, ORANGE, Picture, nothing, styled
from dashboards.views import TrialView
from search import trial_facts
from space.architecture import Architecture
from space.storage import FORMATS, stored_bytes

CURVE_TITLE, CONFUSION_TITLE, CLASSES_TITLE = (
    *("Learning curve", "Confusion matrix", "Accuracy by class"),
)
NO_CONFUSION = (
    "No confusion matrix is stored with this trial: it did not end with a file, it has more than "
    "100 classes, or an earlier version trained it."
)
WRITTEN_CLASSES = 12  # with more of them numbers do not fit into cells


def facts(view: TrialView) -> list[tuple[str, str]]:
    """What is known of the trial, in words; its curve is drawn."""
    return [(name, words) for name, words in trial_facts.facts(view.row) if name != "epochs"]


def formats(view: TrialView) -> pd.DataFrame:
    """The student in every storage format: bytes, share of the budget, accuracy."""
    columns = ["format", "bytes", "of the budget", "accuracy"]
    given = view.row["architecture"]
    if not isinstance(given, Mapping) or not view.subject.classes:
        return pd.DataFrame(columns=columns)
    network, card = Architecture.from_dict(given), card_of(view.subject)
    sizes = {format: stored_bytes(network, format, card) for format in FORMATS}
    rows = [
        (format, f"{size:,}", _share(view, size), _measured(view, format))
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
    if format == own_format(view) and not pd.isna(row["file_accuracy"]):
        return f"{row['file_accuracy']:.2%}"
    if format == "fp32" and not pd.isna(row["network_accuracy"]):
        return f"{row['network_accuracy']:.2%}"
    command = f"distilnas export {view.subject.name} --trial {int(row['number'])}"
    return f"not measured; write it with: {command} --format {format}"


def curve(view: TrialView) -> Picture:
    """Accuracy and training loss by epoch."""
    found, losses = view.curve, view.row["losses"]
    if found.empty:
        return nothing(CURVE_TITLE, "No epoch has been reported yet.")
    panels = 2 if isinstance(losses, list) and losses else 1
    figure = make_subplots(1, panels, horizontal_spacing=0.12)
    figure.add_scatter(
        x=found["epoch"],
        y=found["accuracy"],
        mode="lines+markers",
        line={"color": BLUE, "width": 2},
        showlegend=False,
        hovertemplate="epoch %{x}: %{y:.2%}<extra></extra>",
        row=1,
        col=1,
    )
    if view.row["state"] == "PRUNED":
        last = found.iloc[-1]
        figure.add_annotation(x=last["epoch"], y=last["accuracy"], text="pruned", ax=-40, ay=24)
    if panels == 2:
        figure.add_scatter(
            x=list(range(1, len(losses) + 1)),
            y=losses,
            mode="lines+markers",
            line={"color": ORANGE, "width": 2},
            showlegend=False,
            hovertemplate="epoch %{x}: %{y:.4g}<extra></extra>",
            row=1,
            col=2,
        )
        figure.update_yaxes(title={"text": "mean training loss"}, col=2)
    styled(figure)
    figure.update_xaxes(title={"text": "epoch"})
    figure.update_yaxes(title={"text": "validation accuracy"}, tickformat=".0%", col=1)
    known = pd.Series(
        losses if panels == 2 else [],
        index=range(1, 1 + len(losses or [])) if panels == 2 else [],
        dtype=float,
    )
    data = found[["epoch", "accuracy"]].assign(loss=found["epoch"].map(known))
    return Picture(CURVE_TITLE, figure, data)


def class_names(view: TrialView, count: int) -> list[str]:
    names = view.subject.classes
    return list(names) if len(names) == count else [str(place) for place in range(count)]


def confusion(view: TrialView) -> Picture:
    """Validation images, true class by predicted class, as shares of the true class."""
    if view.confusion is None:
        return nothing(CONFUSION_TITLE, NO_CONFUSION)
    counts = np.array(view.confusion)
    names = class_names(view, len(counts))
    labels = [escape(name) for name in names]
    shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    figure = styled(go.Figure(), height=max(380, min(900, 90 + 30 * len(counts))))
    written = len(counts) <= WRITTEN_CLASSES
    figure.add_heatmap(
        z=shares,
        x=labels,
        y=labels,
        customdata=counts,
        text=np.where(counts > 0, counts.astype(str), "") if written else None,
        texttemplate="%{text}" if written else None,
        colorscale="Cividis",
        zmin=0,
        zmax=1,
        colorbar={"tickformat": ".0%", "thickness": 12},
        hovertemplate="%{y} taken for %{x}: %{customdata} images (%{z:.1%})<extra></extra>",
    )
    figure.update_xaxes(title={"text": "predicted"}, showgrid=False, type="category")
    figure.update_yaxes(
        title={"text": "true"}, showgrid=False, autorange="reversed", type="category"
    )
    pairs = pd.DataFrame(counts, index=names, columns=names).rename_axis("true class")
    data = pairs.reset_index().melt("true class", var_name="predicted class", value_name="images")
    note = "Numbers: validation images; colour: share of the true class. Of the file as read back."
    return Picture(CONFUSION_TITLE, figure, data, note)


def classes(view: TrialView) -> Picture:
    """Accuracy by true class with Wilson's interval, best first."""
    if view.confusion is None:
        return nothing(CLASSES_TITLE, NO_CONFUSION)
    data = by_class(view).sort_values("accuracy", ascending=True)
    figure = styled(go.Figure(), height=max(280, 90 + 26 * len(data)))
    figure.add_scatter(
        x=data["accuracy"],
        y=[escape(name) for name in data["class"]],
        mode="markers",
        marker={"color": BLUE, "size": 9},
        error_x={
            "symmetric": False,
            "array": data["high"] - data["accuracy"],
            "arrayminus": data["accuracy"] - data["low"],
            "color": GREY,
        },
        customdata=data["images"],
        hovertemplate="%{y}: %{x:.1%} of %{customdata} images<extra></extra>",
    )
    figure.update_xaxes(title={"text": "accuracy"}, tickformat=".0%", range=[-0.02, 1.02])
    figure.update_yaxes(type="category")
    note = "Intervals: Wilson's, 95 %, for each class by itself."
    return Picture(CLASSES_TITLE, figure, data.iloc[::-1].reset_index(drop=True), note)


def by_class(view: TrialView) -> pd.DataFrame:
    """class, images, accuracy, low, high; classes without an image are left out."""
    counts = np.array(view.confusion)
    rows: list[tuple[Any, ...]] = []
    for name, row, place in zip(
        class_names(view, len(counts)), counts, range(len(counts)), strict=True
    ):
        if row.sum():
            right, images = int(row[place]), int(row.sum())
            interval = stats.binomtest(right, images).proportion_ci(method="wilson")
            rows.append((name, images, right / images, interval.low, interval.high))
    return pd.DataFrame(rows, columns=["class", "images", "accuracy", "low", "high"])


TRIAL: Mapping[str, Callable[[TrialView], Picture]] = {
    "architecture": architecture,
    "bytes": bytes_by_layer,
    "curve": curve,
    "classes": classes,
    "confusion": confusion,
}
