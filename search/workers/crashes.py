"""Students whose training crashes the process: tried once more, then failed.

While a student is trained in a worker's own process, Python's fault handler writes the trace of a
crash into the file that marks the worker as living (`search.workers.presence`). A kill, a reboot
or a power cut leaves that file empty, and what it interrupts is always continued.
"""

import json
from collections.abc import Callable
from pathlib import Path

import sqlalchemy as sa

from search.database.leases import Lease, fact, write_fact
from search.study.folder import Folder

LIVES = 2  # crashes of its process after which a student has failed
CRASHES = "crashes:"  # a system attribute of the study, by place: how processes crashed there
FATAL = "Fatal Python error: "


def crash(mark: Path) -> str | None:
    """How the process that marked a file crashed, e.g. `Segmentation fault`; None if it did not."""
    try:
        lines = mark.read_text(errors="replace").splitlines()
    except OSError:
        return None
    return lines[0].removeprefix(FATAL) if lines else None


def note(connection: sa.Connection, study: int, folder: Folder, key: str, before: Lease) -> None:
    """When a lease is taken over: record how its dead owner crashed, if it did.

    The owner may also have held trials that were waiting for another student. Only a lease that
    names what was in training is blamed.
    """
    how = crash(folder.worker(before.worker)) if before.training else None
    if how is not None:
        known = crashes(connection, study, key)
        write_fact(connection, study, CRASHES + key, json.dumps([*known, how]))


def crashes(connection: sa.Connection, study: int, key: str) -> list[str]:
    """How processes crashed that trained at a place, oldest first."""
    return list(json.loads(fact(connection, study, CRASHES + key) or "[]"))


def failure(known: list[str], label: str, say: Callable[[str], None]) -> RuntimeError | None:
    """Why a student is not trained again; None if it is, which `say` is told after a crash."""
    if len(known) >= LIVES:
        return RuntimeError(f"its process crashed {len(known)} times ({known[-1]})")
    if known:
        say(f"{label}: its process crashed ({known[-1]}); trained once more")
    return None
