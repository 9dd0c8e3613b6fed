"""The table of all trials: sorted and filtered on the server, sent a few rows at a time.

The browser's request is not trusted: columns come from a list, values are compared, never
evaluated, and conditions that are not understood are ignored.
"""

from collections.abc import Callable, Hashable, Mapping
from math import inf

import pandas as pd

COLUMNS = (
    *("number", "state", "value", "size", "bytes", "params", "macs"),
    *("epochs", "seconds", "words"),
)
TEXTS = ("state", "words")  # of them; the others are numbers
UNARY = ("blank", "notBlank")  # tests that compare with nothing
MOST_ROWS = 500  # in one answer

NUMBER_TESTS: Mapping[str, Callable[[pd.Series, float, float], pd.Series]] = {
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
TEXT_TESTS: Mapping[str, Callable[[pd.Series, str], pd.Series]] = {
    "contains": lambda column, a: column.str.contains(a, case=False, regex=False),
    "notContains": lambda column, a: ~column.str.contains(a, case=False, regex=False),
    "equals": lambda column, a: column.str.lower() == a.lower(),
    "notEqual": lambda column, a: column.str.lower() != a.lower(),
    "startsWith": lambda column, a: column.str.lower().str.startswith(a.lower()),
    "endsWith": lambda column, a: column.str.lower().str.endswith(a.lower()),
    "blank": lambda column, a: column == "",
    "notBlank": lambda column, a: column != "",
}


def answer(trials: pd.DataFrame, request: Mapping[str, object]) -> dict[str, object]:
    """AG Grid's answer: rows startRow to endRow, sorted and filtered as its request says."""
    found = trials[list(COLUMNS)]
    filters = request.get("filterModel")
    for column, model in filters.items() if isinstance(filters, Mapping) else ():
        if column in COLUMNS and isinstance(model, Mapping):
            found = found[_passes(pd.Series(found[column]), model)]
    found = _sorted(found, request.get("sortModel"))
    first = _whole(request.get("startRow"), 0)
    last = min(_whole(request.get("endRow"), first + MOST_ROWS), first + MOST_ROWS)
    return {"rowData": _rows(found.iloc[first:last]), "rowCount": len(found)}


def _passes(column: pd.Series, model: Mapping[str, object]) -> pd.Series:
    """One condition, or several joined by AND or OR."""
    conditions = model.get("conditions")
    if isinstance(conditions, list):
        found = [_passes(column, part) for part in conditions if isinstance(part, Mapping)]
        joined = pd.concat(found, axis=1) if found else None
        if joined is None:
            return pd.Series(True, index=column.index)
        return joined.any(axis=1) if model.get("operator") == "OR" else joined.all(axis=1)
    name, wanted = str(model.get("type")), model.get("filter")
    if name in UNARY:
        wanted = "" if column.name in TEXTS else 0
    if column.name in TEXTS and name in TEXT_TESTS and isinstance(wanted, str):
        return TEXT_TESTS[name](column.fillna("").astype(str), wanted)
    if column.name not in TEXTS and name in NUMBER_TESTS and isinstance(wanted, int | float):
        other = model.get("filterTo")
        return NUMBER_TESTS[name](column, wanted, other if isinstance(other, int | float) else inf)
    return pd.Series(True, index=column.index)  # a condition that is not understood


def _sorted(trials: pd.DataFrame, models: object) -> pd.DataFrame:
    """Trials sorted by several columns; missing values last."""
    known = [
        (model["colId"], model.get("sort") != "desc")
        for model in (models if isinstance(models, list) else [])
        if isinstance(model, Mapping) and model.get("colId") in COLUMNS
    ]
    if not known:
        return trials
    columns, rising = zip(*known, strict=True)
    return trials.sort_values(list(columns), ascending=list(rising), kind="stable")


def _rows(trials: pd.DataFrame) -> list[dict[Hashable, object]]:
    """Rows for JSON, which has no NaN; states in lower case."""
    plain = trials.astype(object).where(trials.notna(), None)
    return plain.assign(state=trials["state"].str.lower()).to_dict("records")


def _whole(value: object, otherwise: int) -> int:
    return value if isinstance(value, int) and value >= 0 else otherwise
