"""The table of all trials, answered piece by piece: sorted and filtered on the server.

What the browser's table asks is not trusted: columns come from a list, values are compared, never
evaluated, and what is not understood changes nothing.
"""

from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd

COLUMNS = ("number", "state", "value", "bytes", "params", "macs", "epochs", "seconds", "words")
MOST_ROWS = 500  # in one answer

Test = Callable[[pd.Series, Any, Any], pd.Series]

NUMBER_TESTS: Mapping[str, Test] = {
    "equals": lambda column, a, b: column == a,
    "notEqual": lambda column, a, b: column != a,
    "greaterThan": lambda column, a, b: column > a,
    "greaterThanOrEqual": lambda column, a, b: column >= a,
    "lessThan": lambda column, a, b: column < a,
    "lessThanOrEqual": lambda column, a, b: column <= a,
    "inRange": lambda column, a, b: (column > a) & (column < b),
    "blank": lambda column, a, b: column.isna(),
    "notBlank": lambda column, a, b: column.notna(),
}
TEXT_TESTS: Mapping[str, Test] = {
    "contains": lambda column, a, b: column.str.contains(a, case=False, regex=False),
    "notContains": lambda column, a, b: ~column.str.contains(a, case=False, regex=False),
    "equals": lambda column, a, b: column.str.lower() == a.lower(),
    "notEqual": lambda column, a, b: column.str.lower() != a.lower(),
    "startsWith": lambda column, a, b: column.str.lower().str.startswith(a.lower()),
    "endsWith": lambda column, a, b: column.str.lower().str.endswith(a.lower()),
    "blank": lambda column, a, b: column == "",
    "notBlank": lambda column, a, b: column != "",
}


def answer(trials: pd.DataFrame, request: Mapping[str, Any]) -> dict[str, Any]:
    """Rows startRow to endRow of the trials as AG Grid's request sorts and filters them."""
    found = trials[list(COLUMNS)]
    filters = request.get("filterModel")
    for column, model in filters.items() if isinstance(filters, Mapping) else ():
        if column in COLUMNS and isinstance(model, Mapping):
            found = found[_passes(pd.Series(found[column]), model)]
    found = _sorted(found, request.get("sortModel"))
    first = _whole(request.get("startRow"), 0)
    last = min(_whole(request.get("endRow"), first + MOST_ROWS), first + MOST_ROWS)
    part = found.iloc[first:last]
    return {"rowData": [_row(row) for row in part.to_dict("records")], "rowCount": len(found)}


def _passes(column: pd.Series, model: Mapping[str, Any]) -> pd.Series:
    """One condition, or several joined by AND or OR."""
    conditions = model.get("conditions")
    if isinstance(conditions, list):
        found = [_passes(column, part) for part in conditions if isinstance(part, Mapping)]
        joined = pd.concat(found, axis=1) if found else None
        if joined is None:
            return pd.Series(True, index=column.index)
        return joined.any(axis=1) if model.get("operator") == "OR" else joined.all(axis=1)
    is_text = column.name in ("state", "words")
    tests = TEXT_TESTS if is_text else NUMBER_TESTS
    test, wanted = tests.get(str(model.get("type"))), model.get("filter")
    kind = str if is_text else int | float
    unary = model.get("type") in ("blank", "notBlank")
    if test is None or not (unary or isinstance(wanted, kind)):
        return pd.Series(True, index=column.index)
    other = model.get("filterTo")
    values = column.fillna("").astype(str) if is_text else column
    return test(values, wanted, other if isinstance(other, int | float) else float("inf"))


def _sorted(trials: pd.DataFrame, models: Any) -> pd.DataFrame:
    """Stable, by several columns; what is missing stands last."""
    known = [
        (model["colId"], model.get("sort") != "desc")
        for model in (models if isinstance(models, list) else [])
        if isinstance(model, Mapping) and model.get("colId") in COLUMNS
    ]
    if not known:
        return trials
    columns, rising = zip(*known, strict=True)
    return trials.sort_values(list(columns), ascending=list(rising), kind="stable")


def _row(row: Mapping[Any, Any]) -> dict[str, Any]:
    """JSON has no NaN; a state is written as people read it."""
    plain = {str(name): None if pd.isna(value) else value for name, value in row.items()}
    return plain | {"state": str(row["state"]).lower()}


def _whole(value: Any, otherwise: int) -> int:
    return value if isinstance(value, int) and value >= 0 else otherwise
