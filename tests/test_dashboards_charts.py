"""Charts as rows of tables: each has one title, and stands on its page and in the report."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import pytest

from benchmarks import synthetic_studies
from dashboards import report
from dashboards.figures import catalog
from dashboards.figures.ablation import ABLATION_CHARTS
from dashboards.figures.compare import COMPARE_CHARTS
from dashboards.figures.search import SEARCH_CHARTS
from dashboards.figures.trial import TRIAL_CHARTS
from dashboards.library import Library
from dashboards.pages import study as study_page
from dashboards.pages.cards import FIRST
from dashboards.pages.downloads import Downloads
from dashboards.plotting.axes import AXES
from dashboards.plotting.picture import BLOCK_COLOURS, GREY, Chart, Picture
from dashboards.routes import route_of
from dashboards.views import View
from search.database.goal import ACCURACY, Goal
from search.database.row import SIZES
from space.layers import BLOCKS

ROOT = Path(__file__).parents[1]
TABLES: Mapping[str, Mapping[str, Chart[Any]]] = {
    "search": SEARCH_CHARTS,
    "ablation": ABLATION_CHARTS,
    "trial": TRIAL_CHARTS,
    "compare": COMPARE_CHARTS,
}


def count_trials(view: View) -> Picture:
    return Picture(go.Figure(), pd.DataFrame({"trials": [len(view.trials)]}), "A note of its own.")


@pytest.fixture
def library(tmp_path: Path) -> Library:
    synthetic_studies.make(tmp_path / "studies.db", 12)
    return Library(str(tmp_path / "studies.db"))


def test_a_row_puts_a_chart_on_the_page_and_into_the_report(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    chart = Chart("temporary", "Accuracy <counted>", count_trials, wide=True)
    monkeypatch.setitem(SEARCH_CHARTS, chart.key, chart)
    (card,) = (c for c in study_page.other_cards(ACCURACY) if getattr(c, "id", "") == chart.key)
    assert card.children[0].children == chart.title
    assert getattr(card, "className", "") == "card wide"
    (card,) = (
        c for c in study_page.other_cards(Goal(ours=False)) if getattr(c, "id", "") == chart.key
    )
    assert card.children[0].children == "Value <counted>"
    text = report.page(library, [1])
    head, _, rest = text.partition("<h2>Accuracy &lt;counted&gt;</h2>")
    assert head.endswith('<section class="card wide">\n<figure>')
    assert "A note of its own." in rest.partition("</section>")[0]
    drawn = catalog.picture(library, route_of("/study/1"), "", chart.key)
    assert drawn.data["trials"].tolist() == [12]  # what its CSV holds


def test_the_first_chart_is_on_the_page_before_the_others(library: Library) -> None:
    page = str(study_page.page(library, Downloads(library), 1, ""))
    first, *later = SEARCH_CHARTS.values()
    assert str({"part": "graph", "card": first.key, "turn": FIRST}) in page
    assert not any(f"H2({chart.title!r}" in page for chart in later)


def strings(folder: Path) -> Iterator[str]:
    for path in folder.rglob("*.py"):
        yield path.read_text()


@pytest.mark.parametrize("table", TABLES)
def test_a_title_stands_in_one_place(table: str) -> None:
    source = "\n".join(strings(ROOT / "dashboards"))
    for key, chart in TABLES[table].items():
        assert key == chart.key
        same = [c for charts in TABLES.values() for c in charts.values() if c.title == chart.title]
        assert source.count(f'"{chart.title}"') == len(same), chart.title


def test_every_size_has_an_axis() -> None:
    assert list(AXES) == list(SIZES)


@pytest.mark.parametrize("block", BLOCKS)
def test_every_block_has_a_colour_of_its_own(block: str) -> None:
    others = {colour for name, colour in BLOCK_COLOURS.items() if name != block}
    assert BLOCK_COLOURS.get(block, GREY) not in {GREY, *others}
