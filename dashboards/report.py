"""`distilnas report`: studies as one HTML file that needs no network."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from itertools import chain
from pathlib import Path
from typing import Any

import pandas as pd
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
from dashboards.views import ABLATION, SEARCH, Subject, View
from search.database import table
from search.database.row import SIZES
from search.study.folder import require_writable
from search.study.ranking import ranked
from search.terminal import output
from space.errors import InputError
from space.solver import format_bytes
from trainers.files import write_atomically  # without torch, as this file must be

BEST = 10  # trials that are listed
MOST_ROWS = 1_000  # of a picture's data
POLICY = (  # nothing is loaded or sent; WebGL charts compile their code: `dashboards.server.guard`
    "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'unsafe-inline'; img-src data: blob:"
)

# Figures are drawn when they come into sight, so that the page opens at once; all before printing.
SCRIPT = """
const draw = (plot) => {
  seen.unobserve(plot);
  const drawn = JSON.parse(plot.nextElementSibling.textContent);
  Plotly.newPlot(plot, drawn.data, drawn.layout, CONFIG);
};
const seen = new IntersectionObserver((entries) => {
  for (const entry of entries) if (entry.isIntersecting) draw(entry.target);
}, { rootMargin: "600px" });
document.querySelectorAll(".plot").forEach((plot) => seen.observe(plot));
window.addEventListener("beforeprint", () => {
  document.querySelectorAll(".plot:not(.js-plotly-plot)").forEach(draw);
});
"""


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


def page(library: Library, studies: Sequence[int]) -> str:
    """The whole document."""
    subjects = [library.subject(study) for study in studies]
    title = subjects[0].name if len(subjects) == 1 else f"{len(subjects)} studies"
    body = "\n".join(_body(library, subjects))
    config = script_json(dict(CONFIG))
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<title>DistilNAS: {escape(title)}</title>
<style>{(ASSETS / "style.css").read_text()}</style>
<script>{get_plotlyjs()}</script>
</head>
<body>
<header class="bar"><span class="brand">DistilNAS</span></header>
<main>
{body}
</main>
<script>const CONFIG = {config};{SCRIPT}</script>
</body>
</html>
"""


def _body(library: Library, subjects: Sequence[Subject]) -> Iterator[str]:
    searches = [subject for subject in subjects if subject.kind != ABLATION]
    views = [library.view(subject.identity, Filters()) for subject in searches]
    if len(subjects) > 1:
        yield contents(subjects)
    if len(views) > 1:
        yield "<h1>Compared</h1>"
        yield _cards(card(chart, views) for chart in COMPARE_CHARTS.values())
    for subject in subjects:
        yield f'<h1 id="study-{subject.identity}">{escape(subject.name)}</h1>'
        yield f'<p class="lead">{escape(what(subject))}</p>'
        if subject.kind == ABLATION:
            yield from _ablation(library, subject)
        else:
            yield from _search(library, views[searches.index(subject)])


def contents(subjects: Sequence[Subject]) -> str:
    """Links to the studies."""
    links = (
        f'<li><a href="#study-{subject.identity}">{escape(subject.name)}</a></li>'
        for subject in subjects
    )
    return f'<nav aria-label="Studies"><ul>{"".join(links)}</ul></nav>'


def _search(library: Library, view: View) -> Iterator[str]:
    counts = view.trials["state"].value_counts()
    words = ", ".join(f"{count:,} {str(state).lower()}" for state, count in counts.items())
    yield f'<p class="lead">{words or "no trials yet"}</p>'
    yield f'<p class="lead">{saved(view.subject, view.trials)}</p>'
    yield _best(view)
    if view.subject.kind == SEARCH:
        yield _finalists(view)
    goal = view.subject.goal
    drawn = (card(chart, view, goal.said(chart.title)) for chart in SEARCH_CHARTS.values())
    yield _cards(chain(_networks(library, view), drawn))


def _networks(library: Library, view: View) -> Iterator[str]:
    """The best trial's; none where there is no trial of ours."""
    described = view.trials[view.trials["params"].notna()]
    for number in table.best(described, 1, view.subject.goal)["number"].astype(int):
        chart, trial = TRIAL_CHARTS["architecture"], library.trial(view.subject.identity, number)
        yield card(chart, trial, f"{chart.title} of trial {number}, the best")


def _best(view: View) -> str:
    """The best trials, in the words of `distilnas show`."""
    goal = view.subject.goal
    if not goal.ours:
        rows = table.best(view.trials, BEST, goal)
        found = [(str(row["number"]), goal.words(row["value"])) for _, row in rows.iterrows()]
        heads = ["trial", goal.name]
        return section("The best trials", html_table(heads, found, heads)) if found else ""
    columns = ["trial", "accuracy", "bytes", "params", "MACs", "architecture"]
    leaders = table.best(view.trials, BEST)
    leaders = leaders[leaders[[*SIZES]].notna().all(axis=1)]
    if leaders.empty:
        return ""
    cells = [output.trial_cells(row) for _, row in leaders.astype({"number": int}).iterrows()]
    numeric = set(columns) - {"architecture"}
    return section("The best trials", html_table(columns, cells, numeric))


def _finalists(view: View) -> str:
    ranking = ranked(view.subject.attributes, table.students(view.trials))
    if not ranking:
        return ""
    cells = [
        (str(f.number), f"{f.mean:.1%}", f"{f.spread:.1%}", str(len(f.accuracies)), f.words)
        for f in ranking
    ]
    columns = ["trial", "mean", "standard deviation", "seeds", "architecture"]
    return section("Finalists", html_table(columns, cells, set(columns[:4])))


def _ablation(library: Library, subject: Subject) -> Iterator[str]:
    view = library.ablation(subject.identity)
    tables = [
        html_table(
            [column.strip() for column in cells.columns],
            cells.rows,
            {column.strip() for column in cells.numeric},
            cells.title,
        )
        for cells in evidence_tables(view)
    ]
    said = "".join(f"<li>{escape(note)}</li>" for note in notes(view))
    yield section("Evidence", "".join(tables) + f'<ul class="notes">{said}</ul>')
    yield _cards(card(chart, view) for chart in ABLATION_CHARTS.values())


def _cards(drawn: Iterable[str]) -> str:
    return f'<div class="grid">{"".join(drawn)}</div>'


def card(chart: Chart[V], view: V, title: str = "") -> str:
    """A chart's picture with its note, and its data to unfold.

    Args:
        title: another one than the chart's.
    """
    picture, key, titled = chart.draw(view), chart.key, title or chart.title
    heading, kind = f"<h2>{escape(titled)}</h2>", "card wide" if chart.wide else "card"
    if picture.empty:
        why = f'<p class="empty">{escape(picture.empty)}</p>'
        return f'<section class="{kind}">{heading}{why}</section>'
    height = picture.figure.layout.height or 380
    figure = json.loads(picture.figure.to_json())
    drawn = {"data": figure["data"], "layout": figure["layout"]}
    label = escape(titled, quote=True)
    return (
        f'<section class="{kind}"><figure>{heading}'
        f'<div class="plot {key}" role="img" aria-label="{label}" style="height:{height}px"></div>'
        f'<script type="application/json">{script_json(drawn)}</script>'
        f'<figcaption class="note">{escape(picture.note.removesuffix(CLICK))}</figcaption></figure>'
        f"{_data(picture.data)}</section>"
    )


def _data(data: pd.DataFrame) -> str:
    shown = data.head(MOST_ROWS)
    words = f"Data: {len(data):,} rows"
    more = f", the first {MOST_ROWS:,} shown" if len(data) > MOST_ROWS else ""
    rows = [[cell_text(cell) for cell in row] for row in shown.to_numpy().tolist()]
    listed = html_table(list(data.columns), rows, numeric_columns(data))
    return f'<details><summary>{words}{more}</summary><div class="data">{listed}</div></details>'


def section(title: str, content: str) -> str:
    return f'<section class="card spaced"><h2>{escape(title)}</h2>{content}</section>'


def html_table(
    columns: Sequence[Any], rows: Sequence[Sequence[Any]], numeric: Any, caption: str = ""
) -> str:
    """A table; every text in it is escaped."""
    marks = [' class="number"' if column in numeric else "" for column in columns]
    head = "".join(
        f'<th scope="col"{mark}>{escape(str(column))}</th>'
        for column, mark in zip(columns, marks, strict=True)
    )
    body = "".join(
        "<tr>"
        + "".join(
            f"<td{mark}>{'' if cell is None else escape(str(cell))}</td>"
            for cell, mark in zip(row, marks, strict=True)
        )
        + "</tr>"
        for row in rows
    )
    titled = f"<caption>{escape(caption)}</caption>" if caption else ""
    return (
        f'<div class="scroll"><table>{titled}<thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def script_json(data: Mapping[str, Any]) -> str:
    """JSON that no text within it can end: `</script>` and `<!--` begin with `<`."""
    return json.dumps(data, allow_nan=False).replace("<", "\\u003c")
