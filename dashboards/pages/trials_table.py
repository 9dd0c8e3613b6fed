"""The table of all trials, answered piece by piece: sorted and filtered on the server.

What the browser's table asks is not trusted: columns come from a list, values are compared, never
evaluated, and what is not understood changes nothing.
"""

from collections.abc import Callable, Hashable, Mapping
from math import inf

import pandas as pd

COLUMNS = ("number", "state", "value", "bytes", "params", "macs", "epochs", "seconds", "words")
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
    """Rows startRow to endRow of the trials as AG Grid's request sorts and filters them."""
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
    return pd.Series(True, index=column.index)  # it is not understood


def _sorted(trials: pd.DataFrame, models: object) -> pd.DataFrame:
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


def _rows(trials: pd.DataFrame) -> list[dict[Hashable, object]]:
    """JSON has no NaN; a state is written as people read it."""
    plain = trials.astype(object).where(trials.notna(), None)
    return plain.assign(state=trials["state"].str.lower()).to_dict("records")


def _whole(value: object, otherwise: int) -> int:
    return value if isinstance(value, int) and value >= 0 else otherwise
