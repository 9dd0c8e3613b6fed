"""The study database as pandas tables: set-based SQL, no torch, no trial-by-trial reading.

One row a trial, by number:

    number, state, value, started, completed     as Optuna keeps them (naive UTC)
    architecture ... trained_as                   as in `search.database.row.Row`
    block, groups, se, depth, width               the architecture in five values
    params_<name>                                 what the sampler chose, or the plan of an
                                                  ablation: arm, seed, the factors' levels

Columns that a study's trials lack (a study by another program, say) are there and empty. A
trial's `confusion` and the like are no columns, but read alone: `trial_attribute`.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import sqlalchemy as sa

from search.database import queries
from search.database.goal import ACCURACY, Goal, order_key
from search.database.row import COLUMNS, is_kind, originals, summaries

BASE_COLUMNS = ("number", "state", "value", "started", "completed")


def ours(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """A study's attributes; none of another program's, which may say anything by our names."""
    spec = attributes.get("spec")
    known = isinstance(spec, dict) and (spec.get("kind") == "ablation" or "space" in spec)
    return dict(attributes) if known else {}


def spec_of(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """What a study says of itself; {} where it is another program's.

    Args:
        attributes: as `ours` tells them.
    """
    return dict(attributes.get("spec", {}))


def shown_budget(spec: Mapping[str, Any]) -> Any:
    """A study's budget for people: its format is each that a trial may have."""
    budget, formats = spec.get("budget"), spec.get("ranges", {}).get("format")
    return budget | {"format": " or ".join(formats)} if budget and formats else budget


def goal(engine: sa.Engine, name: str, spec: Mapping[str, Any]) -> Goal:
    """What a study's value is.

    Args:
        spec: as `spec_of` tells it.
    """
    with queries.connection(engine) as connection:
        directions = queries.directions(connection, queries.study_id(connection, name))
    return Goal.of(directions, ours=bool(spec))


def trials(
    engine: sa.Engine,
    name: str,
    columns: Sequence[str] = COLUMNS,
    *,
    with_params: bool = True,
    since: int = 0,
    until: int | None = None,
) -> pd.DataFrame:
    """One row a trial of the study, by number; columns as at the head of this file.

    Args:
        columns: of `search.database.row.COLUMNS`.
        since: the first trial that is read.
        until: the last; None reads all.

    Raises:
        InputError: no such study, or tables of another schema.
    """
    span = queries.Span(since, queries.EVERY if until is None else until)
    with queries.connection(engine) as connection:
        study = queries.study_id(connection, name)
        table = queries.read(
            connection,
            "SELECT trial_id, number, state, datetime_start AS started,"
            " datetime_complete AS completed FROM trials"
            " WHERE study_id = :study AND number BETWEEN :first AND :last ORDER BY number",
            study=study,
            **span._asdict(),
        ).set_index("trial_id")
        table["value"] = queries.values(connection, study, span)
        known = queries.attributes(connection, study, columns, span)
        for column in set(columns) & set(known):
            known[column] = [v if is_kind(column, v) else None for v in known[column]]
        params = queries.params(connection, study, span) if with_params else pd.DataFrame()
    for column in ("started", "completed"):
        table[column] = pd.to_datetime(table[column], format="ISO8601")  # whole seconds have no dot
    table = table[list(BASE_COLUMNS)].join(known.reindex(columns=list(columns)))
    table = table.join(params).reset_index(drop=True)
    if "summary" not in columns:
        return table
    parts = summaries(table["summary"], table["words"])
    return pd.concat([table.drop(columns="summary"), parts], axis=1)


def curves(engine: sa.Engine, name: str, numbers: Sequence[int]) -> pd.DataFrame:
    """Learning curves as they were reported: number, epoch (from 1), accuracy; also of trials
    that are still running."""
    with queries.connection(engine) as connection:
        wanted = _wanted(connection, name, numbers)
        found = queries.intermediate(connection, wanted.index.tolist())
    found["number"] = found["trial_id"].map(wanted)
    return found[["number", "epoch", "accuracy"]].sort_values(["number", "epoch"])


def trial_attribute(engine: sa.Engine, name: str, number: int, key: str) -> Any:
    """One attribute of one trial; None where it has none."""
    with queries.connection(engine) as connection:
        found = queries.read(
            connection,
            "SELECT value_json FROM trial_user_attributes a JOIN trials t"
            " ON t.trial_id = a.trial_id"
            " WHERE t.study_id = :study AND t.number = :number AND a.key = :key",
            study=queries.study_id(connection, name),
            number=number,
            key=key,
        )
    return json.loads(found["value_json"].iloc[0]) if len(found) else None


def version(engine: sa.Engine, name: str) -> str:
    """Changes whenever a trial begins, reports an epoch or ends, or the study is told more.

    Cheap, to be asked every second: a finished trial does not change.
    """
    with queries.connection(engine) as connection:
        study = queries.study_id(connection, name)
        states = queries.read(
            connection,
            "SELECT state, COUNT(*) AS trials, MAX(datetime_complete) AS last FROM trials"
            " WHERE study_id = :study GROUP BY state ORDER BY state",
            study=study,
        )
        epochs = queries.read(
            connection,
            "SELECT COUNT(*) AS epochs FROM trial_intermediate_values WHERE trial_id IN"
            " (SELECT trial_id FROM trials WHERE study_id = :study AND state = 'RUNNING')",
            study=study,
        )
        told = queries.read(
            connection,
            "SELECT COUNT(*) AS told FROM study_user_attributes WHERE study_id = :study",
            study=study,
        )
    parts = (states, epochs, told)
    return "".join(part.to_csv(header=False, index=False) for part in parts)


def _wanted(connection: sa.Connection, name: str, numbers: Sequence[int]) -> pd.Series:
    """Trial ids -> numbers, of some trials of a study."""
    study = queries.study_id(connection, name)
    found = queries.read(
        connection, "SELECT trial_id, number FROM trials WHERE study_id = :study", study=study
    )
    known = found.set_index("trial_id")["number"]
    return known[known.isin(numbers)]


def attributes(engine: sa.Engine, name: str) -> dict[str, Any]:
    """A study's user attributes, its spec among them; {} of another program's."""
    with queries.connection(engine) as connection:
        found = queries.read(
            connection,
            "SELECT key, value_json FROM study_user_attributes WHERE study_id = :study",
            study=queries.study_id(connection, name),
        )
    return ours(dict(zip(found["key"], map(json.loads, found["value_json"]), strict=True)))


def best_first(table: pd.DataFrame, goal: Goal = ACCURACY) -> pd.DataFrame:
    """Trials by `order_key`; those without a value last, and of equals those without a size."""
    keys = order_key(goal.worth(table["value"]), table["bytes"], table["number"])
    order = pd.concat([pd.to_numeric(key, errors="coerce") for key in keys], axis=1)
    order.columns = pd.RangeIndex(len(keys))
    found: pd.DataFrame = table.loc[order.sort_values(list(order.columns)).index]
    return found


def students(table: pd.DataFrame) -> Iterator[tuple[int, str, float]]:
    """Number, words and bytes of each trial, as `search.study.ranking.ranked` takes them."""
    return table[["number", "words", "bytes"]].itertuples(index=False, name=None)


def best(table: pd.DataFrame, count: int, goal: Goal = ACCURACY) -> pd.DataFrame:
    """The best students, best first; each network once."""
    done = originals(table[table["state"] == "COMPLETE"])
    return best_first(done[np.isfinite(done["value"].astype(float))], goal).head(count)
