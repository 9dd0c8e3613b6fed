"""The Dash application: its frame, its pages, downloads."""

from pathlib import Path

from dash import Dash, Input, Output, State, dcc, html
from dash.development.base_component import Component
from dash.exceptions import DependencyException
from flask import Response, request
from werkzeug.exceptions import NotFound

from dashboards.figures import catalog
from dashboards.library import Library
from dashboards.pages import overview
from dashboards.pages import study as study_page
from dashboards.pages import trial as trial_page
from dashboards.pages.callbacks import register, version
from dashboards.pages.cards import READING, aria
from dashboards.pages.downloads import Downloads, csv_of
from dashboards.routes import (
    COMPARE,
    STUDIES,
    STUDY,
    TRIAL,
    Route,
    compared,
    route_of,
)
from space.errors import InputError

POLL_SECONDS = 1.5  # a new trial appears within twice that time
ASSETS = Path(__file__).parents[1] / "assets"


def make_app(library: Library) -> Dash:
    """The page over a library. `dashboards.server.guard` adds its protection."""
    app = Dash(
        __name__,
        assets_folder=str(ASSETS),
        title="DistilNAS",
        update_title="",
        suppress_callback_exceptions=True,  # pages come and go
        serve_locally=True,
    )
    app.index_string = app.index_string.replace("<html>", '<html lang="en">')
    app.enable_dev_tools(  # off, whatever DASH_DEBUG and similar variables say
        debug=False,
        dev_tools_ui=False,
        dev_tools_props_check=False,
        dev_tools_serve_dev_bundles=False,
        dev_tools_hot_reload=False,
        dev_tools_disable_version_check=True,
    )
    app.layout = _frame
    downloads = Downloads(library)
    _pages(app, library, downloads)
    register(app, library, downloads)
    _routes(app, library, downloads)
    return app


def _frame() -> html.Div:
    bar = html.Header(
        [
            html.A("Skip to the contents", href="#page", className="skip"),
            dcc.Link("DistilNAS", href="/", className="brand"),
            html.Nav(
                [dcc.Link("Studies", href="/"), " ", dcc.Link("Compare", href="/compare")],
                **aria(label="Pages"),
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
            html.Main(html.P(READING, className="empty"), id="page", tabIndex=-1),
        ]
    )


def _pages(app: Dash, library: Library, downloads: Downloads) -> None:
    @app.callback(
        Output("page", "children"),
        Output("version", "data"),
        Input("address", "pathname"),
        State("address", "search"),
    )
    def show(path: str | None, query: str | None) -> tuple[list[Component], str]:
        where = route_of(path)
        try:
            return _contents(where, query or ""), version(library, where)
        except InputError as error:
            return _lost(str(error)), ""

    def _contents(where: Route, query: str) -> list[Component]:
        if where.page == STUDIES:
            return overview.page(library)
        if where.page == STUDY:
            return study_page.page(library, downloads, where.study, query)
        if where.page == TRIAL:
            return trial_page.trial_page(library, downloads, where.study, where.trial)
        if where.page == COMPARE:
            return trial_page.compare_page(library, compared(query))
        raise InputError("there is no such page")


def _lost(why: str) -> list[Component]:
    return [
        html.H1("Not found"),
        html.P(why, className="lead"),
        html.P(dcc.Link("All studies", href="/")),
    ]


def _routes(app: Dash, library: Library, downloads: Downloads) -> None:
    @app.server.get("/download/<key>")
    def download(key: str) -> Response:
        return downloads.serve(key)

    @app.server.get("/csv/<path:path>")
    def data(path: str) -> Response:
        key, query = request.args.get("picture", ""), request.query_string.decode()
        where = route_of(f"/{path}")
        found = catalog.picture(library, where, query, key)
        name = library.name(where.study) if where.study >= 0 else COMPARE
        return csv_of(found.data, f"{name}-{key}")

    for error in (InputError, DependencyException):  # no such study; no file of Dash's
        app.server.register_error_handler(error, lambda _: NotFound())
