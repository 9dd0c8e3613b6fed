"""The study database's tables as pandas reads them: set-based SQL on Optuna's schema."""

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import pandas as pd
import sqlalchemy as sa

from space.errors import InputError

SCHEMA = 12  # of Optuna's tables
EVERY = 2**31 - 1  # no trial's number is larger
CHOSEN = "param_name, param_value, distribution_json"  # columns of parameters
OF_STUDY = "SELECT trial_id FROM trials WHERE study_id = :study AND number BETWEEN :first AND :last"
PART = 500  # trials per query: databases limit how many it may name


class Span(NamedTuple):
    """Numbers of trials, both ends included."""

    first: int = 0
    last: int = EVERY


@contextmanager
def connection(engine: sa.Engine) -> Iterator[sa.Connection]:
    with engine.connect() as connection:
        if not sa.inspect(connection).has_table("version_info"):
            raise InputError(
                f"{engine.url.render_as_string(hide_password=True)} holds no studies; "
                "begin with: distilnas search"
            )
        version = connection.execute(sa.text("SELECT schema_version FROM version_info")).scalar()
        if version != SCHEMA:
            raise InputError(
                f"the study database must have Optuna's schema {SCHEMA}, but has {version}; "
                "bring it up to date: optuna storage upgrade --storage URL"
            )
        yield connection


def study_id(connection: sa.Connection, name: str) -> int:
    rows = read(connection, "SELECT study_id, study_name FROM studies")
    found = rows.loc[rows["study_name"] == name, "study_id"]
    if found.empty:
        known = ", ".join(rows["study_name"].head(8)) or "none"
        raise InputError(f"no study is named {name!r} in this database; there are: {known}")
    return int(found.iloc[0])


def directions(connection: sa.Connection, study: int) -> list[str]:
    """MAXIMIZE or MINIMIZE, one per objective."""
    found = read(
        connection,
        "SELECT direction FROM study_directions WHERE study_id = :study ORDER BY objective",
        study=study,
    )
    return list(found["direction"])


def read(connection: sa.Connection, query: str, **params: str | int) -> pd.DataFrame:
    return pd.read_sql(sa.text(query), connection, params=params)


def values(connection: sa.Connection, study: int, span: Span) -> pd.Series:
    """Trial id -> the value of its (first) objective; NaN for none."""
    found = of_trials(connection, "trial_values", "objective, value, value_type", study, span)
    found = found[found["objective"] == 0]
    return pd.Series(
        list(map(number, found["value"], found["value_type"])),
        index=found["trial_id"],
        dtype=float,
    )


def attributes(
    connection: sa.Connection, study: int, keys: Sequence[str], span: Span
) -> pd.DataFrame:
    """Trial id -> the named user attributes, a column each; of trials that have any.

    The database itself makes one row per trial: a row per attribute would take twice as long.
    """
    named = {f"key{place}": key for place, key in enumerate(keys)}
    columns = "".join(f", MAX(CASE WHEN key = :{name} THEN value_json END)" for name in named)
    query = sa.text(
        f"SELECT trial_id{columns} FROM trial_user_attributes"
        f" WHERE trial_id IN ({OF_STUDY}) AND key IN :keys GROUP BY trial_id"
    ).bindparams(sa.bindparam("keys", list(keys), expanding=True))
    found = connection.execute(query, {"study": study, **span._asdict(), **named}).all()
    trial_ids, *texts = zip(*found, strict=True) if found else [()] * (1 + len(keys))
    told = {key: parsed(column) for key, column in zip(keys, texts, strict=True) if any(column)}
    return pd.DataFrame(told, index=list(trial_ids))


def parsed(texts: Iterable[str | None]) -> list[object]:
    """The values of JSON texts, parsed as one text: that takes a third of the time."""
    found: list[object] = json.loads(f"[{','.join(text or 'null' for text in texts)}]")
    return found


def params(connection: sa.Connection, study: int, span: Span) -> pd.DataFrame:
    """Trial id -> parameters as they were chosen, a column `params_<name>` each."""
    found = of_trials(connection, "trial_params", CHOSEN, study, span)
    return wide(found["trial_id"], "params_" + found["param_name"], choices(found))


def intermediate(connection: sa.Connection, trial_ids: Sequence[int]) -> pd.DataFrame:
    """What these trials reported: columns trial_id, epoch, accuracy."""
    columns = "step, intermediate_value AS value, intermediate_value_type AS kind"
    found = of_some(connection, "trial_intermediate_values", columns, trial_ids)
    return pd.DataFrame(
        {
            "trial_id": found["trial_id"],
            "epoch": found["step"],
            "accuracy": list(map(number, found["value"], found["kind"])),
        }
    )


def attribute_of(connection: sa.Connection, trial_ids: Sequence[int], key: str) -> pd.Series:
    """Trial id -> one attribute of some trials of whatever study."""
    found = of_some(connection, "trial_user_attributes", "key, value_json", trial_ids)
    found = found[found["key"] == key]
    return pd.Series(parsed(found["value_json"]), index=found["trial_id"])


def of_some(
    connection: sa.Connection, source: str, columns: str, trial_ids: Sequence[int]
) -> pd.DataFrame:
    """A table's rows of some trials."""
    query = sa.text(f"SELECT trial_id, {columns} FROM {source} WHERE trial_id IN :trials")
    query = query.bindparams(sa.bindparam("trials", expanding=True))
    parts = [
        pd.read_sql(query, connection, params={"trials": list(trial_ids[begin : begin + PART])})
        for begin in range(0, max(1, len(trial_ids)), PART)
    ]
    return pd.concat(parts)


def of_trials(
    connection: sa.Connection, source: str, columns: str, study: int, span: Span
) -> pd.DataFrame:
    """A table's rows of the trials of one study whose numbers are in the span."""
    query = f"SELECT trial_id, {columns} FROM {source} WHERE trial_id IN ({OF_STUDY})"
    return read(connection, query, study=study, **span._asdict())


def wide(trial_ids: pd.Series, names: pd.Series, values: Iterable[object]) -> pd.DataFrame:
    """(trial, name, value) triples -> one row a trial, one column a name."""
    columns: dict[str, dict[int, object]] = {}
    for trial_id, name, value in zip(trial_ids.tolist(), names.tolist(), values, strict=True):
        columns.setdefault(name, {})[trial_id] = value
    return pd.DataFrame(
        {name: pd.Series(column, dtype=None) for name, column in sorted(columns.items())}
    )


def choices(chosen: pd.DataFrame) -> Iterator[object]:
    """The chosen values: of a categorical, the database holds only the index of the choice."""
    parsed = {text: json.loads(text) for text in chosen["distribution_json"].unique()}
    for value, text in zip(chosen["param_value"], chosen["distribution_json"], strict=True):
        distribution = parsed[text]
        if distribution["name"] == "CategoricalDistribution":
            yield distribution["attributes"]["choices"][int(value)]
        else:
            yield int(value) if distribution["name"] == "IntDistribution" else value


def number(value: float | None, kind: str) -> float:
    """A stored value with its kind: Optuna stores NaN and infinities by name."""
    special = {"INF_POS": math.inf, "INF_NEG": -math.inf, "NAN": math.nan}
    return special.get(kind, math.nan if value is None else value)
