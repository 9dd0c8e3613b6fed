"""`distilnas report`: studies as one HTML file that needs no network."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from plotly.offline import get_plotlyjs

from dashboards.figures.ablation import ABLATION_CHARTS, evidence_tables, notes
from dashboards.figures.compare import COMPARE_CHARTS
from dashboards.figures.search import CLICK, SEARCH_CHARTS
from dashboards.figures.trial import TRIAL_CHARTS
from dashboards.filters import Filters
from dashboards.library import Library
from dashboards.pages.app import ASSETS
from dashboards.pages.cards import cell_text, numeric_columns
from dashboards.pages.study import saved, what
from dashboards.plotting.picture import CONFIG, Chart, V
from dashboards.views import AblationView, View
from search.database import table
from search.database.row import SIZES
from search.study.folder import require_writable
from search.study.ranking import ranked
from search.terminal import output
from search.terminal.answer import Answer
from search.terminal.evidence import Cells
from space.errors import InputError
from space.solver import format_bytes
from trainers.files import write_atomically  # loads no torch, and this file must not either

BEST = 10  # trials that are listed
MOST_ROWS = 1_000  # of a picture's data
HEIGHT = 380  # pixels of a figure that does not say how high it is
POLICY = (  # nothing is loaded or sent; WebGL charts compile their code: `dashboards.server.guard`
    "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'unsafe-inline'; img-src data: blob:"
)


class Card(NamedTuple):
    """A chart's picture with its note, and its data to unfold."""

    key: str
    title: str
    wide: bool
    empty: str  # why there is nothing to draw; else ""
    note: str
    height: int  # pixels
    drawn: Mapping[str, object]  # the figure's data and layout
    rows: str  # how many rows its data has, in words
    data: Cells


class Section(NamedTuple):
    """Tables under a heading."""

    title: str
    tables: Sequence[Cells]
    notes: Sequence[str] = ()


class Study(NamedTuple):
    """What the report says of a study."""

    identity: int  # in the database
    name: str
    lead: Sequence[str]
    answer: Answer
    first: Sequence[Card]  # that come before the tables
    sections: Sequence[Section]
    cards: Sequence[Card]


def write(storage: str, names: Sequence[str], out: Path, as_json: bool) -> None:
    """Write the report and say where it is; all studies where none is named.

    Raises:
        InputError: no such database or study, or a file that cannot be written.
    """
    require_writable(out)
    library = Library(storage)
    studies = [library.identity(name) for name in dict.fromkeys(names)] or [
        int(identity) for identity in library.studies()["identity"]
    ]
    if not studies:
        raise InputError("this database holds no study yet; begin with: distilnas search")
    content = page(library, studies).encode()
    try:
        write_atomically(out, lambda file: file.write(content))
    except OSError as error:
        raise InputError(
            f"the report cannot be written to {out}: {error.strerror}; choose another --out"
        ) from None
    if as_json:
        written = [library.name(study) for study in studies]
        output.print_json({"file": str(out), "bytes": len(content), "studies": written})
        return
    size = format_bytes(len(content))
    output.console().print(f"{out}: {size}, open it in a browser", soft_wrap=True)


def page(library: Library, identities: Sequence[int]) -> str:
    """The whole document, from `dashboards/templates/report.html`."""
    views = [library.study(identity, Filters()) for identity in identities]
    studies = [_study(library, view) for view in views]
    searches = [view for view in views if isinstance(view, View)]
    several = searches if len(searches) > 1 else []
    return (
        _environment()
        .get_template("report.html")
        .render(
            title=studies[0].name if len(studies) == 1 else f"{len(studies)} studies",
            studies=studies,
            compared=[card(chart, several) for chart in COMPARE_CHARTS.values() if several],
            config=CONFIG,
            policy=POLICY,
            style=(ASSETS / "style.css").read_text(),
            plotly=get_plotlyjs(),
        )
    )


def _environment() -> Environment:
    """Every text in a template is escaped, also within scripts (`tojson`)."""
    made = Environment(
        autoescape=True,
        loader=PackageLoader("dashboards"),
        trim_blocks=True,
        undefined=StrictUndefined,
    )
    made.policies["json.dumps_kwargs"] = {"allow_nan": False}
    return made


def _study(library: Library, view: View | AblationView) -> Study:
    return _ablation(library, view) if isinstance(view, AblationView) else _search(library, view)


def _search(library: Library, view: View) -> Study:
    subject, counts = view.subject, view.trials["state"].value_counts()
    words = ", ".join(f"{count:,} {str(state).lower()}" for state, count in counts.items())
    lead = [what(view), words or "no trials yet", saved(subject, view.trials)]
    tables = {"The best trials": _best(view), "Finalists": _finalists(view)}
    cards = [
        *_networks(library, view),
        *(card(chart, view, subject.goal.said(chart.title)) for chart in SEARCH_CHARTS.values()),
    ]
    return Study(
        subject.identity,
        subject.name,
        [line for line in lead if line],
        library.answer(view),
        [],
        [Section(title, [cells]) for title, cells in tables.items() if cells.rows],
        cards,
    )


def _networks(library: Library, view: View) -> Iterator[Card]:
    """The best trial's network; nothing if another program made all trials."""
    described = view.trials[view.trials["params"].notna()]
    for number in table.best(described, 1, view.subject.goal)["number"].astype(int):
        chart, trial = TRIAL_CHARTS["architecture"], library.trial(view.subject.identity, number)
        yield card(chart, trial, f"{chart.title} of trial {number}, the best")


def _best(view: View) -> Cells:
    """The best trials, in the words of `distilnas show`."""
    goal, leaders = view.subject.goal, table.best(view.trials, BEST, view.subject.goal)
    if not goal.ours:
        named = ("trial", goal.name)
        found = [(str(row["number"]), goal.words(row["value"])) for _, row in leaders.iterrows()]
        return Cells("", named, found, frozenset(named))
    heads = ("trial", "accuracy", "bytes", "params", "MACs", "architecture")
    leaders = leaders[leaders[[*SIZES]].notna().all(axis=1)].astype({"number": int})
    rows = [output.trial_cells(row) for _, row in leaders.iterrows()]
    return Cells("", heads, rows, frozenset(heads[:-1]))


def _finalists(view: View) -> Cells:
    """Empty for another program's study: its attributes are not read."""
    rows = [
        (str(f.number), f"{f.mean:.1%}", f"{f.spread:.1%}", str(len(f.accuracies)), f.words)
        for f in ranked(view.subject.attributes, table.students(view.trials))
    ]
    heads = ("trial", "mean", "standard deviation", "seeds", "architecture")
    return Cells("", heads, rows, frozenset(heads[:-1]))


def _ablation(library: Library, view: AblationView) -> Study:
    subject, found = view.subject, library.answer(view)
    evidence = Section("Evidence", evidence_tables(view), notes(view))
    forest, *cards = [card(chart, view) for chart in ABLATION_CHARTS.values()]
    lead = [what(view)]
    return Study(subject.identity, subject.name, lead, found, [forest], [evidence], cards)


def card(chart: Chart[V], view: V, title: str = "") -> Card:
    """A chart's card.

    Args:
        title: in place of the chart's own; "" keeps that.
    """
    picture = chart.draw(view)
    figure, data = json.loads(picture.figure.to_json()), picture.data
    more = f", the first {MOST_ROWS:,} shown" if len(data) > MOST_ROWS else ""
    return Card(
        key=chart.key,
        title=title or chart.title,
        wide=chart.wide,
        empty=picture.empty,
        note=picture.note.removesuffix(CLICK),
        height=picture.figure.layout.height or HEIGHT,
        drawn={"data": figure["data"], "layout": figure["layout"]},
        rows=f"Data: {len(data):,} rows{more}",
        data=_cells(data.head(MOST_ROWS)),
    )


def _cells(data: pd.DataFrame) -> Cells:
    rows = [tuple(str(cell_text(cell)) for cell in row) for row in data.to_numpy().tolist()]
    return Cells("", tuple(map(str, data.columns)), rows, frozenset(numeric_columns(data)))
