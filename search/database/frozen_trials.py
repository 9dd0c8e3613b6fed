"""Trials as Optuna wants them, read by a handful of queries.

Optuna itself builds an object for every value: 199 seconds for 100,000 trials of 30 attributes
(`python benchmarks/scaling.py`). What no sampler or worker needs is left out.
"""

import datetime
import json
from collections import defaultdict
from collections.abc import Container, Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any, TypeVar

import optuna
import sqlalchemy as sa
from optuna.distributions import BaseDistribution, json_to_distribution
from optuna.trial import FrozenTrial, TrialState

from search.database import queries
from search.database.transactions import (
    ATTRIBUTES,
    MARKS,
    PARAMS,
    STEPS,
    TRIALS,
    VALUES,
    read_step,
    read_value,
)

Key = TypeVar("Key")
Value = TypeVar("Value")

NAME = "drawn"  # of a study in memory
UNREAD = ("confusion", "accuracies", "losses")  # attributes: long, and read by people only


def read_trials(
    connection: sa.Connection,
    study: int,
    states: Container[TrialState] | None,
    included: set[int],
    beyond: int,
) -> list[FrozenTrial]:
    """Trials of a study with an id above `beyond` or among `included`, by id.

    They have all attributes but those of `UNREAD`.

    Args:
        states: only trials in these; None reads all.
        beyond: -1 reads all.
    """
    wanted = [TRIALS.c.study_id == study]
    if beyond > -1:
        few = [trial_id for trial_id in included if trial_id <= beyond]
        wanted.append(sa.or_(TRIALS.c.trial_id > beyond, TRIALS.c.trial_id.in_(few)))
    if states is not None:
        wanted.append(TRIALS.c.state.in_([state for state in TrialState if state in states]))
    columns = [TRIALS.c[name] for name in ("trial_id", "number", "state")]
    times = [TRIALS.c.datetime_start, TRIALS.c.datetime_complete]
    query = sa.select(*columns, *times).where(*wanted).order_by(TRIALS.c.trial_id)
    trials = connection.execute(query).all()
    if not trials:
        return []
    ids = sa.select(TRIALS.c.trial_id).where(*wanted)
    parts = _Parts(connection, ids)
    return [
        FrozenTrial(
            number=number,
            state=state,
            value=None,
            values=parts.values.get(trial_id),
            datetime_start=_local(start),
            datetime_complete=_local(complete),
            params=parts.params[trial_id],
            distributions=parts.distributions[trial_id],
            user_attrs=parts.attributes[trial_id],
            system_attrs=parts.marks[trial_id],
            intermediate_values=parts.steps[trial_id],
            trial_id=trial_id,
        )
        for trial_id, number, state, start, complete in trials
    ]


class _Parts:
    """Values, parameters and attributes of the trials of a query, by trial id."""

    def __init__(self, connection: sa.Connection, ids: sa.Select[tuple[int]]) -> None:
        def rows(table: sa.Table, *names: str, order: str) -> Iterator[Any]:
            chosen = sa.select(table.c.trial_id, *(table.c[name] for name in names))
            if "key" in names:
                chosen = chosen.where(table.c.key.not_in(UNREAD))
            return iter(connection.execute(chosen.where(table.c.trial_id.in_(ids)).order_by(order)))

        self.values: dict[int, list[float]] = {}
        for trial_id, value, kind in rows(VALUES, "value", "value_type", order="objective"):
            self.values.setdefault(trial_id, []).append(read_value(value, kind))
        self.steps = _nested(
            (trial_id, step, read_step(value, kind))
            for trial_id, step, value, kind in rows(
                STEPS, "step", "intermediate_value", "intermediate_value_type", order="step"
            )
        )
        self.attributes = _nested(_parsed(rows(ATTRIBUTES, "key", "value_json", order="key")))
        self.marks = _nested(_parsed(rows(MARKS, "key", "value_json", order="key")))
        chosen = rows(PARAMS, "param_name", "param_value", "distribution_json", order="param_id")
        self.params: dict[int, dict[str, object]] = defaultdict(dict)
        self.distributions: dict[int, dict[str, BaseDistribution]] = defaultdict(dict)
        for trial_id, name, value, text in chosen:
            distribution = _distribution(text)
            self.params[trial_id][name] = distribution.to_external_repr(value)
            self.distributions[trial_id][name] = distribution


def _nested(rows: Iterable[tuple[int, Key, Value]]) -> dict[int, dict[Key, Value]]:
    found: dict[int, dict[Key, Value]] = defaultdict(dict)
    for trial_id, key, value in rows:
        found[trial_id][key] = value
    return found


def _parsed(rows: Iterable[tuple[int, str, str]]) -> Iterator[tuple[int, str, object]]:
    return ((trial_id, key, json.loads(text)) for trial_id, key, text in rows)


@lru_cache(maxsize=1000)
def _distribution(text: str) -> BaseDistribution:
    return json_to_distribution(text)


def _local(moment: datetime.datetime | None) -> datetime.datetime | None:
    """Stored UTC as the local time that Optuna has in memory; neither names its zone."""
    if moment is None:
        return None
    return moment.replace(tzinfo=datetime.UTC).astimezone().replace(tzinfo=None)


def drawn(engine: sa.Engine, name: str, numbers: Sequence[int]) -> optuna.Study:
    """A study in memory with these trials: their parameters, distributions and values.

    Optuna's `add_trials` would check them, and refuse what its own studies may hold: an enqueued
    value outside its distribution.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with queries.connection(engine) as connection:
        study = queries.study_id(connection, name)
        directions = queries.directions(connection, study)
        trials = queries.read(
            connection, "SELECT trial_id, number FROM trials WHERE study_id = :study", study=study
        )
        wanted = set(trials.loc[trials["number"].isin(numbers), "trial_id"].tolist())
        found = read_trials(connection, study, None, wanted, queries.EVERY)
    storage = optuna.storages.InMemoryStorage()
    ways = [optuna.study.StudyDirection[way] for way in directions]
    made = optuna.create_study(storage=storage, study_name=NAME, directions=ways)
    trial_id = storage.get_study_id_from_name(NAME)
    for trial in found:
        trial.user_attrs, trial.intermediate_values = {}, {}  # long, and not needed here
        storage.create_new_trial(trial_id, template_trial=trial)
    return made
