"""Leases: which worker trains which student of a study.

A lease is a system attribute of the study, `lease:trial0012` or, for a finalist,
`lease:trial0012/seed1`. Its owner keeps increasing its beat. A worker that sees the beat unchanged
for the lease's grace, by its own clock, may take the lease over. So the clocks of two machines are
never compared, and setting one changes nothing. Every change is a compare-and-swap on the text.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass

import sqlalchemy as sa
from optuna.storages._rdb import models

from space.errors import InputError

PREFIX = "lease:"
GRACE = 60.0  # seconds without a beat before others may take a trial over
BEATS = 6  # per grace

STUDIES: sa.Table = models.StudyModel.__table__
FACTS: sa.Table = models.StudySystemAttributeModel.__table__


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """What the database says of one student in training."""

    worker: str
    host: str
    boot: str  # changes when the machine restarts
    grace: float  # seconds that the beat may stay unchanged
    training: str = ""  # identity of what is trained, once it is known
    beat: int = 0
    at: str = ""  # UTC, by the owner's clock: for people only

    @property
    def text(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def read(cls, text: str) -> "Lease":
        """Raises InputError for a lease of another version."""
        try:
            return cls(**json.loads(text))
        except (TypeError, ValueError):
            raise InputError(
                f"the study's leases must be of this version of DistilNAS, but one is {text}; "
                "let all workers have the same version"
            ) from None


def trial_key(number: int) -> str:
    """Names a trial's lease, and the place of its files within the study's folder."""
    return f"trial{number:04d}"


@contextmanager
def locked(engine: sa.Engine, study: int) -> Iterator[sa.Connection]:
    """A transaction during which no other worker can change the study's leases."""
    with engine.begin() as connection:
        connection.execute(
            sa.select(STUDIES.c.study_id).where(STUDIES.c.study_id == study).with_for_update()
        )
        yield connection


def all_leases(connection: sa.Connection, study: int) -> dict[str, Lease]:
    """Place -> lease."""
    query = sa.select(FACTS.c.key, FACTS.c.value_json).where(
        FACTS.c.study_id == study, FACTS.c.key.startswith(PREFIX)
    )
    found = connection.execute(query).all()
    return {key.removeprefix(PREFIX): Lease.read(text) for key, text in found}


def grant(connection: sa.Connection, study: int, leased: str, lease: Lease) -> None:
    """Write a new lease."""
    write_fact(connection, study, PREFIX + leased, lease.text)


def swap(
    connection: sa.Connection, study: int, leased: str, before: Lease, after: Lease | None
) -> bool:
    """Replace a lease, or remove it (None); False if it is no longer `before`."""
    known = sa.and_(
        FACTS.c.study_id == study,
        FACTS.c.key == PREFIX + leased,
        FACTS.c.value_json == before.text,
    )
    if after is None:
        return connection.execute(sa.delete(FACTS).where(known)).rowcount == 1
    change = sa.update(FACTS).where(known).values(value_json=after.text)
    return connection.execute(change).rowcount == 1


def fact(connection: sa.Connection, study: int, key: str) -> str | None:
    """A system attribute of the study, as JSON; None where there is none."""
    query = sa.select(FACTS.c.value_json).where(FACTS.c.study_id == study, FACTS.c.key == key)
    return connection.execute(query).scalar()


def write_fact(connection: sa.Connection, study: int, key: str, text: str) -> None:
    connection.execute(sa.delete(FACTS).where(FACTS.c.study_id == study, FACTS.c.key == key))
    connection.execute(sa.insert(FACTS).values(study_id=study, key=key, value_json=text))
