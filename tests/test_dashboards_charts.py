"""Charts of searches: their numbers against plain definitions, and what they say without any."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboards.axes import nice_ticks, size_axis, tick_words
from dashboards.choice_figures import CHOICES
from dashboards.compare_figures import COMPARE, best_at_budgets
from dashboards.filters import Filters
from dashboards.picture import Picture
from dashboards.progress_figures import StaircaseArea, best_steps
from dashboards.search_figures import SEARCH, front, pareto
from dashboards.views import SEARCH as SEARCH_KIND
from dashboards.views import Mark, Subject, View

HOSTILE = "<script>alert(1)</script>'\""
SPEC = {
    "budget": {"limit": 20_000, "unit": "bytes", "format": "int8", "macs": None},
    "classes": ["a", "b"],
    "size": 8,
    "space": "mixed",
}
points = st.lists(
    st.tuples(st.integers(1, 6), st.integers(0, 5).map(lambda tenth: tenth / 10)),
    min_size=1,
    max_size=12,
)


def trials_of(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Rows over plain trials: complete, of 0.5 at 15 KB."""
    plain: dict[str, Any] = {
        "state": "COMPLETE",
        "value": 0.5,
        "words": "conv 4 | group 8 g2",
        "params": 14_000.0,
        "macs": 1e6,
        "bytes": 15_000.0,
        "budget_share": 0.75,
        "network_accuracy": 0.5,
        "seconds": 60.0,
        "epochs": 2.0,
        "reason": "",
        "duplicate_of": np.nan,
        "block": "group",
        "groups": 2.0,
        "se": "none",
        "depth": 1.0,
        "width": 8.0,
    }
    frame = pd.DataFrame([plain | row for row in rows], columns=list(plain))
    frame.insert(0, "number", np.arange(len(frame), dtype=float))
    frame["value"] = frame["value"].astype(float)
    frame["started"] = pd.Timestamp("2026-11-01") + pd.to_timedelta(frame["number"], unit="s")
    frame["completed"] = frame["started"].where(frame["state"] != "RUNNING") + pd.Timedelta("9s")
    return frame


def view_of(trials: pd.DataFrame, name: str = "s", axis: str = "bytes", **spec: Any) -> View:
    def curves(numbers: list[int]) -> pd.DataFrame:
        rows = [(n, e, 0.1 * e) for n in numbers for e in (1, 2)]
        return pd.DataFrame(rows, columns=["number", "epoch", "accuracy"])

    def chosen(numbers: list[int]) -> pd.DataFrame:
        index = pd.Index(numbers, name="number")
        return pd.DataFrame({"params_<b>x": [n % 2 for n in numbers]}, index=index)

    return View(
        subject=Subject(1, name, SEARCH_KIND, SPEC | spec, {}),
        trials=trials,
        filters=Filters(axis=axis),
        choices=chosen,
        curves=curves,
        all=trials,
        references=lambda _: [Mark("near", 16_000, None), Mark("far", 10**9, None)],
        teachers=(Mark("resnet18", 11_000_000, 0.9),),
    )


@given(points)
def test_the_front_is_what_nothing_beats(found: list[tuple[int, float]]) -> None:
    frame = trials_of([{"bytes": float(size), "value": value} for size, value in found])
    leading = pareto(frame, "bytes")
    for size, value in found:
        beaten = any(s <= size and v >= value and (s, v) != (size, value) for s, v in found)
        on_front = ((leading["bytes"] == size) & (leading["value"] == value)).any()
        assert on_front == (not beaten)
    assert leading["bytes"].is_monotonic_increasing
    assert leading["value"].is_monotonic_increasing


def test_only_complete_trials_lead() -> None:
    frame = trials_of([{"value": 0.9, "state": "PRUNED"}, {"value": 0.4}])
    assert list(pareto(frame, "bytes")["number"]) == [1]


@given(points)
def test_the_area_is_that_of_the_union(found: list[tuple[int, float]]) -> None:
    """Counted square by square: the grid is as fine as the points."""
    area = StaircaseArea(7.0)
    for size, value in found:
        last = area.add(float(size), value)
    squares = sum(
        any(size <= x and value >= (y + 1) / 10 - 1e-9 for size, value in found)
        for x in range(1, 7)
        for y in range(10)
    )
    assert last == pytest.approx(squares / 10)


@given(st.lists(st.integers(0, 9).map(lambda tenth: tenth / 10), min_size=1, max_size=9))
def test_best_so_far_by_hand(values: list[float]) -> None:
    steps = best_steps(view_of(trials_of([{"value": value} for value in values])))
    so_far, expected = -1.0, []
    for number, value in enumerate(values):
        if value > so_far:
            so_far = value
            expected.append((number, number + 1, pytest.approx((number + 1) / 60), value))
    last = (expected[-1][0], len(values), pytest.approx(len(values) / 60), so_far)
    assert list(zip(*steps, strict=True)) == [*expected, last]


def test_the_chart_has_the_numbers_of_the_trials() -> None:
    rng = np.random.default_rng(0)
    rows = [
        {"bytes": float(size), "value": float(value), "block": block, "state": state}
        for size, value, block, state in zip(
            rng.integers(5_000, 20_000, 50),
            rng.random(50),
            rng.choice(["conv", "group"], 50),
            rng.choice(["COMPLETE", "PRUNED"], 50),
            strict=True,
        )
    ]
    frame = trials_of([*rows, {"duplicate_of": 3.0}, {"state": "FAIL", "value": np.nan}])
    picture = front(view_of(frame))
    drawn = [t for t in picture.figure.data if (t.hovertemplate or "").startswith("trial ")]
    assert len(drawn) == len({(row["block"], row["state"]) for row in rows})
    for trace in drawn:
        for number, x, y in zip(trace.customdata, trace.x, trace.y, strict=True):
            row = rows[number]
            assert (x, y) == (row["bytes"], row["value"])
            assert trace.name == row["block"]
            assert row["state"].lower() in trace.hovertemplate
    assert len(picture.data) == 50
    assert picture.data["bytes"].to_list() == [row["bytes"] for row in rows]
    leading = set(pareto(frame.iloc[:50], "bytes")["number"])
    assert set(picture.data["trial"][picture.data["on front"]]) == leading
    assert "1 that drew a student trained before, 1 without" in picture.note
    assert "Outside this range: far" in picture.note


@pytest.mark.parametrize(
    ("axis", "budget", "shown"),
    [
        ("bytes", {}, True),
        ("params", {}, False),
        ("params", {"unit": "params"}, True),
        ("macs", {}, False),
        ("macs", {"macs": 2_000_000}, True),
    ],
)
def test_the_budget_is_drawn_on_its_own_axis(
    axis: str, budget: dict[str, Any], shown: bool
) -> None:
    view = view_of(trials_of([{}, {"value": 0.6}]), axis=axis, budget=SPEC["budget"] | budget)
    texts = [note.text for note in front(view).figure.layout.annotations]
    assert any(text.startswith("budget") for text in texts) == shown
    assert any("teacher resnet18 90.0%, 11.0M parameters" in text for text in texts)


STATES: dict[str, pd.DataFrame] = {
    "no trial": trials_of([]),
    "one trial": trials_of([{}]),
    "only failures": trials_of([{"state": "FAIL", "value": np.nan}] * 3),
    "one running": trials_of([{"state": "RUNNING", "value": np.nan, "seconds": np.nan}]),
    "a stranger's": trials_of(
        [
            dict.fromkeys(("bytes", "params", "macs", "seconds", "depth", "width"), np.nan)
            | {"words": None, "block": "", "se": "", "value": value, "groups": np.nan}
            for value in (0.1, 0.2)
        ]
    ),
    "hostile": trials_of([{"block": HOSTILE, "words": HOSTILE, "value": v / 9} for v in range(9)]),
}


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("key", [*SEARCH, *COMPARE])
def test_whatever_there_is_there_is_a_picture(state: str, key: str) -> None:
    view = view_of(STATES[state], name=HOSTILE)
    draw: Callable[[Any], Picture] = SEARCH[key] if key in SEARCH else COMPARE[key]
    picture = draw(view if key in SEARCH else [view, view])
    text = picture.figure.to_json()
    assert "<script>" not in text.replace("\\u003c", "<")
    if picture.empty:
        assert picture.data.empty
    if state in ("no trial", "only failures", "one running"):
        assert picture.empty
        words = {"no trial": "no trial", "only failures": "failed", "one running": "running"}
        assert words[state] in picture.empty or "complete trial" in picture.empty


def test_filters_that_let_nothing_pass_are_named() -> None:
    view = view_of(trials_of([{}]))
    assert "Take some of them away" in front(view._replace(trials=view.trials.iloc[:0])).empty


def test_medians_are_of_all_trials() -> None:
    values = np.random.default_rng(1).random(900)
    rows = [{"value": float(v), "se": ("none", "all")[k % 2]} for k, v in enumerate(values)]
    data = SEARCH["choices"](view_of(trials_of(rows))).data
    found = data[data["choice"] == CHOICES["se"]].set_index("level")
    assert found.loc["none", "median accuracy"] == pytest.approx(np.median(values[::2]))
    assert found.loc["all", "trials"] == 450


def test_the_best_at_each_budget() -> None:
    small = view_of(trials_of([{"bytes": 9_000.0, "value": 0.4}, {"bytes": 9_500.0, "value": 0.5}]),
                    name="small", budget=SPEC["budget"] | {"limit": 10_000})  # fmt: skip
    large = view_of(trials_of([{"bytes": 9_900.0, "value": 0.3}, {"value": 0.7}]), name="large")
    data = best_at_budgets([small, large]).data
    found = {(row["budget"], row["study"]): row["accuracy"] for row in data.to_dict("records")}
    assert found[("10.0 KB", "small")] == 0.5
    assert found[("10.0 KB", "large")] == 0.3
    assert found[("20.0 KB", "large")] == 0.7


@given(st.floats(1.001, 1e6), st.floats(100, 1e7))
def test_ticks_are_few_round_and_told_apart(factor: float, low: float) -> None:
    high = low * factor
    ticks = nice_ticks(low, high)
    assert all(low * (1 - 1e-9) <= tick <= high * (1 + 1e-9) for tick in ticks)
    assert len(ticks) <= 13
    words = tick_words("bytes", ticks)
    assert len(set(words)) == len(words)
    assert size_axis("bytes", low, high)["type"] == "log"
