"""Processes of the tests' own, forked in a moment from a server that has imported what they need.

The server has no threads. A fork of the tests' process would have those of torch and of workers
only as locks that nobody gives back.
"""

import json
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from multiprocessing import forkserver
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any
from unittest import mock

import optuna
import sqlalchemy as sa
from optuna.trial import TrialState

from search.database.storage import open_storage
from search.study.folder import Folder
from search.workers.worker import Worker

PRELOADED = (
    *("forks", "commands", "members", "torch", "search.commands.search", "search.commands.resume"),
    *("alembic.command", "alembic.script", "sklearn.datasets"),
)


def server() -> Any:
    """What makes processes and events, as `multiprocessing` does."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(PRELOADED))
    alone = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    with mock.patch.dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path), **alone):
        forkserver.ensure_running()
    return context


def claim_all(address: str, folder: str, start: Event, out: str) -> None:
    """A process that takes queued trials until there are none."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.load_study(storage=open_storage(address, create=False), study_name="s")
    claimed = []
    with Worker.joining(study, Folder(address, "s", folder), grace=60) as worker:
        start.wait()
        while (claim := worker.add(80)) is not None:
            claimed.append(claim.number)
            assert worker.end(claim, TrialState.COMPLETE, 0.5, {"ended": "x"}, lambda: None)
    Path(out).write_text(" ".join(map(str, claimed)))


def run_command(
    folder: Path,
    arguments: tuple[str, ...],
    train: Callable[..., Any],
    limit: int | None,
    out: Path,
) -> None:
    """A process that runs a command of DistilNAS.

    Args:
        train: trains students.
        limit: writing transactions after which it dies; None for one that lives.
        out: is told status, both outputs and the number of transactions.
    """
    import torch
    from commands import inside

    from search.training import objective

    torch.set_num_threads(1)
    objective.train = train  # type: ignore[attr-defined]
    count = die_behind(limit)
    answer = inside(folder, *arguments)
    out.write_text(json.dumps([*answer, *count]))
    os._exit(0)


def die_behind(limit: int | None) -> list[int]:
    """Count the writing transactions; with a limit the next one is lost with the process.

    Returns a list whose only entry is the count.
    """
    count, writing = [0], [False]

    def executing(_: Any, cursor: Any, statement: str, *rest: Any) -> None:
        writing[0] |= statement.startswith(("INSERT", "UPDATE", "DELETE"))

    def committing(_: sa.Connection) -> None:
        if writing[0] and count[0] == limit:
            os.kill(os.getpid(), signal.SIGKILL)
        count[0] += writing[0]
        writing[0] = False

    sa.event.listen(sa.Engine, "before_cursor_execute", executing)
    sa.event.listen(sa.Engine, "commit", committing)
    return count
