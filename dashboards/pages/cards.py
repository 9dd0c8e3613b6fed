"""The parts of a page that show a picture: heading, figure, note, downloads, data as a table."""

import re
from collections.abc import Sequence
from typing import Any, cast

import pandas as pd
import plotly.graph_objects as go
from dash import dcc, html
from dash.development.base_component import Component

from dashboards.plotting.picture import CONFIG, Chart, Picture, V
from search.database.goal import ACCURACY, Goal

RANGE = re.compile(r"([xy]axis\d*)\.range\[([01])\]", re.ASCII)
GRAPH = cast(dcc.Graph.Config, CONFIG)
SHOWN_ROWS = 200  # of a picture's data; the CSV has them all
READING = "Reading the database ..."  # until there is something to show
Id = dict[str, object]  # of a component; callbacks match on it
Cell = Component | str
NO_TABLE: list[Component] = []
FIRST, LATER = "first", "later"  # turns of cards: with the page, or after the first picture
FILLED = (  # what `fill` gives: a part of a card, and its property
    *(("graph", "figure"), ("note", "children"), ("empty", "children")),
    *(("empty", "hidden"), ("frame", "className")),
)


def part(name: str, key: object, turn: object) -> Id:
    """The id of a part of a card; callbacks match on the chart's key and on the card's turn."""
    return {"part": name, "card": key, "turn": turn}


def choice(name: object, value: object) -> Id:
    """The id of a button that a filter has for a value."""
    return {"choice": name, "value": value}


def limit(name: object) -> Id:
    """The id of a field for a size."""
    return {"limit": name}


def compared(study: object) -> Id:
    """The id of a button that adds a study to a comparison, or removes it."""
    return {"compared": study}


def toggles(title: str, buttons: Sequence[tuple[str, Id, bool]]) -> html.Fieldset:
    """A row of buttons that are on or off: (words, id, on)."""
    drawn = [
        html.Button(words, id=key, className="toggle", **aria(pressed=str(on).lower()))
        for words, key, on in buttons
    ]
    return html.Fieldset([html.Legend(title), *drawn])


def aria(**words: str) -> dict[str, Any]:
    """What a screen reader says of a component; Dash's types know no such property."""
    return {f"aria-{name}": text for name, text in words.items()}


def card(chart: Chart[V], goal: Goal = ACCURACY, turn: str = FIRST) -> html.Section:
    """A card whose picture is yet to come; `fill` gives its parts."""
    key, title = chart.key, goal.said(chart.title)
    buttons = [
        html.Button(kind.upper(), id=part(kind, key, turn), title=f"{title} as {kind.upper()}")
        for kind in ("png", "svg")
    ]
    return html.Section(
        [
            html.H2(title, id=part("title", key, turn)),
            html.P(READING, id=part("empty", key, turn), className="empty"),
            html.Div(
                dcc.Graph(id=part("graph", key, turn), config=GRAPH, figure={}),
                id=part("frame", key, turn),
                className="frame waiting",  # hides the empty axes that Plotly draws first
            ),
            html.P(id=part("note", key, turn), className="note"),
            html.Div(
                [
                    html.Button("Data", id=part("data", key, turn), title=f"{title} as a table"),
                    *buttons,
                    html.A("CSV", id=part("csv", key, turn), href="", download=""),
                ],
                className="tools",
            ),
            html.Div(NO_TABLE, id=part("table", key, turn), className="data"),
        ],
        id=key,
        className="card wide" if chart.wide else "card",
        **aria(label=title),
    )


def fill(picture: Picture, revision: str) -> tuple[go.Figure, str, str, bool, str]:
    """The contents of a card, as FILLED lists them.

    Args:
        revision: zoom and selection are kept while it stays.
    """
    figure = picture.figure.update_layout(uirevision=revision)
    hidden = "frame hidden" if picture.empty else "frame"
    return figure, picture.note, picture.empty, not picture.empty, hidden


def keep_zoom(figure: go.Figure, moved: object) -> None:
    """Give the axes the ranges that the reader chose.

    Plotly forgets them where an axis had found its range by itself, whatever `uirevision` says.

    Args:
        moved: the graph's `relayoutData`: `xaxis.range[0]` and so on; anything else is left out.
    """
    ranges: dict[str, dict[str, float]] = {}
    for key, value in (moved if isinstance(moved, dict) else {}).items():
        match = RANGE.fullmatch(str(key))
        if match and isinstance(value, int | float):
            ranges.setdefault(match[1], {})[match[2]] = value
    for axis, ends in ranges.items():
        if len(ends) == 2 and axis in figure.layout:
            figure.layout[axis].update(range=[ends["0"], ends["1"]], autorange=False)


def data_table(data: pd.DataFrame) -> list[Component]:
    """The first rows of a picture's data, and how many there are."""
    if data.empty:
        return [html.P("no data")]
    shown = data.head(SHOWN_ROWS)
    more = f"the first {SHOWN_ROWS} of {len(data):,} rows; all of them: CSV"
    return [
        table(list(data.columns), shown.to_numpy().tolist(), numeric_columns(data)),
        *([html.P(more, className="note")] if len(data) > SHOWN_ROWS else []),
    ]


def numeric_columns(data: pd.DataFrame) -> set[str]:
    return {name for name in data.columns if pd.api.types.is_numeric_dtype(data[name])}


def table(
    columns: Sequence[str],
    rows: Sequence[Sequence[object]],
    numeric: set[str] | frozenset[str] = frozenset(),
    caption: str = "",
) -> html.Div:
    """A table that scrolls sideways where the page is narrow; cells are text or components."""
    marked = ["number" if column in numeric else "" for column in columns]
    head = [
        html.Th(column, className=mark, scope="col")
        for column, mark in zip(columns, marked, strict=True)
    ]
    body = [
        html.Tr(
            [
                html.Td(cell_text(cell), className=mark)
                for cell, mark in zip(row, marked, strict=True)
            ]
        )
        for row in rows
    ]
    titled = [html.Caption(caption)] if caption else []
    whole = html.Table([*titled, html.Thead(html.Tr(head)), html.Tbody(body)])
    return html.Div(
        whole, className="scroll", tabIndex=0, role="region", **aria(label=caption or "table")
    )


def cell_text(value: object) -> Cell:
    """Numbers formatted for reading, nothing for None; components unchanged."""
    if isinstance(value, Component):
        return value
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else ""
    if isinstance(value, float):
        return "" if value != value else f"{value:,.0f}" if value.is_integer() else f"{value:,.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)
