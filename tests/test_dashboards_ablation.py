"""Pictures of ablations: the numbers drawn are the analysis', whatever names and gaps there are."""

import json
import math
from collections.abc import Mapping, Sequence
from html import unescape
from typing import Any

import numpy as np
import pandas as pd
import pytest
from plans import crossed, plan_of, stated
from plotly.colors import sample_colorscale, unlabel_rgb

from dashboards.figures.ablation import ABLATION_CHARTS, evidence_tables, notes
from dashboards.plotting.picture import GREEN, GREY, VERMILION, Picture
from dashboards.views import AblationView, Subject
from search.ablation.effects import analyse, interactions
from search.study.plan import AblationSpec

HOSTILE = "<img src=x onerror=alert(1)>%{y}"
FACTORS = {"se": ("off", "on"), "groups": ("1", "2", "4")}  # some labels look like numbers


def factorial(factors: Mapping[str, Sequence[str]], **settings: Any) -> AblationSpec:
    arms = {", ".join(f"{f}={v}" for f, v in levels.items()): levels for levels in crossed(factors)}
    return plan_of(arms, design="factorial", factors=factors, **settings)


def trials_of(accuracies: Mapping[str, Sequence[float | None]]) -> pd.DataFrame:
    """Arm -> accuracies by seed; None failed."""
    rows = [
        {
            "number": seed * len(accuracies) + place,
            "state": "FAIL" if value is None else "COMPLETE",
            "value": math.nan if value is None else value,
            "ended": "failed" if value is None else "finished",
            "trained_as": None,
            "params_arm": arm,
            "params_seed": seed,
            "bytes": 20_000 - place,
            "params": 19_000 + place,
            "macs": 10**6,
        }
        for place, (arm, values) in enumerate(accuracies.items())
        for seed, value in enumerate(values)
    ]
    return pd.DataFrame(rows)


def view_of(plan: AblationSpec, trials: pd.DataFrame) -> AblationView:
    spec = plan.to_dict()
    subject = Subject(1, "tried", spec, {"spec": spec})
    return AblationView(subject, plan, trials, analyse(trials, plan), interactions(trials, plan))


def random_view(plan: AblationSpec, seeds: int = 5, **shifts: float) -> AblationView:
    rng = np.random.default_rng(4)
    chances = {
        arm.name: np.round(rng.normal(0.6 + shifts.get(arm.name, 0), 0.004, seeds), 4)
        for arm in plan.arms
    }
    return view_of(plan, trials_of({arm: list(map(float, v)) for arm, v in chances.items()}))


def traces(picture: Picture) -> list[dict[str, Any]]:
    """As a browser gets them, numpy's arrays as lists."""
    return [
        {
            k: np.asarray(v).tolist() if k in ("x", "y", "z", "customdata") else v
            for k, v in t.items()
        }
        for t in (trace.to_plotly_json() for trace in picture.figure.data)
    ]


def labels(picture: Picture, axis: str) -> list[str]:
    return [name.replace("<br>", " ") for name in picture.figure.layout[axis].ticktext]


def test_a_line_joins_each_seeds_arms() -> None:
    values: dict[str, list[float | None]] = {
        "base": [0.5, 0.6],
        "later": [0.55, None],
        "lost": [None, None],
    }
    picture = ABLATION_CHARTS["paired"].draw(view_of(stated(*values), trials_of(values)))
    seeds, means = traces(picture)
    lines = np.array(seeds["y"]).reshape(2, 4)  # a gap after each
    expected = [[0.5, 0.55, np.nan, np.nan], [0.6, np.nan, np.nan, np.nan]]
    np.testing.assert_equal(lines, expected)
    assert seeds["x"] == [0, 1, 2, 3] * 2
    assert seeds["customdata"] == [0] * 4 + [1] * 4
    np.testing.assert_allclose(means["y"], [0.55, 0.55, np.nan])
    assert labels(picture, "xaxis") == ["base", "later", "lost"]
    assert picture.data.to_numpy().tolist() == [
        [0, "base", 0.5],
        [0, "later", 0.55],
        [1, "base", 0.6],
    ]
    assert "published" not in picture.note


def test_a_factorial_has_a_panel_a_factor_of_the_seeds_with_all_cells() -> None:
    plan = factorial({"a": ("0", "1"), "b": ("x", "y")})
    values: list[list[float | None]] = [
        [0.50, 0.60, 0.90],
        [0.52, 0.64, 0.90],
        [0.54, 0.62, 0.90],
        [0.58, 0.66, None],
    ]
    names = [arm.name for arm in plan.arms]
    view = view_of(plan, trials_of(dict(zip(names, values, strict=True))))
    picture = ABLATION_CHARTS["paired"].draw(view)
    first, means, second, others = traces(picture)
    by_a = np.array(first["y"]).reshape(2, 3)[:, :2]
    np.testing.assert_allclose(by_a, [[0.51, 0.56], [0.62, 0.64]])
    by_b = np.array(second["y"]).reshape(2, 3)[:, :2]
    np.testing.assert_allclose(by_b, [[0.52, 0.55], [0.61, 0.65]])
    np.testing.assert_allclose([*means["y"], *others["y"]], view.analysis.levels["mean"])
    assert picture.figure.layout.xaxis.title.text == "a"
    assert len(picture.data) == 11  # every training, of incomplete seeds, too


def test_published_figures_have_a_panel_of_their_own() -> None:
    known = {"source": "a report & more", "accuracy": {"teacher=none": 0.78, "teacher=big": 0.83}}
    arms = {f"teacher={label}": {"teacher": label} for label in ("none", "big", "new")}
    factors = {"teacher": ("none", "big", "new")}
    plan = plan_of(arms, design="one-factor", factors=factors, published=known)
    picture = ABLATION_CHARTS["paired"].draw(random_view(plan))
    (diamonds,) = (t for t in traces(picture) if t["marker"].get("symbol") == "diamond-open")
    np.testing.assert_equal(diamonds["y"], [0.78, 0.83, np.nan])
    assert diamonds["yaxis"] != traces(picture)[0]["yaxis"]
    assert "a report & more" in picture.note
    assert "the order, not the height" in picture.note
    low, high = picture.figure.layout.yaxis2.range
    assert 0.55 < low < 0.6 < high < 0.65  # ours keep their scale
    assert labels(picture, "xaxis2") == ["none", "big", "new"]


def test_the_forest_is_sorted_and_coloured_by_verdict() -> None:
    plan = stated("base", "same", "better", "worse")
    view = random_view(plan, seeds=8, better=0.05, worse=-0.05)
    picture = ABLATION_CHARTS["forest"].draw(view)
    arms = view.analysis.arms.set_index("arm")
    dots = traces(picture)[-1]
    order = ["worse", "same", "better"]  # from below
    assert labels(picture, "yaxis") == [f"{name} (n\xa0=\xa08)" for name in order]
    np.testing.assert_allclose(dots["x"], 100 * arms.loc[order, "difference"])
    assert dots["marker"]["color"] == [VERMILION, GREY, GREEN]
    assert list(picture.data["arm"]) == order[::-1]
    np.testing.assert_allclose(
        picture.data["t interval from, points"], 100 * arms.loc[order[::-1], "difference_low"]
    )
    verdicts = [note.text.replace("<br>", " ") for note in picture.figure.layout.annotations]
    assert verdicts == ["worse", "no difference shown", "better"]


def test_the_forest_draws_both_intervals_inside_its_range() -> None:
    view = random_view(stated("base", "a", "b", "c"), a=0.02)
    picture = ABLATION_CHARTS["forest"].draw(view)
    arms = view.analysis.arms.set_index("arm")
    low, high = picture.figure.layout.xaxis.range
    drawn: dict[float, dict[float, list[float]]] = {}  # width -> place -> ends
    for trace in traces(picture)[:-1]:
        ends = np.array(trace["x"]).reshape(-1, 3)[:, :2]
        assert low < ends.min() <= ends.max() < high
        places = trace["y"][::3]
        drawn.setdefault(trace["line"]["width"], {}).update(zip(places, ends.tolist(), strict=True))
    order = list(arms.loc[["a", "b", "c"], "difference"].sort_values().index)
    for width, interval in zip(sorted(drawn), ("difference", "bootstrap"), strict=True):
        expected = 100 * arms.loc[order, [f"{interval}_low", f"{interval}_high"]].astype(float)
        np.testing.assert_allclose([drawn[width][place] for place in range(3)], expected)
    assert low < 0 < high


def test_one_seed_is_drawn_and_not_judged() -> None:
    values = {"base": [0.5], "other": [0.6]}
    view = view_of(stated(*values), trials_of(values))
    picture = ABLATION_CHARTS["forest"].draw(view)
    dots = traces(picture)[-1]
    np.testing.assert_allclose(dots["x"], [10])
    assert dots["customdata"] == ["+10.00 points"]
    assert dots["marker"]["color"] == [GREY]
    assert picture.figure.layout.annotations[0].text == "too few seeds"
    assert not ABLATION_CHARTS["paired"].draw(view).empty


def test_marginal_means_are_the_analysis() -> None:
    view = random_view(factorial(FACTORS))
    picture = ABLATION_CHARTS["marginal"].draw(view)
    levels = view.analysis.levels
    means = [trace for trace in traces(picture) if "error_y" in trace]
    drawn = [y for trace in means for y in trace["y"]]
    np.testing.assert_allclose(drawn, levels["mean"])
    ends = np.array([end for trace in means for end in trace["customdata"]])
    np.testing.assert_allclose(ends[:, 0], levels["low"])
    np.testing.assert_allclose(ends[:, 1], levels["high"])
    points = sorted(y for t in traces(picture) if "error_y" not in t for y in t["y"])
    assert points == sorted([*view.trials["value"], *view.trials["value"]])  # a panel a factor
    assert list(picture.figure.layout.xaxis2.ticktext) == ["1", "2", "4"]
    assert list(picture.figure.layout.xaxis2.tickvals) == [0, 1, 2]  # no number is taken for one


def test_cells_of_fewer_than_three_results_are_blank() -> None:
    plan = factorial({"a": ("0", "1"), "b": ("x", "y", "z")})
    names = [arm.name for arm in plan.arms]
    whole: list[float | None] = [0.5, 0.6, 0.7]
    rows = [*[whole] * 5, [0.9, 0.9, None]]
    picture = ABLATION_CHARTS["interaction"].draw(
        view_of(plan, trials_of(dict(zip(names, rows, strict=True))))
    )
    heat, words = traces(picture)
    means = np.array(heat["z"])  # a across, b down
    assert means.shape == (3, 2)
    assert np.isnan(means[2, 1])
    np.testing.assert_allclose(means.ravel()[:5], 0.6)
    assert list(words["text"]) == ["60.0%"] * 5 + ["n = 2"]
    assert words["textfont"]["color"][-1] == GREY
    assert labels(picture, "xaxis") == ["0", "1"]
    assert labels(picture, "yaxis") == ["x", "y", "z"]


def luminance(colour: Sequence[float]) -> float:
    shares = [part / 255 for part in colour]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in shares]
    return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))


def test_numbers_in_cells_can_be_read() -> None:
    picture = ABLATION_CHARTS["interaction"].draw(
        random_view(factorial({k: list("012345") for k in "ab"}), 3)
    )
    heat, words = traces(picture)
    means = np.array(heat["z"]).ravel()
    axis = picture.figure.layout.coloraxis
    assert (axis.cmin, axis.cmax) == (means.min(), means.max())
    for mean, ink in zip(means, words["textfont"]["color"], strict=True):
        (paper,) = sample_colorscale("Cividis", [(mean - axis.cmin) / (axis.cmax - axis.cmin)])
        written = luminance([int(ink[place : place + 2], 16) for place in (1, 3, 5)])
        darker, lighter = sorted((luminance(unlabel_rgb(paper)), written))
        assert (lighter + 0.05) / (darker + 0.05) >= 4.5  # WCAG AA


@pytest.mark.parametrize("factors", ["ab", "abcd", "abcdef"])
def test_every_pair_of_factors_has_a_map(factors: str) -> None:
    view = random_view(factorial(dict.fromkeys(factors, ("0", "1"))), seeds=3)
    picture = ABLATION_CHARTS["interaction"].draw(view)
    maps = [trace for trace in traces(picture) if trace["type"] == "heatmap"]
    assert len(maps) == math.comb(len(factors), 2)
    drawn = [z for trace in maps for z in np.array(trace["z"]).T.ravel()]
    np.testing.assert_allclose(drawn, view.interactions["mean"])


def test_sizes_show_every_arm() -> None:
    view = random_view(stated("base", "other", size_matched=False))
    picture = ABLATION_CHARTS["sizes"].draw(view)
    (bars,) = traces(picture)
    assert bars["x"] == [20_000, 19_999]
    assert list(bars["text"]) == ["20.0 KB", "20.0 KB"]
    assert bars["customdata"] == [19_000, 19_001]
    assert labels(picture, "yaxis") == ["base", "other"]
    assert picture.note == "Widths are as they are written, whatever they cost."


NOTHING = trials_of({"base": []}).reindex(columns=trials_of({"base": [0.5]}).columns)


@pytest.mark.parametrize("plan", [stated("base", "other"), factorial(FACTORS)])
@pytest.mark.parametrize(
    "trials", [NOTHING, NOTHING.drop(columns=["params_arm", "params_seed"])], ids=["none", "bare"]
)
def test_without_results_every_picture_says_why(plan: AblationSpec, trials: pd.DataFrame) -> None:
    view = view_of(plan, trials)
    for chart in ABLATION_CHARTS.values():
        assert chart.draw(view).empty
    assert evidence_tables(view)


def test_failed_arms_leave_pictures_of_the_others() -> None:
    plan = factorial(FACTORS)
    values: dict[str, list[float | None]] = {arm.name: [0.5, 0.6] for arm in plan.arms}
    values["se=on, groups=4"] = [None, None]
    view = view_of(plan, trials_of(values))
    assert "cell" in ABLATION_CHARTS["marginal"].draw(view).empty
    paired = ABLATION_CHARTS["paired"].draw(view)
    assert paired.figure.layout.xaxis.title.text == "arm"
    assert len(paired.data) == 10
    assert len(ABLATION_CHARTS["forest"].draw(view).data) == 4
    assert not ABLATION_CHARTS["sizes"].draw(view).empty
    assert any("failed" in note for note in notes(view))


def test_without_the_baseline_there_is_no_difference() -> None:
    values: dict[str, list[float | None]] = {"base": [None, None], "other": [0.5, 0.6]}
    view = view_of(stated(*values), trials_of(values))
    assert "baseline" in ABLATION_CHARTS["forest"].draw(view).empty
    assert not ABLATION_CHARTS["paired"].draw(view).empty


def test_designs_without_crossed_factors_say_so() -> None:
    view = random_view(stated("base", "other"))
    for name in ("marginal", "interaction"):
        assert "factorial" in ABLATION_CHARTS[name].draw(view).empty


@pytest.mark.parametrize(
    "name", [HOSTILE, "seed", "arm", "accuracy", "2026-01-01", "1e3", "a" * 80]
)
def test_names_are_names(name: str) -> None:
    """Not markup, not a column, not a number, not a date."""
    crossed = factorial({name: ("0", "1"), "b": (name, "y")})
    for view in (random_view(stated(name, "other")), random_view(crossed)):
        for chart in ABLATION_CHARTS.values():
            text = json.dumps(chart.draw(view).figure.to_dict(), default=str)
            assert "<img" not in text
    picture = ABLATION_CHARTS["paired"].draw(random_view(stated(name, "other")))
    assert list(picture.data["arm"][:2]) == [name, "other"]  # in the data as it is
    shown = unescape(picture.figure.layout.xaxis.ticktext[0].replace("<br>", ""))
    assert shown.replace(" ", "") == name.replace(" ", "")


def test_evidence_is_what_the_command_prints() -> None:
    view = random_view(factorial(FACTORS, published={"source": "a report"}))
    titles = [cells.title for cells in evidence_tables(view)]
    assert "Main effects: differences of these" in titles
    assert "published: a report" in notes(view)
