"""Every table of figures in README says the numbers of the CSV file that it names."""

import csv
import re
from collections.abc import Callable
from typing import NamedTuple

import pytest
from commands import ROOT

RESULTS = "benchmarks/results"
LINK = re.compile(rf"\[[^\]]*\]\((?:\.\./)?({RESULTS}/[^)]+\.csv)\)")
Row = dict[str, str]


class Table(NamedTuple):
    columns: list[str]
    rows: list[list[str]]
    source: str | None  # the CSV file that the lines after it name


def tables(page: str) -> list[Table]:
    """A page's tables; the file that is named within three lines of a table's end is its source."""
    found, lines = [], page.splitlines()
    begin = 0
    for end in range(len(lines) + 1):
        inside = end < len(lines) and lines[end].startswith("|")
        if inside and (end == 0 or not lines[end - 1].startswith("|")):
            begin = end
        if not inside and end and lines[end - 1].startswith("|"):
            cells = [
                [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip("|"))]
                for line in lines[begin:end]
            ]
            named = LINK.search("\n".join(lines[end : end + 4]))
            found.append(Table(cells[0], cells[2:], named[1] if named else None))
    return found


README = tables((ROOT / "README.md").read_text())


def rows_of(table: Table) -> list[Row]:
    assert table.source is not None
    with (ROOT / table.source).open() as file:
        return list(csv.DictReader(file))


def number(text: str) -> tuple[float, int]:
    """The first number of a cell, and its decimals."""
    match = re.search(r"-?\d[\d,]*(?:\.(\d+))?", text)
    assert match, text
    return float(match[0].replace(",", "")), len(match[1] or "")


def assert_rounded(printed: str, value: float, where: str) -> None:
    shown, decimals = number(printed)
    assert abs(shown - value) <= 0.5 * 10**-decimals + 1e-9, f"{where}: {printed}, but {value}"


def values(*columns: tuple[str, float]) -> Callable[[Row], list[float | None]]:
    """Cells of a CSV row, each times a factor; None where it is empty."""
    return lambda row: [
        float(row[name]) * factor if row[name] else None for name, factor in columns
    ]


class Figures(NamedTuple):
    """How a table's rows are found in its file, and what their cells say."""

    key: Callable[[list[str]], Row]  # a row's cells -> what its row in the file has
    first: int  # column of the first figure
    values: Callable[[Row], list[float | None]]


ARMS = {
    "Optuna around a `DataLoader`, NCHW, fp32": "untuned",
    "the same, tuned: channels_last, bf16": "plain",
    "torchdistill 1.1.5, tuned likewise": "torchdistill",
    "DistilNAS, two students at once": "ours",
}
PARTS = {
    "the bank (a live teacher)": "live teacher",
    "channels_last": "contiguous layout",
    "photographs decoded once": "every batch decoded",
    "views made in batches": "views one by one",
    "bf16": "fp32",
}
FIGURES = {
    "dashboard": Figures(
        lambda cells: {"trials": cells[0].replace(",", "")},
        1,
        values(("first_plot", 1), ("filter", 1), ("poll", 1000), ("optuna_dashboard", 1)),
    ),
    "solver": Figures(
        lambda cells: {"budget": cells[0], "space": cells[1]},
        2,
        values(("share_p1", 1), ("share_p50", 1), ("full", 100), ("ms_p50", 1), ("ms_p99", 1)),
    ),
    "throughput": Figures(
        lambda cells: {"arm": ARMS[cells[0]]},
        1,
        values(
            ("seconds", 1),
            ("trials_per_hour", 1),
            ("ms_per_image", 1),
            ("ratio", 1),
            ("accuracy_mean", 100),
        ),
    ),
}


def kind(source: str) -> str:
    """`throughput` of `.../2026-11-25-throughput-torch2.14.1-cpu-2.csv`."""
    match = re.fullmatch(r"\d{4}-\d\d-\d\d-(.+)-torch.*", source.rpartition("/")[2])
    assert match, source
    return match[1]


def is_of_figures(table: Table) -> bool:
    return any(re.match(r"^[\d,.]+( |$)", cell) for row in table.rows for cell in row[1:])


def test_every_table_of_figures_names_its_file() -> None:
    figures = [table for table in README if is_of_figures(table)]
    assert len(figures) >= 4
    for table in figures:
        assert table.source is not None, table.columns
        assert (ROOT / table.source).exists()


@pytest.mark.parametrize("name", FIGURES)
def test_figures_are_those_of_the_file(name: str) -> None:
    (table,) = [table for table in README if table.source and kind(table.source) == name]
    how, rows = FIGURES[name], rows_of(table)
    for cells in table.rows:
        wanted = how.key(cells).items()
        (row,) = [row for row in rows if wanted <= row.items()]
        for printed, value, column in zip(
            cells[how.first :], how.values(row), table.columns[how.first :], strict=True
        ):
            where = f"{table.source}: {cells[0]}, {column}"
            if not printed or "another run" in printed:
                continue
            assert value is not None, where
            assert_rounded(printed, value, where)


def test_what_each_part_is_worth() -> None:
    (table,) = [table for table in README if table.columns[0] == "switched off"]
    rows = {row["arm"]: float(row["ms_per_image"]) for row in rows_of(table)}
    for part, printed in table.rows:
        with_it, without = "full, one at a time", PARTS.get(part, "")
        if part == "two students side by side":
            with_it, without = "with files, 2 side by side", "with files, one at a time"
        assert_rounded(printed, rows[with_it] / rows[without], part)
