"""The live page: routes, callbacks, and what is sent when something changed."""

from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import dash
from dash import ALL, MATCH, ClientsideFunction, Dash, Input, Output, State, dcc, html, no_update
from flask import Response, abort, request

from dashboards import cards, overview, pictures, study_page, trial_page
from dashboards.addresses import (
    COMPARE,
    STUDIES,
    STUDY,
    TRIAL,
    Place,
    compare_link,
    compared,
    place,
    trial_link,
)
from dashboards.downloads import Downloads, csv_of
from dashboards.filters import Filters
from dashboards.library import Library
from dashboards.trials_table import answer
from space.errors import InputError

POLL_SECONDS = 1.5  # a new trial is seen within twice that
ASSETS = Path(__file__).parent / "assets"


def make_app(library: Library) -> Dash:
    """The page over a library. `dashboards.server` guards it."""
    app = Dash(
        __name__,
        assets_folder=str(ASSETS),
        title="DistilNAS",
        update_title="",
        suppress_callback_exceptions=True,  # pages come and go
        serve_locally=True,
    )
    app.index_string = app.index_string.replace("<html>", '<html lang="en">')
    app.layout = _frame
    downloads = Downloads(library)
    _pages(app, library, downloads)
    _live(app, library)
    _filters(app, library)
    _cards(app, library)
    _table(app, library)
    _routes(app, library, downloads)
    return app


def _frame() -> html.Div:
    bar = html.Header(
        [
            html.A("Skip to the contents", href="#page", className="skip"),
            dcc.Link("DistilNAS", href="/", className="brand"),
            html.Nav(
                [dcc.Link("Studies", href="/"), " ", dcc.Link("Compare", href="/compare")],
                **{"aria-label": "Pages"},
            ),
            html.Div(
                [
                    html.Span(id="live", role="status", className="where"),
                    html.Button("Dark or light", id="theme", title="Switch the colours"),
                ],
                className="right",
            ),
        ],
        className="bar",
    )
    return html.Div(
        [
            dcc.Location(id="address", refresh="callback-nav"),
            dcc.Interval(id="poll", interval=round(1000 * POLL_SECONDS)),
            dcc.Store(id="version"),  # of what is on the page
            dcc.Store(id="themed"),
            bar,
            html.Main(id="page", tabIndex=-1),
        ]
    )


def _pages(app: Dash, library: Library, downloads: Downloads) -> None:
    @app.callback(
        Output("page", "children"),
        Output("version", "data"),
        Input("address", "pathname"),
        State("address", "search"),
    )
    def show(path: str | None, query: str | None) -> tuple[Any, str]:
        where = place(path)
        try:
            return _contents(where, query or ""), _version(library, where)
        except InputError as error:
            return _lost(str(error)), ""

    def _contents(where: Place, query: str) -> list[Any]:
        if where.page == STUDIES:
            return overview.page(library)
        if where.page == STUDY:
            return study_page.page(library, where.study, query)
        if where.page == TRIAL:
            return trial_page.trial_page(library, downloads, where.study, where.trial)
        if where.page == COMPARE:
            return trial_page.compare_page(library, compared(query))
        raise InputError("there is no such page")


def _lost(why: str) -> list[Any]:
    return [
        html.H1("Not found"),
        html.P(why, className="lead"),
        html.P(dcc.Link("All studies", href="/")),
    ]


def _version(library: Library, where: Place, query: str = "") -> str:
    """What a page shows, in short: it is drawn again when this changes."""
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
    def poll(_: int, shown: str, path: str | None, query: str | None) -> Any:
        try:
            found = _version(library, place(path), query or "")
        except InputError:
            return no_update
        return no_update if found == shown else found

    @app.callback(
        Output("studies", "children"), Input("version", "data"), prevent_initial_call=True
    )
    def list_again(_: str) -> Any:
        return overview.contents(library)

    @app.callback(
        Output("evidence", "children"),
        Input("version", "data"),
        State("address", "pathname"),
        prevent_initial_call=True,
    )
    def judge_again(_: str, path: str | None) -> Any:
        return study_page.evidence_parts(library.ablation(place(path).study))


CONTROLS = ("block", "se", "state", "low", "high", "axis")


def _filters(app: Dash, library: Library) -> None:
    @app.callback(
        Output("address", "search"),
        *(Output(name, "value") for name in CONTROLS),
        *(Input(name, "value") for name in CONTROLS),
        Input("address", "search"),
        prevent_initial_call=True,
    )
    def follow(*given: Any) -> Any:
        """Controls change the address; an address that comes otherwise sets the controls."""
        *values, query = given
        before = Filters.parse(query or "")
        if dash.ctx.triggered_id == "address":
            return (no_update, *_values(before))
        block, se, state, low, high, axis = values
        chosen = Filters(tuple(block), tuple(se), tuple(state), low, high, before.axis)
        chosen = chosen.with_axis(axis)
        asked = f"?{chosen.query}" if chosen.query else ""
        return (no_update if asked == (query or "") else asked, *_values(chosen))

    @app.callback(
        Output("count", "children"),
        Input("version", "data"),
        Input("address", "search"),
        State("address", "pathname"),
    )
    def count(_: str, query: str | None, path: str | None) -> str:
        trials = library.trials(place(path).study)
        passing = len(Filters.parse(query or "").apply(trials))
        return f"{passing:,} of {len(trials):,} trials"

    @app.callback(Output("address", "href"), Input("compared", "value"), prevent_initial_call=True)
    def compare(chosen: list[int]) -> str:
        return compare_link(chosen)


def _values(filters: Filters) -> tuple[Any, ...]:
    lists = (list(filters.blocks), list(filters.se), list(filters.states))
    return (*lists, filters.low, filters.high, filters.axis)


def _cards(app: Dash, library: Library) -> None:
    parts = ("graph", "figure"), ("note", "children"), ("empty", "children")
    hidden = ("empty", "hidden"), ("frame", "className"), ("csv", "href")

    @app.callback(
        *(Output(cards.part(name, MATCH), prop) for name, prop in (*parts, *hidden)),
        Input("version", "data"),
        Input("address", "search"),
        State("address", "pathname"),
        State(cards.part("graph", MATCH), "id"),
    )
    def draw(_: str, query: str | None, path: str | None, identity: dict[str, str]) -> Any:
        where, key, query = place(path), identity["card"], query or ""
        drawn = pictures.picture(library, where, query, key)
        revision = f"{where}{Filters.parse(query).axis}"
        link = f"/csv{path}?{urlencode({'picture': key})}&{query.removeprefix('?')}"
        return (*cards.fill(drawn, revision), link)

    @app.callback(
        Output(cards.part("table", MATCH), "children"),
        Input(cards.part("data", MATCH), "n_clicks"),
        Input("version", "data"),
        Input("address", "search"),
        State("address", "pathname"),
        State(cards.part("data", MATCH), "id"),
        prevent_initial_call=True,
    )
    def table(
        clicks: int | None, _: str, query: str | None, path: str | None, identity: dict[str, str]
    ) -> Any:
        if not (clicks or 0) % 2:
            return cards.NO_TABLE
        return cards.data_table(
            pictures.picture(library, place(path), query or "", identity["card"]).data
        )

    app.clientside_callback(
        ClientsideFunction("distilnas", "drawn"),
        Output("drawn", "data"),
        Input(cards.part("graph", study_page.FIRST), "figure"),
    )

    @app.callback(Output("rest", "children"), Input("drawn", "data"), prevent_initial_call=True)
    def others(_: Any) -> Any:
        return study_page.other_cards()

    for kind in ("png", "svg"):
        app.clientside_callback(
            ClientsideFunction("distilnas", kind),
            Output(cards.part(kind, MATCH), "title"),
            Input(cards.part(kind, MATCH), "n_clicks"),
            State(cards.part(kind, MATCH), "id"),
            State(cards.part(kind, MATCH), "title"),
            prevent_initial_call=True,
        )
    app.clientside_callback(
        ClientsideFunction("distilnas", "theme"),
        Output("themed", "data"),
        Input("theme", "n_clicks"),
    )

    @app.callback(
        Output("address", "href", allow_duplicate=True),
        Input(cards.part("graph", ALL), "clickData"),
        State("address", "pathname"),
        prevent_initial_call=True,
    )
    def open_point(clicked: list[Any], path: str | None) -> Any:
        number = _clicked_trial(dash.ctx.triggered[0]["value"])
        where = place(path)
        if where.page != STUDY or number is None:
            return no_update
        return trial_link(where.study, number)


def _clicked_trial(clicked: Any) -> int | None:
    """The trial that a point stands for: its custom data begins with the number."""
    try:
        found = clicked["points"][0]["customdata"]
        return int(found[0] if isinstance(found, list) else found)
    except (KeyError, IndexError, TypeError, ValueError):
        return None


def _table(app: Dash, library: Library) -> None:
    @app.callback(
        Output("trials", "getRowsResponse"),
        Input("trials", "getRowsRequest"),
        State("address", "search"),
        State("address", "pathname"),
    )
    def rows(asked: Any, query: str | None, path: str | None) -> Any:
        if not isinstance(asked, dict):
            return no_update
        trials = library.trials(place(path).study)
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
    def open_row(chosen: Any, path: str | None) -> Any:
        if not isinstance(chosen, list) or not chosen:
            return no_update
        return trial_link(place(path).study, int(chosen[0]["number"]))


def _routes(app: Dash, library: Library, downloads: Downloads) -> None:
    @app.server.get("/download/<key>")
    def download(key: str) -> Response:
        return downloads.serve(key)

    @app.server.get("/csv/<path:path>")
    def data(path: str) -> Response:
        key, query = request.args.get("picture", ""), request.query_string.decode()
        where = place(f"/{path}")
        try:
            found = pictures.picture(library, where, query, key)
            name = library.name(where.study) if where.study >= 0 else COMPARE
        except InputError:
            abort(404)
        return csv_of(found.data, f"{name}-{key}")
