"""Pictures of one trial: what is drawn is what the file, the row and the matrix hold."""

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from strategies import architectures

from dashboards.figures.architecture import stages_of
from dashboards.figures.trial import TRIAL_CHARTS, facts, formats
from dashboards.plotting.picture import BLOCK_COLOURS, GREY, Picture
from dashboards.views import Subject, TrialView
from search.database.row import COLUMNS
from search.database.table import BASE_COLUMNS
from space.architecture import Architecture, Head, Stage
from space.count import cost
from space.file_format import FORMATS, StudentMetadata, normalisation, stored_bytes
from space.spaces import REFERENCES, reference

NETWORK = Architecture(
    stem=Stage(width=8),
    stages=(
        Stage(width=16, block="depthwise", depth=2, stride=2, se=4, residual=True),
        Stage(width=24, block="group", groups=4, shuffle=True, kernel=5),
        Stage(width=24, block="inverted", expansion=3, depth=3, activation="hardswish"),
    ),
    classes=3,
    channels=1,
    head=Head(width=20),
)
NAMES = ("apples", "pears", "<b>plums</b>%{x}")
CURVE = pd.DataFrame({"number": 7, "epoch": [1, 2, 3], "accuracy": [0.4, 0.6, 0.7]})
CONFUSION = [[8, 2, 0], [1, 3, 0], [0, 0, 0]]


def view_of(
    network: Architecture | None,
    format: str = "int8",
    classes: tuple[str, ...] = NAMES,
    size: int = 8,
    curve: pd.DataFrame = CURVE,
    confusion: list[list[int]] | None = None,
    **known: Any,
) -> TrialView:
    """A trial as the database has it; what is not said is missing."""
    budget = {"limit": 25_000, "unit": "bytes", "format": format}
    channels = network.channels if network else 1
    spec = {"classes": list(classes), "size": size, "channels": channels, "budget": budget}
    row: dict[str, Any] = dict.fromkeys([*BASE_COLUMNS, *COLUMNS], math.nan)
    row |= {"number": 7, "state": "COMPLETE", "format": format}
    if network:
        counted = cost(network, card_of(network, classes, size))
        row |= {
            "architecture": network.to_dict(),
            "words": network.words,
            "params": counted.parameters,
            "macs": counted.macs,
            "activation_peak": counted.activation_peak,
            "bytes": stored_bytes(network, format, card_of(network, classes, size)),
        }
    subject = Subject(1, "tried", spec, {"spec": spec})
    return TrialView(subject, pd.Series(row | known, dtype=object), curve, confusion)


def card_of(network: Architecture, classes: tuple[str, ...], size: int) -> StudentMetadata:
    mean, std = normalisation(network.channels)
    return StudentMetadata(classes=classes, size=size, mean=mean, std=std)


def drawn(picture: Picture, **wanted: Any) -> list[dict[str, Any]]:
    found = [trace.to_plotly_json() for trace in picture.figure.data]
    return [t for t in found if all(t.get(key) == value for key, value in wanted.items())]


@settings(max_examples=60)
@given(architectures(), st.sampled_from(list(FORMATS)), st.sampled_from((32, 48)))
def test_the_bytes_are_the_files(network: Architecture, format: str, size: int) -> None:
    """Of any network, in any format; and every part is as large as what is in it."""
    names = tuple(f"class {place}" for place in range(network.classes))
    view = view_of(network, format, names, size)
    picture = TRIAL_CHARTS["bytes"].draw(view)
    assert picture.data["bytes"].sum() == view.row["bytes"]
    assert picture.data["parameters"].sum() == view.row["params"]
    assert (picture.data["bytes"] > 0).all()
    (tree,) = drawn(picture)
    sizes = dict(zip(tree["ids"], tree["values"], strict=True))
    assert len(sizes) == len(tree["ids"])
    inner: dict[str, int] = {}
    for key, parent in zip(tree["ids"], tree["parents"], strict=True):
        inner[parent] = inner.get(parent, 0) + sizes[key]
    assert inner.pop("") == sizes["file"] == view.row["bytes"]
    assert inner == {key: sizes[key] for key in inner}


@settings(max_examples=40)
@given(architectures(), st.sampled_from(list(FORMATS)))
def test_every_format_is_sized_as_the_trials_own(network: Architecture, format: str) -> None:
    names = tuple(f"class {place}" for place in range(network.classes))
    view = view_of(network, format, names, 32)
    shown = formats(view).set_index("format")
    assert list(shown.index) == list(FORMATS)
    assert shown.loc[format, "bytes"] == f"{view.row['bytes']:,}"


def test_formats_say_what_was_measured() -> None:
    view = view_of(NETWORK, file_accuracy=0.75, network_accuracy=0.8)
    shown = formats(view).set_index("format")
    assert list(shown["accuracy"]) == ["80.00%", "not measured", "75.00%"]
    share = view.row["bytes"] / 25_000
    assert shown.loc["int8", "of the budget"] == f"{share:.1%}"
    assert "(too large)" in str(shown.loc["fp32", "of the budget"])
    assert formats(view_of(None)).empty
    measured = view._replace(formats={"fp32": 0.8, "fp16": None, "int8": 0.7525})
    shown = formats(measured).set_index("format")
    assert list(shown["accuracy"]) == ["80.00%", "cannot hold it", "75.25%"]
    assert list(shown["against fp32"]) == ["", "", "-4.75 points"]


@pytest.mark.parametrize("name", REFERENCES)
def test_bytes_of_the_references(name: str) -> None:
    network = reference(name, classes=3, channels=3)
    view = view_of(network, "fp16", size=64)
    assert TRIAL_CHARTS["bytes"].draw(view).data["bytes"].sum() == view.row["bytes"]


def test_the_architecture_is_drawn_stage_by_stage() -> None:
    picture = TRIAL_CHARTS["architecture"].draw(view_of(NETWORK))
    rows = picture.data.set_index("stage")
    assert list(rows.index) == ["input", "stem", "stage 1", "stage 2", "stage 3", "classes"]
    assert list(rows["channels"]) == [1, 8, 16, 24, 24, 3]
    assert list(rows["pixels"]) == [8, 8, 4, 4, 4, 1]
    assert rows.loc["stage 1", "settings"] == "3x3, SE 4, shortcuts, relu"
    assert rows.loc["stage 2", "settings"] == "5x5, 4 groups, relu"
    assert rows.loc["stage 3", "settings"] == "3x3, expanded 3x, hardswish"
    assert rows.loc["classes", "settings"] == "1x1 to 20, then average, linear"
    blocks = [1, 1, 2, 1, 3, 1]
    kinds = [GREY, *(BLOCK_COLOURS[k] for k in ("conv", "depthwise", "group", "inverted")), GREY]
    colours = [shape.fillcolor for shape in picture.figure.layout.shapes]
    assert colours == [kind for kind, n in zip(kinds, blocks, strict=True) for _ in range(n)]
    words = [note.text for note in picture.figure.layout.annotations]
    assert words[4] == "16 x 4²"
    assert words[5] == "<b>depthwise</b><br>2 blocks<br>3x3<br>SE 4<br>shortcuts<br>relu"


@settings(max_examples=40)
@given(architectures(), st.integers(1, 64))
def test_stages_stay_in_their_columns(network: Architecture, depth: int) -> None:
    """However deep they are, so texts never meet."""
    deep = replace(network, stages=tuple(replace(s, depth=depth) for s in network.stages))
    names = tuple(f"class {place}" for place in range(network.classes))
    view = view_of(deep, classes=names, size=48)
    picture = TRIAL_CHARTS["architecture"].draw(view)
    starts = [note.x for note in picture.figure.layout.annotations[::2]]
    steps = np.diff([*starts, picture.figure.layout.xaxis.range[1]])
    np.testing.assert_allclose(steps, steps[0])
    shapes = picture.figure.layout.shapes
    counts = [max(1, n) for n in stages_of(deep, 48)["blocks"]]
    assert len(shapes) == sum(counts)
    owners = np.repeat(starts, counts)
    for shape, start in zip(shapes, owners, strict=True):
        assert start - 1e-9 <= shape.x0 < shape.x1 < start + steps[0]
    lines = [line for words in stages_of(deep, 48)["settings"][1:-1] for line in words.split(", ")]
    assert max(map(len, lines)) <= len("expanded 64x")  # a column's width on a telephone


def test_a_curve_with_its_losses() -> None:
    picture = TRIAL_CHARTS["curve"].draw(view_of(NETWORK, losses=[2.0, 1.5, 1.25]))
    accuracy, loss = drawn(picture)
    assert list(accuracy["x"]) == list(loss["x"]) == [1, 2, 3]
    assert list(accuracy["y"]) == [0.4, 0.6, 0.7]
    assert list(loss["y"]) == [2.0, 1.5, 1.25]
    assert list(picture.data["loss"]) == [2.0, 1.5, 1.25]
    assert not picture.note


def test_a_pruned_curve_has_a_cross_at_its_end() -> None:
    picture = TRIAL_CHARTS["curve"].draw(view_of(NETWORK, state="PRUNED"))
    _, cross = drawn(picture)
    assert cross["marker"]["symbol"] == "x"
    assert (list(cross["x"]), list(cross["y"])) == ([3], [0.7])
    assert "pruned" in picture.note
    assert picture.data["loss"].isna().all()


def test_the_confusion_matrix_is_in_shares_of_the_true_class() -> None:
    picture = TRIAL_CHARTS["confusion"].draw(view_of(NETWORK, confusion=CONFUSION))
    (heat,) = drawn(picture, type="heatmap")
    shares = [[0.8, 0.2, 0.0], [0.25, 0.75, 0.0], [0.0, 0.0, 0.0]]
    np.testing.assert_allclose(heat["z"], shares)
    assert heat["customdata"][0][1] == "apples taken for pears: 2 images"
    (words,) = drawn(picture, type="scatter")
    assert list(words["text"]) == ["8", "2", "", "1", "3", "", "", "", ""]
    assert picture.data["images"].sum() == 14
    wrong = picture.data.set_index(["true class", "predicted class"])
    assert wrong.loc[("pears", "apples"), "images"] == 1


def test_long_class_names_take_one_line() -> None:
    names = ("caesar salad with a long name", "x" * 30, "pho")
    picture = TRIAL_CHARTS["confusion"].draw(view_of(NETWORK, classes=names, confusion=CONFUSION))
    shown = list(picture.figure.layout.yaxis.ticktext)
    assert shown == ["caesar salad with a…", "x" * 19 + "…", "pho"]
    assert set(picture.data["true class"]) == set(names)


def test_many_classes_have_no_numbers_in_their_cells() -> None:
    classes = tuple(f"class {place}" for place in range(13))
    view = view_of(None, classes=classes, confusion=np.eye(13, dtype=int).tolist())
    picture = TRIAL_CHARTS["confusion"].draw(view)
    assert [trace.type for trace in picture.figure.data] == ["heatmap"]


def test_accuracy_by_class_is_sorted_with_wilsons_intervals() -> None:
    picture = TRIAL_CHARTS["classes"].draw(view_of(NETWORK, confusion=CONFUSION))
    assert list(picture.data["class"]) == ["apples", "pears"]  # of plums there was no image
    assert list(picture.data["accuracy"]) == [0.8, 0.75]
    z, n, p = stats.norm.ppf(0.975), 10, 0.8
    middle = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    first = picture.data.iloc[0]
    np.testing.assert_allclose([first["low"], first["high"]], [middle - half, middle + half])
    (dots,) = drawn(picture)
    assert list(dots["x"]) == [0.75, 0.8]  # from below
    assert list(picture.figure.layout.yaxis.ticktext) == ["pears (4)", "apples (10)"]


@pytest.mark.parametrize("hostile", ["<img src=x>", "true class", "images", "2026-01-01", "%{x}"])
def test_class_names_are_names(hostile: str) -> None:
    """Not markup, not a column, not a date."""
    view = view_of(NETWORK, classes=(hostile, "b", "c"), confusion=CONFUSION)
    for chart in TRIAL_CHARTS.values():
        assert "<img" not in json.dumps(json.loads(chart.draw(view).figure.to_json()))
    assert hostile in set(TRIAL_CHARTS["confusion"].draw(view).data["true class"])
    assert hostile in set(TRIAL_CHARTS["classes"].draw(view).data["class"])
    assert not formats(view).empty


def test_a_trial_of_another_program_has_empty_pictures() -> None:
    nobody = Subject(1, "theirs", {}, {})
    empty = view_of(None, curve=CURVE.iloc[:0])._replace(subject=nobody)
    for chart in TRIAL_CHARTS.values():
        assert chart.draw(empty).empty
    assert formats(empty).empty
    assert facts(empty) == []


def test_a_network_without_a_file_is_drawn_and_has_no_bytes() -> None:
    view = view_of(NETWORK, bytes=math.nan)
    assert not TRIAL_CHARTS["architecture"].draw(view).empty
    assert TRIAL_CHARTS["bytes"].draw(view).empty


def test_without_a_confusion_matrix_the_reasons_are_said() -> None:
    for name in ("confusion", "classes"):
        assert "earlier version" in TRIAL_CHARTS[name].draw(view_of(NETWORK)).empty
    assert TRIAL_CHARTS["classes"].draw(view_of(NETWORK, confusion=[[0, 0], [0, 0]])).empty


def test_facts_of_a_file_and_of_a_pruned_network() -> None:
    done = dict(facts(view_of(NETWORK, value=0.7, file_accuracy=0.7, network_accuracy=0.72)))
    assert done["accuracy"] == "70.00% of the file (72.00% before storing)"
    assert done["architecture"] == NETWORK.words
    pruned = view_of(NETWORK, state="PRUNED", value=0.5, network_accuracy=0.5, reason="too slow")
    assert dict(facts(pruned))["accuracy"] == "50.00%"  # it never had a file
    assert dict(facts(pruned))["ended"] == "too slow"


def test_an_older_trial_has_its_format_from_the_budget() -> None:
    view = view_of(NETWORK, file_accuracy=0.75)
    older = view._replace(row=view.row.drop("format").reindex(view.row.index))
    assert TRIAL_CHARTS["bytes"].draw(older).data["bytes"].sum() == view.row["bytes"]
    assert formats(older).set_index("format").loc["int8", "accuracy"] == "75.00%"
