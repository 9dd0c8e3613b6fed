"""Who trains the students of a search: this process, or several (`search.workers.processes`).

An executor is given jobs and reports on them by callbacks, which it calls in this process, one at
a time. So a search is one loop without threads, however many students are trained at once.
"""

import time
from collections.abc import Callable
from types import TracebackType
from typing import Protocol

from search.database.retry import pauses
from search.training.context import TrainingContext
from search.training.job import Job
from search.training.objective import train_student
from search.training.row import Trained
from space.errors import first_line
from trainers.engine.result import Report, StopTraining

# These fail one student and must not end the search: PyTorch's errors, and too little memory.
FAILURES = (RuntimeError, MemoryError)
Failure = RuntimeError | MemoryError
Done = Callable[[Trained | Failure | StopTraining], None]


class Executor(Protocol):
    """Trains students; a context manager that ends every process that it started."""

    @property
    def free(self) -> int:
        """Jobs that can be started now."""
        ...

    @property
    def devices(self) -> int:
        """Number of devices that it trains on; all cores of a machine count as one."""
        ...

    @property
    def in_process(self) -> bool:
        """Whether students are trained in this process."""
        ...

    @property
    def running(self) -> int:
        """Jobs that were started and have not ended."""
        ...

    def start(self, job: Job, report: Report, done: Done) -> None:
        """Train a student, from its checkpoint where it has one.

        Args:
            report: called after every epoch; returning True ends the training as pruned. It may
                raise `StopTraining`.
            done: called once, with what was trained, why the student failed, or the
                `StopTraining` that `report` raised.
        """
        ...

    def wait(self, seconds: float | None = None) -> None:
        """Wait for a report, an end or so many seconds, and call the callbacks.

        Raises:
            InputError, OSError: what would fail every student, such as a full disk or a cache
                that cannot be read.
        """
        ...

    def __enter__(self) -> "Executor": ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...


def keep_busy(
    executor: Executor, start_next: Callable[[], bool], pending: Callable[[], bool] = lambda: False
) -> None:
    """Start jobs while there is room, until nothing runs and nothing is pending.

    Args:
        start_next: starts one job, or settles it without training; False if there is none now.
            It is called again after every end and every few seconds.
        pending: whether a job may come up later, though none runs here now.
    """
    waits = pauses()  # between two looks at what other workers do
    while True:
        while executor.free and start_next():
            waits = pauses()
        if executor.running:
            executor.wait(next(waits) if executor.free else None)
        elif pending():
            time.sleep(next(waits))
        else:
            return


class InProcessExecutor:
    """Trains in this process: `start` returns when the student is done."""

    free, running, devices, in_process = 1, 0, 1, True

    def __init__(self, context: TrainingContext) -> None:
        self.context = context

    def start(self, job: Job, report: Report, done: Done) -> None:
        trained: Trained | Failure | StopTraining
        try:
            trained = train_student(self.context, job, report)
        except (*FAILURES, StopTraining) as failure:
            trained = failure
        done(trained)

    def wait(self, seconds: float | None = None) -> None:
        raise AssertionError("nothing runs here after the return of start")

    def __enter__(self) -> "InProcessExecutor":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        pass


def reason_of(failure: Failure) -> str:
    """The first line of what was said."""
    return first_line(failure)
