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

from search.database import transactions as ledger
from search.database.leases import GRACE, all_leases, locked, place_of, swap
from search.database.transactions import Claim, Reached
from search.study.folder import Folder
from search.training.watcher import NOTHING_MORE
from search.workers import crashes
from search.workers.lease_holder import Leaseholder
from search.workers.stopping import Leaving

FINALIST = "finalist"  # what was stored, where it is no trial


class Worker(Leaseholder):
    """Claims a study's trials, and stores what becomes of them.

    Each step is one transaction, and is refused when the lease is not this worker's any more.
    """

    def __init__(
        self,
        study: optuna.Study,
        folder: Folder,
        leaving: Leaving | None = None,
        *,
        grace: float = GRACE,
        stored: Counter[str] | None = None,
    ) -> None:
        """Take a study.

        Args:
            stored: counts what this worker stores: trials by their state, and finalists' trainings.
        """
        super().__init__(study, folder, leaving, grace=grace)
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
        with self.leaving.heeding(), self._watched() if in_process else nullcontext():
            yield
        self.leaving.raise_if_stopped()

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

    def crashes(self, place: str) -> list[str]:
        """How earlier processes crashed that trained at a place."""
        return self.storage.read(lambda c: crashes.crashes(c, self.identity, place))

    def add(self, most: int) -> Claim | None:
        """A new trial, unless `most` are begun already."""

        def ask() -> Claim | None:
            with self.lock, locked(self.engine, self.identity) as connection:
                study, held = self.identity, set(self.held)
                claim = ledger.unnoticed(connection, study, self.name, held)
                if claim is None and ledger.tally(connection, study).begun < most:
                    claim = ledger.add_trial(connection, study, self._lease())
            return claim

        claim = self.storage.endurance(ask)
        if claim is not None:
            self._hold(place_of(claim.number))
        return claim

    def take_over(self) -> Claim | None:
        """The first trial that a dead worker, or one that left, has not finished."""

        def ask() -> Claim | None:
            with self.lock, locked(self.engine, self.identity) as connection:
                leases = all_leases(connection, self.identity)
                for claim in ledger.running(connection, self.identity):
                    place = place_of(claim.number)
                    if place not in self.held and self._taken(connection, place, leases.get(place)):
                        return claim
            return None

        claim = self.storage.endurance(ask)
        if claim is not None:
            self._hold(place_of(claim.number))
        return claim

    def claim(self, place: str, result: str) -> bool:
        """A training of a finalist, unless its result is stored or another worker has it."""

        def ask() -> bool:
            with self.lock, locked(self.engine, self.identity) as connection:
                if ledger.result(connection, self.identity, result) is not None:
                    return False
                lease = all_leases(connection, self.identity).get(place)
                return self._taken(connection, place, lease, training=result)

        claimed = self.storage.endurance(ask)
        if claimed:
            self._hold(place)
        return claimed

    def announce(self, place: str, training: str) -> bool:
        """Say what is trained at `place`; False where another worker trains the same."""

        def ask() -> bool:
            with self.lock, locked(self.engine, self.identity) as connection:
                leases = all_leases(connection, self.identity)
                mine = leases.pop(place, None)
                if any(lease.training == training for lease in leases.values()):
                    return False
                if mine is not None and mine.worker == self.name:
                    swap(connection, self.identity, place, mine, replace(mine, training=training))
            return True

        return self.storage.endurance(ask)

    def report(self, claim: Claim, step: int, value: float) -> bool:
        """Store what a trial reached after an epoch."""

        def ask() -> bool:
            with self.engine.begin() as connection:
                if not self._owns(connection, place_of(claim.number)):
                    return False
                ledger.report(connection, claim.trial_id, step, value)
            return True

        kept = self.storage.endurance(ask)
        if any(limit is not None for limit in self.limits):
            self.storage.endurance(self.renew)
        return kept

    def reached(self, step: int) -> list[Reached]:
        """What the study's trials had reached after an epoch, as far as it is stored."""
        return self.storage.read(lambda c: ledger.reached(c, self.identity, step))

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
            return ledger.ended_by(connection, claim.trial_id) == self.name

        def store(connection: sa.Connection) -> None:
            trial_id = claim.trial_id
            ledger.end_trial(connection, trial_id, state, value, attributes, reported, self.name)
            publish()

        return self._end(place_of(claim.number), state.name, is_stored, store)

    def end_finalist(self, place: str, key: str, row: Any, publish: Callable[[], None]) -> bool:
        """Store the result of a finalist's training, an attribute of the study."""

        def is_stored(connection: sa.Connection) -> bool:
            return ledger.result(connection, self.identity, key) is not None

        def store(connection: sa.Connection) -> None:
            ledger.write_result(connection, self.identity, key, row)
            publish()

        return self._end(place, FINALIST, is_stored, store)

    def _end(
        self,
        place: str,
        what: str,
        is_stored: Callable[[sa.Connection], bool],
        store: Callable[[sa.Connection], None],
    ) -> bool:
        def ask() -> bool:
            with self.lock, locked(self.engine, self.identity) as connection:
                lease = all_leases(connection, self.identity).get(place)
                if lease is None or lease.worker != self.name:
                    # Done all the same, where the word of an earlier attempt's success got lost.
                    return is_stored(connection)
                swap(connection, self.identity, place, lease, None)
                store(connection)
            return True

        kept = self._settled(place, self.storage.endurance(ask))
        self.stored[what] += kept
        return kept

    def draft(self, place: str) -> str:
        """Where this worker writes a student's files, within the study's folder."""
        return f"{place}/{self.name}.draft"

    @property
    def busy_elsewhere(self) -> bool:
        """Whether other workers have trials in training."""

        def ask() -> bool:
            with self.engine.begin() as connection:
                running = {place_of(c.number) for c in ledger.running(connection, self.identity)}
            return bool(running - self.held.keys())

        return self.storage.endurance(ask)
