"""Addresses, filters, the server's side of the table of trials, files without links."""

import csv
import io
import os
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboards import routes
from dashboards.filters import SE, STATES, Filters, misread
from dashboards.pages.downloads import csv_of, read_regular, safe_name
from dashboards.pages.trials_table import COLUMNS, MOST_ROWS, answer
from search.database.row import SIZES

sizes = st.none() | st.floats(0.5, 1e9).map(lambda size: float(f"{size:.6g}"))
filters = st.builds(
    Filters,
    blocks=st.lists(st.text(min_size=1), unique=True, max_size=3).map(tuple),
    se=st.lists(st.sampled_from(SE), unique=True).map(tuple),
    states=st.lists(st.sampled_from(STATES), unique=True).map(tuple),
    low=sizes,
    high=sizes,
    axis=st.sampled_from(SIZES),
)


@given(filters)
def test_an_address_keeps_the_filters(chosen: Filters) -> None:
    assert Filters.parse(chosen.query) == chosen
    assert Filters.parse(f"?{chosen.query}") == chosen


@given(st.text())
def test_any_address_is_read(query: str) -> None:
    read = Filters.parse(query)
    assert read.axis in SIZES
    assert set(read.states) <= set(STATES)


def trials_of(count: int = 60) -> pd.DataFrame:
    rng = np.random.default_rng(3)
    frame = pd.DataFrame(
        {
            "number": np.arange(count, dtype=float),
            "state": rng.choice(["COMPLETE", "PRUNED", "FAIL"], count),
            "value": np.where(rng.random(count) < 0.2, np.nan, rng.random(count).round(2)),
            "words": [f"conv {k} | group {k}" for k in range(count)],
            "block": rng.choice(["conv", "group", ""], count),
            "se": rng.choice(SE, count),
        }
    )
    for column in ("size", "bytes", "params", "macs", "epochs", "seconds"):
        frame[column] = rng.integers(1, 1000, count).astype(float)
    return frame


@given(st.text())
def test_what_is_no_size_is_told(text: str) -> None:
    query = urlencode([("low", text)])
    assert bool(misread(query)) == (bool(text) and Filters.parse(query).low is None)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        *(("20000", 20_000), ("20,000", 20_000), ("20KB", 20_000), ("20 kb", 20_000)),
        *(("1.5MB", 1.5e6), ("256k", 256_000), ("2KiB", 2_048), ("1g", 1e9), (" 7b ", 7)),
        *((text, None) for text in ("", "x", "-1", "1e5", "nan", "inf", "20 KB or so", "٣", "i")),
        ("9" * 400, None),
    ],
)
def test_sizes_are_read_as_people_write_them(text: str, size: float | None) -> None:
    assert Filters.parse(urlencode([("high", text)])).high == size


def test_filters_that_are_not_known_are_told() -> None:
    assert misread("state=PRUNED&se=all&axis=macs&block=own&low=3KB") == ""
    told = misread("state=Lost&axis=weight&low=a&high=b&high=c")
    assert "'a' and 'c': no size" in told
    assert "state 'Lost'" in told
    assert "axis 'weight'" in told


def test_filters_let_pass_what_they_say() -> None:
    frame = trials_of()
    chosen = Filters(("conv", "group"), ("all",), ("COMPLETE",), 100, 900, "params")
    expected = [
        row["number"]
        for row in frame.to_dict("records")
        if row["block"] in ("conv", "group")
        and row["se"] == "all"
        and row["state"] == "COMPLETE"
        and 100 <= row["params"] <= 900
    ]
    assert expected
    assert list(chosen.apply(frame)["number"]) == expected
    assert len(Filters().apply(frame)) == len(frame)
    assert chosen.has("block", "group")
    assert not chosen.has("axis", "bytes")


@pytest.mark.parametrize(
    ("path", "found"),
    [
        (None, ("studies", -1, -1)),
        ("/", ("studies", -1, -1)),
        ("/study/3", ("study", 3, -1)),
        ("/study/3/trial/12", ("trial", 3, 12)),
        ("/compare", ("compare", -1, -1)),
        ("/study/../etc", ("lost", -1, -1)),
        ("/study/3/trial/12/x", ("lost", -1, -1)),
        ("/study/99999999999999999999", ("lost", -1, -1)),
        ("/study/٣", ("lost", -1, -1)),
    ],
)
def test_an_address_names_a_page(path: str | None, found: tuple[Any, ...]) -> None:
    assert routes.route_of(path) == found


def test_links_name_the_pages_they_are_for() -> None:
    assert routes.route_of(routes.study_link(4)) == ("study", 4, -1)
    assert routes.route_of(routes.trial_link(4, 7)) == ("trial", 4, 7)
    link = routes.compare_link([4, 2])
    assert routes.compared(link.partition("?")[2]) == [4, 2]
    assert routes.compared("?study=1&study=x&study=1&study=-2&study=9999999999999") == [1]


def numbers(found: dict[str, Any]) -> list[float]:
    return [row["number"] for row in found["rowData"]]


def test_the_table_sorts_and_filters_all_trials() -> None:
    frame = trials_of()
    asked = {
        "startRow": 5,
        "endRow": 15,
        "sortModel": [{"colId": "value", "sort": "desc"}, {"colId": "bytes", "sort": "asc"}],
        "filterModel": {
            "bytes": {"filterType": "number", "type": "greaterThan", "filter": 300},
            "state": {"filterType": "text", "type": "contains", "filter": "COMP"},
        },
    }
    found: Any = answer(frame, asked)
    passing = frame[(frame["bytes"] > 300) & (frame["state"] == "COMPLETE")]
    order = sorted(
        passing.to_dict("records"),
        key=lambda row: (-row["value"] if row["value"] == row["value"] else 2, row["bytes"]),
    )
    assert found["rowCount"] == len(passing) >= 15
    assert numbers(found) == [row["number"] for row in order[5:15]]
    assert {row["state"] for row in found["rowData"]} == {"complete"}
    assert set(found["rowData"][0]) == set(COLUMNS)


def test_conditions_are_joined() -> None:
    frame = trials_of()
    low = {"type": "lessThan", "filter": 200}
    high = {"type": "greaterThan", "filter": 800}
    for operator, passing in (
        ("OR", (frame["bytes"] < 200) | (frame["bytes"] > 800)),
        ("AND", (frame["bytes"] < 200) & (frame["bytes"] > 800)),
    ):
        model = {"bytes": {"operator": operator, "conditions": [low, high]}}
        assert answer(frame, {"filterModel": model})["rowCount"] == passing.sum()


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"sortModel": [{"colId": "value; DROP TABLE trials", "sort": "asc"}], "filterModel": []},
        {"filterModel": {"__class__": {"type": "equals", "filter": 1}}, "sortModel": "x"},
        {"filterModel": {"bytes": {"type": "eval", "filter": "1"}, "value": None}},
        {"filterModel": {"bytes": {"type": "equals", "filter": "' OR 1=1 --"}}},
        {"filterModel": {"bytes": {"conditions": [1], "operator": "OR"}}},
        {"startRow": -5, "endRow": 10**9},
    ],
)
def test_what_the_table_does_not_understand_changes_nothing(asked: dict[str, Any]) -> None:
    frame = trials_of(MOST_ROWS + 100)
    found = answer(frame, asked)
    assert found["rowCount"] == len(frame)
    assert numbers(found) == list(range(MOST_ROWS))


def test_a_pattern_is_no_regular_expression() -> None:
    model = {"state": {"type": "contains", "filter": ".*"}}
    assert answer(trials_of(), {"filterModel": model})["rowCount"] == 0


def test_no_link_is_followed(tmp_path: Path) -> None:
    folder, outside = tmp_path / "runs" / "s", tmp_path / "outside"
    (folder / "trial0000").mkdir(parents=True)
    outside.mkdir()
    for place in (folder / "trial0000", outside):
        (place / "student.safetensors").write_bytes(b"inside" if place != outside else b"secret")
    wanted = ["trial0000", "student.safetensors"]
    assert read_regular(folder, wanted) == b"inside"
    assert read_regular(folder, ["trial0001", "student.safetensors"]) is None
    (folder / "trial0001").symlink_to(outside)
    assert read_regular(folder, ["trial0001", "student.safetensors"]) is None
    (folder / "trial0002").mkdir()
    (folder / "trial0002" / "student.safetensors").symlink_to(outside / "student.safetensors")
    assert read_regular(folder, ["trial0002", "student.safetensors"]) is None
    (folder / "trial0003").mkdir()
    os.mkfifo(folder / "trial0003" / "student.safetensors")
    assert read_regular(folder, ["trial0003", "student.safetensors"]) is None


def test_a_csv_is_text_for_a_spreadsheet() -> None:
    data = pd.DataFrame({"=name": ["=1+1", "@x", "plain", None], "n": [1.5, -2, np.nan, 4]})
    response = csv_of(data, "../a b=<x>")
    rows = list(csv.reader(io.StringIO(response.get_data(as_text=True))))
    assert rows[0] == ["'=name", "n"]
    assert rows[1:] == [["'=1+1", "1.5"], ["'@x", "-2.0"], ["plain", ""], ["", "4.0"]]
    assert "a_b__x.csv" in response.headers["Content-Disposition"]


@given(st.text())
def test_a_file_name_is_safe(name: str) -> None:
    safe = safe_name(name)
    assert safe
    assert set(safe) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-")
    assert not safe.startswith(".")
