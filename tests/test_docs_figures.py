"""Every table of figures in docs/ says the numbers of the CSV file that it names."""

import re
from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest
from commands import ROOT
from test_pages_figures import RESULTS, Table, assert_rounded, is_of_figures, tables

PAGES = ("design.md", "reproduction.md", "scaling.md")
TABLES = [table for page in PAGES for table in tables((ROOT / "docs" / page).read_text())]
# What it says is arithmetic (`space.file_format`), other people's, or judged from a table below it.
WITHOUT = ("", "budget", "question")
DERIVED = ("arm", "level", "term")  # of an arms' table: `tests.test_search_effects` has these


def found(columns: tuple[str, ...], source: str) -> Table:
    """The one table with such columns and such a source."""
    (table,) = [
        one
        for one in TABLES
        if tuple(one.columns[: len(columns)]) == columns and one.source and source in one.source
    ]
    return table


def read(table: Table) -> pd.DataFrame:
    return pd.read_csv(ROOT / str(table.source), keep_default_na=False, na_values=[""])


def test_every_table_of_figures_names_its_file() -> None:
    figures = [
        table for table in TABLES if is_of_figures(table) and table.columns[0] not in WITHOUT
    ]
    named = [table for table in figures if table.source]
    assert len(named) >= 12
    for table in named:
        assert (ROOT / str(table.source)).exists()
    for table in figures:
        assert table.source or table.columns[0] in DERIVED, table.columns


def test_memory() -> None:
    table = found(("pixels", "opened"), "memory")
    rows = read(table)
    for cells in table.rows:
        at = (rows["what"] == "train") & (rows["size"] == int(cells[0]))
        (row,) = rows[at & (rows["photographs"] == 16_643)].to_dict("records")
        columns = ("mapped", "peak", "anonymous_peak", "file_peak", "file_after")
        for printed, column in zip(cells[1:], columns, strict=True):
            assert_rounded(printed, row[column] / 1e6, f"{cells[0]} {column}")


def test_inference() -> None:
    table = found(("seeds", "tables with a false verdict"), "inference")
    rows = read(table).set_index("seeds")
    for cells in table.rows:
        columns = ("false_alarms", "power_among", "t", "percentile", "BCa", "expanded")
        for printed, column in zip(cells[1:], columns, strict=True):
            share: Any = rows.loc[int(cells[0]), column]
            assert_rounded(printed, 100 * share, f"{cells[0]} {column}")


def test_workers_of_one_database() -> None:
    both = [table for table in TABLES if table.columns[0] == "workers"]
    for table, part in zip(both, ("bare", "real"), strict=True):
        rows = read(table)
        rates = rows[rows["part"] == part].set_index(["database", "workers"])["rate"]
        for database, *cells in table.rows:
            for workers, printed in zip(table.columns[1:], cells, strict=True):
                value = rates[database.lower(), int(workers)]
                assert_rounded(printed, value, f"{part}, {database}, {workers}")


def test_what_one_trial_costs() -> None:
    table = found(("rows", "claim"), "scaling")
    rows = read(table)
    grown = rows[rows["part"] == "grown"].set_index(["database", "rows"])
    database = ""
    for first, *cells in table.rows:
        count, _, named = first.partition(", ")
        database = named.lower() or database
        row: Any = grown.loc[(database, int(count.replace(",", "")))]
        for printed, column in zip(
            cells, ("claim", "look", "random", "tpe", "epoch", "end", "join"), strict=True
        ):
            factor = 1 if column == "join" else 1000
            assert_rounded(printed, factor * row[column], f"{first}, {column}")


SHORT: dict[str, Callable[[float], float]] = {"M": lambda x: x / 1e6, "k": lambda x: x / 1e3}
ARMS = [
    table
    for table in (*TABLES, *tables((ROOT / "docs" / "results.md").read_text()))
    if table.columns[0] == "arm" and "seeds" in table.columns
]


def test_there_are_arms() -> None:
    assert len(ARMS) >= 12
    assert len({table.source for table in ARMS}) == len(ARMS)
    source = re.compile(rf"{RESULTS}/2026-11-\d\d-ablation-")
    assert all(table.source and source.match(table.source) for table in ARMS)


@pytest.mark.parametrize("table", ARMS, ids=lambda table: str(table.source)[45:-24])
def test_arms(table: Table) -> None:
    rows = read(table)
    rows["value"] = pd.to_numeric(rows["value"])
    for cells in table.rows:
        said = dict(zip(table.columns, cells, strict=True))
        arm = rows[rows["params_arm"] == said["arm"]]
        assert int(said["seeds"]) == len(arm)
        mean, spread = said["accuracy, %"].split(" ± ")
        assert_rounded(mean, 100 * arm["value"].mean(), said["arm"])
        assert_rounded(spread, 100 * arm["value"].std(), said["arm"])
        if "test, %" in said:
            mean, spread = said["test, %"].split(" ± ")
            assert_rounded(mean, 100 * arm["test"].mean(), said["arm"])
            assert_rounded(spread, 100 * arm["test"].std(), said["arm"])
        for column in ("bytes", "params"):
            assert_rounded(said[column], arm[column].iloc[0], f"{said['arm']}, {column}")
        macs = said["MACs"]
        assert_rounded(macs, SHORT[macs[-1]](arm["macs"].iloc[0]), f"{said['arm']}, MACs")
