"""Of equally accurate students the smaller one is the best, and of equal files the earlier one."""

import io
import itertools
import json
import re
import sqlite3
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from commands import inside
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from strategies import settings

from benchmarks import synthetic_studies
from dashboards.figures.compare import COMPARE_CHARTS
from dashboards.figures.search import SEARCH_CHARTS
from dashboards.filters import Filters
from dashboards.library import Library
from dashboards.pages.overview import known
from search.database import table
from search.database.engine import open_engine
from search.study.ranking import FURTHER_SEEDS, attribute, ranked
from search.terminal.progress import Display

SEARCH = (
    *("search", "--name", "s", "--trials", "4", "--epochs", "1", "--pruner", "none"),
    *("--teacher", "none", "--device", "cpu", "--cache", "cache"),
)


def tie(database: Path, value: float = 0.5) -> int:
    """Let all complete trials be equally accurate; returns the number of the smallest."""
    done = table.trials(open_engine(str(database)), "s").query("state == 'COMPLETE'")
    first, *others = done["number"]
    smallest = done[done["number"].isin(others)].sort_values(["bytes", "number"]).iloc[0]
    larger = f"{int(smallest['bytes']) + 1}"  # the earliest is not the smallest
    with sqlite3.connect(database) as connection:
        connection.execute("UPDATE trial_values SET value = ?", (value,))
        connection.execute(
            "UPDATE trial_user_attributes SET value_json = ? WHERE key = 'bytes' AND trial_id ="
            " (SELECT trial_id FROM trials WHERE number = ?)",
            (larger, int(first)),
        )
    return int(smallest["number"])


def first_row(text: str) -> int:
    """The trial of a printed table's first row."""
    found = re.search(r"─ *\n +(\d+) ", text)
    assert found is not None, text
    return int(found[1])


def test_a_search_ships_and_names_the_smaller(tmp_path: Path) -> None:
    assert inside(tmp_path, *SEARCH).status == 0
    smallest = tie(tmp_path / "studies.db")
    file = (tmp_path / f"runs/s/trial{smallest:04d}/student.safetensors").read_bytes()
    ended = inside(tmp_path, "resume", "s", "--device", "cpu", "--cache", "cache", "--out", "o")
    assert ended.status == 0, ended.err
    assert first_row(ended.out) == smallest
    for path in ("o", "runs/s/best.safetensors"):
        assert (tmp_path / path).read_bytes() == file
    assert inside(tmp_path, "export", "s", "--out", "e.safetensors").status == 0
    assert (tmp_path / "e.safetensors").read_bytes() == file
    assert first_row(inside(tmp_path, "show", "s").out) == smallest
    (tmp_path / "runs/s/best.safetensors").unlink()
    assert f"again from trial {smallest};" in inside(tmp_path, "doctor", "s").out
    assert (tmp_path / "runs/s/best.safetensors").read_bytes() == file


def test_of_equal_finalists_the_smaller_is_the_winner(tmp_path: Path) -> None:
    assert inside(tmp_path, *SEARCH).status == 0
    smallest = tie(tmp_path / "studies.db")
    row = json.dumps({"ended": "finished", "file_accuracy": 0.5, "reason": ""})
    numbers = table.trials(open_engine(str(tmp_path / "studies.db")), "s")["number"]
    with sqlite3.connect(tmp_path / "studies.db") as connection:
        for number, seed in itertools.product(numbers, FURTHER_SEEDS):
            connection.execute(
                "INSERT INTO study_user_attributes (study_id, key, value_json) VALUES (1, ?, ?)",
                (attribute(int(number), seed), row),
            )
            folder = tmp_path / f"runs/s/trial{number:04d}/seed{seed}"
            folder.mkdir()
            (folder / "student.safetensors").write_text(f"{number}/{seed}")
    shown = inside(tmp_path, "show", "s", "--json").json["finalists"]
    assert shown[0]["number"] == smallest
    assert [one["bytes"] for one in shown] == sorted(one["bytes"] for one in shown)
    again = ("resume", "s", "--device", "cpu", "--cache", "cache", "--finalists", "4")
    assert f"further seeds: trial {smallest} " in inside(tmp_path, *again).out
    assert (tmp_path / "runs/s/best.safetensors").read_text() == f"{smallest}/{FURTHER_SEEDS[0]}"


def test_pages_mark_the_smaller(tmp_path: Path) -> None:
    synthetic_studies.make(tmp_path / "studies.db", 40, name="s")
    smallest = tie(tmp_path / "studies.db")
    library = Library(str(tmp_path / "studies.db"))
    view = library.view(1, Filters())
    marked = SEARCH_CHARTS["front"].draw(view).data.query("`on front`")["trial"].tolist()
    assert marked == [smallest]
    assert f"by trial {smallest}," in SEARCH_CHARTS["best"].draw(view).note
    assert list(COMPARE_CHARTS["best_at_budgets"].draw([view]).data["trial"])[-1] == smallest
    assert COMPARE_CHARTS["best_so_far"].draw([view]).data["trial"].iloc[-1] == smallest
    named = [trace.name for trace in SEARCH_CHARTS["curves"].draw(view).figure.data]
    assert f"trial {smallest}, 50.0%" in named
    size = view.trials.set_index("number")["bytes"][smallest]
    assert list(known(library, library.studies())["bytes"]) == [size]
    assert inside(tmp_path, "report", "s").status == 0
    written = (tmp_path / "report.html").read_text()
    assert f"Architecture of trial {smallest}, the best" in written
    rows = written.partition("The best trials")[2]
    assert re.findall(r'<td class="number">(\d+)</td>', rows)[0] == str(smallest)


@pytest.mark.parametrize(
    "order", [*itertools.permutations(((0.5, 0, 30), (0.5, 1, 20), (0.4, 2, 9)))]
)
def test_the_display_names_the_smaller(order: tuple[tuple[float, int, int], ...]) -> None:
    display = Display(Console(file=io.StringIO()), trials=3, done=0)
    for accuracy, number, size in order:
        display.known_best(accuracy, number, size)
    assert display.best == (0.5, 1, 20)


students = st.lists(
    st.tuples(st.sampled_from((0.0, 0.5, 1.0)), st.sampled_from((10.0, 20.0, float("nan")))),
    min_size=1,
    max_size=9,
)


@given(students)
@settings()
def test_one_rule_for_tables_and_finalists(drawn: list[tuple[float, float]]) -> None:
    rows = [
        {
            "number": n,
            "state": "COMPLETE",
            "value": v,
            "bytes": b,
            "duplicate_of": None,
            "words": "",
        }
        for n, (v, b) in enumerate(drawn)
    ]
    frame = pd.DataFrame(rows)

    def expected(number: int) -> Any:
        value, size = drawn[number]
        return -value, float("inf") if size != size else size, number

    order = sorted(range(len(drawn)), key=expected)
    assert list(table.best(frame, len(frame))["number"]) == order
    told = {"ended": "finished"}
    attributes = {
        attribute(n, seed): told | {"file_accuracy": value}
        for n, (value, _) in enumerate(drawn)
        for seed in FURTHER_SEEDS
    }
    assert [one.number for one in ranked(attributes, table.students(frame))] == order
