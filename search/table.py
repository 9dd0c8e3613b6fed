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

Columns that a study's trials lack (a study by another program, say) are there and empty.
"""

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pandas as pd
import sqlalchemy as sa

from space.errors import InputError

SCHEMA = 12  # of Optuna's tables
BASE_COLUMNS = ("number", "state", "value", "started", "completed")
ATTRIBUTE_COLUMNS = (
    "architecture",
    "words",
    "fingerprint",
    "params",
    "macs",
    "activation_peak",
    "bytes",
    "format",
    "budget_share",
    "repairs",
    "file_accuracy",
    "network_accuracy",
    "accuracies",
    "losses",
    "epochs",
    "seconds",
    "device",
    "micro_batch",
    "mode",
    "fallback",
    "ended",
    "reason",
    "duplicate_of",
    "trained_as",
)
STUDY_COLUMNS = (
    "name",
    "space",
    "budget",
    "trials",
    "complete",
    "pruned",
    "failed",
    "running",
    "best",
    "last_activity",
)


def studies(engine: sa.Engine) -> pd.DataFrame:
    """One row a study: counts by state, best value, last activity."""
    with _connection(engine) as connection:
        named = _read(connection, "SELECT study_id, study_name AS name FROM studies")
        states = _read(
            connection,
            "SELECT study_id, state, COUNT(*) AS count, MAX(datetime_complete) AS completed,"
            " MAX(datetime_start) AS started FROM trials GROUP BY study_id, state",
        )
        best = _read(
            connection,
            "SELECT t.study_id, MAX(v.value) AS best FROM trials t JOIN trial_values v"
            " ON v.trial_id = t.trial_id WHERE t.state = 'COMPLETE' AND v.objective = 0"
            " GROUP BY t.study_id",
        )
        specs = _read(
            connection,
            "SELECT study_id, value_json FROM study_user_attributes WHERE key = 'spec'",
        )
    counts = states.pivot(index="study_id", columns="state", values="count").fillna(0)
    counts = counts.reindex(columns=["COMPLETE", "PRUNED", "FAIL", "RUNNING", "WAITING"])
    counts = counts.fillna(0).astype(int)
    table = named.set_index("study_id")
    table["trials"] = counts.sum(axis=1)
    for column, state in (
        ("complete", "COMPLETE"),
        ("pruned", "PRUNED"),
        ("failed", "FAIL"),
        ("running", "RUNNING"),
    ):
        table[column] = counts[state]
    table["best"] = best.set_index("study_id")["best"]
    times = states.groupby("study_id")[["completed", "started"]].max()
    table["last_activity"] = pd.to_datetime(times.max(axis=1))
    parsed = dict(zip(specs["study_id"], map(json.loads, specs["value_json"]), strict=True))
    table["space"] = [_subject(parsed.get(study, {})) for study in table.index]
    table["budget"] = [parsed.get(study, {}).get("budget") for study in table.index]
    whole = ["trials", "complete", "pruned", "failed", "running"]
    table[whole] = table[whole].fillna(0).astype(int)
    return table.reset_index(drop=True)[list(STUDY_COLUMNS)]


def _subject(spec: dict[str, Any]) -> str | None:
    """What a study searches: a space; or that it is no search."""
    return spec.get("space", spec.get("kind"))


def trials(engine: sa.Engine, name: str) -> pd.DataFrame:
    """One row a trial of the study, by number; columns as at the head of this file.

    Raises:
        InputError: no such study, or tables of another schema.
    """
    with _connection(engine) as connection:
        study = _study_id(connection, name)
        table = _read(
            connection,
            "SELECT trial_id, number, state, datetime_start AS started,"
            " datetime_complete AS completed FROM trials WHERE study_id = :study ORDER BY number",
            study=study,
        ).set_index("trial_id")
        values = _of_trials(connection, "trial_values", "objective, value, value_type", study)
        values = values[values["objective"] == 0]
        attributes = _of_trials(connection, "trial_user_attributes", "key, value_json", study)
        chosen = _of_trials(
            connection, "trial_params", "param_name, param_value, distribution_json", study
        )
    table["value"] = pd.Series(
        list(map(_number, values["value"], values["value_type"])),
        index=values["trial_id"],
        dtype=float,
    )
    for column in ("started", "completed"):
        table[column] = pd.to_datetime(table[column])
    wide = _wide(
        attributes["trial_id"], attributes["key"], map(json.loads, attributes["value_json"])
    )
    table = table[list(BASE_COLUMNS)].join(wide.reindex(columns=list(ATTRIBUTE_COLUMNS)))
    params = _wide(chosen["trial_id"], "params_" + chosen["param_name"], _choices(chosen))
    return table.join(params).reset_index(drop=True)


def attributes(engine: sa.Engine, name: str) -> dict[str, Any]:
    """A study's user attributes, its spec among them."""
    with _connection(engine) as connection:
        rows = _read(
            connection,
            "SELECT key, value_json FROM study_user_attributes WHERE study_id = :study",
            study=_study_id(connection, name),
        )
    return dict(zip(rows["key"], map(json.loads, rows["value_json"]), strict=True))


def best(table: pd.DataFrame, count: int) -> pd.DataFrame:
    """The most accurate students, best first; a network that came twice is there once."""
    done = table[(table["state"] == "COMPLETE") & table["duplicate_of"].isna()]
    return done.sort_values(["value", "number"], ascending=[False, True]).head(count)


@contextmanager
def _connection(engine: sa.Engine) -> Iterator[sa.Connection]:
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


def _study_id(connection: sa.Connection, name: str) -> int:
    rows = _read(connection, "SELECT study_id, study_name FROM studies")
    found = rows.loc[rows["study_name"] == name, "study_id"]
    if found.empty:
        known = ", ".join(rows["study_name"].head(8)) or "none"
        raise InputError(f"no study is named {name!r} in this database; there are: {known}")
    return int(found.iloc[0])


def _read(connection: sa.Connection, query: str, **params: Any) -> pd.DataFrame:
    return pd.read_sql(sa.text(query), connection, params=params)


def _of_trials(connection: sa.Connection, source: str, columns: str, study: int) -> pd.DataFrame:
    query = (
        f"SELECT trial_id, {columns} FROM {source} WHERE trial_id IN"
        " (SELECT trial_id FROM trials WHERE study_id = :study)"
    )
    return _read(connection, query, study=study)


def _wide(trial_ids: pd.Series, names: pd.Series, values: Any) -> pd.DataFrame:
    """(trial, name, value) triples -> one row a trial, one column a name."""
    columns: dict[str, dict[int, Any]] = {}
    for trial_id, name, value in zip(trial_ids, names, values, strict=True):
        columns.setdefault(name, {})[trial_id] = value
    return pd.DataFrame(
        {name: pd.Series(column, dtype=None) for name, column in sorted(columns.items())}
    )


def _choices(chosen: pd.DataFrame) -> Iterator[Any]:
    """Values as they were chosen: a categorical is stored as the place of its choice."""
    parsed = {text: json.loads(text) for text in chosen["distribution_json"].unique()}
    for value, text in zip(chosen["param_value"], chosen["distribution_json"], strict=True):
        distribution = parsed[text]
        if distribution["name"] == "CategoricalDistribution":
            yield distribution["attributes"]["choices"][int(value)]
        else:
            yield int(value) if distribution["name"] == "IntDistribution" else value


def _number(value: float | None, kind: str) -> float:
    """Optuna stores infinities by name."""
    special = {"INF_POS": math.inf, "INF_NEG": -math.inf, "NAN": math.nan}
    return special.get(kind, math.nan if value is None else value)
