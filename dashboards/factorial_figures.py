"""A factorial ablation as pictures: marginal means over raw points, cells of pairs of factors."""

from html import escape
from itertools import combinations

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from dashboards.arms import WAITING, arms_with, results, short_name
from dashboards.picture import BLUE, GREY, Picture, nothing, share_axis, styled
from dashboards.views import AblationView

MARGINAL_TITLE, INTERACTION_TITLE = "Marginal means", "Interactions"
FACTORIAL = "This is for factorial designs, in which factors are crossed."
PANELS = 3  # in a row


def marginal(view: AblationView) -> Picture:
    """A factorial's level means over the raw points."""
    if view.plan["design"] != "factorial":
        return nothing(MARGINAL_TITLE, FACTORIAL)
    levels, found = view.analysis.levels, results(view)
    if levels["mean"].isna().all():
        return nothing(MARGINAL_TITLE, WAITING)
    factors = list(view.plan["factors"])
    figure = make_subplots(
        1, len(factors), shared_yaxes=True, subplot_titles=[escape(f) for f in factors]
    )
    for column, factor in enumerate(factors, 1):
        rows = levels[levels["factor"] == factor]
        names = [short_name(level) for level in rows["level"]]
        for name, level in zip(names, rows["level"], strict=True):
            cell = found[arms_with(view, {factor: level})].to_numpy().ravel()
            figure.add_scatter(
                x=[name] * len(cell),
                y=cell,
                mode="markers",
                showlegend=False,
                marker={"color": GREY, "size": 6, "opacity": 0.5},
                hoverinfo="skip",
                row=1,
                col=column,
            )
        figure.add_scatter(
            x=names,
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
            hovertemplate="%{x}: %{y:.2%}<extra></extra>",
            row=1,
            col=column,
        )
    styled(figure)
    figure.update_layout(margin={"t": 36})
    figure.update_yaxes(title={"text": "validation accuracy"}, col=1)
    figure.update_yaxes(**share_axis(found.stack()))
    data = levels[["factor", "level", "n", "mean", "sd", "low", "high"]]
    note = "Means over the other factors, with bootstrap intervals; grey: every training."
    return Picture(MARGINAL_TITLE, figure, data, note)


def interaction(view: AblationView) -> Picture:
    """Cell means of each pair of factors; cells of fewer than three results stay blank."""
    if view.plan["design"] != "factorial":
        return nothing(INTERACTION_TITLE, FACTORIAL)
    cells = view.interactions
    if cells.empty or cells["mean"].isna().all():
        return nothing(INTERACTION_TITLE, "No cell has three results yet: fewer are no mean.")
    pairs = list(combinations(view.plan["factors"], 2))
    columns = min(PANELS, len(pairs))
    rows = -(-len(pairs) // columns)
    figure = make_subplots(rows, columns, horizontal_spacing=0.16, vertical_spacing=0.2)
    for place, (a, b) in enumerate(pairs):
        chosen = cells[(cells["factor_a"] == a) & (cells["factor_b"] == b)]
        row, column = divmod(place, columns)
        _add_cells(figure, view, chosen, (a, b), row + 1, column + 1)
    styled(figure, height=320 * rows)
    figure.update_layout(coloraxis={"colorscale": "Cividis", "colorbar": {"tickformat": ".0%"}})
    figure.update_xaxes(showgrid=False)
    figure.update_yaxes(showgrid=False)
    return Picture(INTERACTION_TITLE, figure, cells, "Means of all results in a cell.")


def _add_cells(
    figure: go.Figure,
    view: AblationView,
    cells: pd.DataFrame,
    factors: tuple[str, str],
    row: int,
    column: int,
) -> None:
    across, down = (list(view.plan["factors"][factor]) for factor in factors)
    means = cells.pivot(index="level_b", columns="level_a", values="mean")
    counts = cells.pivot(index="level_b", columns="level_a", values="n")
    means, counts = (wide.reindex(index=down, columns=across) for wide in (means, counts))
    texts = [
        [f"{mean:.1%}" if mean == mean else f"n = {n}" for mean, n in zip(m, c, strict=True)]
        for m, c in zip(means.to_numpy(), counts.to_numpy(), strict=True)
    ]
    figure.add_heatmap(
        z=means.to_numpy(),
        x=[short_name(level) for level in across],
        y=[short_name(level) for level in down],
        text=texts,
        texttemplate="%{text}",
        coloraxis="coloraxis",
        hovertemplate="%{x}, %{y}: %{text}<extra></extra>",
        row=row,
        col=column,
    )
    figure.update_xaxes(title={"text": escape(factors[0])}, row=row, col=column)
    figure.update_yaxes(title={"text": escape(factors[1])}, row=row, col=column)
