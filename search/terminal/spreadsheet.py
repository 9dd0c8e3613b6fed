"""Tables as CSV: what a spreadsheet would take for a formula is marked as text."""

import csv
from typing import TextIO

import pandas as pd

FORMULA = ("=", "+", "-", "@")  # how one begins


def write_csv(frame: pd.DataFrame, out: TextIO) -> None:
    """The columns' names and one line a row; a missing value is an empty cell."""
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(map(_cell, frame.columns))
    writer.writerows(map(_cell, row) for row in frame.to_numpy(dtype=object).tolist())


def _cell(value: object) -> object:
    if value is None or value != value:  # NaN and NaT
        return ""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value
