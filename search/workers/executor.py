"""Who trains the students of a search: this process, or several (`search.workers.processes`).

A crew is given jobs and tells of them by callbacks, which it calls in this process, one at a
time. So a search is one loop without threads, however many students are trained at once.
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

# One student's failure, which must not end the search: PyTorch's errors, and too little memory.
FAILURES = (RuntimeError, MemoryError)
Failure = RuntimeError | MemoryError
Done = Callable[[Trained | Failure | StopTraining], None]


class Executor(Protocol):
    """Trains students; a context manager that leaves no process behind."""

    @property
    def free(self) -> int:
        """Jobs that can be started now."""
        ...

    @property
    def devices(self) -> int:
        """Devices that it trains on; all cores of a machine are one."""
        ...

    @property
    def in_process(self) -> bool:
        """Whether it trains in this process."""
        ...

    @property
    def running(self) -> int:
        """Jobs that were started and have not ended."""
        ...

    def start(self, job: Job, report: Report, done: Done) -> None:
        """Train a student, from its checkpoint where it has one.

        Args:
            report: told every epoch; returning True ends the training as pruned. It may raise
                `StopTraining`.
            done: told what was trained, why the student failed, or that its training was left.
        """
        ...

    def wait(self, seconds: float | None = None) -> None:
        """Until something was reported or has ended, or time is up; calls the callbacks.

        Raises:
            InputError, OSError: what fails for every student: a full disk, a cache that cannot
                be read.
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
    """Start jobs while there are free places, until nothing is left and nothing runs.

    Args:
        start_next: starts one job or settles it without training; False where there is nothing
            to start now. It is asked again whenever something has ended, and now and then.
        pending: whether something may have to be started later, though nothing runs here now.
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
    """A crew of none but this process: `start` trains, and returns when the student is done."""

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
