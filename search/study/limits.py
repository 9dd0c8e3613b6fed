"""Limits of a study, and what all its workers together have used of them."""

import json
import re
from typing import NamedTuple

import optuna
import sqlalchemy as sa

from search.database.leases import fact, write_fact
from search.database.storage import backend_of
from space.errors import InputError

SPENT = "spent"  # a study's system attribute
TIMEOUT, DEVICE_SECONDS = "timeout", "device_seconds"  # its limits, user attributes
UNITS = {"s": 1, "min": 60, "h": 3600, "d": 86400}
DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(s|min|h|d)")
# Seconds by the database's clock, the only one that all workers share.
CLOCKS = {
    "sqlite": "(julianday('now') - 2440587.5) * 86400.0",
    "postgresql": "extract(epoch FROM clock_timestamp())",
}


class Spent(NamedTuple):
    """What a study has cost."""

    seconds: float = 0.0  # during which at least one worker was training
    device_seconds: float = 0.0  # of every device that trained, added up
    at: float = 0.0  # when this was written, by the database's clock
    training: bool = False  # whether something was in training then

    def after(self, now: float, device_seconds: float, training: bool, grace: float) -> "Spent":
        """This and what was used since, at `now` by the database's clock; see `account`."""
        gap = now - self.at
        counts = (self.training or training) and 0 < gap <= grace
        worked = self.seconds + (gap if counts else 0.0)
        return Spent(worked, self.device_seconds + device_seconds, now, training)


class Limits(NamedTuple):
    """What a study may cost; None: no limit."""

    seconds: float | None = None
    device_seconds: float | None = None

    def reached(self, spent: Spent) -> str | None:
        """Which limit is reached, in words; None if none is."""
        if self.seconds is not None and spent.seconds >= self.seconds:
            return f"--timeout: the study was worked on for {duration(spent.seconds)}"
        if self.device_seconds is not None and spent.device_seconds >= self.device_seconds:
            return f"--gpu-hours: {spent.device_seconds / 3600:.2f} device-hours were used"
        return None


def account(
    connection: sa.Connection, study: int, device_seconds: float, training: bool, grace: float
) -> Spent:
    """Add this worker's usage since its last report and return the study's new total.

    Wall time is counted once however many workers run: it is the gap since any worker last
    reported, and is ignored if nothing was training or the gap exceeds the grace period.

    Args:
        training: whether any worker has something in training.
        grace: seconds within which every worker reports.
    """
    before = Spent(*json.loads(fact(connection, study, SPENT) or "[]"))
    now = connection.execute(sa.text(f"SELECT {CLOCKS[connection.dialect.name]}")).scalar_one()
    spent = before.after(float(now), device_seconds, training, grace)
    write_fact(connection, study, SPENT, json.dumps(spent))
    return spent


def spent_of(study: optuna.Study) -> Spent:
    """What a study has cost."""
    return Spent(*backend_of(study).facts.get(SPENT, ()))


def limits_of(study: optuna.Study) -> Limits:
    """What a study may cost."""
    attributes = study.user_attrs
    return Limits(attributes.get(TIMEOUT), attributes.get(DEVICE_SECONDS))


def asked_limits(timeout: str | None, gpu_hours: float | None) -> dict[str, float]:
    """The user attributes of a study with such limits.

    Raises:
        InputError: not a duration, or not a positive number of hours.
    """
    seconds = parse_duration(timeout)
    if gpu_hours is not None and not gpu_hours > 0:
        raise InputError(f"--gpu-hours must be more than 0, but got {gpu_hours}")
    device_seconds = None if gpu_hours is None else 3600 * gpu_hours
    asked = {TIMEOUT: seconds, DEVICE_SECONDS: device_seconds}
    return {key: value for key, value in asked.items() if value is not None}


def parse_duration(given: str | None) -> float | None:
    """Seconds of `90s`, `30min`, `2h`, `1.5d`; None stays None."""
    if given is None:
        return None
    found = DURATION.fullmatch(given.strip())
    seconds = float(found[1]) * UNITS[found[2]] if found else 0.0
    if seconds <= 0:
        raise InputError(f"--timeout must be a time like 90s, 30min, 2h or 1d, but got {given!r}")
    return seconds


def duration(seconds: float) -> str:
    """`45 s`, `12 min`, `3.5 h`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
