"""Where a study's files lie: checkpoints, students, its copy of the teacher."""

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from search.addresses import sqlite_path
from space.errors import InputError

STUDENT, EXACT, CHECKPOINT = "student.safetensors", "exact.safetensors", "checkpoint.pt"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class Folder:
    """One study's folder: `runs/NAME` beside the SQLite file, or in the working directory."""

    def __init__(self, storage: str, name: str) -> None:
        check_name(name)
        database = sqlite_path(storage)
        self.path = (database.parent if database else Path()) / "runs" / name

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

    @contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """Held while a process trains for the study; the kernel frees it when the process dies."""
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / "lock").open("a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                file.seek(0)
                raise InputError(
                    f"study {name!r} must be worked on by one process at a time, but process "
                    f"{file.read().strip() or '?'} is at it; wait for it or stop it"
                ) from None
            file.truncate(0)
            file.write(str(os.getpid()))
            file.flush()
            self._sweep()
            try:
                yield
            finally:
                self._sweep()  # of a crew's processes that were stopped

    def _sweep(self) -> None:
        """Remove what a killed process had begun to write."""
        for temporary in self.path.rglob(".*.tmp"):
            temporary.unlink(missing_ok=True)


def check_name(name: str) -> None:
    """Raise InputError for a study name that cannot be a folder's name."""
    if not NAME.fullmatch(name):
        raise InputError(
            "a study's name must be up to 100 letters, digits, dots, dashes or underscores, "
            f"not beginning with a sign, but got {name!r}"
        )
