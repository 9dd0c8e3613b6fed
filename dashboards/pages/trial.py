"""The page of one trial, and of several studies side by side."""

from dash import dcc, html
from dash.development.base_component import Component

from dashboards.figures.compare import COMPARE_CHARTS
from dashboards.figures.trial import TRIAL_CHARTS, facts, formats
from dashboards.library import Library
from dashboards.pages import cards
from dashboards.pages.downloads import Downloads
from dashboards.routes import study_link, trial_link
from dashboards.views import TrialView
from search.database.address import command
from search.study.folder import ARTIFACTS
from search.study.object_store import is_address

COMPARE_LEAD = "Studies side by side: what does a larger budget bring, or another space?"


def trial_page(
    library: Library, downloads: Downloads, identity: int, number: int
) -> list[Component]:
    view = library.trial(identity, number)
    subject, row = view.subject, view.row
    described = [part for label, text in facts(view) for part in (html.Dt(label), html.Dd(text))]
    links = [
        html.A(name, href=f"/download/{key}", className="button")
        for name, key in downloads.of(view)
    ]
    stored = formats(view)
    columns = list(stored.columns)
    charts = [cards.card(chart) for chart in TRIAL_CHARTS.values()]
    return [
        html.H1(f"Trial {number}: {str(row['state']).lower()}"),
        html.P(["of ", dcc.Link(subject.name, href=study_link(identity))], className="lead"),
        html.Dl(described, className="facts"),
        html.P(links, className="tools left"),
        *_in_store(library, view),
        html.Div(charts, className="grid"),
        html.Br(),
        html.Section(
            [
                html.H2("Storage formats"),
                cards.table(columns, stored.to_numpy().tolist(), set(columns[1:])),
            ],
            className="card wide",
        ),
        html.P(_neighbours(library, identity, number), className="note"),
    ]


def _in_store(library: Library, view: TrialView) -> list[Component]:
    """The command that fetches a file from an object store, which pages do not read."""
    subject, row = view.subject, view.row
    if not is_address(str(subject.attributes.get(ARTIFACTS))) or row["state"] != "COMPLETE":
        return []
    flags = ("--trial", str(row["number"]), "--out", f"trial{row['number']}.safetensors")
    typed = command("export", subject.name, library.storage, *flags)
    return [html.P(["Its file is in the study's store: ", html.Code(typed)], className="note")]


def _neighbours(library: Library, identity: int, number: int) -> list[Component | str]:
    last = len(library.trials(identity)) - 1
    links = [
        (number > 0, "previous trial", number - 1),
        (number < last, "next trial", number + 1),
    ]
    return [
        part
        for wanted, words, other in links
        if wanted
        for part in (dcc.Link(words, href=trial_link(identity, other)), " ")
    ]


def compare_page(library: Library, chosen: list[int]) -> list[Component]:
    studies = library.studies()
    buttons = [
        (name, cards.compared(identity), identity in chosen)
        for identity, name in zip(studies["identity"].tolist(), studies["name"], strict=True)
    ]
    charts = [cards.card(chart) for chart in COMPARE_CHARTS.values()]
    return [
        html.H1("Compare"),
        html.P(COMPARE_LEAD, className="lead"),
        html.Div(cards.toggles("Studies", buttons), className="filters"),
        html.Div(charts, className="grid"),
    ]
