"""An ablation's charts: differences and their verdicts, bytes of the arms, and the table of all."""

from html import escape

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from dashboards.figures.factorial import interaction, marginal
from dashboards.figures.paired import paired
from dashboards.plotting.axes import with_room
from dashboards.plotting.names import (
    DOWN,
    WAITING,
    numbers_in,
    places,
    row_height,
    short_name,
)
from dashboards.plotting.picture import (
    BLUE,
    GREEN,
    GREY,
    VERMILION,
    Chart,
    Picture,
    listed,
    nothing,
    styled,
)
from dashboards.views import AblationView
from search.database.row import SIZES
from search.terminal import evidence
from search.terminal.evidence import Cells
from space.solver import format_bytes

UNPAIRED = (
    "No arm has a seed in common with the baseline yet: the first difference appears here when "
    "one does."
)
SIZE_MATCHED = "Size-matched: the widths are solved anew for every arm."
FIXED_WIDTHS = "Widths are as they are written, whatever they cost."
VERDICT_COLOURS = {"better": GREEN, "worse": VERMILION}  # any other verdict: grey
VERDICT_ROOM, VERDICT_LINE = 110, 14  # pixels right of the chart, and the characters that fit in
SIZED = ("arm", *SIZES)  # columns
POINTS = 100  # percentage points of a share
# The ends of an interval, the width of its line, and how opaque it is.
BOOTSTRAP = ("bootstrap_low", "bootstrap_high", 9, 0.35)
STUDENT = ("difference_low", "difference_high", 3, 1.0)
IN_POINTS = {  # columns of differences, as people read them
    "difference": "difference, points",
    "difference_low": "t interval from, points",
    "difference_high": "t interval to, points",
    "bootstrap_low": "bootstrap from, points",
    "bootstrap_high": "bootstrap to, points",
    "detectable": "detectable, points",
}


def evidence_tables(view: AblationView) -> list[Cells]:
    """The tables that `distilnas ablate show` prints."""
    return evidence.evidence(view.plan, view.analysis)


def notes(view: AblationView) -> list[str]:
    return evidence.notes(view.plan, view.analysis)


def forest(view: AblationView) -> Picture:
    """Differences with both intervals, largest first, coloured by verdict."""
    arms = view.analysis.arms
    rows = arms[arms["difference"].notna() & (arms["arm"] != view.plan.baseline)]
    if rows.empty:
        return nothing(UNPAIRED, _differences(rows))
    rows = rows.sort_values("difference").reset_index(drop=True)
    names = [
        f"{arm} (n\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}{n})"
        for arm, n in zip(rows["arm"], rows["pairs"], strict=True)
    ]
    figure = styled(go.Figure(), height=100 + row_height(names) * len(rows))
    figure.add_vline(x=0, line={"color": GREY, "width": 1})
    for verdict, group in rows.groupby("verdict", sort=False):
        colour = VERDICT_COLOURS.get(str(verdict), GREY)
        for interval in (BOOTSTRAP, STUDENT):
            _add_intervals(figure, group, colour, *interval)
    _add_differences(figure, rows)
    _add_verdicts(figure, rows)
    baseline = escape(view.plan.baseline)
    figure.update_xaxes(
        title={"text": f"percentage points against<br>{baseline}"}, range=forest_range(rows)
    )
    figure.update_yaxes(places(names, DOWN))
    note = (
        "Thin: Student's t interval of 95 %, paired by seed; broad: bootstrap. Each is for one "
        "comparison; verdicts are corrected for all of them (Holm)."
    )
    return Picture(figure, _differences(rows), note)


def forest_range(rows: pd.DataFrame) -> tuple[float, float]:
    """A range that holds all intervals and zero, with room on both sides; percentage points."""
    ends = [*BOOTSTRAP[:2], *STUDENT[:2], "difference"]
    return with_room([*numbers_in(POINTS * rows[ends]), 0.0], 1.0)


def _add_intervals(
    figure: go.Figure,
    rows: pd.DataFrame,
    colour: str,
    low: str,
    high: str,
    width: int,
    opacity: float,
) -> None:
    """One trace: after each interval a gap."""
    gap = np.full(len(rows), np.nan)
    figure.add_scatter(
        x=POINTS * np.stack([rows[low], rows[high], gap], axis=1).astype(float).ravel(),
        y=np.repeat(rows.index.to_numpy(), 3),
        mode="lines",
        line={"color": colour, "width": width},
        opacity=opacity,
        showlegend=False,
        hoverinfo="skip",
    )


def _add_differences(figure: go.Figure, rows: pd.DataFrame) -> None:
    figure.add_scatter(
        x=POINTS * rows["difference"],
        y=rows.index,
        mode="markers",
        marker={"color": [VERDICT_COLOURS.get(v, GREY) for v in rows["verdict"]], "size": 10},
        customdata=[_hover(row) for _, row in rows.iterrows()],
        showlegend=False,
        hovertemplate="%{customdata}<extra></extra>",
    )


def _hover(row: pd.Series) -> str:
    words = f"{POINTS * row['difference']:+.2f} points"
    if pd.isna(row["p_holm"]):
        return words
    low, high = POINTS * row["difference_low"], POINTS * row["difference_high"]
    return f"{words} [{low:+.2f}, {high:+.2f}], p (Holm) {row['p_holm']:.3f}"


def _add_verdicts(figure: go.Figure, rows: pd.DataFrame) -> None:
    figure.update_layout(margin={"r": VERDICT_ROOM})
    for place, verdict in rows["verdict"].items():
        figure.add_annotation(
            x=1.01,
            xref="paper",
            y=place,
            text=short_name(verdict, VERDICT_LINE),
            xanchor="left",
            align="left",
            showarrow=False,
            font={"size": 12},
        )


def _differences(rows: pd.DataFrame) -> pd.DataFrame:
    """The data of the chart, largest difference first."""
    points = rows.assign(**{name: POINTS * rows[name] for name in IN_POINTS})
    shown = points[["arm", "pairs", *IN_POINTS, "p", "p_holm", "verdict"]].iloc[::-1]
    return shown.rename(columns={**IN_POINTS, "p_holm": "p (Holm)"}).reset_index(drop=True)


def sizes(view: AblationView) -> Picture:
    """Bytes of each arm's file: equal if size-matched, else what a change costs."""
    arms = view.analysis.arms
    rows = arms[arms["bytes"].notna()]
    if rows.empty:
        return nothing(WAITING, SIZED)
    names = list(rows["arm"])
    figure = styled(go.Figure(), height=90 + row_height(names) * len(rows))
    figure.add_bar(
        x=rows["bytes"],
        y=list(range(len(rows))),
        orientation="h",
        marker={"color": BLUE},
        text=[format_bytes(int(size)) for size in rows["bytes"]],
        textposition="auto",
        cliponaxis=False,
        customdata=rows["params"],
        hovertemplate="%{x:,} bytes, %{customdata:,} parameters<extra></extra>",
    )
    figure.update_xaxes(title={"text": "stored bytes"}, rangemode="tozero", tickformat="~s")
    figure.update_yaxes(places(names, DOWN) | {"range": [len(rows) - 0.5, -0.5]})
    data = rows[[*SIZED]].reset_index(drop=True)
    matched = view.plan.size_matched
    return Picture(figure, data, SIZE_MATCHED if matched else FIXED_WIDTHS)


ABLATION_CHARTS = listed(
    Chart("forest", "Differences to the baseline", forest, wide=True),
    Chart("paired", "Arms, seed by seed", paired, wide=True),
    Chart("marginal", "Marginal means", marginal),
    Chart("interaction", "Interactions", interaction),
    Chart("sizes", "Bytes of the arms", sizes),
)
