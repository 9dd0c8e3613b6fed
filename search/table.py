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

import datetime
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd
import sqlalchemy as sa

from search import rows
from search.ranking import order_key

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
# What a chart of all trials needs: numbers and words; the rest is long, or asked for one by one.
OVERVIEW_COLUMNS = (
    *("words", "params", "macs", "bytes", "budget_share", "network_accuracy", "seconds", "epochs"),
    *("reason", "duplicate_of"),
)
STUDY_COLUMNS = (
    *("identity", "name", "space", "budget", "trials", "complete", "pruned", "failed", "running"),
    *("workers", "best", "last_activity", "asked"),
)


def studies(engine: sa.Engine) -> pd.DataFrame:
    """One row a study: counts by state, best (first) value by its direction, last activity."""
    with rows.connection(engine) as connection:
        named = rows.read(connection, "SELECT study_id, study_name AS name FROM studies")
        states = rows.read(
            connection,
            "SELECT study_id, state, COUNT(*) AS count, MAX(datetime_complete) AS completed,"
            " MAX(datetime_start) AS started FROM trials GROUP BY study_id, state",
        )
        best = rows.read(
            connection,
            "SELECT t.study_id, CASE d.direction WHEN 'MINIMIZE' THEN MIN(v.value)"
            " ELSE MAX(v.value) END AS best FROM trials t"
            " JOIN trial_values v ON v.trial_id = t.trial_id AND v.objective = 0"
            " JOIN study_directions d ON d.study_id = t.study_id AND d.objective = 0"
            " WHERE t.state = 'COMPLETE' GROUP BY t.study_id, d.direction",
        )
        told = rows.read(
            connection,
            "SELECT study_id, key, value_json FROM study_user_attributes"
            " WHERE key IN ('spec', 'target_trials', 'seeds')",
        )
        leases = rows.read(
            connection,
            "SELECT study_id, value_json FROM study_system_attributes WHERE key LIKE 'lease:%'",
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
    table["last_activity"] = pd.to_datetime(times.max(axis=1), format="ISO8601")
    known: dict[int, dict[str, Any]] = {}
    for study, key, text in told.itertuples(index=False):
        known.setdefault(study, {})[key] = json.loads(text)
    specs = [spec_of(known.get(study, {})) for study in table.index]
    table["space"] = list(map(_subject, specs))
    table["budget"] = [spec.get("budget") for spec in specs]
    table["asked"] = [_asked(known.get(study, {})) for study in table.index]
    table["workers"] = pd.Series(_living(leases), dtype=float)
    whole = ["trials", "complete", "pruned", "failed", "running", "workers"]
    table[whole] = table[whole].fillna(0).astype(int)
    table["identity"] = table.index
    return table.reset_index(drop=True)[list(STUDY_COLUMNS)]


def _living(leases: pd.DataFrame) -> dict[int, int]:
    """Study -> its workers that have given a sign of life lately, as far as clocks agree."""
    now, workers = datetime.datetime.now(datetime.UTC), dict[int, set[str]]()
    for study, text in leases.itertuples(index=False):
        try:
            lease = json.loads(text)
            said = datetime.datetime.fromisoformat(lease["at"])
            lives = (now - said).total_seconds() < 2 * lease["grace"]
            worker = str(lease["worker"])
        except (TypeError, KeyError, ValueError):
            continue  # none of ours
        if lives:
            workers.setdefault(study, set()).add(worker)
    return {study: len(found) for study, found in workers.items()}


def names(engine: sa.Engine) -> dict[int, str]:
    """Study id -> name."""
    with rows.connection(engine) as connection:
        found = rows.read(connection, "SELECT study_id, study_name FROM studies")
    return dict(zip(found["study_id"].tolist(), found["study_name"], strict=True))


def spec_of(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """What a study says of itself; another program's may say anything."""
    found = attributes.get("spec")
    return found if isinstance(found, dict) else {}


def _subject(spec: dict[str, Any]) -> str | None:
    """What a study searches: a space; or that it is no search."""
    return spec.get("space", spec.get("kind"))


def _asked(attributes: dict[str, Any]) -> int | None:
    """Trials that a study is to have: None where it does not say."""
    spec = spec_of(attributes)
    if spec.get("kind") == "ablation" and "seeds" in attributes:
        return int(attributes["seeds"]) * len(spec["arms"])
    return attributes.get("target_trials")


def progress(engine: sa.Engine) -> pd.DataFrame:
    """Every complete trial of every study: identity (of the study), trial_id, number, value."""
    with rows.connection(engine) as connection:
        return rows.read(
            connection,
            "SELECT t.study_id AS identity, t.trial_id, t.number, v.value FROM trials t"
            " JOIN trial_values v ON v.trial_id = t.trial_id"
            " WHERE t.state = 'COMPLETE' AND v.objective = 0 AND v.value_type = 'FINITE'"
            " ORDER BY t.study_id, t.number",
        )


def sizes(engine: sa.Engine, trial_ids: Sequence[int]) -> pd.Series:
    """Trial id -> bytes of its file, where it has one."""
    with rows.connection(engine) as connection:
        return rows.attribute_of(connection, trial_ids, "bytes")


def trials(
    engine: sa.Engine,
    name: str,
    columns: Sequence[str] = ATTRIBUTE_COLUMNS,
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
    span = rows.Span(since, rows.EVERY if until is None else until)
    with rows.connection(engine) as connection:
        study = rows.study_id(connection, name)
        table = rows.read(
            connection,
            "SELECT trial_id, number, state, datetime_start AS started,"
            " datetime_complete AS completed FROM trials"
            " WHERE study_id = :study AND number BETWEEN :first AND :last ORDER BY number",
            study=study,
            **span._asdict(),
        ).set_index("trial_id")
        table["value"] = rows.values(connection, study, span)
        known = rows.attributes(connection, study, columns, span)
        params = rows.params(connection, study, span) if with_params else pd.DataFrame()
    for column in ("started", "completed"):
        table[column] = pd.to_datetime(table[column], format="ISO8601")  # whole seconds have no dot
    table = table[list(BASE_COLUMNS)].join(known.reindex(columns=list(columns)))
    return table.join(params).reset_index(drop=True)


def curves(engine: sa.Engine, name: str, numbers: Sequence[int]) -> pd.DataFrame:
    """Learning curves as they were reported: number, epoch (from 1), accuracy; also of trials
    that are still running."""
    with rows.connection(engine) as connection:
        wanted = _wanted(connection, name, numbers)
        found = rows.intermediate(connection, wanted.index.tolist())
    found["number"] = found["trial_id"].map(wanted)
    return found[["number", "epoch", "accuracy"]].sort_values(["number", "epoch"])


def trial_attribute(engine: sa.Engine, name: str, number: int, key: str) -> Any:
    """One attribute of one trial; None where it has none."""
    with rows.connection(engine) as connection:
        found = rows.read(
            connection,
            "SELECT value_json FROM trial_user_attributes a JOIN trials t"
            " ON t.trial_id = a.trial_id"
            " WHERE t.study_id = :study AND t.number = :number AND a.key = :key",
            study=rows.study_id(connection, name),
            number=number,
            key=key,
        )
    return json.loads(found["value_json"].iloc[0]) if len(found) else None


def version(engine: sa.Engine, name: str) -> str:
    """Changes whenever a trial begins, reports an epoch or ends, or the study is told more.

    Cheap, to be asked every second: a finished trial does not change.
    """
    with rows.connection(engine) as connection:
        study = rows.study_id(connection, name)
        states = rows.read(
            connection,
            "SELECT state, COUNT(*) AS trials, MAX(datetime_complete) AS last FROM trials"
            " WHERE study_id = :study GROUP BY state ORDER BY state",
            study=study,
        )
        epochs = rows.read(
            connection,
            "SELECT COUNT(*) AS epochs FROM trial_intermediate_values WHERE trial_id IN"
            " (SELECT trial_id FROM trials WHERE study_id = :study AND state = 'RUNNING')",
            study=study,
        )
        told = rows.read(
            connection,
            "SELECT COUNT(*) AS told FROM study_user_attributes WHERE study_id = :study",
            study=study,
        )
    parts = (states, epochs, told)
    return "".join(part.to_csv(header=False, index=False) for part in parts)


def _wanted(connection: sa.Connection, name: str, numbers: Sequence[int]) -> pd.Series:
    """Trial ids -> numbers, of some trials of a study."""
    study = rows.study_id(connection, name)
    found = rows.read(
        connection, "SELECT trial_id, number FROM trials WHERE study_id = :study", study=study
    )
    known = found.set_index("trial_id")["number"]
    return known[known.isin(numbers)]


def attributes(engine: sa.Engine, name: str) -> dict[str, Any]:
    """A study's user attributes, its spec among them."""
    with rows.connection(engine) as connection:
        found = rows.read(
            connection,
            "SELECT key, value_json FROM study_user_attributes WHERE study_id = :study",
            study=rows.study_id(connection, name),
        )
    return dict(zip(found["key"], map(json.loads, found["value_json"]), strict=True))


def best_first(table: pd.DataFrame) -> pd.DataFrame:
    """Trials by `order_key`; those without a value last, and of equals those without a size."""
    keys = order_key(table["value"], table["bytes"], table["number"])
    order = pd.concat([pd.to_numeric(key, errors="coerce") for key in keys], axis=1)
    order.columns = range(len(keys))
    found: pd.DataFrame = table.loc[order.sort_values(list(order)).index]
    return found


def students(table: pd.DataFrame) -> Iterator[tuple[int, str, float]]:
    """Number, words and bytes of each trial, as `search.ranking.ranked` takes them."""
    return table[["number", "words", "bytes"]].itertuples(index=False, name=None)


def best(table: pd.DataFrame, count: int) -> pd.DataFrame:
    """The best students, first the best; a network that came twice is there once."""
    done = table[(table["state"] == "COMPLETE") & table["duplicate_of"].isna()]
    return best_first(done).head(count)
