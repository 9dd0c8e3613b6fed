"""A chart and the picture that it draws: a figure, the numbers in it; how all figures look."""

from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Generic, NamedTuple, TypeVar

import pandas as pd
import plotly.graph_objects as go

from dashboards.plotting.axes import ROOM, share_axis
from search.database.goal import Goal

# Okabe and Ito's colours: told apart by colour-blind people, and visible on white and on black.
BLUE, ORANGE, GREEN, PINK = "#0072B2", "#E69F00", "#009E73", "#CC79A7"
SKY, VERMILION, GREY = "#56B4E9", "#D55E00", "#8A8A8A"
# Paul Tol's, for more kinds than those seven.
WINE, OLIVE, INDIGO = "#882255", "#999933", "#6655CC"
SEQUENCE = (BLUE, ORANGE, GREEN, PINK, SKY, VERMILION, GREY)

BLOCK_COLOURS: Mapping[str, str] = {
    "conv": VERMILION,
    "depthwise": BLUE,
    "depthwise-bare": SKY,
    "inverted": GREEN,
    "group": ORANGE,
    "residual": PINK,
    "fused": WINE,
    "ghost": OLIVE,
    "split": INDIGO,
}
STATE_SYMBOLS: Mapping[str, str] = {
    "COMPLETE": "circle",
    "PRUNED": "x-thin-open",
    "FAIL": "triangle-down-open",
    "RUNNING": "diamond-open",
    "WAITING": "diamond-open",
}
SVG_POINTS = 3_000  # more are drawn by WebGL; browsers allow 8 to 16 such charts on a page

# No button that sends a figure to a cloud service.
CONFIG: Mapping[str, object] = {
    "displaylogo": False,
    "responsive": True,
    "showSendToCloud": False,
    "plotlyServerURL": "",
    "modeBarButtonsToRemove": ["sendDataToCloud", "toImage", "lasso2d", "select2d", "autoScale2d"],
}


V = TypeVar("V")  # a view


class Picture(NamedTuple):
    """What a card of the page, of the report, and a CSV file are made of."""

    figure: go.Figure  # without a title: the card has the chart's
    data: pd.DataFrame  # the numbers drawn; columns named for people, with units
    note: str = ""  # a sentence below it
    empty: str = ""  # why there is nothing to draw, and what to do next; else ""


class Chart(NamedTuple, Generic[V]):
    """A chart as pages and reports list it; `V` is the view that it is drawn from."""

    key: str  # in addresses, and of its card
    title: str  # of its card; written for accuracies: see `search.database.goal.Goal.said`
    draw: Callable[[V], Picture]
    wide: bool = False  # its card takes a whole row


def listed(*charts: Chart[V]) -> dict[str, Chart[V]]:
    """Charts by key, in the order in which pages and reports show them."""
    return {chart.key: chart for chart in charts}


def nothing(why: str, columns: Iterable[Hashable]) -> Picture:
    """A picture with nothing to draw, which says why.

    Args:
        columns: of its data, the same as if there were some: its CSV file has a header.
    """
    return Picture(styled(go.Figure()), pd.DataFrame(columns=list(columns)), empty=why)


def styled(figure: go.Figure, *, height: int = 380) -> go.Figure:
    """Give a figure the look of all. On pages the style sheet colours texts and grid lines.

    Exported images are on white.
    """
    axis = {
        "gridcolor": "#E3E6EA",
        "zeroline": False,
        "linecolor": "#8A8A8A",
        "ticks": "outside",
        "tickcolor": "#8A8A8A",
        "automargin": True,
        "title": {"standoff": 8},
    }
    figure.update_layout(
        template="none",
        height=height,
        margin={"l": 56, "r": 16, "t": 16, "b": 48},
        font={"family": "system-ui, sans-serif", "size": 13, "color": "#1F2328"},
        colorway=list(SEQUENCE),
        paper_bgcolor="#FFFFFF",
        plot_bgcolor="#FFFFFF",
        hoverlabel={"bgcolor": "#1F2328", "font": {"color": "#FFFFFF"}, "align": "left"},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0, "title": {"text": ""}},
        uirevision="kept",  # zoom and selection stay when new trials come
    )
    figure.update_xaxes(**axis)
    figure.update_yaxes(**axis)
    return figure


def block_colour(block: str) -> str:
    return BLOCK_COLOURS.get(block, GREY)


def ink_on(colour: str) -> str:
    """Black or white, whichever is easier to read on a colour (WCAG's relative luminance)."""
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    luminance = sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
    return "#000000" if luminance > 0.179 else "#FFFFFF"


def accuracy_axis(
    figure: go.Figure, values: Iterable[float], room: float = ROOM, **where: int
) -> None:
    """Make the vertical axis one of accuracies; marks at its ends are not cut."""
    figure.update_yaxes(share_axis(values, room), **where)
    figure.update_traces(cliponaxis=False, selector={"type": "scatter"})


def value_axis(
    figure: go.Figure, values: Iterable[float], goal: Goal, best: str = "", **where: int
) -> None:
    """As `accuracy_axis`, for a study's values whatever they are, and with the axis's title.

    Args:
        best: a word in front of the title, with a space: "best ".
    """
    figure.update_yaxes(title={"text": f"{best}{goal.title}"}, **where)
    accuracy_axis(figure, values if goal.ours else [], **where)
