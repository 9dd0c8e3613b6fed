"""Who holds leases: beats as long as it lives, and sees who else does."""

import math
import os
import secrets
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from types import TracebackType
from typing import BinaryIO, Self

import optuna
import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from search.database.leases import BEATS, GRACE, Lease, all_leases, grant, locked, swap
from search.database.storage import backend_of
from search.study.folder import Folder
from search.study.limits import account, limits_of
from search.workers import crashes
from search.workers.presence import boot, host, is_dead, marked, now
from search.workers.stopping import StopRequest

NOTHING: tuple[Lease | None, float] = (None, 0.0)


class LeaseHolder:
    """A process that trains for a study, as the study's other workers see it."""

    def __init__(
        self,
        study: optuna.Study,
        folder: Folder,
        stop_request: StopRequest | None = None,
        *,
        grace: float = GRACE,
    ) -> None:
        """Take a study.

        Args:
            stop_request: who asks it to leave.
            grace: seconds without a sign of life after which others may take over.
        """
        self.study, self.folder = study, folder
        self.storage, self.study_id = backend_of(study)
        self.engine = self.storage.engine
        self.grace, self.devices = grace, 1  # devices that it trains on, for the study's account
        self.host, self.boot = host(), boot()
        self.name = f"{self.host}-{os.getpid()}-{secrets.token_hex(3)}"
        self.stop_request = stop_request or StopRequest()
        self.limits = limits_of(study.user_attrs)
        self.held: dict[str, Lease] = {}
        # Others' leases, and since when they are unchanged; when they were looked at.
        self.still: dict[str, tuple[Lease | None, float]] = {}
        self.watched = -math.inf
        self.used, self.counted = 0.0, time.monotonic()  # device seconds that are not told yet
        self.lock = threading.RLock()
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self._beat, daemon=True)
        self.mark: BinaryIO | None = None

    def __enter__(self) -> Self:
        self.mark = marked(self.folder.worker(self.name))
        self.storage.retry(self.renew)
        self.thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stopping.set()
        self.thread.join(self.grace / BEATS)
        try:
            for key in list(self.held):
                self._release(key)
            self.renew()
        except (SQLAlchemyError, OSError):
            return  # others see that this process is dead, or its beat stand still
        assert self.mark is not None, "entered before it is left"
        self.folder.worker(self.name).unlink(missing_ok=True)
        self.mark.close()

    def holds(self, key: str) -> bool:
        return key in self.held

    def release(self, key: str) -> None:
        """Give back what is not finished: the next worker goes on from its checkpoint."""
        self.storage.retry(lambda: self._release(key))

    def renew(self) -> None:
        """Beat once: raise every lease's count, look at the others', keep the account."""
        with self.lock:
            kept: dict[str, Lease] = {}
            with locked(self.engine, self.study_id) as connection:
                leases = all_leases(connection, self.study_id)
                for key in self.held:
                    lease = leases.pop(key, None)
                    if lease is not None and lease.worker == self.name:
                        kept[key] = replace(lease, beat=lease.beat + 1, at=now())
                        swap(connection, self.study_id, key, lease, kept[key])
                self._count()
                training = bool(kept or leases)
                spent = account(connection, self.study_id, self.used, training, self.grace)
            self.held, self.used = kept, 0.0
            self._watch(leases)
            self.stop_request.limit = self.limits.reached(spent)

    def _beat(self) -> None:
        while not self.stopping.wait(self.grace / BEATS):
            with suppress(SQLAlchemyError):  # the next beat may find the database
                self.renew()

    def _watch(self, others: Mapping[str, Lease]) -> None:
        known = self.still if self._is_watching else {}
        self.watched = time.monotonic()
        self.still = {
            key: known[key] if known.get(key, NOTHING)[0] == lease else (lease, self.watched)
            for key, lease in others.items()
        }

    @property
    def _is_watching(self) -> bool:
        """False where this process was stopped, or the database away: nobody could be seen."""
        return time.monotonic() - self.watched < 2 * self.grace / BEATS

    def _count(self) -> None:
        """Count device seconds up to now, to be told to the database with the next beat."""
        seconds, self.counted = time.monotonic() - self.counted, time.monotonic()
        self.used += seconds * self.devices if self.held else 0.0

    def _lease(self, training: str = "") -> Lease:
        own = Lease(worker=self.name, host=self.host, boot=self.boot, grace=self.grace, at=now())
        return replace(own, training=training)

    def _hold(self, key: str) -> None:
        with self.lock:
            self._count()
            self.held.setdefault(key, self._lease())

    def _taken(
        self, connection: sa.Connection, key: str, lease: Lease | None, training: str = ""
    ) -> bool:
        """Take a lease that nobody has, that is ours, or whose owner is dead.

        Args:
            training: what is trained there, where that is known.
        """
        if lease is None:
            grant(connection, self.study_id, key, self._lease(training))
            return True
        if lease.worker != self.name and not self._is_abandoned(key, lease):
            return False
        taken = swap(connection, self.study_id, key, lease, self._lease(training))
        if taken and lease.worker != self.name:
            crashes.note(connection, self.study_id, self.folder, key, lease)
        return taken

    def _is_abandoned(self, key: str, lease: Lease) -> bool:
        here = (lease.host, lease.boot) == (self.host, self.boot)
        if here and is_dead(self.folder.worker(lease.worker)):
            return True
        kept, since = self.still.get(key, NOTHING)
        unchanged = kept == lease and time.monotonic() - since > lease.grace
        return unchanged and self._is_watching

    def _owns(self, connection: sa.Connection, key: str) -> bool:
        lease = all_leases(connection, self.study_id).get(key)
        return lease is not None and lease.worker == self.name

    def _release(self, key: str) -> None:
        with self.lock, locked(self.engine, self.study_id) as connection:
            lease = all_leases(connection, self.study_id).get(key)
            if lease is not None and lease.worker == self.name:
                swap(connection, self.study_id, key, lease, None)
        self._settled(key, True)

    def _settled(self, key: str, ours: bool) -> bool:
        with self.lock:
            self._count()
            self.held.pop(key, None)
        return ours
