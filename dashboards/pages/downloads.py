"""Downloads: data of charts as CSV; a trial's file and architecture under random ids."""

import io
import json
import os
import secrets
import stat
from pathlib import Path
from threading import Lock
from typing import NamedTuple

import pandas as pd
from flask import Response, abort

from dashboards.library import Library, folder_of
from dashboards.views import TrialView
from search.study.folder import STUDENT
from search.study.ranking import seed_key
from search.terminal.spreadsheet import write_csv
from space.errors import InputError

FILE, ARCHITECTURE = "file", "architecture"


class Download(NamedTuple):
    """What an id stands for."""

    study: int
    trial: int
    kind: str
    seed: int | None = None  # the further seed that a file is of


class Downloads:
    """Makes random ids for what a page offers, and serves nothing else."""

    def __init__(self, library: Library) -> None:
        self.library = library
        self.ids: dict[Download, str] = {}
        self.lock = Lock()

    def of(self, view: TrialView) -> list[tuple[str, str]]:
        """(file name, id) of each file that a trial has."""
        study, number = view.subject.identity, int(view.row["number"])
        offers = []
        key = self.file_of(study, number)
        if key is not None:
            offers.append(("student.safetensors", key))
        if isinstance(view.row["architecture"], dict):
            offers.append(("architecture.json", self._id(Download(study, number, ARCHITECTURE))))
        return offers

    def file_of(self, study: int, trial: int, seed: int | None = None) -> str | None:
        """The id of a student's file; None if there is none.

        Args:
            seed: the further seed that it is of; None: the trial's own.
        """
        name = self.library.name(study)
        found = self.opened(name, trial, seed)
        return None if found is None else self._id(Download(study, trial, FILE, seed))

    def _id(self, wanted: Download) -> str:
        with self.lock:
            return self.ids.setdefault(wanted, secrets.token_urlsafe(16))

    def serve(self, key: str) -> Response:
        """The answer to a request for an id."""
        with self.lock:
            wanted = next((wanted for wanted, known in self.ids.items() if known == key), None)
        if wanted is None:
            abort(404)
        view = self.library.trial(wanted.study, wanted.trial)
        stem = f"{safe_name(view.subject.name)}-trial{wanted.trial:04d}"
        stem += "" if wanted.seed is None else f"-seed{wanted.seed}"
        if wanted.kind == ARCHITECTURE:
            text = json.dumps(view.row["architecture"], indent=2)
            return attachment(text.encode(), f"{stem}.json", "application/json")
        content = self.opened(view.subject.name, wanted.trial, wanted.seed)
        if content is None:
            abort(404)
        return attachment(content, f"{stem}.safetensors", "application/octet-stream")

    def opened(self, study: str, number: int, seed: int | None = None) -> bytes | None:
        """A student's file; None if there is none, or if a symbolic link is on the way."""
        try:
            folder = folder_of(self.library.engine, self.library.storage, study)
        except InputError:
            return None  # no study of ours can have this name, so it has no files
        place = folder.trial(number).name if seed is None else seed_key(number, seed)
        return read_regular(folder.path, [*place.split("/"), STUDENT])


def read_regular(folder: Path, parts: list[str]) -> bytes | None:
    """A regular file below a folder; None if there is none, or a symbolic link is on the way."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
    opened: list[int] = []
    try:
        opened.append(os.open(folder, flags | os.O_DIRECTORY))
        for part in parts[:-1]:
            opened.append(os.open(part, flags | os.O_DIRECTORY, dir_fd=opened[-1]))
        opened.append(os.open(parts[-1], flags | os.O_NONBLOCK, dir_fd=opened[-1]))
        if not stat.S_ISREG(os.fstat(opened[-1]).st_mode):
            return None
        with os.fdopen(os.dup(opened[-1]), "rb") as file:
            return file.read()
    except OSError:
        return None
    finally:
        for descriptor in opened:
            os.close(descriptor)


def csv_of(data: pd.DataFrame, name: str) -> Response:
    """A picture's data as a CSV file."""
    text = io.StringIO()
    write_csv(data, text)
    return attachment(text.getvalue().encode(), f"{safe_name(name)}.csv", "text/csv")


def attachment(content: bytes, name: str, kind: str) -> Response:
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Response(content, mimetype=kind, headers=headers)


def safe_name(name: str) -> str:
    """A study's name as a part of a file's name."""
    kept = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "_" for c in name)
    return kept.strip("._")[:80] or "study"
