"""Holding leases: beating while the process lives, and watching the beats of others."""

import math
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import BinaryIO, NamedTuple, TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from search.database.leases import BEATS, Lease, all_leases, grant, locked, swap
from search.database.storage import Backend
from search.study.folder import Folder
from search.workers import crashes
from search.workers.presence import boot, host, is_dead, marked, utc
from search.workers.usage import Usage

Result = TypeVar("Result")


class Clock(NamedTuple):
    """Time as a lease holder sees it; tests use one that they move themselves."""

    now: Callable[[], float] = time.monotonic  # seconds; it never jumps
    wait: Callable[[threading.Event, float], bool] = threading.Event.wait  # False: time is up


CLOCK = Clock()


class Sightings(NamedTuple):
    """When others' leases were last looked at, and since when each has not changed."""

    lapse: float  # seconds without a look after which earlier looks count for nothing
    at: float = -math.inf
    since: Mapping[str, tuple[Lease, float]] = {}

    def after(self, others: Mapping[str, Lease], now: float) -> "Sightings":
        """These sightings and one more look."""
        known = self.since if self._is_recent(now) else {}
        since = {
            key: known[key] if key in known and known[key][0] == lease else (lease, now)
            for key, lease in others.items()
        }
        return self._replace(at=now, since=since)

    def still(self, key: str, lease: Lease, now: float) -> float:
        """Seconds for which a lease was seen unchanged.

        0 if this process was stopped or the database away since: then no beat could be seen.
        """
        known, since = self.since.get(key, (None, now))
        return now - since if known == lease and self._is_recent(now) else 0.0

    def _is_recent(self, now: float) -> bool:
        return now - self.at < self.lapse


class LeaseHolder:
    """The leases of one process that trains for a study. `leasing` makes one that beats."""

    def __init__(
        self,
        backend: Backend,
        folder: Folder,
        usage: Usage,
        grace: float,
        clock: Clock,
        name: str,
        mark: BinaryIO,
    ) -> None:
        """Hold nothing yet.

        Args:
            usage: is counted while a lease is held, and told with every beat.
            grace: seconds without a beat after which others may take over.
            mark: of this process, in the study's folder.
        """
        self.backend, self.folder, self.usage = backend, folder, usage
        self.grace, self.clock, self.name, self.mark = grace, clock, name, mark
        self.held: frozenset[str] = frozenset()
        self.seen = Sightings(lapse=2 * grace / BEATS)
        self.lock = threading.RLock()  # the beating thread changes leases, too

    def locked(self, step: Callable[[sa.Connection], Result]) -> Result:
        """The result of a step during which no other worker can change leases.

        It is one transaction, tried again while the database is away.
        """

        def attempt() -> Result:
            with self._transaction() as connection:
                return step(connection)

        return self.backend.storage.retry(attempt)

    @contextmanager
    def _transaction(self) -> Iterator[sa.Connection]:
        with self.lock, locked(self.backend.engine, self.backend.study_id) as connection:
            yield connection

    def renew(self) -> None:
        """Beat once: for every lease held; look at the others; add to the study's account."""
        study = self.backend.study_id
        with self.lock:
            with locked(self.backend.engine, study) as connection:
                leases = all_leases(connection, study)
                kept = {key for key in self.held if self.is_own(leases.get(key))}
                for key in kept:
                    lease = leases.pop(key)
                    beaten = replace(lease, beat=lease.beat + 1, at=utc())
                    swap(connection, study, key, lease, beaten)
                self.usage.count(bool(self.held))
                training = bool(kept or leases)
                spent = self.usage.add_to(connection, study, training, self.grace)
            self.usage.added(spent)
            self.held = frozenset(kept)
            self.seen = self.seen.after(leases, self.clock.now())

    def beat(self, stopping: threading.Event) -> None:
        """Renew the leases again and again, in a thread."""
        while not self.clock.wait(stopping, self.grace / BEATS):
            with suppress(SQLAlchemyError):  # the database may be back at the next beat
                self.renew()

    def leave(self) -> None:
        """Give everything back."""
        with self._transaction() as connection:
            for key in self.held:
                self._give_back(connection, key)
        with self.lock:
            self._hold_only(frozenset())
        self.renew()

    def hold(self, key: str) -> None:
        """Beat for a lease that a transaction has taken."""
        with self.lock:
            self._hold_only(self.held | {key})

    def let_go(self, key: str) -> None:
        """Stop beating for a lease that was given back or lost."""
        with self.lock:
            self._hold_only(self.held - {key})

    def release(self, key: str) -> None:
        """Give back an unfinished training: the next worker goes on from its checkpoint."""
        self.locked(lambda connection: self._give_back(connection, key))
        self.let_go(key)

    def new(self, training: str = "") -> Lease:
        """A lease of this process.

        Args:
            training: what is trained there, where that is known.
        """
        return Lease(
            worker=self.name,
            host=host(),
            boot=boot(),
            grace=self.grace,
            training=training,
            at=utc(),
        )

    def is_own(self, lease: Lease | None) -> bool:
        return lease is not None and lease.worker == self.name

    def owns(self, connection: sa.Connection, key: str) -> bool:
        """Whether, by the database, a lease is still held here."""
        return self.is_own(all_leases(connection, self.backend.study_id).get(key))

    def take(
        self, connection: sa.Connection, key: str, lease: Lease | None, training: str = ""
    ) -> bool:
        """Take a lease that is free, our own, or abandoned; False if it is none of these.

        Args:
            lease: as the database has it; None where there is none.
            training: what is trained there, where that is known.
        """
        study = self.backend.study_id
        if lease is None:
            grant(connection, study, key, self.new(training))
            return True
        if not self.is_own(lease) and not self._is_abandoned(key, lease):
            return False
        taken = swap(connection, study, key, lease, self.new(training))
        if taken and not self.is_own(lease):
            crashes.note(connection, study, self.folder, key, lease)
        return taken

    def _hold_only(self, keys: frozenset[str]) -> None:
        self.usage.count(bool(self.held))
        self.held = keys

    def _is_abandoned(self, key: str, lease: Lease) -> bool:
        here = (lease.host, lease.boot) == (host(), boot())
        if here and is_dead(self.folder.worker(lease.worker)):
            return True
        return self.seen.still(key, lease, self.clock.now()) > lease.grace

    def _give_back(self, connection: sa.Connection, key: str) -> None:
        lease = all_leases(connection, self.backend.study_id).get(key)
        if lease is not None and self.is_own(lease):
            swap(connection, self.backend.study_id, key, lease, None)


@contextmanager
def leasing(
    backend: Backend, folder: Folder, usage: Usage, grace: float, clock: Clock
) -> Iterator[LeaseHolder]:
    """A lease holder that beats until it is left, and gives back what it holds then."""
    name = f"{host()}-{os.getpid()}-{secrets.token_hex(3)}"
    with marked(folder.worker(name)) as mark:
        holder = LeaseHolder(backend, folder, usage, grace, clock, name, mark)
        backend.storage.retry(holder.renew)
        stopping = threading.Event()
        thread = threading.Thread(target=holder.beat, args=(stopping,), daemon=True)
        thread.start()
        try:
            yield holder
        finally:
            stopping.set()
            thread.join(grace / BEATS)
            # If the database is away, others notice that this process has ended or beats no more.
            with suppress(SQLAlchemyError, OSError):
                holder.leave()
                folder.worker(name).unlink(missing_ok=True)
