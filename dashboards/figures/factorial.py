"""A factorial ablation as pictures: marginal means over raw points, cells of pairs of factors."""

from html import escape
from itertools import combinations

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from dashboards.plotting.axes import SHARES
from dashboards.plotting.heatmap import SCALE, limits_of, write_cells
from dashboards.plotting.names import arms_with, numbers_in, places, results
from dashboards.plotting.picture import BLUE, GREY, Picture, accuracy_axis, nothing, styled
from dashboards.views import AblationView

FACTORIAL = "This is for factorial designs, in which factors are crossed."
INCOMPLETE = (
    "No seed has a result in every cell yet: means over the other factors would not be balanced."
)
TOO_FEW = "No cell has three results yet: fewer are no mean."
MARGINAL = ("factor", "level", "n", "mean", "sd", "low", "high")  # columns
CELLS = ("factor_a", "level_a", "factor_b", "level_b", "n", "mean")  # of `search.ablation.effects`
PANELS = 2  # in a row
ROW, BETWEEN = 320, 90  # pixels of a row of panels, and of the labels between two rows


def marginal(view: AblationView) -> Picture:
    """Means of a factorial design's levels, drawn over the raw points."""
    if view.plan.design != "factorial":
        return nothing(FACTORIAL, MARGINAL)
    levels, found = view.analysis.levels, results(view)
    if levels["mean"].isna().all():
        return nothing(INCOMPLETE, MARGINAL)
    factors = list(view.plan.factors)
    figure = make_subplots(
        1,
        len(factors),
        shared_yaxes=True,
        horizontal_spacing=0.03,
        column_widths=[len(view.plan.factors[factor]) for factor in factors],
    )
    styled(figure)
    for column, factor in enumerate(factors, 1):
        rows = levels[levels["factor"] == factor]
        _add_points(figure, view, found, rows, column)
        _add_intervals(figure, rows, column)
        axis = places(list(rows["level"])) | {"title": {"text": escape(factor)}}
        figure.update_xaxes(axis, col=column)
    figure.update_yaxes(title={"text": "validation accuracy"}, col=1)
    accuracy_axis(figure, [*numbers_in(found), *numbers_in(levels[["low", "high"]])])
    data = levels[[*MARGINAL]]
    note = "Means over the other factors, with bootstrap intervals; grey: every training."
    return Picture(figure, data, note)


def _add_points(
    figure: go.Figure, view: AblationView, found: pd.DataFrame, rows: pd.DataFrame, column: int
) -> None:
    for place, (factor, level) in enumerate(zip(rows["factor"], rows["level"], strict=True)):
        points = found[arms_with(view, {factor: level})].to_numpy().ravel()
        figure.add_scatter(
            x=[place] * len(points),
            y=points,
            mode="markers",
            showlegend=False,
            marker={"color": GREY, "size": 6, "opacity": 0.5},
            hoverinfo="skip",
            row=1,
            col=column,
        )


def _add_intervals(figure: go.Figure, rows: pd.DataFrame, column: int) -> None:
    figure.add_scatter(
        x=list(range(len(rows))),
        y=rows["mean"],
        mode="markers",
        showlegend=False,
        marker={"color": BLUE, "size": 11},
        error_y={
            "symmetric": False,
            "array": rows["high"] - rows["mean"],
            "arrayminus": rows["mean"] - rows["low"],
            "color": BLUE,
            "thickness": 2.5,
        },
        customdata=np.stack([rows["low"], rows["high"], rows["n"]], axis=1),
        hovertemplate="%{y:.2%} [%{customdata[0]:.2%}, %{customdata[1]:.2%}], "
        "%{customdata[2]} seeds<extra></extra>",
        row=1,
        col=column,
    )


def interaction(view: AblationView) -> Picture:
    """Cell means of each pair of factors; cells of fewer than three results stay blank."""
    if view.plan.design != "factorial":
        return nothing(FACTORIAL, CELLS)
    cells = view.interactions
    if cells.empty or cells["mean"].isna().all():
        return nothing(TOO_FEW, CELLS)
    pairs = list(combinations(view.plan.factors, 2))
    columns = min(PANELS, len(pairs))
    rows = -(-len(pairs) // columns)
    limits = limits_of(cells["mean"].to_numpy(dtype=float))
    figure = make_subplots(
        rows, columns, horizontal_spacing=0.24, vertical_spacing=BETWEEN / ROW / rows
    )
    styled(figure, height=ROW * rows)
    for place, pair in enumerate(pairs):
        row, column = divmod(place, columns)
        _add_cells(figure, view, pair, limits, row + 1, column + 1)
    low, high = limits
    bar = {"thickness": 12, "tickformat": SHARES}
    axis = {"colorscale": SCALE, "cmin": low, "cmax": high, "colorbar": bar}
    figure.update_layout(coloraxis=axis)
    return Picture(figure, cells, "Means of all results in a cell.")


def _add_cells(
    figure: go.Figure,
    view: AblationView,
    factors: tuple[str, str],
    limits: tuple[float, float],
    row: int,
    column: int,
) -> None:
    across, down = (list(view.plan.factors[factor]) for factor in factors)
    cells = view.interactions
    chosen = cells[(cells["factor_a"] == factors[0]) & (cells["factor_b"] == factors[1])]
    means, counts = (
        chosen.pivot(index="level_b", columns="level_a", values=column_name)
        .reindex(index=down, columns=across)
        .to_numpy()
        for column_name in ("mean", "n")
    )
    texts = [
        [f"{mean:.1%}" if mean == mean else f"n = {n}" for mean, n in zip(m, c, strict=True)]
        for m, c in zip(means, counts, strict=True)
    ]
    figure.add_heatmap(
        z=means,
        customdata=counts,
        coloraxis="coloraxis",
        hovertemplate="mean of %{customdata} results: %{z:.2%}<extra></extra>",
        row=row,
        col=column,
    )
    write_cells(figure, means, texts, limits, row=row, col=column)
    figure.update_xaxes(
        places(across) | {"title": {"text": escape(factors[0])}}, row=row, col=column
    )
    downwards = {"title": {"text": escape(factors[1])}, "range": [len(down) - 0.5, -0.5]}
    figure.update_yaxes(places(down) | downwards, row=row, col=column)
