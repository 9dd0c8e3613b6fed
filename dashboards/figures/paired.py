"""An ablation seed by seed, and what others published."""

from collections.abc import Iterable
from html import escape
from itertools import product

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from dashboards.plotting.names import WAITING, by_level, numbers_in, places, results
from dashboards.plotting.picture import (
    BLUE,
    GREY,
    VERMILION,
    Picture,
    accuracy_axis,
    nothing,
    styled,
)
from dashboards.views import AblationView

BY_SEED = ("seed", "arm", "accuracy")  # columns


def paired(view: AblationView) -> Picture:
    """One line a seed through the arms; by factor, through means over the other factors."""
    found = results(view)
    if found.empty:
        return nothing(WAITING, BY_SEED)
    known = published(view)
    panels, above = _panels(view, _balanced(view, found)), _panels(view, known)
    ours = 1 if known.empty else 2  # its row
    figure = make_subplots(
        ours,
        len(panels),
        shared_xaxes=True,
        shared_yaxes=True,
        horizontal_spacing=0.03,
        vertical_spacing=0.06,
        row_heights=[0.3, 0.7][-ours:],
        column_widths=[len(panel.columns) for panel in panels.values()],
    )
    styled(figure, height=440)
    for column, (title, panel) in enumerate(panels.items(), 1):
        _add_seeds(figure, panel, ours, column)
        _add_means(figure, panel, ours, column)
        figure.update_xaxes(places(list(panel.columns)), col=column)
        figure.update_xaxes(title={"text": escape(title)}, row=ours, col=column)
        if not known.empty:
            _add_published(figure, above[title], column)
    _set_range(figure, above.values(), 1, room=0.25)  # diamonds are large in a low panel
    _set_range(figure, panels.values(), ours, room=0.06)
    figure.update_yaxes(title={"text": "published"}, row=1, col=1)
    figure.update_yaxes(title={"text": "validation accuracy"}, row=ours, col=1)
    return Picture(figure, _by_seed(found), paired_note(view))


def _by_seed(found: pd.DataFrame) -> pd.DataFrame:
    """One row a training."""
    cells = zip(product(found.index, found.columns), found.to_numpy().ravel(), strict=True)
    rows = [(int(seed), arm, accuracy) for (seed, arm), accuracy in cells]
    return pd.DataFrame(rows, columns=BY_SEED).dropna(ignore_index=True)


def _set_range(figure: go.Figure, panels: Iterable[pd.DataFrame], row: int, room: float) -> None:
    shares = [share for panel in panels for share in numbers_in(panel)]
    accuracy_axis(figure, shares, room, row=row)


def published(view: AblationView) -> pd.DataFrame:
    """Published accuracies: one row, one column an arm; no row if nothing is published."""
    known = view.plan.published.get("accuracy", {})
    names = [arm.name for arm in view.plan.arms]
    return pd.DataFrame([known] if known else [], columns=names, dtype=float)


def paired_note(view: AblationView) -> str:
    told = view.plan.published
    diamonds = (
        f" Diamonds: published ({told.get('source', 'source not stated')}), measured on other "
        "data: compare the order, not the height."
    )
    note = "A thin line is one seed; bars are means over the seeds."
    return note + (diamonds if told.get("accuracy") else "")


def _balanced(view: AblationView, found: pd.DataFrame) -> pd.DataFrame:
    """If levels are means over several arms: only the seeds that have results in all arms."""
    return found.dropna() if view.analysis.levels["n"].any() else found


def _panels(view: AblationView, accuracies: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Title -> accuracies: by level if some seed has all cells, else by arm."""
    factors, levels = view.plan.factors, view.analysis.levels
    if len(factors) == 1 or levels["n"].any():
        return {factor: by_level(view, accuracies, factor) for factor in factors}
    return {"arm": accuracies}


def _add_seeds(figure: go.Figure, panel: pd.DataFrame, row: int, column: int) -> None:
    """One trace: after each seed a gap."""
    seeds, arms = panel.shape
    figure.add_scatter(
        x=np.tile(np.arange(arms + 1), seeds),
        y=np.pad(panel.to_numpy(), ((0, 0), (0, 1)), constant_values=np.nan).ravel(),
        mode="lines+markers",
        line={"color": GREY, "width": 1},
        marker={"size": 7, "color": GREY},
        opacity=0.75,
        showlegend=False,
        customdata=np.repeat(panel.index.to_numpy(), arms + 1),
        hovertemplate="seed %{customdata}: %{y:.2%}<extra></extra>",
        row=row,
        col=column,
    )


def _add_means(figure: go.Figure, panel: pd.DataFrame, row: int, column: int) -> None:
    figure.add_scatter(
        x=list(range(len(panel.columns))),
        y=panel.mean().to_numpy(),
        mode="markers",
        marker={"symbol": "line-ew-open", "size": 34, "color": BLUE, "line": {"width": 4}},
        showlegend=False,
        hovertemplate="mean: %{y:.2%}<extra></extra>",
        row=row,
        col=column,
    )


def _add_published(figure: go.Figure, panel: pd.DataFrame, column: int) -> None:
    figure.add_scatter(
        x=list(range(len(panel.columns))),
        y=panel.to_numpy().ravel(),
        mode="markers",
        marker={"symbol": "diamond-open", "size": 12, "color": VERMILION, "line": {"width": 2}},
        showlegend=False,
        hovertemplate="published: %{y:.2%}<extra></extra>",
        row=1,
        col=column,
    )
