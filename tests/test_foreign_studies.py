"""Plain Optuna studies in a database of ours: every command and every page bears them."""

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import optuna
import pytest
import strategies  # noqa: F401 its profile has no deadline
from commands import inside, refused
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import TrialState, create_trial
from plotly.utils import PlotlyJSONEncoder

from benchmarks import synthetic_studies
from dashboards.figures.compare import COMPARE_CHARTS
from dashboards.figures.progress import best, best_steps, curves
from dashboards.figures.search import SEARCH_CHARTS, front
from dashboards.figures.trial import TRIAL_CHARTS
from dashboards.filters import Filters
from dashboards.library import Library
from dashboards.pages import overview
from dashboards.pages import study as study_page
from dashboards.pages import trial as trial_page
from dashboards.pages.downloads import Downloads
from dashboards.pages.overview import known
from search.database.row import COLUMNS, SIZES
from search.database.storage import open_storage

HOSTILE = '<script>alert("1")</script>[bold]\''
DISTRIBUTIONS: Mapping[str, tuple[BaseDistribution, Any]] = {
    "x": (FloatDistribution(-1, 1), st.floats(-1, 1)),
    "rate": (FloatDistribution(1e-5, 1, log=True), st.floats(1e-5, 1)),
    "k": (IntDistribution(1, 9, step=2), st.sampled_from((1, 3, 9))),
    "c": (CategoricalDistribution((None, True, 3, "3", 0.5)), st.sampled_from((None, True, "3"))),
    HOSTILE: (CategoricalDistribution((HOSTILE,)), st.just(HOSTILE)),
}
numbers = st.floats(-1e9, 1e9) | st.sampled_from((0.0, math.inf, -math.inf))
anything = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.just(HOSTILE),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.just("k"), inner, max_size=1),
    max_leaves=4,
)
OF_STUDY = ("spec", "target_trials", "seeds", "described", "artifacts", "finalist:0:1", HOSTILE)


@st.composite
def trials(draw: st.DrawFn, objectives: int) -> optuna.trial.FrozenTrial:
    state = draw(st.sampled_from([*TrialState, TrialState.COMPLETE, TrialState.COMPLETE]))
    names = draw(st.lists(st.sampled_from(list(DISTRIBUTIONS)), unique=True))
    values = draw(st.lists(numbers, min_size=objectives, max_size=objectives))
    reports = st.dictionaries(st.integers(0, 5), st.floats(), max_size=3)
    return create_trial(
        state=state,
        values=values if state == TrialState.COMPLETE else None,
        params={name: draw(DISTRIBUTIONS[name][1]) for name in names},
        distributions={name: DISTRIBUTIONS[name][0] for name in names},
        user_attrs=draw(st.dictionaries(st.sampled_from(("confusion", *COLUMNS)), anything)),
        intermediate_values=draw(reports) if objectives == 1 else {},
    )


@st.composite
def studies(draw: st.DrawFn) -> tuple[list[str], list[optuna.trial.FrozenTrial], dict[str, Any]]:
    """Directions, trials and attributes of a study."""
    directions = draw(st.lists(st.sampled_from(("minimize", "maximize")), min_size=1, max_size=3))
    made = draw(st.lists(trials(len(directions)), max_size=7))
    return directions, made, draw(st.dictionaries(st.sampled_from(OF_STUDY), anything))


def add(storage: optuna.storages.BaseStorage, name: str, study: Any) -> None:
    directions, made, attributes = study
    plain = optuna.create_study(study_name=name, storage=storage, directions=directions)
    plain.add_trials(made)
    for key, value in attributes.items():
        plain.set_user_attr(key, value)


@given(studies(), studies(), st.sampled_from(SIZES))
@settings(max_examples=8, phases=[Phase.generate])  # to shrink one takes minutes
def test_every_command_and_page_bears_any_study(one: Any, two: Any, axis: str) -> None:
    with TemporaryDirectory() as name:
        folder, opened = Path(name), open_storage(f"{name}/studies.db", create=True)
        add(opened, "one", one)
        add(opened, "two", two)
        opened.remove_session()
        for arguments in (
            ("studies",),
            ("show", "one"),
            *(("show", "one", str(number)) for number in range(len(one[1]))),
        ):
            assert inside(folder, *arguments).status == 0
            _strict(inside(folder, *arguments, "--json").out)
        assert inside(folder, "report", "--out", "page.html").status == 0
        assert HOSTILE not in (folder / "page.html").read_text()
        for arguments in (
            ("resume", "one"),
            ("worker", "one"),
            ("export", "one", "--out", "x.safetensors"),
            ("ablate", "show", "one"),
        ):
            refused(inside(folder, *arguments), "'one'")
        assert inside(folder, "doctor", "one").status in (0, 1, 2)
        _pages(f"{name}/studies.db", len(one[1]), axis)


def _strict(text: str) -> None:
    def no(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    json.loads(text, parse_constant=no)


def _pages(database: str, count: int, axis: str) -> None:
    library = Library(database)
    downloads = Downloads(library)
    pages: list[Any] = [overview.page(library), trial_page.compare_page(library, [1, 2])]
    pages += [
        study_page.page(library, downloads, 1, ""),
        study_page.other_cards(library.subject(1).goal),
    ]
    pages += [trial_page.trial_page(library, downloads, 1, number) for number in range(count)]
    views = [library.view(identity, Filters(axis=axis)) for identity in (1, 2)]
    pages += [chart.draw(views[0]).figure for chart in SEARCH_CHARTS.values()]
    pages += [chart.draw(views).figure for chart in COMPARE_CHARTS.values()]
    trials = [library.trial(1, number) for number in range(count)]
    pages += [c.draw(trial).figure for trial in trials for c in TRIAL_CHARTS.values()]
    for page in pages:
        json.dumps(page, cls=PlotlyJSONEncoder)


@pytest.fixture
def losses(tmp_path: Path) -> Path:
    """A study of losses that are to be small, with sizes; a search of ours; one of two objectives;
    one of infinities alone."""
    database = tmp_path / "studies.db"
    synthetic_studies.make(database, 9)
    storage = open_storage(str(database), create=False)
    plain = optuna.create_study(study_name="losses", storage=storage)
    reported = {1: 0.9, 2: 0.8}
    for value, size in ((0.75, 100), (0.25, 300), (0.5, 200), (0.5, 400)):
        attributes = {"bytes": size, "params": size, "macs": size}
        plain.add_trial(
            create_trial(value=value, user_attrs=attributes, intermediate_values=reported)
        )
    several = optuna.create_study(
        study_name="several", storage=storage, directions=["minimize", "maximize"]
    )
    several.add_trial(create_trial(values=[0.5, 2.0]))
    endless = optuna.create_study(study_name="endless", storage=storage)
    for value in (math.inf, -math.inf):
        endless.add_trial(create_trial(value=value))
    storage.remove_session()
    return database


def test_the_smallest_loss_is_the_best_everywhere(losses: Path) -> None:
    library = Library(str(losses))
    view = library.view(library.identity("losses"), Filters())
    drawn = front(view)
    assert list(drawn.data.loc[drawn.data["on front"], "trial"]) == [0, 1, 2]
    assert best_steps(view).value == [0.75, 0.25, 0.25]
    assert best(view).note.startswith("0.25 by trial 1,")
    assert list(curves(view).data.columns) == ["trial", "epoch", "value"]
    row = known(library, library.studies()).set_index("name").loc["losses"]
    assert (row["best"], row["bytes"]) == (0.25, 300)
    listed = json.dumps(overview.page(library), cls=PlotlyJSONEncoder)
    assert "best so far from 0.75 to 0.25 over 4 complete trials" in listed
    for key, chart in SEARCH_CHARTS.items():
        picture = chart.draw(view)
        said = f"{view.subject.goal.said(chart.title)} {picture.note} {picture.figure.to_json()}"
        if not picture.empty:
            assert "ccuracy" not in said, key
            assert ".2%" not in said + ".1%", key
            assert "accuracy" not in picture.data, key


def test_a_report_calls_a_loss_no_accuracy(losses: Path) -> None:
    folder = losses.parent
    assert inside(folder, "report", "losses", "--out", "page.html").status == 0
    body = (folder / "page.html").read_text().partition("<main>")[2]
    words = re.sub(r"<script.*?</script>", "", body, flags=re.DOTALL)
    rows = re.findall(r'<td class="number">(\d+)</td><td class="number">([\d.]+)</td>', words)
    assert rows[:4] == [("1", "0.25"), ("2", "0.5"), ("3", "0.5"), ("0", "0.75")]
    assert "Value against size" in words
    assert "%" not in words
    said = [line for line in re.findall(r">([^<]*)<", words) if "ccurac" in line]
    assert len(said) <= 2, said  # of pictures that only studies of ours have


def test_what_measures_something_else_is_not_drawn_beside_ours(losses: Path) -> None:
    library = Library(str(losses))
    ours, losses_, several = (library.identity(n) for n in ("synthetic", "losses", "several"))
    views = [library.view(study, Filters()) for study in (losses_, ours, several)]
    for key, chart in COMPARE_CHARTS.items():
        together = chart.draw(views)
        assert set(together.data["study"]) == {"synthetic"}, key
        assert "something else: losses, several." in together.note
        alone = chart.draw(views[:1])
        assert set(alone.data["study"]) == {"losses"}, key
        assert "something else" not in alone.note
    assert "Down and to the left" in COMPARE_CHARTS["fronts"].draw(views[:1]).note


def test_several_objectives_and_infinities_say_what_they_are(losses: Path) -> None:
    folder = losses.parent
    found = {row["name"]: row for row in inside(folder, "studies", "--json").json}
    assert found["several"]["best"] is None
    assert found["several"]["directions"] == ["MINIMIZE", "MAXIMIZE"]
    assert found["endless"]["best"] == "-inf"
    assert "the first of 2 objectives" in inside(folder, "show", "several").out
    library = Library(str(losses))
    several = library.view(library.identity("several"), Filters())
    assert "the first of 2 objectives" in study_page.what(several)
