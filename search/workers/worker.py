"""A worker: one process that trains for a study, beside any number of others."""

import faulthandler
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import optuna
import sqlalchemy as sa
from optuna.trial import TrialState

from search.database import transactions
from search.database.leases import GRACE, all_leases, locked, swap, trial_key
from search.database.transactions import Claim, Reached
from search.study.folder import Folder
from search.training.listener import NOTHING_MORE
from search.workers import crashes
from search.workers.lease_holder import LeaseHolder
from search.workers.stopping import StopRequest

FINALIST = "finalist"  # what was stored, where it is no trial


class Worker(LeaseHolder):
    """Claims a study's trials, and stores what becomes of them.

    Each step is one transaction, and is refused when the lease is not this worker's any more.
    """

    def __init__(
        self,
        study: optuna.Study,
        folder: Folder,
        stop_request: StopRequest | None = None,
        *,
        grace: float = GRACE,
        stored: Counter[str] | None = None,
    ) -> None:
        """Take a study.

        Args:
            stored: counts what this worker stores: trials by their state, and finalists' trainings.
        """
        super().__init__(study, folder, stop_request, grace=grace)
        self.stored = Counter() if stored is None else stored

    @contextmanager
    def at_work(self, devices: int, *, in_process: bool) -> Iterator[None]:
        """Train here: signals leave after the epoch, time is counted on so many devices.

        Args:
            in_process: students are trained in this process, so that a crash is a student's.

        Raises:
            Stopped: a signal asked to leave.
        """
        self.devices = devices
        with self.stop_request.handling_signals(), self._watched() if in_process else nullcontext():
            yield
        self.stop_request.raise_if_stopped()

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """Have a crash of this process leave its trace, which a kill does not."""
        assert self.mark is not None, "a worker is entered before it works"
        before = faulthandler.is_enabled()
        faulthandler.enable(self.mark)
        try:
            yield
        finally:
            faulthandler.disable()
            if before and sys.__stderr__ is not None:
                faulthandler.enable(sys.__stderr__)

    def crashes(self, key: str) -> list[str]:
        """How earlier processes crashed that trained at a place."""
        return self.storage.read(lambda c: crashes.crashes(c, self.study_id, key))

    def add(self, most: int) -> Claim | None:
        """A new trial, unless `most` are begun already."""

        def ask() -> Claim | None:
            with self.lock, locked(self.engine, self.study_id) as connection:
                study, held = self.study_id, set(self.held)
                claim = transactions.unnoticed(connection, study, self.name, held)
                if claim is None and transactions.tally(connection, study).begun < most:
                    claim = transactions.add_trial(connection, study, self._lease())
            return claim

        claim = self.storage.retry(ask)
        if claim is not None:
            self._hold(trial_key(claim.number))
        return claim

    def take_over(self) -> Claim | None:
        """The first trial that a dead worker, or one that left, has not finished."""

        def ask() -> Claim | None:
            with self.lock, locked(self.engine, self.study_id) as connection:
                leases = all_leases(connection, self.study_id)
                for claim in transactions.running(connection, self.study_id):
                    key = trial_key(claim.number)
                    if key not in self.held and self._taken(connection, key, leases.get(key)):
                        return claim
            return None

        claim = self.storage.retry(ask)
        if claim is not None:
            self._hold(trial_key(claim.number))
        return claim

    def claim(self, key: str, result: str) -> bool:
        """A training of a finalist, unless its result is stored or another worker has it."""

        def ask() -> bool:
            with self.lock, locked(self.engine, self.study_id) as connection:
                if transactions.result(connection, self.study_id, result) is not None:
                    return False
                lease = all_leases(connection, self.study_id).get(key)
                return self._taken(connection, key, lease, training=result)

        claimed = self.storage.retry(ask)
        if claimed:
            self._hold(key)
        return claimed

    def announce(self, key: str, training: str) -> bool:
        """Say what is trained at `key`; False where another worker trains the same."""

        def ask() -> bool:
            with self.lock, locked(self.engine, self.study_id) as connection:
                leases = all_leases(connection, self.study_id)
                mine = leases.pop(key, None)
                if any(lease.training == training for lease in leases.values()):
                    return False
                if mine is not None and mine.worker == self.name:
                    swap(connection, self.study_id, key, mine, replace(mine, training=training))
            return True

        return self.storage.retry(ask)

    def report(self, claim: Claim, step: int, value: float) -> bool:
        """Store what a trial reached after an epoch."""

        def ask() -> bool:
            with self.engine.begin() as connection:
                if not self._owns(connection, trial_key(claim.number)):
                    return False
                transactions.report(connection, claim.trial_id, step, value)
            return True

        kept = self.storage.retry(ask)
        if any(limit is not None for limit in self.limits):
            self.storage.retry(self.renew)
        return kept

    def reached(self, step: int) -> list[Reached]:
        """What the study's trials had reached after an epoch, as far as it is stored."""
        return self.storage.read(lambda c: transactions.reached(c, self.study_id, step))

    def end(
        self,
        claim: Claim,
        state: TrialState,
        value: float | None,
        attributes: Mapping[str, Any],
        publish: Callable[[], None],
        reported: Mapping[int, float] = NOTHING_MORE,
    ) -> bool:
        """Store a trial's end.

        Args:
            reported: accuracies by epoch that are not stored yet.
            publish: puts its files in their place, while nobody else can take the trial over.
        """

        def is_stored(connection: sa.Connection) -> bool:
            return transactions.ended_by(connection, claim.trial_id) == self.name

        def store(connection: sa.Connection) -> None:
            trial_id = claim.trial_id
            transactions.end_trial(
                connection, trial_id, state, value, attributes, reported, self.name
            )
            publish()

        return self._end(trial_key(claim.number), state.name, is_stored, store)

    def end_finalist(self, key: str, stored_as: str, row: Any, publish: Callable[[], None]) -> bool:
        """Store the result of a finalist's training, an attribute of the study."""

        def is_stored(connection: sa.Connection) -> bool:
            return transactions.result(connection, self.study_id, stored_as) is not None

        def store(connection: sa.Connection) -> None:
            transactions.write_result(connection, self.study_id, stored_as, row)
            publish()

        return self._end(key, FINALIST, is_stored, store)

    def _end(
        self,
        key: str,
        what: str,
        is_stored: Callable[[sa.Connection], bool],
        store: Callable[[sa.Connection], None],
    ) -> bool:
        def ask() -> bool:
            with self.lock, locked(self.engine, self.study_id) as connection:
                lease = all_leases(connection, self.study_id).get(key)
                if lease is None or lease.worker != self.name:
                    # Done all the same, where the word of an earlier attempt's success got lost.
                    return is_stored(connection)
                swap(connection, self.study_id, key, lease, None)
                store(connection)
            return True

        kept = self._settled(key, self.storage.retry(ask))
        self.stored[what] += kept
        return kept

    def draft(self, key: str) -> str:
        """Where this worker writes a student's files, within the study's folder."""
        return f"{key}/{self.name}.draft"

    @property
    def busy_elsewhere(self) -> bool:
        """Whether other workers have trials in training."""

        def ask() -> bool:
            with self.engine.begin() as connection:
                running = {
                    trial_key(c.number) for c in transactions.running(connection, self.study_id)
                }
            return bool(running - self.held.keys())

        return self.storage.retry(ask)
