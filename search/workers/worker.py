"""A worker: one of the processes that train for a study at the same time."""

import faulthandler
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Self

import optuna
import sqlalchemy as sa
from optuna.trial import TrialState

from search.database import transactions
from search.database.leases import GRACE, all_leases, swap, trial_key
from search.database.storage import backend_of
from search.database.transactions import NOTHING_MORE, Claim, Reached
from search.study.folder import Folder
from search.study.limits import limits_of
from search.workers import crashes
from search.workers.lease_holder import CLOCK, Clock, LeaseHolder, leasing
from search.workers.stopping import StopRequest
from search.workers.usage import Usage

FINALIST = "finalist"  # counted in `stored` for what is not a trial


class Worker:
    """Claims trials of a study and stores their results.

    Each step is one transaction, and is refused if this worker no longer holds the lease.
    """

    def __init__(
        self,
        study: optuna.Study,
        holder: LeaseHolder,
        stop_request: StopRequest,
        stored: Counter[str],
    ) -> None:
        self.study, self.holder = study, holder
        self.backend, self.folder = holder.backend, holder.folder
        self.stop_request, self.stored = stop_request, stored

    @classmethod
    @contextmanager
    def joining(
        cls,
        study: optuna.Study,
        folder: Folder,
        stop_request: StopRequest | None = None,
        *,
        grace: float = GRACE,
        stored: Counter[str] | None = None,
        clock: Clock = CLOCK,
    ) -> Iterator[Self]:
        """A worker that beats within this context, and then gives back what it has not finished.

        Args:
            stop_request: by which it is asked to stop.
            grace: seconds without a beat after which others may take over.
            stored: counts what this worker stores: trials by state, and finalists' trainings.
        """
        stop_request = stop_request or StopRequest()
        usage = Usage(limits_of(study), stop_request, clock.now)
        with leasing(backend_of(study), folder, usage, grace, clock) as holder:
            yield cls(study, holder, stop_request, Counter() if stored is None else stored)

    @contextmanager
    def at_work(self, devices: int, *, in_process: bool) -> Iterator[None]:
        """Within this context students are trained, and a signal stops after the epoch.

        Args:
            devices: whose time is counted, all of them while anything trains.
            in_process: students are trained in this process, so its crash is a student's.

        Raises:
            Stopped: when the context ends, if a signal was received.
        """
        self.holder.usage.devices = devices
        with self.stop_request.handling_signals(), self._watched() if in_process else nullcontext():
            yield
        self.stop_request.raise_if_stopped()

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """Have a crash of this process leave its trace in the worker's file."""
        before = faulthandler.is_enabled()
        faulthandler.enable(self.holder.mark)
        try:
            yield
        finally:
            faulthandler.disable()
            if before and sys.__stderr__ is not None:
                faulthandler.enable(sys.__stderr__)

    def holds(self, key: str) -> bool:
        return key in self.holder.held

    def release(self, key: str) -> None:
        """Give back what is not finished: the next worker goes on from its checkpoint."""
        self.holder.release(key)

    def crashes(self, key: str) -> list[str]:
        """How earlier processes crashed that trained at a place, oldest first."""
        study = self.backend.study_id
        return self.backend.storage.read(lambda connection: crashes.crashes(connection, study, key))

    def add(self, most: int) -> Claim | None:
        """A queued or new trial; None if `most` have begun already."""
        study, holder = self.backend.study_id, self.holder

        def step(connection: sa.Connection) -> Claim | None:
            claim = transactions.unnoticed(connection, study, holder.name, holder.held)
            if claim is None and transactions.tally(connection, study).begun < most:
                claim = transactions.add_trial(connection, study, holder.new())
            return claim

        return self._held(holder.locked(step))

    def take_over(self) -> Claim | None:
        """The first unfinished trial whose worker has died or left; None if there is none."""
        study, holder = self.backend.study_id, self.holder

        def step(connection: sa.Connection) -> Claim | None:
            leases = all_leases(connection, study)
            for claim in transactions.running(connection, study):
                key = trial_key(claim.number)
                if key not in holder.held and holder.take(connection, key, leases.get(key)):
                    return claim
            return None

        return self._held(holder.locked(step))

    def _held(self, claim: Claim | None) -> Claim | None:
        if claim is not None:
            self.holder.hold(trial_key(claim.number))
        return claim

    def claim(self, key: str, result: str) -> bool:
        """Claim a training of a finalist; False if another worker has it or it is done.

        Args:
            result: the attribute that will hold its result.
        """
        study, holder = self.backend.study_id, self.holder

        def step(connection: sa.Connection) -> bool:
            if transactions.result(connection, study, result) is not None:
                return False
            lease = all_leases(connection, study).get(key)
            return holder.take(connection, key, lease, training=result)

        claimed = holder.locked(step)
        if claimed:
            holder.hold(key)
        return claimed

    def announce(self, key: str, training: str) -> bool:
        """Write into a lease what is trained; False if another worker is training the same."""
        study, holder = self.backend.study_id, self.holder

        def step(connection: sa.Connection) -> bool:
            leases = all_leases(connection, study)
            mine = leases.pop(key, None)
            if any(lease.training == training for lease in leases.values()):
                return False
            if mine is not None and holder.is_own(mine):
                swap(connection, study, key, mine, replace(mine, training=training))
            return True

        return holder.locked(step)

    def report(self, claim: Claim, step: int, value: float) -> bool:
        """Store a trial's accuracy after an epoch; False if it is no longer ours."""

        def attempt() -> bool:
            with self.backend.engine.begin() as connection:
                owned = self.holder.owns(connection, trial_key(claim.number))
                if owned:
                    transactions.report(connection, claim.trial_id, step, value)
            return owned

        kept = self.backend.storage.retry(attempt)
        if self.holder.usage.limited:
            self.backend.storage.retry(self.holder.renew)
        return kept

    def reached(self, step: int) -> list[Reached]:
        """Accuracies of the study's trials after the same epoch, as far as they are stored."""
        study = self.backend.study_id
        return self.backend.storage.read(lambda c: transactions.reached(c, study, step))

    def end(
        self,
        claim: Claim,
        state: TrialState,
        value: float | None,
        attributes: Mapping[str, object],
        publish: Callable[[], None],
        reported: Mapping[int, float] = NOTHING_MORE,
    ) -> bool:
        """Store a trial's end; False if it is no longer ours.

        Args:
            reported: accuracies by epoch that are not stored yet.
            publish: moves its files to their place, while nobody else can take the trial over.
        """
        trial_id, name = claim.trial_id, self.holder.name

        def is_stored(connection: sa.Connection) -> bool:
            return transactions.ended_by(connection, trial_id) == name

        def store(connection: sa.Connection) -> None:
            transactions.end_trial(connection, trial_id, state, value, attributes, reported, name)
            publish()

        return self._end(trial_key(claim.number), state.name, is_stored, store)

    def end_finalist(
        self, key: str, stored_as: str, row: object, publish: Callable[[], None]
    ) -> bool:
        """Store the result of a finalist's training; False if it is no longer ours."""
        study = self.backend.study_id

        def is_stored(connection: sa.Connection) -> bool:
            return transactions.result(connection, study, stored_as) is not None

        def store(connection: sa.Connection) -> None:
            transactions.write_result(connection, study, stored_as, row)
            publish()

        return self._end(key, FINALIST, is_stored, store)

    def _end(
        self,
        key: str,
        what: str,
        is_stored: Callable[[sa.Connection], bool],
        store: Callable[[sa.Connection], None],
    ) -> bool:
        study, holder = self.backend.study_id, self.holder

        def step(connection: sa.Connection) -> bool:
            lease = all_leases(connection, study).get(key)
            if lease is None or not holder.is_own(lease):
                # Done nevertheless, if the answer of an earlier attempt's commit was lost.
                return is_stored(connection)
            swap(connection, study, key, lease, None)
            store(connection)
            return True

        kept = holder.locked(step)
        holder.let_go(key)
        self.stored[what] += kept
        return kept

    def draft(self, key: str) -> str:
        """Where this worker writes a student's files, within the study's folder."""
        return f"{key}/{self.holder.name}.draft"

    @property
    def busy_elsewhere(self) -> bool:
        """Whether other workers have trials in training."""
        study = self.backend.study_id
        claims = self.backend.storage.read(lambda c: transactions.running(c, study))
        return any(not self.holds(trial_key(claim.number)) for claim in claims)
