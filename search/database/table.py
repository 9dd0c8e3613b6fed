"""The study database as pandas tables: set-based SQL, no torch, no trial-by-trial reading.

The only place that names columns. One row a trial:

    number, state, value, started, completed     as Optuna keeps them (naive UTC)
    architecture, words, fingerprint              what was trained
    params, macs, activation_peak, bytes          exact counts; bytes of the stored file
    format                                        of that file; absent in older studies
    budget_share, repairs                         of the solver
    file_accuracy, network_accuracy               validation; of the file; before storing
    accuracies, losses                            lists, one value an epoch
    epochs, seconds, device, micro_batch          of training
    mode, fallback                                how its steps were computed; why not as graphs
    ended, reason, duplicate_of                   why it ended as it did
    trained_as                                    the trial whose network this one stores
    params_<name>                                 what the sampler chose, or the plan of an
                                                  ablation: arm, seed, the factors' levels

Columns that a study's trials lack (a study by another program, say) are there and empty. A
trial's `confusion` (validation images, true class by predicted class) is no column, but read alone.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pandas as pd
import sqlalchemy as sa

from search.database import queries
from search.database.goal import ACCURACY, Goal, order_key

BASE_COLUMNS = ("number", "state", "value", "started", "completed")


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < LARGEST  # a truth value is none


def _is_curve(value: Any) -> bool:
    return isinstance(value, list) and all(type(part) in (int, float) for part in value)


def _is_list_of_text(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(part, str) for part in value)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_table(value: Any) -> bool:
    return isinstance(value, dict)


LARGEST = 2**63
# Another program's trials may hold anything by these names: what is of another kind is left out.
ATTRIBUTE_COLUMNS: Mapping[str, Callable[[Any], bool]] = {
    "architecture": _is_table,
    "words": _is_text,
    "fingerprint": _is_text,
    "params": _is_number,
    "macs": _is_number,
    "activation_peak": _is_number,
    "bytes": _is_number,
    "format": _is_text,
    "budget_share": _is_number,
    "repairs": _is_list_of_text,
    "file_accuracy": _is_number,
    "network_accuracy": _is_number,
    "accuracies": _is_curve,
    "losses": _is_curve,
    "epochs": _is_number,
    "seconds": _is_number,
    "device": _is_text,
    "micro_batch": _is_number,
    "mode": _is_text,
    "fallback": _is_text,
    "ended": _is_text,
    "reason": _is_text,
    "duplicate_of": _is_number,
    "trained_as": _is_number,
}
# What a chart of all trials needs: numbers and words; the rest is long, or asked for one by one.
OVERVIEW_COLUMNS = (
    *("words", "params", "macs", "bytes", "budget_share", "network_accuracy", "seconds", "epochs"),
    *("reason", "duplicate_of"),
)


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
    columns: Sequence[str] = tuple(ATTRIBUTE_COLUMNS),
    *,
    with_params: bool = True,
    since: int = 0,
    until: int | None = None,
) -> pd.DataFrame:
    """One row a trial of the study, by number; columns as at the head of this file.

    Args:
        columns: of ATTRIBUTE_COLUMNS.
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
            is_one = ATTRIBUTE_COLUMNS[column]
            known[column] = [value if is_one(value) else None for value in known[column]]
        params = queries.params(connection, study, span) if with_params else pd.DataFrame()
    for column in ("started", "completed"):
        table[column] = pd.to_datetime(table[column], format="ISO8601")  # whole seconds have no dot
    table = table[list(BASE_COLUMNS)].join(known.reindex(columns=list(columns)))
    return table.join(params).reset_index(drop=True)


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
    order.columns = range(len(keys))
    found: pd.DataFrame = table.loc[order.sort_values(list(order)).index]
    return found


def students(table: pd.DataFrame) -> Iterator[tuple[int, str, float]]:
    """Number, words and bytes of each trial, as `search.study.ranking.ranked` takes them."""
    return table[["number", "words", "bytes"]].itertuples(index=False, name=None)


def best(table: pd.DataFrame, count: int, goal: Goal = ACCURACY) -> pd.DataFrame:
    """The best students, first the best; a network that came twice is there once."""
    done = table[(table["state"] == "COMPLETE") & table["duplicate_of"].isna()]
    return best_first(done, goal).head(count)
