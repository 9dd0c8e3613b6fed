"""Callbacks: the page follows its address, its controls and the database."""

from typing import Any
from urllib.parse import urlencode

import dash
from dash import ALL, MATCH, ClientsideFunction, Dash, Input, Output, State, no_update
from dash.development.base_component import Component
from dash.exceptions import PreventUpdate

from dashboards.figures import catalog
from dashboards.figures.search import SEARCH_CHARTS
from dashboards.filters import Filters, misread
from dashboards.library import Library
from dashboards.pages import answer as answer_page
from dashboards.pages import cards, overview
from dashboards.pages import study as study_page
from dashboards.pages.downloads import Downloads
from dashboards.pages.trials_table import answer
from dashboards.routes import (
    COMPARE,
    STUDIES,
    STUDY,
    TRIAL,
    Route,
    compared,
    route_of,
    trial_link,
)
from space.errors import InputError


def register(app: Dash, library: Library, downloads: Downloads) -> None:
    """Add every callback but those of the frame."""
    _live(app, library)
    _answer(app, library, downloads)
    _filters(app, library)
    _cards(app, library)
    _images(app)
    _table(app, library)


def version(library: Library, where: Route, query: str = "") -> str:
    """A short text for all that a page shows: when it changes, the page is drawn again."""
    if where.page in (STUDY, TRIAL):
        return library.version(where.study)
    if where.page == COMPARE:
        return "".join(library.version(study) for study in compared(query))
    return library.studies().to_json(date_format="iso") if where.page == STUDIES else ""


def _live(app: Dash, library: Library) -> None:
    @app.callback(
        Output("version", "data", allow_duplicate=True),
        Input("poll", "n_intervals"),
        State("version", "data"),
        State("address", "pathname"),
        State("address", "search"),
        prevent_initial_call=True,
    )
    def poll(_: int, shown: str, path: str | None, query: str | None) -> str:
        try:
            found = version(library, route_of(path), query or "")
        except InputError:
            raise PreventUpdate from None
        if found == shown:
            raise PreventUpdate  # so that nothing is sent
        return found

    @app.callback(
        Output("studies", "children"), Input("version", "data"), prevent_initial_call=True
    )
    def list_again(_: str) -> list[Component]:
        return overview.contents(library)

    @app.callback(
        Output("evidence", "children"),
        Input("version", "data"),
        State("address", "pathname"),
        prevent_initial_call=True,
    )
    def judge_again(_: str, path: str | None) -> list[Component]:
        return study_page.evidence_parts(library.ablation(route_of(path).study))


def _answer(app: Dash, library: Library, downloads: Downloads) -> None:
    @app.callback(
        Output("answer", "children"),
        Input("version", "data"),
        State("address", "pathname"),
        prevent_initial_call=True,
    )
    def answer_again(_: str, path: str | None) -> list[Component]:
        view = library.study(route_of(path).study, Filters())
        return answer_page.parts(library, downloads, view)


def _filters(app: Dash, library: Library) -> None:
    # In the browser: a server's late answer would undo a click made in the meantime.
    app.clientside_callback(
        ClientsideFunction("distilnas", "filter"),
        Output("address", "search"),
        Output(cards.choice(ALL, ALL), "aria-pressed"),
        Output(cards.limit(ALL), "value"),
        Input(cards.choice(ALL, ALL), "n_clicks"),
        Input(cards.limit(ALL), "value"),
        Input("address", "search"),
        prevent_initial_call=True,
    )
    app.clientside_callback(
        ClientsideFunction("distilnas", "compare"),
        Output("address", "search", allow_duplicate=True),
        Output(cards.compared(ALL), "aria-pressed"),
        Input(cards.compared(ALL), "n_clicks"),
        Input("address", "search"),
        prevent_initial_call=True,
    )

    @app.callback(
        Output("count", "children"),
        Output("saved", "children"),
        Output("misread", "children"),
        Input("version", "data"),
        Input("address", "search"),
        State("address", "pathname"),
    )
    def count(_: str, query: str | None, path: str | None) -> tuple[str, str, str]:
        identity = route_of(path).study
        trials = library.trials(identity)
        passing = len(Filters.parse(query or "").apply(trials))
        counted = f"{passing:,} of {len(trials):,} trials"
        saved = study_page.saved(library.subject(identity), trials)
        return counted, saved, misread(query or "")


def _cards(app: Dash, library: Library) -> None:
    for turn in (cards.FIRST, cards.LATER):
        _pictures(app, library, turn)
    _data(app, library)
    _points(app)
    _rest(app, library)


def _pictures(app: Dash, library: Library, turn: str) -> None:
    """Draw the cards of a turn: FIRST with the page, LATER after the first picture."""
    path, query = ("address", "pathname"), ("address", "search")
    occasion = (
        (Input("version", "data"), State(*path), Input(*query))
        if turn == cards.FIRST
        else (Input("drawn", "data"), State(*path), State(*query))
    )

    def draw(
        identity: dict[str, str],
        _: object,
        path: str,
        query: str | None,
        moved: object,
        before: str | None,
    ) -> tuple[object, ...]:
        return _drawn(library, identity["card"], path, query or "", moved, before or "")

    app.callback(
        *(Output(cards.part(name, MATCH, turn), prop) for name, prop in cards.FILLED),
        Output(cards.part("csv", MATCH, turn), "href"),
        Input(cards.part("graph", MATCH, turn), "id"),  # a new card is drawn because it is new
        *occasion,
        State(cards.part("graph", MATCH, turn), "relayoutData"),
        State(cards.part("csv", MATCH, turn), "href"),
    )(draw)


def _drawn(
    library: Library, key: str, path: str, query: str, moved: object, before: str
) -> tuple[object, ...]:
    """The contents of a card, and the address of its data.

    Args:
        moved: the ranges that the reader chose: see `cards.keep_zoom`.
        before: the address of the data that the card shows now; "" where it shows none.
    """
    where, axis = route_of(path), Filters.parse(query).axis
    picture = catalog.picture(library, where, query, key)
    is_same_axis = bool(before) and axis == Filters.parse(before.partition("?")[2]).axis
    cards.keep_zoom(picture.figure, moved if is_same_axis else None)
    link = f"/csv{path}?{urlencode({'picture': key})}&{query.removeprefix('?')}"
    return *cards.fill(picture, f"{where}{axis}"), link


def _data(app: Dash, library: Library) -> None:
    @app.callback(
        Output(cards.part("table", MATCH, MATCH), "children"),
        Input(cards.part("data", MATCH, MATCH), "n_clicks"),
        Input("version", "data"),
        Input("address", "search"),
        State("address", "pathname"),
        State(cards.part("data", MATCH, MATCH), "id"),
        prevent_initial_call=True,
    )
    def table(
        clicks: object, _: str, query: str | None, path: str | None, identity: dict[str, str]
    ) -> list[Component]:
        """The first click shows the table, the next one hides it."""
        if not isinstance(clicks, int) or clicks % 2 == 0:  # `%` would format a text
            return cards.NO_TABLE
        picture = catalog.picture(library, route_of(path), query or "", identity["card"])
        return cards.data_table(picture.data)


def _points(app: Dash) -> None:
    @app.callback(
        Output("address", "href", allow_duplicate=True),
        Input(cards.part("graph", ALL, ALL), "clickData"),
        State("address", "pathname"),
        prevent_initial_call=True,
    )
    def open_point(_: object, path: str | None) -> object:
        number = _clicked_trial(dash.ctx.triggered)
        where = route_of(path)
        if where.page != STUDY or number is None:
            return no_update
        return trial_link(where.study, number)


def _rest(app: Dash, library: Library) -> None:
    """Add the other cards of a search after its first one is drawn."""
    app.clientside_callback(
        ClientsideFunction("distilnas", "drawn"),
        Output("drawn", "data"),
        Input(cards.part("graph", next(iter(SEARCH_CHARTS)), cards.FIRST), "figure"),
    )

    @app.callback(
        Output("rest", "children"),
        Output("shown", "data"),
        Input("drawn", "data"),
        State("shown", "data"),  # not the cards: the browser would send all their contents
        State("address", "pathname"),
        prevent_initial_call=True,
    )
    def others(_: object, are_shown: object, path: str | None) -> tuple[object, object]:
        if are_shown:
            return no_update, no_update
        subject = library.subject(route_of(path).study)
        return study_page.other_cards(subject.goal, several_sizes=len(subject.sizes) > 1), True


def _images(app: Dash) -> None:
    """What only the browser can do: see `assets/page.js`."""
    for kind in ("png", "svg"):
        app.clientside_callback(
            ClientsideFunction("distilnas", kind),
            Output(cards.part(kind, MATCH, MATCH), "title"),
            Input(cards.part(kind, MATCH, MATCH), "n_clicks"),
            State(cards.part(kind, MATCH, MATCH), "id"),
            State(cards.part(kind, MATCH, MATCH), "title"),
            prevent_initial_call=True,
        )
    app.clientside_callback(
        ClientsideFunction("distilnas", "theme"),
        Output("themed", "data"),
        Input("theme", "n_clicks"),
    )


def _clicked_trial(triggered: object) -> int | None:
    """The trial of a clicked point: its custom data is the number, or begins with it."""
    datum = (0, "value", "points", 0, "customdata")
    number = _whole(triggered, *datum)
    return _whole(triggered, *datum, 0) if number is None else number


def _whole(value: Any, *path: int | str) -> int | None:
    """The whole number at a path inside what a browser sent; None if there is none."""
    try:
        for step in path:
            value = value[step]
        return int(value)
    except (LookupError, TypeError, ValueError, OverflowError):
        return None


def _table(app: Dash, library: Library) -> None:
    @app.callback(
        Output("trials", "getRowsResponse"),
        Input("trials", "getRowsRequest"),
        State("address", "search"),
        State("address", "pathname"),
    )
    def rows(asked: object, query: str | None, path: str | None) -> object:
        if not isinstance(asked, dict):
            return no_update
        trials = library.trials(route_of(path).study)
        return answer(Filters.parse(query or "").apply(trials), asked)

    app.clientside_callback(
        ClientsideFunction("distilnas", "refresh"),
        Output("trials", "className"),
        Input("version", "data"),
        Input("address", "search"),
        prevent_initial_call=True,
    )

    @app.callback(
        Output("address", "href", allow_duplicate=True),
        Input("trials", "selectedRows"),
        State("address", "pathname"),
        prevent_initial_call=True,
    )
    def open_row(chosen: object, path: str | None) -> object:
        number = _whole(chosen, 0, "number")
        return no_update if number is None else trial_link(route_of(path).study, number)
