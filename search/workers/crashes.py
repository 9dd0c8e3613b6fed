"""Students whose training crashes the process: tried once more, then failed.

While a student is trained in a worker's own process, Python's fault handler would write the trace
of a crash into the file that marks the worker as living (`search.workers.presence`). A kill, a
reboot or a power cut leaves that file empty: what they interrupt is always taken up again.
"""

import json
from collections.abc import Callable
from pathlib import Path

import sqlalchemy as sa

from search.database.leases import Lease, fact, write_fact
from search.study.folder import Folder

LIVES = 2  # processes that a training may cost by crashing
CRASHES = "crashes:"  # a system attribute of the study, by place: how processes crashed there
FATAL = "Fatal Python error: "


def crash(mark: Path) -> str | None:
    """How the process that marked a file crashed, e.g. `Segmentation fault`; None: it did not."""
    try:
        lines = mark.read_text(errors="replace").splitlines()
    except OSError:
        return None
    return lines[0].removeprefix(FATAL) if lines else None


def note(connection: sa.Connection, study: int, folder: Folder, key: str, before: Lease) -> None:
    """Keep how a lease's dead owner crashed, if it did; where the lease passes on.

    The owner may have held students, too, that waited for another one to be trained: a lease
    names what is in training, and only that is to blame.
    """
    how = crash(folder.worker(before.worker)) if before.training else None
    if how is not None:
        known = crashes(connection, study, key)
        write_fact(connection, study, CRASHES + key, json.dumps([*known, how]))


def crashes(connection: sa.Connection, study: int, key: str) -> list[str]:
    """How processes crashed that trained at a place, the first crash first."""
    return list(json.loads(fact(connection, study, CRASHES + key) or "[]"))


def failure(known: list[str], label: str, say: Callable[[str], None]) -> RuntimeError | None:
    """Why a student is not trained once more; None where it is."""
    if len(known) >= LIVES:
        return RuntimeError(f"its process crashed {len(known)} times ({known[-1]})")
    if known:
        say(f"{label}: its process crashed ({known[-1]}); trained once more")
    return None
