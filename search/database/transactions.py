"""How a trial begins, reports and ends in the database: parts of transactions.

Optuna's own calls write a trial's attributes one by one, and let anybody end a trial.
`search.workers.worker` combines these functions into transactions, so that a step happens wholly or
not at all, and only for the owner of the trial's lease. The tables are Optuna's.
"""

import datetime
import json
from collections.abc import Mapping, Set
from types import MappingProxyType
from typing import NamedTuple

import sqlalchemy as sa
from optuna.storages._rdb import models
from optuna.trial import TrialState

from search.database.leases import Lease, all_leases, grant, trial_key
from search.database.row import DUPLICATE_OF

TRIALS: sa.Table = models.TrialModel.__table__
PARAMS: sa.Table = models.TrialParamModel.__table__
VALUES: sa.Table = models.TrialValueModel.__table__
STEPS: sa.Table = models.TrialIntermediateValueModel.__table__
ATTRIBUTES: sa.Table = models.TrialUserAttributeModel.__table__
MARKS: sa.Table = models.TrialSystemAttributeModel.__table__
RESULTS: sa.Table = models.StudyUserAttributeModel.__table__
# A number is two columns: its value, and its kind, for NaN and the infinities.
written_value = models.TrialValueModel.value_to_stored_repr
read_value = models.TrialValueModel.stored_repr_to_value
written_step = models.TrialIntermediateValueModel.intermediate_value_to_stored_repr
read_step = models.TrialIntermediateValueModel.stored_repr_to_intermediate_value

NOTHING_MORE: Mapping[int, float] = MappingProxyType({})  # is reported with a trial's end
ENDED_BY = "ended_by"  # a trial's system attribute: the worker that stored its end


class Tally(NamedTuple):
    """Trials of a study, by state."""

    waiting: int  # queued, for the next worker that asks
    running: int
    ended: int

    @property
    def begun(self) -> int:
        return self.running + self.ended


class Claim(NamedTuple):
    """A trial that this worker holds."""

    number: int
    trial_id: int


class Reached(NamedTuple):
    """What a trial had reached after an epoch."""

    number: int
    state: TrialState
    value: float  # validation accuracy


def tally(connection: sa.Connection, study: int) -> Tally:
    query = (
        sa.select(TRIALS.c.state, sa.func.count())
        .where(TRIALS.c.study_id == study)
        .group_by(TRIALS.c.state)
    )
    counts = {row[0]: row[1] for row in connection.execute(query)}
    waiting = counts.pop(TrialState.WAITING, 0)
    running = counts.pop(TrialState.RUNNING, 0)
    return Tally(waiting, running, sum(counts.values()))


def unnoticed(connection: sa.Connection, study: int, worker: str, held: Set[str]) -> Claim | None:
    """A trial that a worker has claimed without learning it: the answer of its commit was lost."""
    mine = {p for p, lease in all_leases(connection, study).items() if lease.worker == worker}
    unheard = (c for c in running(connection, study) if trial_key(c.number) in mine - held)
    return next(unheard, None)


def add_trial(connection: sa.Connection, study: int, lease: Lease) -> Claim:
    """A queued trial, or else a new one, with its lease."""
    waiting = connection.execute(
        sa.select(TRIALS.c.number, TRIALS.c.trial_id)
        .where(TRIALS.c.study_id == study, TRIALS.c.state == TrialState.WAITING)
        .order_by(TRIALS.c.number)
        .limit(1)
    ).first()
    running = {"state": TrialState.RUNNING, "datetime_start": _now()}
    if waiting is not None:
        claim = Claim(*waiting)
        connection.execute(
            sa.update(TRIALS).where(TRIALS.c.trial_id == claim.trial_id).values(**running)
        )
    else:
        count = sa.select(sa.func.count()).where(TRIALS.c.study_id == study)
        number = connection.execute(count).scalar_one()
        added = sa.insert(TRIALS).values(study_id=study, number=number, **running)
        added_id = connection.execute(added.returning(TRIALS.c.trial_id)).scalar_one()
        claim = Claim(number, added_id)
    grant(connection, study, trial_key(claim.number), lease)
    return claim


def running(connection: sa.Connection, study: int) -> list[Claim]:
    """Trials that have begun and not ended, by number, whoever has them."""
    found = connection.execute(
        sa.select(TRIALS.c.number, TRIALS.c.trial_id)
        .where(TRIALS.c.study_id == study, TRIALS.c.state == TrialState.RUNNING)
        .order_by(TRIALS.c.number)
    )
    return [Claim(*row) for row in found]


def report(connection: sa.Connection, trial_id: int, step: int, value: float) -> None:
    """What a trial reached after an epoch."""
    known = sa.and_(STEPS.c.trial_id == trial_id, STEPS.c.step == step)
    connection.execute(sa.delete(STEPS).where(known))
    stored, kind = written_step(value)
    connection.execute(
        sa.insert(STEPS).values(
            trial_id=trial_id, step=step, intermediate_value=stored, intermediate_value_type=kind
        )
    )


def reached(connection: sa.Connection, study: int, step: int) -> list[Reached]:
    """What the study's trials had reached after an epoch.

    Copies of earlier trials are left out: they were not trained and say nothing new.
    """
    copied = sa.exists().where(
        ATTRIBUTES.c.trial_id == TRIALS.c.trial_id, ATTRIBUTES.c.key == DUPLICATE_OF
    )
    columns = (STEPS.c.intermediate_value, STEPS.c.intermediate_value_type)
    found = connection.execute(
        sa.select(TRIALS.c.number, TRIALS.c.state, *columns)
        .join(STEPS, STEPS.c.trial_id == TRIALS.c.trial_id)
        .where(TRIALS.c.study_id == study, STEPS.c.step == step, ~copied)
        .order_by(TRIALS.c.number)
    )
    return [Reached(number, state, read_step(value, kind)) for number, state, value, kind in found]


def end_trial(
    connection: sa.Connection,
    trial_id: int,
    state: TrialState,
    value: float | None,
    attributes: Mapping[str, object],
    reported: Mapping[int, float],
    worker: str,
) -> None:
    """Store a trial's end; its lease must have been given back in the same transaction.

    Args:
        reported: accuracies by epoch that are not stored yet: an earlier trial's, for its copy.
    """
    for step, accuracy in reported.items():
        report(connection, trial_id, step, accuracy)
    same = ATTRIBUTES.c.trial_id == trial_id
    connection.execute(sa.delete(ATTRIBUTES).where(same, ATTRIBUTES.c.key.in_(attributes)))
    rows = [
        {"trial_id": trial_id, "key": key, "value_json": json.dumps(attribute)}
        for key, attribute in attributes.items()
    ]
    connection.execute(sa.insert(ATTRIBUTES), rows)
    connection.execute(
        sa.insert(MARKS).values(trial_id=trial_id, key=ENDED_BY, value_json=json.dumps(worker))
    )
    if value is not None:
        stored, kind = written_value(value)
        connection.execute(
            sa.insert(VALUES).values(trial_id=trial_id, objective=0, value=stored, value_type=kind)
        )
    connection.execute(
        sa.update(TRIALS)
        .where(TRIALS.c.trial_id == trial_id)
        .values(state=state, datetime_complete=_now())
    )


def ended_by(connection: sa.Connection, trial_id: int) -> str | None:
    """The worker that stored a trial's end; None while it runs."""
    text = connection.execute(
        sa.select(MARKS.c.value_json).where(MARKS.c.trial_id == trial_id, MARKS.c.key == ENDED_BY)
    ).scalar()
    return None if text is None else str(json.loads(text))


def result(connection: sa.Connection, study: int, key: str) -> str | None:
    """A user attribute of the study, as text; None where there is none."""
    query = sa.select(RESULTS.c.value_json).where(RESULTS.c.study_id == study, RESULTS.c.key == key)
    return connection.execute(query).scalar()


def write_result(connection: sa.Connection, study: int, key: str, value: object) -> None:
    connection.execute(
        sa.insert(RESULTS).values(study_id=study, key=key, value_json=json.dumps(value))
    )


def _now() -> datetime.datetime:
    """Now, as Optuna stores times: UTC, without a time zone."""
    return datetime.datetime.now(datetime.UTC).replace(tzinfo=None)
