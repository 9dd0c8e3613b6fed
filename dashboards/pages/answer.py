"""The top of a study's page: its answer, before any chart."""

from dash import dcc, html
from dash.development.base_component import Component

from dashboards.library import Library
from dashboards.pages.downloads import Downloads
from dashboards.routes import trial_link
from dashboards.views import AblationView, View
from search.study.ranking import Best
from search.terminal.answer import Answer

SELECTS = "One click selects it"


def section(library: Library, downloads: Downloads, view: View | AblationView) -> html.Section:
    """The answer's card; `parts` are its contents, which change while a study runs."""
    return html.Section(
        [html.H2("Answer"), html.Div(parts(library, downloads, view), id="answer")],
        className="card answer",
    )


def parts(library: Library, downloads: Downloads, view: View | AblationView) -> list[Component]:
    """Best student, gap, whether to go on, and the command to go on with; or why there is none."""
    found, identity = library.answer(view), view.subject.identity
    return [
        *([html.P(found.nothing, className="headline")] if found.nothing else []),
        *([html.P(found.sentence, className="headline")] if found.sentence else []),
        *([_student(found, found.best, downloads, identity)] if found.best else []),
        *([html.P(found.asides, className="note")] if found.asides else []),
        *([_command(found.more)] if found.more else []),
    ]


def _student(found: Answer, best: Best, downloads: Downloads, identity: int) -> html.P:
    """The best student in a line: large, unless an ablation's sentence stands above it."""
    key = downloads.file_of(identity, best.number, best.seed)
    line: list[Component | str] = [
        "Best student: ",
        dcc.Link(f"trial {best.number}", href=trial_link(identity, best.number)),
        ", ",
        html.Strong(found.accuracy),
        found.tail,
    ]
    if key:
        line += [" ", html.A("Download", href=f"/download/{key}", className="button")]
    return html.P(line, className="student" if found.sentence else "headline")


def _command(text: str) -> html.P:
    """The command, each word whole as long as it fits into a line."""
    words = [part for word in text.split(" ") for part in (html.Span(word), " ")][:-1]
    return html.P(["To go on: ", html.Code(words, title=SELECTS)], className="note")
