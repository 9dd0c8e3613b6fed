"""Processes on this machine that train one student each at a time.

Only the process that starts them, the coordinator, knows the database. When one dies (out of
memory, a crash), its student goes on from the last checkpoint in a new one; after a second death
the student has failed.
"""

import multiprocessing
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import TracebackType

from search.training.context import ContextSpec
from search.training.job import Job
from search.training.row import Trained
from search.workers.child import READY, Order, Probe
from search.workers.child import main as child_main
from search.workers.crashes import LIVES
from search.workers.executor import FAILURES, Done, reason_of
from search.workers.stopping import HEEDED
from space.errors import InputError
from trainers.engine.result import Epoch, Report, StopTraining
from trainers.machine import cores

DYING_SECONDS = 5


@dataclass(slots=True)
class _Task:
    job: Job
    report: Report
    done: Done
    deaths: int = 0


@dataclass(slots=True, eq=False)
class _Child:
    """A process, as the coordinator sees it."""

    number: int  # from 0; which GPU it has depends on it
    process: BaseProcess
    connection: Connection
    ready: bool = False
    task: _Task | None = None


class ProcessExecutor:
    """A `search.workers.executor.Executor`; a process is started when there is work for it."""

    in_process = False

    def __init__(self, context_spec: ContextSpec, size: int, devices: tuple[str, ...] = ()) -> None:
        """Start no process yet.

        Args:
            context_spec: what every process makes its study's context from.
            size: students trained at once.
            devices: given to the processes in turn; by default the one that the spec names.
        """
        self.context_spec, self.size = context_spec, size
        self.given = devices or (context_spec.device,)
        self.children: list[_Child] = []

    @property
    def devices(self) -> int:
        return len(set(self.given[: self.size]))

    @property
    def running(self) -> int:
        return sum(child.task is not None for child in self.children)

    @property
    def free(self) -> int:
        return self.size - self.running

    def start(self, job: Job, report: Report, done: Done) -> None:
        idle = (child for child in self.children if child.task is None)
        self._assign(_Task(job, report, done), next(idle, None) or self._begin())

    def wait(self, seconds: float | None = None) -> None:
        for child in self._heard(seconds):
            message = self._received(child)
            if message is None:
                self._died(child)
            elif isinstance(message, Epoch):
                self._answer(child, message)
            elif isinstance(message, Trained | StopTraining):
                self._settle(child, message)
            elif isinstance(message, Exception):
                self._failed(child, message)

    def speed(self, count: int, probe: Probe) -> float:
        """Images a second of `count` such students, trained at the same time."""
        while len(self.children) < count:
            self._begin()
        while not all(child.ready for child in self.children):
            self.wait()
        chosen = self.children[:count]
        for child in chosen:
            self._send(child, Order(probe, threads(count)))
        total = 0.0
        for child in chosen:
            answer = self._received(child)
            if isinstance(answer, float):
                total += answer
            else:  # there is no room for so many: this one gives nothing
                self._dismiss(child)
        return total

    def resize(self, size: int) -> None:
        """Keep so many processes and end the rest."""
        self.size = size
        for child in self.children[size:]:
            self._dismiss(child)

    def __enter__(self) -> "ProcessExecutor":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for child in self.children:
            child.process.kill()  # all of them, before the first is waited for
        for child in list(self.children):
            self._dismiss(child)

    def _assign(self, task: _Task, child: _Child) -> None:
        child.task = task
        self._send(child, Order(task.job, threads(self.size)))

    def _begin(self) -> _Child:
        """A new process; orders can be sent before it is ready."""
        number = min(set(range(len(self.children) + 1)) - {child.number for child in self.children})
        context = multiprocessing.get_context("spawn")  # torch's OpenMP does not outlive a fork
        here, there = context.Pipe()
        process = context.Process(target=child_main, args=(there,), daemon=True)
        with _signals_blocked():
            process.start()
        there.close()
        child = _Child(number, process, here)
        self.children.append(child)
        self._send(child, replace(self.context_spec, device=self.given[number % len(self.given)]))
        return child

    def _answer(self, child: _Child, epoch: Epoch) -> None:
        assert child.task is not None, "only orders are answered"
        answer: bool | StopTraining
        try:
            answer = child.task.report(epoch)
        except StopTraining as leave:
            answer = leave
        self._send(child, answer)

    def _heard(self, seconds: float | None) -> list[_Child]:
        """Children that have sent something, or have died."""
        heard = wait([child.connection for child in self.children], seconds)
        return [child for child in self.children if child.connection in heard]

    def _received(self, child: _Child) -> object:
        """The next message; None where the process has died."""
        try:
            message = child.connection.recv()
        except (EOFError, OSError):
            return None
        child.ready |= message == READY
        return message

    def _send(self, child: _Child, message: object) -> None:
        with suppress(OSError):  # it has died, which the next `wait` hears
            child.connection.send(message)

    def _settle(self, child: _Child, answer: Trained | StopTraining) -> None:
        task, child.task = child.task, None
        assert task is not None, "only orders are answered"
        task.done(answer)

    def _failed(self, child: _Child, error: Exception) -> None:
        if not isinstance(error, FAILURES):
            raise error
        if not child.ready:
            raise InputError(f"a training process cannot be started: {reason_of(error)}")
        task = child.task
        self._dismiss(child)  # after an error of CUDA's all else in that process fails
        assert task is not None, "only orders are answered"
        task.done(error)

    def _died(self, child: _Child) -> None:
        child.process.join(DYING_SECONDS)  # the pipe closes a moment before the process ends
        task, ready, how = child.task, child.ready, _words(child.process.exitcode)
        self._dismiss(child)
        if task is None and not ready:
            raise InputError(_too_many(self.size, how))
        if task is None:
            return
        task.deaths += 1
        if task.deaths < LIVES:
            self._assign(task, self._begin())
        elif ready:
            task.done(RuntimeError(f"its process died ({how})"))
        else:
            raise InputError(_too_many(self.size, how))

    def _dismiss(self, child: _Child) -> None:
        self.children.remove(child)
        child.connection.close()
        child.process.kill()  # what it writes is whole or absent at any moment
        child.process.join()
        child.process.close()


def threads(processes: int) -> int:
    """CPU threads for each of so many processes."""
    return max(1, cores() // processes)


def _words(code: int | None) -> str:
    return f"signal {-code}" if code is not None and code < 0 else f"exit status {code}"


def _too_many(size: int, how: str) -> str:
    return (
        f"training processes must be able to start, but one died of it ({how}); "
        f"is there memory for {size}? Choose fewer: --parallel"
    )


@contextmanager
def _signals_blocked() -> Iterator[None]:
    """A process that is started here never receives Ctrl-C, not even before its first line."""
    resource_tracker.ensure_running()  # first: starting it unblocks the signals
    before = signal.pthread_sigmask(signal.SIG_BLOCK, HEEDED)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
