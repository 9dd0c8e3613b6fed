"""Addresses of study databases."""

from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError

DEFAULT_STORAGE = "studies.db"


def url_of(storage: str) -> str:
    """A SQLAlchemy address; a plain file name means SQLite."""
    return storage if "://" in storage else f"sqlite:///{storage}"


def masked(storage: str) -> str:
    """The address without its password, for people."""
    try:
        return sa.make_url(url_of(storage)).render_as_string(hide_password=True)
    except ArgumentError:
        return "(not a database address)"


def sqlite_path(storage: str) -> Path | None:
    """The database's file, or None where it is no SQLite file."""
    url = sa.make_url(url_of(storage))
    is_file = url.get_backend_name() == "sqlite" and url.database not in (None, "", ":memory:")
    return Path(str(url.database)) if is_file else None
