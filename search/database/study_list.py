"""All studies of a database as one pandas table: set-based SQL, no torch, no Optuna."""

import datetime
import json
from collections.abc import Sequence
from typing import Any

import pandas as pd
import sqlalchemy as sa

from search.database import queries
from search.database.goal import Goal
from search.database.row import is_kind
from search.database.table import ours, shown_budget, spec_of

STUDY_COLUMNS = (
    *("identity", "name", "space", "budget", "trials", "complete", "pruned", "failed", "running"),
    *("workers", "directions", "best", "last_activity", "asked"),
)


def studies(engine: sa.Engine) -> pd.DataFrame:
    """One row a study: counts by state, best value by its direction, last activity.

    Studies with several objectives have no best value.
    """
    with queries.connection(engine) as connection:
        named = queries.read(connection, "SELECT study_id, study_name AS name FROM studies")
        states = queries.read(
            connection,
            "SELECT study_id, state, COUNT(*) AS count, MAX(datetime_complete) AS completed,"
            " MAX(datetime_start) AS started FROM trials GROUP BY study_id, state",
        )
        ways = queries.read(
            connection, "SELECT study_id, direction FROM study_directions ORDER BY objective"
        )
        best = queries.read(
            connection,
            "SELECT t.study_id, v.value_type AS kind, MIN(v.value) AS least, MAX(v.value) AS most"
            " FROM trials t JOIN trial_values v ON v.trial_id = t.trial_id AND v.objective = 0"
            " WHERE t.state = 'COMPLETE' GROUP BY t.study_id, v.value_type",
        )
        stated = queries.read(
            connection,
            "SELECT study_id, key, value_json FROM study_user_attributes"
            " WHERE key IN ('spec', 'target_trials', 'seeds')",
        )
        leases = queries.read(
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
    table["directions"] = ways.groupby("study_id")["direction"].agg(list)
    table["best"] = pd.Series(_best_values(best, table["directions"]), dtype=float)
    times = states.groupby("study_id")[["completed", "started"]].max()
    table["last_activity"] = pd.to_datetime(times.max(axis=1), format="ISO8601")
    known: dict[int, dict[str, Any]] = {}
    for study, key, text in stated.itertuples(index=False):
        known.setdefault(study, {})[key] = json.loads(text)
    told = [ours(known.get(study, {})) for study in table.index]
    specs = [spec_of(attributes) for attributes in told]
    table["space"] = list(map(_subject, specs))
    table["budget"] = [shown_budget(spec) for spec in specs]
    table["asked"] = list(map(_asked, told))
    table["workers"] = pd.Series(_living(leases), dtype=float)
    whole = ["trials", "complete", "pruned", "failed", "running", "workers"]
    table[whole] = table[whole].fillna(0).astype(int)
    table["identity"] = table.index
    return table.reset_index(drop=True)[list(STUDY_COLUMNS)]


def _best_values(found: pd.DataFrame, directions: pd.Series) -> dict[int, float]:
    """Study -> best value, for studies with one objective.

    Args:
        found: study_id, kind (finite, or an infinity by its name), least and most value of it.
    """
    best: dict[int, float] = {}
    for study, kind, *ends in found.itertuples(index=False):
        if len(directions[study]) == 1:
            goal = Goal.of(directions[study], ours=False)
            values = [best[study]] if study in best else []
            values += [queries.number(end, kind) for end in ends]
            best[study] = max(values, key=goal.worth)
    return best


def _living(leases: pd.DataFrame) -> dict[int, int]:
    """Study -> number of workers with a recent beat, as far as clocks agree."""
    now, workers = datetime.datetime.now(datetime.UTC), dict[int, set[str]]()
    for study, text in leases.itertuples(index=False):
        try:
            lease = json.loads(text)
            said = datetime.datetime.fromisoformat(lease["at"])
            lives = (now - said).total_seconds() < 2 * lease["grace"]
            worker = str(lease["worker"])
        except (TypeError, KeyError, ValueError):
            continue  # not one of ours
        if lives:
            workers.setdefault(study, set()).add(worker)
    return {study: len(found) for study, found in workers.items()}


def _subject(spec: dict[str, Any]) -> str | None:
    """The space that a study searches, or its kind if it is not a search."""
    return spec.get("space", spec.get("kind"))


def _asked(attributes: dict[str, Any]) -> int | None:
    """Trials that a study was asked for; None if it does not say."""
    spec = spec_of(attributes)
    if spec.get("kind") == "ablation" and "seeds" in attributes:
        return int(attributes["seeds"]) * len(spec["arms"])
    return attributes.get("target_trials")


def names(engine: sa.Engine) -> dict[int, str]:
    """Study id -> name."""
    with queries.connection(engine) as connection:
        found = queries.read(connection, "SELECT study_id, study_name FROM studies")
    return dict(zip(found["study_id"].tolist(), found["study_name"], strict=True))


def progress(engine: sa.Engine) -> pd.DataFrame:
    """Every complete trial of studies with one objective: identity (of the study), trial_id,
    number, value, and worth: the value, or its negative where it is to be small."""
    with queries.connection(engine) as connection:
        return queries.read(
            connection,
            "SELECT t.study_id AS identity, t.trial_id, t.number, v.value,"
            " CASE d.direction WHEN 'MINIMIZE' THEN -v.value ELSE v.value END AS worth"
            " FROM trials t JOIN trial_values v ON v.trial_id = t.trial_id"
            " JOIN study_directions d ON d.study_id = t.study_id"
            " WHERE t.state = 'COMPLETE' AND v.value_type = 'FINITE' AND v.objective = 0"
            " AND (SELECT COUNT(*) FROM study_directions WHERE study_id = t.study_id) = 1"
            " ORDER BY t.study_id, t.number",
        )


def sizes(engine: sa.Engine, trial_ids: Sequence[int]) -> pd.Series:
    """Trial id -> bytes of its file, where it has one."""
    with queries.connection(engine) as connection:
        found = queries.attribute_of(connection, trial_ids, "bytes")
    return pd.to_numeric(found.where(found.map(lambda value: is_kind("bytes", value)).astype(bool)))
