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
from search.terminal.spreadsheet import write_csv
from space.errors import InputError

FILE, ARCHITECTURE = "file", "architecture"


class Download(NamedTuple):
    """What an id stands for."""

    study: int
    trial: int
    kind: str


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
        if self.opened(view.subject.name, number) is not None:
            offers.append(("student.safetensors", self._id(Download(study, number, FILE))))
        if isinstance(view.row["architecture"], dict):
            offers.append(("architecture.json", self._id(Download(study, number, ARCHITECTURE))))
        return offers

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
        if wanted.kind == ARCHITECTURE:
            text = json.dumps(view.row["architecture"], indent=2)
            return attachment(text.encode(), f"{stem}.json", "application/json")
        content = self.opened(view.subject.name, wanted.trial)
        if content is None:
            abort(404)
        return attachment(content, f"{stem}.safetensors", "application/octet-stream")

    def opened(self, study: str, number: int) -> bytes | None:
        """A student's file; None if there is none, or if a symbolic link is on the way."""
        try:
            folder = folder_of(self.library.engine, self.library.storage, study)
        except InputError:
            return None  # no study of ours can have this name, so it has no files
        return read_regular(folder.path, [folder.trial(number).name, STUDENT])


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
