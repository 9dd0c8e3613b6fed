"""The study database: Optuna's own storage, on SQLite hardened for processes that die.

What of Optuna's studies and trials is private to Optuna is used here alone.
"""

import os
import shlex
import sqlite3
import time
from collections.abc import Callable, Container, Mapping
from pathlib import Path
from typing import Any, Concatenate, NamedTuple, ParamSpec, TypeVar

import optuna
import sqlalchemy as sa
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import (
    DBAPIError,
    IntegrityError,
    InterfaceError,
    OperationalError,
    ProgrammingError,
)

from search.database.address import database_errors, masked, no_database, sqlite_path, url_of
from search.database.engine import readable
from search.database.frozen_trials import read_trials
from search.database.leases import Lease, all_leases
from search.database.retry import Retry
from space.errors import InputError, first_line

Result = TypeVar("Result")
Asked = ParamSpec("Asked")

READING = "distilnas_reading"  # an option of connections: the transaction only reads
PATIENCE_SECONDS = 600.0  # that a database may be away
# Of SQLite: another attempt mends none of these.
LASTING = ("disk is full", "readonly database", "no such table", "malformed", "not a database")
LOCK_SECONDS = 60  # that SQLite waits for the transaction of another process
TABLES_SECONDS = 2  # that another process takes to create the tables
LIBPQ = ("psycopg", "psycopg2")
# Notices a server that vanished without closing its connections: libpq itself waits two hours.
SERVER_SECONDS = {
    "connect_timeout": 10,
    "keepalives_idle": 20,
    "keepalives_interval": 5,
    "keepalives_count": 4,
}


def passing(error: Exception) -> str | None:
    """Why the database may answer the same question a little later; None: it would not."""
    cause = error if isinstance(error, DBAPIError) else error.__cause__  # in Optuna's wrapper
    if not isinstance(cause, DBAPIError):
        return None
    is_away = isinstance(cause, OperationalError | InterfaceError) or cause.connection_invalidated
    if not is_away or any(words in str(cause.orig) for words in LASTING):
        return None
    return first_line(cause.orig or cause)


def _retried(
    method: Callable[Concatenate[RDBStorage, Asked], Result],
) -> Callable[Concatenate["RetryingStorage", Asked], Result]:
    """A method of Optuna's storage, tried again while the database is away.

    It must be one transaction, which may be done twice.
    """

    def retried(self: "RetryingStorage", /, *args: Asked.args, **kwargs: Asked.kwargs) -> Result:
        return self.retry(lambda: method(self, *args, **kwargs))

    return retried


class RetryingStorage(RDBStorage):
    """Optuna's storage, whose methods wait for a database that is away."""

    def __init__(
        self, url: str, engine_kwargs: Mapping[str, object], *, read_only: bool = False
    ) -> None:
        self.retry = Retry("the study database", passing, PATIENCE_SECONDS)
        self.read_only = read_only
        super().__init__(url, engine_kwargs=dict(engine_kwargs))

    # All that Optuna asks while a study runs.
    set_study_user_attr = _retried(RDBStorage.set_study_user_attr)
    set_study_system_attr = _retried(RDBStorage.set_study_system_attr)
    get_study_id_from_name = _retried(RDBStorage.get_study_id_from_name)
    get_study_name_from_id = _retried(RDBStorage.get_study_name_from_id)
    get_study_directions = _retried(RDBStorage.get_study_directions)
    get_study_user_attrs = _retried(RDBStorage.get_study_user_attrs)
    get_study_system_attrs = _retried(RDBStorage.get_study_system_attrs)
    get_all_studies = _retried(RDBStorage.get_all_studies)
    set_trial_intermediate_value = _retried(RDBStorage.set_trial_intermediate_value)
    set_trial_user_attr = _retried(RDBStorage.set_trial_user_attr)
    set_trial_system_attr = _retried(RDBStorage.set_trial_system_attr)
    get_trial = _retried(RDBStorage.get_trial)
    get_trial_id_from_study_id_trial_number = _retried(
        RDBStorage.get_trial_id_from_study_id_trial_number
    )
    _get_best_trial_id = _retried(RDBStorage._get_best_trial_id)
    _set_trial_param = _retried(RDBStorage._set_trial_param)

    def _get_trials(
        self,
        study_id: int,
        states: Container[TrialState] | None,
        included_trial_ids: set[int],
        trial_id_greater_than: int,
    ) -> list[FrozenTrial]:
        return self.read(
            lambda connection: read_trials(
                connection, study_id, states, included_trial_ids, trial_id_greater_than
            )
        )

    def read(self, question: Callable[[sa.Connection], Result]) -> Result:
        """The answer to a question that only reads, in one transaction."""

        def ask() -> Result:
            with self.engine.connect().execution_options(**{READING: True}) as connection:
                return question(connection)

        return self.retry(ask)


class Backend(NamedTuple):
    """The database of one study."""

    storage: RetryingStorage
    study_id: int

    @property
    def engine(self) -> sa.Engine:
        return self.storage.engine

    @property
    def facts(self) -> dict[str, Any]:
        """The study's system attributes."""
        return self.storage.get_study_system_attrs(self.study_id)

    @property
    def leases(self) -> dict[str, Lease]:
        """Place -> lease."""
        return self.storage.read(lambda connection: all_leases(connection, self.study_id))

    def whole(self, trial: FrozenTrial) -> FrozenTrial:
        """A trial with all its attributes; some are left out when all trials are read."""
        return self.storage.get_trial(trial._trial_id)


def backend_of(study: optuna.Study) -> Backend:
    """The database of a study that was opened by `open_storage`."""
    storage = getattr(study._storage, "_backend", None)
    assert isinstance(storage, RetryingStorage), "studies are opened by open_storage"
    return Backend(storage, study._study_id)


def open_trial(
    study: optuna.Study, trial_id: int, sampler: optuna.samplers.BaseSampler
) -> optuna.Trial:
    """An existing trial whose parameters `sampler` draws, as `Study.ask` returns a new one.

    The study keeps the sampler.
    """
    study.get_trials(deepcopy=False)  # Optuna must have seen a trial that it fills
    study._thread_local.cached_all_trials = None  # as in `ask`: samplers keep an old list
    study.sampler = sampler
    return optuna.Trial(study, trial_id)


def stored(trial: optuna.Trial) -> FrozenTrial:
    """What is stored of a trial so far; works with any of Optuna's storages."""
    return trial.storage.get_trial(trial._trial_id)


def open_storage(storage: str, *, create: bool, to_look: bool = False) -> RetryingStorage:
    """Open the study database.

    Args:
        create: make a SQLite file that does not exist; without it that is an error.
        to_look: open a SQLite file read-only if it cannot be written.

    Raises:
        InputError: not an address, no such database, or a file that is not one.
    """
    with database_errors(storage):
        path = sqlite_path(storage)
        if path is not None and not create and not path.exists():
            raise InputError(f"study database {path} does not exist; begin with: distilnas search")
        if path is None:
            return _open_server(storage, create)
        if to_look and not _is_writable(path):
            return RetryingStorage(readable(path), {}, read_only=True)
        return _open_sqlite(url_of(storage), path)


def reachable(storage: str) -> RetryingStorage | None:
    """The database, which is not created: None if it does not exist yet.

    Raises:
        InputError: it can neither be opened nor created.
    """
    with database_errors(storage):
        path = sqlite_path(storage)
        if path is None:
            with sa.create_engine(url_of(storage), poolclass=sa.NullPool).connect() as connection:
                has_tables = sa.inspect(connection).has_table("version_info")
            return _open_server(storage, create=False) if has_tables else None
        if path.exists():
            return _open_sqlite(url_of(storage), path)
        _require_folder(path)
    return None


def exists(storage: str) -> bool:
    """Whether there may be studies: a SQLite file that is there, or any server."""
    with database_errors(storage):
        path = sqlite_path(storage)
    return path is None or path.exists()


def _open_server(storage: str, create: bool) -> RetryingStorage:
    url = url_of(storage)
    options: dict[str, object] = {"pool_pre_ping": True}
    if sa.make_url(url).get_driver_name() in LIBPQ:
        options["connect_args"] = SERVER_SECONDS
    if not create:
        engine = sa.create_engine(url, poolclass=sa.NullPool, **options)
        if not sa.inspect(engine).has_table("version_info"):
            raise InputError(
                f"database {masked(storage)} holds no studies; begin with: distilnas search"
            )
    try:
        return RetryingStorage(url, options)
    except (ProgrammingError, IntegrityError):  # another process is creating the tables
        time.sleep(TABLES_SECONDS)
        return RetryingStorage(url, options)


def _open_sqlite(url: str, path: Path) -> RetryingStorage:
    if path.exists() and not _is_writable(path):
        raise InputError(
            f"study database {path} must be writable, with its folder, but is not; check its rights"
        )
    _require_folder(path)
    if path.exists() and path.stat().st_size == 1:  # SQLite takes it for an empty one
        raise no_database(path)
    # The file must only be opened by SQLite: closing it after `open` would drop the locks of all
    # connections that this process has to it, and let others write in between.
    engine_kwargs = {"connect_args": {"timeout": LOCK_SECONDS}}
    storage = RetryingStorage(url, engine_kwargs)
    sa.event.listen(storage.engine, "connect", _on_connect)
    sa.event.listen(storage.engine, "begin", _on_begin)
    storage.engine.dispose()  # closes connections that were opened before the listeners
    return storage


def _is_writable(path: Path) -> bool:
    """Whether the file and its folder can be written: SQLite's log is beside the file."""
    return os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)


def _require_folder(path: Path) -> None:
    if not path.parent.is_dir():
        raise InputError(
            f"study database {path} must lie in a folder that is there, but {path.parent} is not; "
            f"make it: mkdir -p {shlex.quote(str(path.parent))}"
        )
    if not os.access(path.parent, os.W_OK):
        raise InputError(
            f"study database {path} must lie in a folder that can be written, but {path.parent} "
            "cannot; choose another one: --storage FILE"
        )


def _on_connect(connection: sqlite3.Connection, record: object) -> None:
    connection.isolation_level = None  # the driver must not begin transactions by itself
    connection.execute("PRAGMA journal_mode=WAL")


def _on_begin(connection: sa.Connection) -> None:
    # Takes the write lock at once, so that no two processes get the same queued trial.
    reading = connection.get_execution_options().get(READING)
    connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")
