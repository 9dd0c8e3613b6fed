"""The study database opened for reading only: nothing is written, not even beside the file."""

import atexit
import os
import shutil
import tempfile
from pathlib import Path
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy.exc import OperationalError

from search.database.address import sqlite_path, url_of
from space.errors import InputError


def open_engine(storage: str) -> sa.Engine:
    """The database for reading; a SQLite file is opened read-only.

    Raises:
        InputError: there is no such file, or it may not be read.
    """
    path = sqlite_path(storage)
    url = url_of(storage) if path is None else readable(path)
    return sa.create_engine(url, poolclass=sa.NullPool)


def readable(path: Path) -> str:
    """The address at which a SQLite file can be read, also where nothing can be written.

    A reader of a database in WAL mode shares a file with the writers, beside the database. If that
    file is missing and cannot be made, nobody is writing: the database is then read as it is, or,
    if a killed process left transactions in its log, from a copy.
    """
    if not path.exists():
        raise InputError(f"study database {path} does not exist; begin with: distilnas search")
    if not os.access(path, os.R_OK):
        raise InputError(f"study database {path} may not be read by this user; check its rights")
    shared = _address(path)
    if _answers(shared):
        return shared
    log = path.with_name(f"{path.name}-wal")
    if not log.exists() or not log.stat().st_size:
        return _address(path, "&immutable=1")
    folder = Path(tempfile.mkdtemp(prefix="distilnas-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for file in (path, log):
        shutil.copyfile(file, folder / file.name)
    return _address(folder / path.name)


def _address(path: Path, *options: str) -> str:
    # Quoted twice: SQLAlchemy's address holds SQLite's.
    return f"sqlite:///file:{quote(quote(str(path.resolve())))}?mode=ro&uri=true{''.join(options)}"


def _answers(url: str) -> bool:
    try:
        with sa.create_engine(url, poolclass=sa.NullPool).connect() as connection:
            connection.execute(sa.text("SELECT COUNT(*) FROM sqlite_master"))
    except OperationalError as error:
        return "unable to open" not in str(error.orig) and "readonly" not in str(error.orig)
    except sa.exc.DatabaseError:
        return True  # not a database, as whoever reads it will report
    return True
