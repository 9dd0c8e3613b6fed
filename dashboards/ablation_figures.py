"""An ablation as pictures: arms seed by seed, differences with what they are worth."""

from collections.abc import Callable, Mapping, Sequence
from html import escape

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from dashboards.arms import WAITING, arms_with, results, short_name
from dashboards.factorial_figures import interaction, marginal
from dashboards.picture import (
    BLUE,
    GREEN,
    GREY,
    VERMILION,
    Picture,
    nothing,
    share_axis,
    styled,
)
from dashboards.views import AblationView
from search import ablation_views
from search.ablation_views import Cells
from space.budget import format_bytes

PAIRED_TITLE, FOREST_TITLE = "Arms, seed by seed", "Differences to the baseline"
SIZES_TITLE = "Bytes of the arms"
VERDICT_COLOURS = {"better": GREEN, "worse": VERMILION}  # any other verdict: grey
ROW = 34  # pixels of an arm
VERDICT_ROOM = 150  # pixels to the right


def evidence(view: AblationView) -> list[Cells]:
    """The tables that `distilnas ablate show` prints."""
    return ablation_views.evidence(view.plan, view.analysis)


def notes(view: AblationView) -> list[str]:
    return ablation_views.notes(view.plan, view.analysis)


def paired(view: AblationView) -> Picture:
    """Every seed a line through the arms; by factor, arms that differ in it alone."""
    found = results(view)
    if found.empty:
        return nothing(PAIRED_TITLE, WAITING)
    panels = _panels(view, found)
    figure = make_subplots(
        1,
        len(panels),
        shared_yaxes=True,
        horizontal_spacing=0.03,
        column_widths=[len(panel.columns) for panel in panels.values()],
        subplot_titles=[escape(title) for title in panels] if len(panels) > 1 else None,
    )
    for column, panel in enumerate(panels.values(), 1):
        _add_seeds(figure, panel, column)
        _add_means(figure, panel, column)
    known = _add_published(figure, view) if len(panels) == 1 else []
    styled(figure, height=440)
    figure.update_layout(margin={"t": 40})
    figure.update_yaxes(title={"text": "validation accuracy"}, col=1)
    figure.update_yaxes(**share_axis([*found.stack(), *known]))
    figure.update_xaxes(showgrid=False)
    data = found.reset_index(names="seed").melt("seed", var_name="arm", value_name="accuracy")
    return Picture(PAIRED_TITLE, figure, data.dropna(), paired_note(view, known))


def paired_note(view: AblationView, published: Sequence[float]) -> str:
    source = view.plan["published"].get("source")
    told = (
        f" Diamonds: published ({source}); on other data, so compare order, not height."
        if published
        else ""
    )
    return f"A thin line is one seed; bars are means over the seeds.{told}"


def _panels(view: AblationView, found: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Title -> accuracies by seed and level: a factorial's factors, or all arms."""
    if view.plan["design"] != "factorial":
        return {"arms": found}
    panels = {}
    for factor, labels in view.plan["factors"].items():
        arms = {label: arms_with(view, {factor: label}) for label in labels}
        panels[factor] = pd.DataFrame(
            {label: found[names].mean(axis=1, skipna=False) for label, names in arms.items()}
        )
    return panels


def _add_seeds(figure: go.Figure, panel: pd.DataFrame, column: int) -> None:
    names = [short_name(name) for name in panel.columns]
    for seed, row in panel.iterrows():
        figure.add_scatter(
            x=names,
            y=row.to_numpy(),
            mode="lines+markers",
            line={"color": GREY, "width": 1},
            marker={"size": 7, "color": GREY},
            opacity=0.75,
            name=f"seed {seed:g}",
            showlegend=False,
            hovertemplate=f"seed {seed:g}, %{{x}}: %{{y:.2%}}<extra></extra>",
            row=1,
            col=column,
        )


def _add_means(figure: go.Figure, panel: pd.DataFrame, column: int) -> None:
    means = panel.mean()
    figure.add_scatter(
        x=[short_name(name) for name in panel.columns],
        y=means.to_numpy(),
        mode="markers",
        marker={"symbol": "line-ew-open", "size": 34, "color": BLUE, "line": {"width": 4}},
        showlegend=False,
        hovertemplate="mean of %{x}: %{y:.2%}<extra></extra>",
        row=1,
        col=column,
    )


def _add_published(figure: go.Figure, view: AblationView) -> list[float]:
    known = view.plan["published"].get("accuracy", {})
    if not known:
        return []
    figure.add_scatter(
        x=[short_name(name) for name in known],
        y=list(known.values()),
        mode="markers",
        marker={"symbol": "diamond-open", "size": 12, "color": VERMILION, "line": {"width": 2}},
        name="published",
        hovertemplate="published, %{x}: %{y:.2%}<extra></extra>",
    )
    return list(known.values())


def forest(view: AblationView) -> Picture:
    """Differences with both intervals, largest first, coloured by verdict."""
    arms = view.analysis.arms
    rows = arms[arms["difference"].notna() & (arms["arm"] != view.plan["baseline"])]
    if rows.empty:
        return nothing(FOREST_TITLE, WAITING)
    rows = rows.sort_values("difference")
    names = [
        f"{escape(name)}  (n = {pairs})"
        for name, pairs in zip(rows["arm"], rows["pairs"], strict=True)
    ]
    colours = [VERDICT_COLOURS.get(verdict, GREY) for verdict in rows["verdict"]]
    figure = styled(go.Figure(), height=110 + ROW * len(rows))
    figure.add_vline(x=0, line={"color": GREY, "width": 1})
    bootstrap = ("bootstrap_low", "bootstrap_high", 9, 0.35)
    student = ("difference_low", "difference_high", 3, 1.0)
    for low, high, width, opacity in (bootstrap, student):
        for name, colour, (_, row) in zip(names, colours, rows.iterrows(), strict=True):
            figure.add_scatter(
                x=[100 * row[low], 100 * row[high]],
                y=[name, name],
                mode="lines",
                line={"color": colour, "width": width},
                opacity=opacity,
                showlegend=False,
                hoverinfo="skip",
            )
    figure.add_scatter(
        x=100 * rows["difference"],
        y=names,
        mode="markers",
        marker={"color": colours, "size": 10},
        customdata=np.stack(
            [100 * rows["difference_low"], 100 * rows["difference_high"], rows["p_holm"]], axis=1
        ),
        showlegend=False,
        hovertemplate="%{x:+.2f} points [%{customdata[0]:+.2f}, %{customdata[1]:+.2f}], "
        "p (Holm) %{customdata[2]:.3f}<extra></extra>",
    )
    _add_verdicts(figure, rows, names)
    figure.update_xaxes(
        title={"text": f"percentage points against {escape(view.plan['baseline'])}"}
    )
    figure.update_yaxes(showgrid=False)
    note = (
        "Thin: Student's t interval of 95 %, paired by seed; broad: bootstrap. Each is for one "
        "comparison; verdicts are corrected for all of them (Holm)."
    )
    return Picture(FOREST_TITLE, figure, _differences(rows), note)


def _add_verdicts(figure: go.Figure, rows: pd.DataFrame, names: list[str]) -> None:
    figure.update_layout(margin={"r": VERDICT_ROOM})
    for name, verdict in zip(names, rows["verdict"], strict=True):
        figure.add_annotation(
            x=1.01,
            xref="paper",
            y=name,
            text=verdict,
            xanchor="left",
            showarrow=False,
            font={"size": 12},
        )


def _differences(rows: pd.DataFrame) -> pd.DataFrame:
    points = ["difference", "difference_low", "difference_high", "bootstrap_low", "bootstrap_high"]
    shown = rows[["arm", "pairs", *points, "p", "p_holm", "detectable", "verdict"]].iloc[::-1]
    return shown.reset_index(drop=True)


def sizes(view: AblationView) -> Picture:
    """What each arm's file takes: equal, or what a change costs."""
    arms = view.analysis.arms
    rows = arms[arms["bytes"].notna()].iloc[::-1]
    if rows.empty:
        return nothing(SIZES_TITLE, WAITING)
    figure = styled(go.Figure(), height=90 + ROW * len(rows))
    figure.add_bar(
        x=rows["bytes"],
        y=[escape(name) for name in rows["arm"]],
        orientation="h",
        marker={"color": BLUE},
        text=[
            f"{format_bytes(int(size))}, {params:,.0f} parameters"
            for size, params in zip(rows["bytes"], rows["params"], strict=True)
        ],
        textposition="auto",
        cliponaxis=False,
        hovertemplate="%{x:,} bytes<extra>%{y}</extra>",
    )
    figure.update_xaxes(title={"text": "stored bytes"}, rangemode="tozero", tickformat="~s")
    figure.update_yaxes(showgrid=False)
    data = rows[["arm", "bytes", "params", "macs"]].iloc[::-1]
    note = (
        "Size-matched: the widths are solved anew for every arm."
        if view.plan["size_matched"]
        else ""
    )
    return Picture(SIZES_TITLE, figure, data.reset_index(drop=True), note)


ABLATION: Mapping[str, Callable[[AblationView], Picture]] = {
    "forest": forest,
    "paired": paired,
    "marginal": marginal,
    "interaction": interaction,
    "sizes": sizes,
}
