"""The study database: Optuna's own schema, on SQLite hardened for processes that die."""

import os
import shlex
import time
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError, ProgrammingError

from search.database.address import database_errors, masked, no_database, sqlite_path, url_of
from search.database.engine import readable
from search.database.retry import READING, Retry, RetryingStorage
from space.errors import InputError

LOCK_SECONDS = 60  # that SQLite waits for another process's transaction
TABLES_SECONDS = 2  # that a server takes to make them
LIBPQ = ("psycopg", "psycopg2")
# A server that vanished without a word must be noticed: libpq's own patience is two hours.
SERVER_SECONDS = {
    "connect_timeout": 10,
    "keepalives_idle": 20,
    "keepalives_interval": 5,
    "keepalives_count": 4,
}


def open_storage(storage: str, *, create: bool, to_look: bool = False) -> RetryingStorage:
    """Open the study database.

    Args:
        create: make a SQLite file that does not exist; without it that is an error.
        to_look: a SQLite file that cannot be written will do: it is opened read-only.

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
            return RetryingStorage(readable(path), Retry(), {}, read_only=True)
        return _open_sqlite(url_of(storage), path)


def reachable(storage: str) -> RetryingStorage | None:
    """The database, opened and made by nobody: None where it is yet to be made.

    Raises:
        InputError: it can neither be opened nor made.
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
    options: dict[str, Any] = {"pool_pre_ping": True}
    if sa.make_url(url).get_driver_name() in LIBPQ:
        options["connect_args"] = SERVER_SECONDS
    if not create:
        engine = sa.create_engine(url, poolclass=sa.NullPool, **options)
        if not sa.inspect(engine).has_table("version_info"):
            raise InputError(
                f"database {masked(storage)} holds no studies; begin with: distilnas search"
            )
    try:
        return RetryingStorage(url, Retry(), options)
    except (ProgrammingError, IntegrityError):  # another process makes the tables just now
        time.sleep(TABLES_SECONDS)
        return RetryingStorage(url, Retry(), options)


def _open_sqlite(url: str, path: Path) -> RetryingStorage:
    if path.exists() and not _is_writable(path):
        raise InputError(
            f"study database {path} must be writable, with its folder, but is not; check its rights"
        )
    _require_folder(path)
    if path.exists() and path.stat().st_size == 1:  # SQLite takes it for an empty one
        raise no_database(path)
    # The file must not be opened here by any other way than SQLite's: closing it would give up the
    # locks of every connection that this process has to it, and with them what others may not do.
    engine_kwargs = {"connect_args": {"timeout": LOCK_SECONDS}}
    storage = RetryingStorage(url, Retry(), engine_kwargs)
    sa.event.listen(storage.engine, "connect", _on_connect)
    sa.event.listen(storage.engine, "begin", _on_begin)
    storage.engine.dispose()  # connections from before the listeners
    return storage


def _is_writable(path: Path) -> bool:
    """SQLite's log lies beside the file."""
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


def _on_connect(connection: Any, record: Any) -> None:
    connection.isolation_level = None  # the driver must not begin transactions by itself
    connection.execute("PRAGMA journal_mode=WAL")


def _on_begin(connection: sa.Connection) -> None:
    # Taking the write lock at once is what keeps one queued trial from reaching two processes.
    reading = connection.get_execution_options().get(READING)
    connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")
