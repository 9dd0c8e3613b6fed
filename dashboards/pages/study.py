"""The page of one study: a search's charts and trials, or an ablation's evidence."""

from collections.abc import Mapping, Sequence

import dash_ag_grid as dag
import pandas as pd
from dash import dcc, html
from dash.development.base_component import Component

from dashboards.figures.ablation import ABLATION_CHARTS, evidence_tables, notes
from dashboards.figures.search import SEARCH_CHARTS
from dashboards.filters import SE, STATES, Filters, written
from dashboards.library import Library
from dashboards.pages import answer, cards
from dashboards.pages.downloads import Downloads
from dashboards.pages.overview import budget_words
from dashboards.pages.trials_table import COLUMNS, TEXTS
from dashboards.plotting.axes import AXES
from dashboards.routes import compare_link
from dashboards.views import AblationView, Subject, View
from search.database.goal import Goal
from search.database.table import shown_budget
from search.study.plan import AblationSpec
from search.terminal.evidence import Cells
from search.terminal.output import in_pixels
from search.terminal.savings import savings
from trainers.ranges import searched_words

GRID_TITLES = {
    "number": "trial",
    "params": "parameters",
    "macs": "MACs",
    "size": "pixels",
    "words": "architecture",
}
WIDTHS = {"words": 640, "params": 150}  # pixels, where it is more than usual
FORMATS = {"seconds": ",.1f", "bytes": ",", "params": ",", "macs": ","}  # as d3 writes numbers
SHOWN_AT_ONCE = 100  # rows that the table asks for


def page(library: Library, downloads: Downloads, identity: int, query: str) -> list[Component]:
    view = library.study(identity, Filters.parse(query))
    head = [
        html.H1(view.subject.name),
        html.P(what(view), className="lead"),
        answer.section(library, downloads, view),
    ]
    if isinstance(view, AblationView):
        return [*head, *ablation_page(view)]
    return [*head, *search_page(view, query)]


def what(view: View | AblationView) -> str:
    """A study in one line."""
    return _ablation_words(view.plan) if isinstance(view, AblationView) else _words(view.subject)


def _ablation_words(plan: AblationSpec) -> str:
    size = plan.budget if plan.size_matched else "widths as they are written"
    data = f"data {plan.source} at {in_pixels(plan.sizes)}"
    return "; ".join(filter(None, (plan.question, f"{plan.design} design", size, data)))


def _words(subject: Subject) -> str:
    spec = subject.spec
    if not spec:
        several = f"; values: {subject.goal.several}" if subject.goal.several else ""
        return f"made by another program: shown as far as its trials tell{several}"
    more = f"; {searched_words(spec['ranges'])}" if "ranges" in spec else ""
    budget = budget_words(shown_budget(spec))
    return (
        f"budget {budget}, space {spec['space']}, data {spec['source']} at "
        f"{in_pixels(subject.sizes)}, {spec['recipe']['epochs']} epochs, "
        f"sampler {spec['sampler']}, pruner {spec['pruner']}{more}"
    )


def saved(subject: Subject, trials: pd.DataFrame) -> str:
    """What stopping trials early has saved; "" if the study stops none."""
    found = savings(trials, subject.spec)
    return f"{found.words}." if found else ""


def search_page(view: View, query: str) -> list[Component]:
    subject, trials = view.subject, view.all
    first = cards.card(next(iter(SEARCH_CHARTS.values())), subject.goal)
    rest = html.Div(id="rest", className="contents")
    return [
        dcc.Store(id="drawn"),
        html.P(saved(subject, trials), id="saved", className="lead"),
        dcc.Store(id="shown"),
        controls(trials, query),
        html.Div([first, rest], className="grid"),
        html.P(
            [dcc.Link("Compare with other studies", href=compare_link([subject.identity]))],
            className="note",
        ),
    ]


def other_cards(goal: Goal, *, several_sizes: bool = False) -> list[Component]:
    """The cards that come after the first picture.

    Args:
        several_sizes: whether the study's students differ in their input's size.
    """
    _, *later = SEARCH_CHARTS.values()
    return [
        *(cards.card(chart, goal, cards.LATER) for chart in later),
        trials_card(goal, several_sizes),
    ]


def controls(trials: pd.DataFrame, query: str) -> html.Div:
    """Filters of all charts and of the table."""
    filters = Filters.parse(query)
    blocks = sorted(block for block in trials["block"].unique() if block)
    states = [state for state in STATES if (trials["state"] == state).any()]
    sizes = [f"{size:.0f}" for size in sorted(trials["size"].dropna().unique())]
    known = [  # of what trials say was trained
        _choices("Block type", "block", {block: block for block in blocks}, filters),
        _choices("Squeeze-and-excitation", "se", {se: se for se in SE}, filters),
    ]
    return html.Div(
        [
            *(known if blocks else []),
            *([_choices("Pixels", "pixels", {s: s for s in sizes}, filters)] if sizes else []),
            *([_choices("State", "state", _lowered(states), filters)] if states else []),
            _choices("Size is", "axis", {key: axis.name for key, axis in AXES.items()}, filters),
            html.Fieldset(
                [
                    html.Legend("Size"),
                    _size("low", "from, e.g. 20KB", written(query, "low")),
                    _size("high", "to, e.g. 1MB", written(query, "high")),
                    html.Span(id="misread", className="misread", role="status"),
                ]
            ),
            html.Span(id="count", className="count", role="status"),
        ],
        className="filters",
    )


def _lowered(states: Sequence[str]) -> dict[str, str]:
    return {state: state.lower() for state in states}


def _choices(title: str, name: str, words: Mapping[str, str], filters: Filters) -> html.Fieldset:
    return cards.toggles(
        title,
        [
            (word, cards.choice(name, value), filters.has(name, value))
            for value, word in words.items()
        ],
    )


def _size(name: str, title: str, text: str) -> dcc.Input:
    return dcc.Input(
        id=cards.limit(name),
        type="text",
        value=text,
        debounce=True,
        placeholder=title,
    )


def trials_card(goal: Goal, several_sizes: bool) -> html.Section:
    """The table of all trials: sorted and filtered on the server, rows fetched on scrolling."""
    shown = [column for column in COLUMNS if column != "size" or several_sizes]
    grid_columns = [_grid_column(column, goal) for column in shown]
    grid = dag.AgGrid(
        id="trials",
        rowModelType="infinite",
        columnDefs=grid_columns,
        defaultColDef={"sortable": True, "resizable": True},
        dashGridOptions={
            "cacheBlockSize": SHOWN_AT_ONCE,
            "maxBlocksInCache": 20,
            "rowSelection": {
                "mode": "singleRow",
                "checkboxes": False,
                "enableClickSelection": True,
            },
        },
        style={"height": 460, "width": "100%"},
    )
    note = "Click or press Space on a row to open the trial."
    return html.Section(
        [html.H2("Trials"), grid, html.P(note, className="note")],
        id="trials-card",
        className="card wide",
    )


def _grid_column(column: str, goal: Goal) -> dict[str, object]:
    is_text = column in TEXTS
    written = FORMATS.get(column) if column != "value" else goal.digits
    shown = f"params.value == null ? '' : d3.format('{written}')(params.value)"
    return {
        "field": column,
        "headerName": goal.name if column == "value" else GRID_TITLES.get(column, column),
        "cellDataType": "text"
        if is_text
        else "number",  # stated, since guessing makes AG Grid wait for rows
        "filter": f"ag{'Text' if is_text else 'Number'}ColumnFilter",
        "width": WIDTHS.get(column, 128),  # fixed: with `flex`, AG Grid may never show them
        **({"valueFormatter": {"function": shown}} if written else {}),
        **({} if is_text else {"type": "rightAligned"}),
    }


def ablation_page(view: AblationView) -> list[Component]:
    """The differences first, then the other charts; the tables come last."""
    charts = [cards.card(chart) for chart in ABLATION_CHARTS.values()]
    tables = html.Section(
        [html.H2("Evidence"), html.Div(evidence_parts(view), id="evidence")],
        className="card wide",
    )
    return [html.Div([*charts[:1], tables, *charts[1:]], className="grid")]


def evidence_parts(view: AblationView) -> list[Component]:
    """The tables that `distilnas ablate show` prints, and its notes."""
    tables = [cells_table(cells) for cells in evidence_tables(view)]
    return [*tables, html.Ul([html.Li(note) for note in notes(view)], className="notes")]


def cells_table(cells: Cells) -> html.Div:
    return cards.table(
        [column.strip() for column in cells.columns],
        cells.rows,
        {column.strip() for column in cells.numeric},
        cells.title,
    )
