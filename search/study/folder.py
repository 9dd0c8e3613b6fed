"""Where a study's files lie: checkpoints, students, its copy of the teacher."""

import fcntl
import os
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

from search.database.address import sqlite_path
from search.study.object_store import Store, is_address
from space.errors import InputError
from space.fingerprint import fingerprint
from trainers.files import cache_errors

DEFAULT_CACHE, CACHE_VARIABLE = "~/.cache/distilnas", "DISTILNAS_CACHE"
ARTIFACTS = "artifacts"  # a study's attribute: where its files lie, if not beside the database
STUDENT, EXACT, CHECKPOINT = "student.safetensors", "exact.safetensors", "checkpoint.pt"
TEMPORARY_SECONDS = 600.0  # far longer than any file takes to write
LONGEST_NAME = 240  # bytes: file systems allow 255, and files have longer names while being written
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class Folder:
    """One study's folder: `runs/NAME` beside the SQLite file, or where the study says."""

    def __init__(self, storage: str, name: str, artifacts: str | None = None) -> None:
        """Find the folder; nothing is created.

        Args:
            artifacts: the folder or the store's address, if the study names one; otherwise the
                folder beside the SQLite file, or in the working directory.
        """
        check_name(name)
        database = sqlite_path(storage)
        self.path = (database.parent if database else Path()) / "runs" / name
        self.store: Store | None = None
        if artifacts is not None and is_address(artifacts):
            self.store = Store(artifacts)
            key = fingerprint(self.store.address)
            self.path = working_folder() / f"{name}-{key}"
        elif artifacts is not None:
            self.path = Path(artifacts)

    def fetch(self, *names: str) -> None:
        """Download those of the files that the store has; nothing without a store."""
        if self.store is not None:
            self._make()
            for name in names:
                self.store.get(name, self.path / name)

    def keep(self, *names: str) -> None:
        """Upload those of the files that are here; nothing without a store."""
        if self.store is not None:
            for name in names:
                if (self.path / name).exists():
                    self.store.put(self.path / name, name)

    def drop(self, name: str) -> None:
        """Remove a file, here and from the store."""
        (self.path / name).unlink(missing_ok=True)
        if self.store is not None:
            self.store.remove(name)

    def fetch_all(self) -> None:
        """Download all files of the store; nothing without one."""
        if self.store is not None:
            self.fetch(*self.store.names())

    def require(self, name: str) -> None:
        """Raise InputError if this machine does not have the folder."""
        if self.store is not None:
            self._make()
        if not self.path.is_dir():
            raise InputError(
                f"the files of study {name!r} must be in {self.path}, but this machine has no "
                "such folder; mount it, or say where it lies here: --artifacts FOLDER"
            )

    def _make(self) -> None:
        with nullcontext() if self.store is None else cache_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True)

    def trial(self, number: int) -> Path:
        return self.path / f"trial{number:04d}"

    def checkpoint(self, number: int) -> Path:
        return self.trial(number) / CHECKPOINT

    def student(self, number: int) -> Path:
        return self.trial(number) / STUDENT

    def exact(self, number: int) -> Path:
        """The student before it was quantised, for other storage formats."""
        return self.trial(number) / EXACT

    @property
    def best(self) -> Path:
        return self.path / "best.safetensors"

    def teacher(self, name: str) -> Path:
        """The study's own copy of one of its teachers."""
        return self.path / f"{name}.pt"

    def worker(self, name: str) -> Path:
        """The file that a worker of the study keeps locked while it lives."""
        return self.path / "workers" / name

    @contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """Held while a process creates the study; freed when that process ends, however it ends."""
        self._make()
        with (self.path / "lock").open("a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                file.seek(0)
                raise InputError(
                    f"study {name!r} must be made by one process, but process "
                    f"{file.read().strip() or '?'} is at it; join it when it has begun: "
                    f"distilnas worker {name}"
                ) from None
            file.truncate(0)
            file.write(str(os.getpid()))
            file.flush()
            yield

    def sweep(self, older: float = TEMPORARY_SECONDS) -> list[Path]:
        """Remove files that killed processes had begun to write, and return them.

        Args:
            older: seconds; a younger file may belong to a living process.
        """
        removed = []
        for temporary in self.path.rglob(".*.tmp"):
            with suppress(FileNotFoundError):
                if time.time() - temporary.stat().st_mtime >= older:
                    temporary.unlink()
                    removed.append(temporary)
        return removed


def expanded(given: str, flag: str) -> Path:
    """A folder that the user named, with `~` expanded.

    Raises:
        InputError: it is in the user's home, but this process has none. Names the flag.
    """
    try:
        return Path(given).expanduser()
    except RuntimeError:  # neither HOME nor an entry in the system's list of users
        raise InputError(
            f"{given} lies in the user's home, but this process has none (HOME is not set); "
            f"choose another folder: {flag}"
        ) from None


def cache_folder(given: str) -> Path:
    """The folder that `--cache` names. Raises InputError as `expanded` does."""
    return expanded(given, f"--cache FOLDER, or {CACHE_VARIABLE}")


def named_cache(given: str) -> tuple[str, ...]:
    """The flag that names this cache; () if it is found without a flag."""
    known = os.environ.get(CACHE_VARIABLE, DEFAULT_CACHE)
    return () if given == known else ("--cache", given)


def working_folder() -> Path:
    """Where this machine keeps files of studies that have theirs in a store."""
    return cache_folder(os.environ.get(CACHE_VARIABLE, DEFAULT_CACHE)) / "studies"


def require_writable(file: Path, beside: Sequence[str] = ()) -> None:
    """Raise InputError if a file, or a folder above it, could not be written later.

    Args:
        beside: endings of files that will be written beside it under the same name.
    """
    there = next((folder for folder in file.absolute().parents if os.path.exists(folder)), file)
    taken = file.suffix in beside
    why = f"{there} cannot be written" if not os.access(there, os.W_OK) else ""
    why = f"{there} is a file" if not there.is_dir() else why
    long = max(len(os.fsencode(part)) for part in (*file.parts, "")) > LONGEST_NAME
    why = "its name is too long" if long else why
    why = f"{file.suffix} is the ending of what is written beside it" if taken else why
    why = "it is a folder" if os.path.isdir(file) else why  # pathlib raises where a name is long
    if why:
        raise InputError(
            f"--out must be a file that can be written, but {file} cannot: {why}; choose another "
            "--out"
        )


def check_name(name: str, what: str = "a study") -> None:
    """Raise InputError for a name that no folder or file can have.

    Args:
        what: what is to be named, for the message.
    """
    if not NAME.fullmatch(name):
        raise InputError(
            f"{what}'s name must be up to 100 letters, digits, dots, dashes or underscores, "
            f"not beginning with a sign, but got {name!r}"
        )
