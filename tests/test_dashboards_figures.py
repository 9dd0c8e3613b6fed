"""Pictures of searches and comparisons: their numbers against brute force, and odd studies."""

import itertools
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import optuna
import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.trial import create_trial
from strategies import settings

from dashboards.figures.choices import (
    ALWAYS,
    BINS,
    MOST_LINES,
    choices,
    labelled,
    parallel,
)
from dashboards.figures.compare import COMPARE_CHARTS, best_at_budgets, best_so_far, fronts
from dashboards.figures.progress import PRUNED, SAMPLE, best, curves, hypervolume
from dashboards.figures.search import SEARCH_CHARTS, front
from dashboards.filters import Filters
from dashboards.plotting.axes import share_axis, size_axis, size_range
from dashboards.plotting.picture import SVG_POINTS, Picture
from dashboards.views import Mark, Subject, View
from search.database.row import SIZES
from space.budget import Budget

NAN = math.nan
HOSTILE = '<script>alert("1")</script><b>\''
PLAIN: dict[str, Any] = {
    "state": "COMPLETE",
    "value": NAN,
    "words": "conv 4 | 2x conv 8",
    "bytes": NAN,
    "params": NAN,
    "macs": NAN,
    "seconds": 10.0,
    "duplicate_of": NAN,
    "block": "conv",
    "groups": 1.0,
    "se": "none",
    "depth": 2.0,
    "width": 8.0,
}


def trials_of(rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Rows say what they are about; they ended in the order in which they come."""
    full = [
        {"number": k, "completed": pd.Timestamp(k, unit="s"), **PLAIN, **row}
        for k, row in enumerate(rows)
    ]
    frame = pd.DataFrame(full, columns=["number", "completed", *PLAIN])
    return frame.astype({name: float for name, value in PLAIN.items() if value != str(value)})


def view_of(trials: pd.DataFrame, axis: str = "bytes", name: str = "s", **given: Any) -> View:
    """A view of all trials; every curve rises to the trial's accuracy in three epochs."""
    accuracies = trials.set_index("number")["value"]

    def read_curves(numbers: list[int]) -> pd.DataFrame:
        rows = [(n, e, accuracies[n] * e / 3) for n in numbers for e in (1, 2, 3)]
        return pd.DataFrame(rows, columns=["number", "epoch", "accuracy"])

    def read_study(numbers: list[int]) -> optuna.Study:
        spaces: dict[str, BaseDistribution] = {
            name: CategoricalDistribution(trials[name].dropna().unique().tolist())
            for name in ("block", "depth")
        }
        study = optuna.create_study(direction="maximize")
        for row in trials[trials["number"].isin(numbers)].to_dict("records"):
            params = {name: row[name] for name in spaces}
            study.add_trial(create_trial(value=row["value"], params=params, distributions=spaces))
        return study

    budget = given.get("budget")
    return View(
        subject=Subject(1, name, {"budget": asdict(budget)} if budget else {}, {}),
        trials=trials,
        filters=Filters(axis=axis),
        study=read_study,
        curves=given.get("curves", read_curves),
        all=given.get("all", trials),
        references=lambda _: given.get("references", []),
        teachers=given.get("teachers", ()),
    )


def one(**row: Any) -> list[dict[str, Any]]:
    """A trial like others."""
    return [{"value": 0.5, "bytes": 2e4, "params": 19e3, "macs": 1e5} | row]


def many(count: int) -> pd.DataFrame:
    """A search as it might be: larger students are better; some are pruned, some fail."""
    rng = np.random.default_rng(0)
    sizes = np.exp(rng.uniform(math.log(5e3), math.log(1e6), count)).round()
    blocks = rng.choice(["conv", "depthwise", "group", "inverted"], count)
    values = 0.3 + 0.05 * np.log(sizes / 5e3) + 0.1 * (blocks == "group")
    values += rng.normal(0, 0.02, count)
    states = rng.choice(["COMPLETE", "PRUNED", "FAIL"], count, p=[0.7, 0.25, 0.05])
    frame = trials_of({} for _ in range(count))
    frame["state"], frame["block"], frame["bytes"] = states, blocks, sizes
    frame["value"] = np.where(states == "FAIL", NAN, values)
    frame["params"], frame["macs"] = sizes - 700, sizes * 15
    frame["depth"], frame["width"] = rng.integers(2, 60, (2, count)) * 1.0
    frame["se"] = rng.choice(["none", "some", "all"], count)
    return frame


def texts(value: Any) -> Iterator[str]:
    """All texts in a figure."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        yield from texts(list(value.values()))
    elif isinstance(value, list | tuple | np.ndarray):
        for inner in value:
            yield from texts(inner)


def drawn_points(picture: Picture) -> dict[int, tuple[float, float]]:
    """Trial -> (x, y), of traces whose points open trials."""
    return {
        int(number): (float(x), float(y))
        for trace in picture.figure.data
        if trace.customdata is not None
        for number, x, y in zip(trace.customdata, trace.x, trace.y, strict=True)
    }


# Few different values, so that equal sizes and equal accuracies are common.
searched = st.lists(
    st.fixed_dictionaries(
        {
            "state": st.sampled_from(("COMPLETE", "COMPLETE", "PRUNED", "FAIL")),
            "value": st.sampled_from((0.0, 0.25, 0.5, 0.75, 1.0, NAN)),
            "bytes": st.sampled_from((1e3, 2e3, 3e3, 1e4, NAN, math.inf)),
            "duplicate_of": st.sampled_from((NAN, NAN, 0.0)),
        }
    ),
    min_size=1,
    max_size=14,
)


def finished(rows: list[dict[str, Any]]) -> list[tuple[float, float, int]]:
    """(size, accuracy, number) of what a front may be made of."""
    return [
        (row["bytes"], row["value"], number)
        for number, row in enumerate(rows)
        if row["state"] == "COMPLETE" and math.isnan(row["duplicate_of"])
        if math.isfinite(row["bytes"]) and math.isfinite(row["value"])
    ]


def beats(one: tuple[float, float, int], other: tuple[float, float, int]) -> bool:
    """Smaller or more accurate, and neither larger nor less accurate; of equals the first."""
    (size, value, number), (other_size, other_value, other_number) = one, other
    if (size, value) == (other_size, other_value):
        return number < other_number
    return size <= other_size and value >= other_value


@given(searched)
@settings(max_examples=60)
def test_the_front_is_what_nothing_beats(rows: list[dict[str, Any]]) -> None:
    known = finished(rows)
    expected = {p[2] for p in known if not any(beats(q, p) for q in known)}
    data = front(view_of(trials_of(rows))).data
    assert set(data[data["on front"]]["trial"] if len(data) else ()) == expected


@given(searched)
@settings(max_examples=60)
def test_hypervolume_is_the_area_counted_strip_by_strip(rows: list[dict[str, Any]]) -> None:
    picture, known = hypervolume(view_of(trials_of(rows))), finished(rows)
    ends = sorted({size for size, *_ in known})
    if len(ends) < 2:
        assert picture.empty
        return
    for ended in range(1, len(rows) + 1):
        area = 0.0
        for left, right in itertools.pairwise(ends):
            heights = [v for size, v, number in known if size <= left and number < ended]
            area += math.log(right / left) * max(heights, default=0)
        steps = picture.data[picture.data["trials ended"] <= ended]["hypervolume"]
        assert steps.iloc[-1] == pytest.approx(area / math.log(ends[-1] / ends[0]))


def test_best_so_far_by_hand() -> None:
    rows: list[dict[str, Any]] = [
        {"value": 0.5, "completed": pd.Timestamp(30, unit="s")},
        {"value": 0.9, "state": "PRUNED", "completed": pd.Timestamp(20, unit="s")},
        {"value": 0.4, "completed": pd.Timestamp(10, unit="s")},
        {"value": 0.8, "completed": pd.Timestamp(40, unit="s"), "duplicate_of": 0},
        {"state": "FAIL", "completed": pd.Timestamp(50, unit="s"), "seconds": NAN},
        {"value": 0.7, "completed": pd.Timestamp(60, unit="s"), "seconds": 3600},
        {"value": 0.6, "completed": pd.Timestamp(70, unit="s")},
        {"state": "RUNNING", "completed": pd.NaT, "seconds": NAN},
    ]
    picture = best(view_of(trials_of(rows)))
    data = picture.data
    assert list(data["trial"]) == [2, 0, 5, 5]
    assert list(data["trials ended"]) == [1, 3, 6, 7]
    assert list(data["best accuracy"]) == [0.4, 0.5, 0.7, 0.7]
    assert list(data["hours of training"] * 3600) == pytest.approx([10, 30, 3640, 3650])
    over_trials, over_time = picture.figure.data
    assert list(over_trials.x) == [1, 3, 6, 7]
    assert list(over_time.x) == pytest.approx([10 / 60, 0.5, 3640 / 60, 3650 / 60])
    assert list(over_trials.y) == list(over_time.y) == list(data["best accuracy"])
    assert picture.figure.layout.xaxis2.title.text == "minutes trained"
    assert picture.note == "70.00% by trial 5, number 6 to end."


FOREIGN = {"words": NAN, "block": "", "se": "", "groups": NAN, "depth": NAN, "width": NAN}
NAMED = {"words": HOSTILE, "block": HOSTILE, "se": HOSTILE}
ALONE = {"front", "best", "curves", "choices", "parallel"}
SITUATIONS: dict[str, tuple[list[dict[str, Any]], set[str]]] = {  # rows, and what is drawn
    "no trial": ([], set()),
    "only failures": ([{"state": "FAIL"}] * 3, set()),
    "only running": ([{"state": "RUNNING", "completed": pd.NaT}] * 2, set()),
    "only drawn before": (one(duplicate_of=0) * 2, set()),
    "no numbers": (one(value=NAN) + one(value=math.inf), set()),
    "one trial": (one(), ALONE),
    "one pruned": (one(state="PRUNED"), {"front", "curves", "parallel"}),
    "no times": (one(completed=pd.NaT, seconds=math.inf), ALONE),
    "another program's": ([{"value": v, **FOREIGN} for v in (-3, 7, 1e9)], {"best", "curves"}),
    "hostile": (
        [row for k in range(1, 9) for row in one(value=k / 9, depth=k % 3, bytes=k * 1e3, **NAMED)],
        set(SEARCH_CHARTS),
    ),
}


@pytest.mark.parametrize("situation", SITUATIONS)
@pytest.mark.parametrize("key", SEARCH_CHARTS)
def test_every_picture_of_every_study(key: str, situation: str) -> None:
    rows, drawn = SITUATIONS[situation]
    picture = SEARCH_CHARTS[key].draw(view_of(trials_of(rows), name=HOSTILE))
    assert bool(picture.empty) == picture.data.empty == (key not in drawn)
    assert not any("<script" in text for text in texts(picture.figure.to_plotly_json()))


def test_data_without_rows_has_its_columns() -> None:
    full, none = view_of(many(60)), view_of(trials_of([]))
    for chart in SEARCH_CHARTS.values():
        columns = list(chart.draw(full).data.columns)
        assert columns
        assert list(chart.draw(none).data.columns) == columns
    for several in COMPARE_CHARTS.values():
        columns = list(several.draw([full]).data.columns)
        assert columns
        assert (
            list(several.draw([none]).data.columns)
            == list(several.draw([]).data.columns)
            == columns
        )


described = {
    "words": st.sampled_from(("conv 4", HOSTILE, NAN)),
    "block": st.sampled_from(("conv", "group", "")),
    "groups": st.sampled_from((1.0, 2.0, 8.0)),
    "se": st.sampled_from(("none", "some", "all")),
    "depth": st.integers(1, 12).map(float),
    "width": st.integers(1, 40).map(lambda quads: 4.0 * quads),
}
random_study = st.lists(
    st.fixed_dictionaries(
        {
            "state": st.sampled_from(("COMPLETE", "COMPLETE", "PRUNED", "FAIL", "RUNNING")),
            "value": st.floats(0, 1) | st.sampled_from((0.0, 0.5, 1.0, NAN)),
            **{size: st.integers(1, 10**7).map(float) for size in SIZES},
            **described,
        }
    ),
    max_size=30,
)


@given(random_study, st.sampled_from(SIZES))
@settings(max_examples=15)
def test_every_picture_of_a_random_study(rows: list[dict[str, Any]], axis: str) -> None:
    view = view_of(trials_of(rows), axis)
    for picture in (
        *(chart.draw(view) for chart in SEARCH_CHARTS.values()),
        *(chart.draw([view]) for chart in COMPARE_CHARTS.values()),
    ):
        assert bool(picture.empty) == picture.data.empty
        assert picture.figure.to_json()


@pytest.mark.parametrize("situation", SITUATIONS)
@pytest.mark.parametrize("key", COMPARE_CHARTS)
def test_every_comparison_of_every_study(key: str, situation: str) -> None:
    rows, drawn = SITUATIONS[situation]
    picture = COMPARE_CHARTS[key].draw(
        [view_of(trials_of(rows), name=HOSTILE), view_of(trials_of([]))]
    )
    needed = {"best", "front"} if key == "fronts" else {"best"}
    assert bool(picture.empty) == picture.data.empty == (not needed <= drawn)
    assert not any("<script" in text for text in texts(picture.figure.to_plotly_json()))


@pytest.mark.parametrize(
    ("view", "key", "reason"),
    [
        (view_of(trials_of([])), "front", "no trial yet"),
        (view_of(trials_of([]), all=trials_of(one())), "best", "No trial passes these filters"),
        (view_of(trials_of([{"state": "FAIL"}] * 2)), "curves", "2 of 2 trials failed"),
        (view_of(trials_of([{"state": "RUNNING"}])), "best", "still running"),
        (view_of(trials_of([{"value": 0.5, **FOREIGN}])), "front", "have no bytes"),
        (view_of(trials_of([{"value": 0.5, **FOREIGN}]), "macs"), "hypervolume", "have no macs"),
        (view_of(trials_of([{"value": 0.5, **FOREIGN}])), "choices", "do not say what was trained"),
        (view_of(trials_of(one() * 4)), "importances", "there are 4"),
        (view_of(trials_of(one() * 9)), "importances", "No parameter varies"),
        (view_of(trials_of(one() * 2)), "hypervolume", "nearly the same size"),
        (view_of(trials_of(one(duplicate_of=3))), "front", "trained before"),
    ],
)
def test_nothing_says_why(view: View, key: str, reason: str) -> None:
    assert reason in SEARCH_CHARTS[key].draw(view).empty


@pytest.mark.parametrize("axis", ["bytes", "params", "macs"])
@pytest.mark.parametrize("count", [80, SVG_POINTS + 900])
def test_the_front_draws_the_numbers_of_the_trials(axis: str, count: int) -> None:
    trials = many(count)
    ended = trials[trials["state"] != "FAIL"].set_index("number")
    picture = front(view_of(trials, axis))
    points = drawn_points(picture)
    assert points == {n: (row[axis], row["value"]) for n, row in ended.iterrows()}
    data = picture.data.set_index("trial")
    assert points == {n: (row[axis], row["accuracy"]) for n, row in data.iterrows()}
    kinds = {t.type for t in picture.figure.data if t.customdata is not None}
    assert kinds == {"scatter" if len(ended) <= SVG_POINTS else "scattergl"}
    line = next(t for t in picture.figure.data if t.name == "Pareto front")
    assert list(line.y[:-1]) == sorted(data[data["on front"]]["accuracy"])
    assert f"{len(trials) - len(ended)} without a size or an accuracy" in picture.note


@pytest.mark.parametrize(
    ("budget", "axis", "limit"),
    [
        (Budget(20_000), "bytes", 20_000),
        (Budget(20_000), "params", None),
        (Budget(20_000), "macs", None),
        (Budget(20_000, macs=300_000), "macs", 300_000),
        (Budget(19_000, "params"), "params", 19_000),
        (Budget(19_000, "params"), "bytes", None),
        (None, "bytes", None),
    ],
)
def test_the_budget_stands_on_the_axis_of_its_unit(
    budget: Budget | None, axis: str, limit: int | None
) -> None:
    layout = front(view_of(trials_of(one()), axis, budget=budget)).figure.layout
    assert [shape.x0 for shape in layout.shapes if shape.type == "line"] == [limit][: bool(limit)]
    low, high = layout.xaxis.range
    assert limit is None or low < math.log10(limit) < high


def test_marks_beside_the_trials() -> None:
    trials = trials_of(one(bytes=19_300) + one(bytes=19_990, value=0.6))
    references = [Mark("near", 19_200, None), Mark("far", 300_000, None)]
    teachers = (Mark("<resnet>", 11_200_000, 0.493), Mark("unmeasured", 5, None))
    view = view_of(trials, budget=Budget(20_000), references=references, teachers=teachers)
    picture = front(view)
    (references_drawn,) = (trace for trace in picture.figure.data if trace.yaxis == "y2")
    assert references_drawn.text == ("near",)
    low, high = picture.figure.layout.yaxis2.range
    assert low < references_drawn.y[0] < high  # inside the chart
    assert "Outside this range: far (300.0 KB)." in picture.note
    low, high = (10**end for end in picture.figure.layout.xaxis.range)
    assert 19_000 < low < 19_200
    assert 20_000 < high < 20_300
    words = [annotation.text for annotation in picture.figure.layout.annotations]
    assert words == ["budget 20.0 KB", "teacher &lt;resnet&gt; 49.3%, 11.2M parameters"]


def test_names_of_references_do_not_run_into_each_other() -> None:
    sizes = {"a": 10_000, "b": 100_000, "c": 105_000, "d": 110_000, "e": 900_000}
    references = [Mark(name, size, None) for name, size in sizes.items()]
    trials = trials_of(one(bytes=5e3) + one(bytes=1e6))
    figure = front(view_of(trials, references=references)).figure
    (marks,) = (trace for trace in figure.data if trace.yaxis == "y2")
    heights = dict(zip(marks.text, marks.y, strict=True))
    assert heights["a"] == heights["b"] == heights["e"]
    assert heights["b"] > heights["c"] > heights["d"]


@example([20_000, 20_001], "bytes")
@example([21_000, 49_000], "bytes")
@given(st.lists(st.integers(1, 10**12), min_size=1, max_size=5), st.sampled_from(SIZES))
def test_an_axis_holds_its_sizes_and_has_ticks_to_tell_them(sizes: list[int], axis: str) -> None:
    low, high = size_range(sizes)
    drawn: Any = size_axis(axis, low, high)
    assert low < min(sizes) <= max(sizes) < high
    assert high / low > 1.009
    assert drawn["range"] == pytest.approx([math.log10(low), math.log10(high)])
    assert 1 <= len(drawn["tickvals"]) <= 14
    assert all(low <= tick <= high for tick in drawn["tickvals"])
    for tick, words in zip(drawn["tickvals"], drawn["ticktext"], strict=True):
        found = re.fullmatch(r"([\d,.]+) ?([kKMG]?)B?", words)
        assert found
        number, unit = found.groups()
        told = float(number.replace(",", "")) * 1000 ** " KMG".index(unit.upper() or " ")
        assert told == pytest.approx(tick, rel=1e-11)  # so that no two of them are alike


@pytest.mark.parametrize(("choice", "title"), [("depth", "blocks"), ("width", "widest stage")])
def test_choices_are_medians_of_all_trials(choice: str, title: str) -> None:
    trials = many(3_000)
    done = trials[trials["state"] == "COMPLETE"]
    picture = choices(view_of(trials))
    data = picture.data.set_index(["choice", "level"])
    for block, group in done.groupby("block"):
        expected = (len(group), group["value"].median())
        assert tuple(data.loc[("block type", str(block)), :]) == pytest.approx(expected)
    assert list(data.loc["stages with SE"].index) == ["none", "some", "all"]
    assert data.loc[title]["trials"].sum() == len(done)
    for words, row in data.loc[title].iterrows():
        first, last = map(int, str(words).split("-"))
        inside = done[done[choice].between(first, last)]["value"]
        assert tuple(row) == pytest.approx((len(inside), inside.median()))
    assert "Observed in search" in picture.note
    assert set(drawn_points(picture)) <= set(done["number"])


@given(st.lists(st.integers(1, 400) | st.integers(1, 12), min_size=1))
@example([7, 7, 7, 11, 8, 9, 6, 8, 11, 7, 7, 5, 6, 9, 4, 8, 1])  # two quintiles between 7 and 8
@settings()
def test_each_range_of_depths_has_a_name_of_its_own(depths: list[int]) -> None:
    trials = trials_of({"value": 0.5, "depth": float(depth)} for depth in depths)
    levels = labelled(trials, "depth")
    assert len(levels.cat.categories) <= BINS
    assert set(levels) == set(levels.cat.categories)  # none without a trial
    for depth, words in zip(depths, levels, strict=True):
        first, _, last = str(words).partition("-")
        assert int(first) <= depth <= int(last or first)


def test_parallel_lines_hold_the_best() -> None:
    trials = many(MOST_LINES * 2)
    picture = parallel(view_of(trials))
    assert len(picture.data) == MOST_LINES
    assert set(trials.nlargest(ALWAYS, "value")["number"]) <= set(picture.data["trial"])
    drawn = {dimension.label: dimension for dimension in picture.figure.data[0].dimensions}
    assert list(drawn["accuracy"]["values"]) == list(picture.data["accuracy"])
    assert 10 ** np.array(drawn["bytes"]["values"]) == pytest.approx(picture.data["bytes"])
    blocks = drawn["block type"]
    names = [blocks.ticktext[place] for place in blocks["values"]]
    assert names == list(picture.data["block type"])
    assert f"5,000 of {(trials['state'] != 'FAIL').sum():,} trials" in picture.note


def test_learning_curves_of_a_sample_and_of_the_best() -> None:
    trials, asked = many(2_000), []
    plain = view_of(trials)

    def read(numbers: list[int]) -> pd.DataFrame:
        asked.extend(numbers)
        return plain.curves(numbers)

    picture = curves(plain._replace(curves=read))
    assert SAMPLE < len(asked) <= SAMPLE + PRUNED + 5
    named = [trace.name for trace in picture.figure.data if str(trace.name).startswith("trial")]
    done = trials[trials["state"] == "COMPLETE"].sort_values("value", ascending=False)
    leaders = zip(done["number"][:5], done["value"][:5], strict=True)
    assert named == [f"trial {number}, {value:.1%}" for number, value in leaders]
    crosses = next(trace for trace in picture.figure.data if trace.name == "pruned")
    pruned = trials[trials["state"] == "PRUNED"].set_index("number")["value"]
    assert [pruned[number] for number in crosses.customdata] == pytest.approx(list(crosses.y))
    assert set(crosses.x) == {3}
    assert f"middle half of {SAMPLE} trials drawn at random" in picture.note
    assert f"where {PRUNED} of {len(pruned)} pruned trials ended" in picture.note


def test_the_band_is_median_and_quartiles() -> None:
    values = [0.3, 0.6, 0.9, 0.96]
    low, high, median = curves(view_of(trials_of({"value": v} for v in values))).figure.data[:3]
    ends = np.quantile(values, [0.25, 0.75, 0.5])
    for trace, end in zip((low, high, median), ends, strict=True):
        assert list(trace.y) == pytest.approx([end / 3, end * 2 / 3, end])


def test_trials_without_learning_curves() -> None:
    none = view_of(trials_of([])).curves([])
    picture = curves(view_of(trials_of(one()), curves=lambda numbers: none))
    assert picture.empty == "These trials reported nothing by epoch."


def compared() -> list[View]:
    """A small budget and a large one; the second study has a student for the first, too."""
    small = trials_of(one(bytes=9e3, value=0.5) + one(bytes=8e3, value=0.6))
    rows = [(9_500, 0.55), (40_000, 0.8), (45_000, 0.8), (30_000, NAN)]
    large = trials_of({"bytes": size, "value": value} for size, value in rows)
    return [
        view_of(small, name="small", budget=Budget(10_000)),
        view_of(large, name="large", budget=Budget(50_000)),
    ]


def test_the_best_at_each_budget_by_hand() -> None:
    data = best_at_budgets(compared()).data[["budget", "study", "trial", "accuracy", "bytes"]]
    assert list(data.itertuples(index=False, name=None)) == [
        ("10 KB", "small", 1, 0.6, 8_000),
        ("10 KB", "large", 0, 0.55, 9_500),
        ("50 KB", "small", 1, 0.6, 8_000),
        ("50 KB", "large", 1, 0.8, 40_000),
        ("no limit", "small", 1, 0.6, 8_000),
        ("no limit", "large", 1, 0.8, 40_000),
    ]


@pytest.mark.parametrize(
    ("draw", "column", "expected"),
    [
        (fronts, "accuracy", {"small": [0.6], "large": [0.55, 0.8]}),
        (best_so_far, "best accuracy", {"small": [0.5, 0.6, 0.6], "large": [0.55, 0.8, 0.8]}),
    ],
)
def test_studies_side_by_side(
    draw: Callable[[list[View]], Picture], column: str, expected: dict[str, list[float]]
) -> None:
    picture = draw(compared())
    found = picture.data.groupby("study")[column].agg(list).to_dict()
    assert found == expected
    for trace in picture.figure.data:
        assert list(trace.y[: len(found[trace.name])]) == found[trace.name]


accuracies = st.lists(st.floats(0, 1) | st.sampled_from((0.0, 0.98, 1.0)), min_size=1)


@given(accuracies, st.floats(0, 0.3))
@example([0.98], 0.06)
@example([0.5, 0.5 + 1e-16], 0.06)
def test_an_axis_of_shares_stays_within_them(values: list[float], room: float) -> None:
    axis: Any = share_axis(values, room)
    low, high = axis["range"]
    assert 0 <= low <= min(values) <= max(values) <= high <= 1
    assert (axis["minallowed"], axis["maxallowed"]) == (0, 1)  # for whoever zooms out, too
    spread = max(values) - min(values)
    assert 0 < high - low <= (1 + 2 * room) * spread + 0.0401


def test_other_numbers_have_an_axis_of_their_own() -> None:
    for values in ([], [math.nan], [-0.1, 0.5], [3.0, 1e9]):
        assert share_axis(values) == {}
    assert share_axis([math.nan, 0.5])["range"] == pytest.approx([0.48, 0.52])


@pytest.mark.parametrize("key", ["front", "best", "curves", "choices"])
@pytest.mark.parametrize("value", [0.0, 0.98, 1.0])
def test_one_trial_has_axes_that_are_possible(key: str, value: float) -> None:
    figure = SEARCH_CHARTS[key].draw(view_of(trials_of(one(value=value)))).figure
    for axis in figure.select_yaxes():
        if axis.title.text and "accuracy" in axis.title.text:
            low, high = axis.range
            assert 0 <= low <= value <= high <= 1
            assert 0.01 < high - low < (1 if key == "curves" else 0.05)
    for axis in figure.select_xaxes():
        assert axis.type == "log" or axis.rangemode == "nonnegative" or axis.tickvals


def test_parallel_axes_of_one_trial() -> None:
    for value in (0.0, 0.98, 1.0):
        (trace,) = parallel(view_of(trials_of(one(value=value)))).figure.data
        (accuracy,) = (part for part in trace.dimensions if part.label == "accuracy")
        assert 0 <= accuracy.range[0] <= value <= accuracy.range[1] <= 1
