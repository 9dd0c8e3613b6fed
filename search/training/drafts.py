"""Staging area: a student's files from when they are written until its row is committed.

Each worker writes into a folder of its own, so one that was stopped and goes on late overwrites
nothing of the worker that has taken its trial over.
"""

import shutil
from contextlib import suppress
from pathlib import Path

from search.study.folder import EXACT, STUDENT, Folder


def publish(folder: Folder, key: str, draft: str) -> None:
    """Move what a worker wrote to where it belongs, the student's file last. May be repeated."""
    own, written = folder.path / key, folder.path / draft
    for name in (EXACT, STUDENT):
        with suppress(FileNotFoundError):
            (written / name).replace(own / name)
    folder.keep(f"{key}/{EXACT}", f"{key}/{STUDENT}")
    discard(folder, draft)


def discard(folder: Folder, draft: str) -> None:
    shutil.rmtree(folder.path / draft, ignore_errors=True)


def abandoned(folder: Folder) -> list[Path]:
    """Drafts of workers that left nothing else behind."""
    return sorted(folder.path.glob("trial*/**/*.draft"))
