"""Addresses of study databases."""

import os
import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError

from space.errors import InputError, first_line

DEFAULT_STORAGE = "studies.db"
PREFIX = re.compile(r"(--[\w-]+=)?(sqlite[+\w]*:///)?")  # of a path
STORAGE_VARIABLE = "DISTILNAS_STORAGE"  # of the environment: the address, if no flag gives one


def at_home(text: str) -> str:
    """A path with its `~` expanded: alone, after a flag's `=`, or in an SQLite address.

    A shell expands it only at the beginning of a word.
    """
    before = PREFIX.match(text)
    assert before is not None, "it may match nothing at all"
    return before[0] + os.path.expanduser(text[before.end() :])


def url_of(storage: str) -> str:
    """A SQLAlchemy address; a plain file name means SQLite."""
    storage = at_home(storage)
    return storage if "://" in storage else f"sqlite:///{storage}"


def masked(storage: str) -> str:
    """The address without its password, for people."""
    try:
        return sa.make_url(url_of(storage)).render_as_string(hide_password=True)
    except ArgumentError:
        return "(not a database address)"


def command(verb: str, name: str, storage: str, *rest: str) -> str:
    """A command to type, with `--storage` if the database would not be found without it.

    A password is left out: it belongs in the environment (DISTILNAS_STORAGE).
    """
    known = {
        url_of(place) for place in (DEFAULT_STORAGE, os.environ.get(STORAGE_VARIABLE)) if place
    }
    place = [] if url_of(storage) in known else ["--storage", masked_for_shell(storage)]
    return shlex.join(["distilnas", *verb.split(), name, *rest, *place])


def masked_for_shell(storage: str) -> str:
    return storage if sqlite_path(storage) else masked(storage)


def sqlite_path(storage: str) -> Path | None:
    """The database's file; None if it is not an SQLite file."""
    url = sa.make_url(url_of(storage))
    is_file = url.get_backend_name() == "sqlite" and url.database not in (None, "", ":memory:")
    return Path(str(url.database)) if is_file else None


@contextmanager
def database_errors(storage: str) -> Iterator[None]:
    """Turn the database's errors into one line."""
    try:
        yield
    except ArgumentError:
        raise InputError(
            f"storage must be a file or a database address, but got {masked(storage)!r}; "
            "e.g. studies.db or postgresql+psycopg://user@host/studies"
        ) from None
    except (ImportError, RuntimeError) as error:
        if not isinstance(error, ImportError) and "optuna" not in str(error).lower():
            raise
        text = first_line(error)
        raise InputError(f"study database {masked(storage)} cannot be used: {text}") from None
    except SQLAlchemyError as error:
        raise _unusable(storage, error) from None
    except Exception as error:
        # Optuna's wrapper, by its name: this file must not import Optuna, which takes a second.
        if type(error).__name__ != "StorageInternalError":
            raise
        raise _unusable(storage, error.__cause__ or error) from None


def no_database(path: Path) -> InputError:
    """The error for a path that holds something else."""
    kind = "a folder" if path.is_dir() else "another kind of file"
    return InputError(
        f"{path} must be an SQLite database, but is {kind}; name another one: --storage FILE"
    )


def _unusable(storage: str, error: BaseException) -> InputError:
    cause = (error.orig if isinstance(error, DBAPIError) else None) or error
    text = first_line(cause)
    path = sqlite_path(storage)
    if path is not None and (path.is_dir() or "not a database" in text):
        return no_database(path)
    return InputError(f"study database {masked(storage)} cannot be used: {text}")
