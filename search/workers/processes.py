"""A crew of processes on this machine, each training one student at a time.

Only this side's process, the coordinator, knows the database. A process that dies (out of memory,
a crash) costs its student the epochs since the last checkpoint, and a second death the student.
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
from typing import Any

from search.training.context import ContextSpec
from search.training.job import Job
from search.training.row import Trained
from search.workers.child import READY, Order, Probe
from search.workers.child import main as member_main
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
    """A process, seen from the coordinator."""

    number: int  # from 0; which GPU it has depends on it
    process: BaseProcess
    connection: Connection
    ready: bool = False
    task: _Task | None = None


class ProcessExecutor:
    """A `search.workers.executor.Executor`; processes are begun when there is work for them."""

    in_process = False

    def __init__(self, context_spec: ContextSpec, size: int, devices: tuple[str, ...] = ()) -> None:
        """Take a study's station.

        Args:
            size: students at once.
            devices: given out to the processes in turn; the station's own by default.
        """
        self.context_spec, self.size = context_spec, size
        self.given = devices or (context_spec.device,)
        self.members: list[_Child] = []

    @property
    def devices(self) -> int:
        return len(set(self.given[: self.size]))

    @property
    def running(self) -> int:
        return sum(member.task is not None for member in self.members)

    @property
    def free(self) -> int:
        return self.size - self.running

    def start(self, job: Job, report: Report, done: Done) -> None:
        idle = (member for member in self.members if member.task is None)
        self._assign(_Task(job, report, done), next(idle, None) or self._begin())

    def wait(self, seconds: float | None = None) -> None:
        for member in self._heard(seconds):
            message = self._received(member)
            if message is None:
                self._died(member)
            elif isinstance(message, Epoch):
                self._answer(member, message)
            elif isinstance(message, Trained | StopTraining):
                self._settle(member, message)
            elif message != READY:
                self._failed(member, message)

    def speed(self, count: int, probe: Probe) -> float:
        """Images a second of `count` such students, trained at the same time."""
        while len(self.members) < count:
            self._begin()
        while not all(member.ready for member in self.members):
            self.wait()
        chosen = self.members[:count]
        for member in chosen:
            self._send(member, Order(probe, threads(count)))
        total = 0.0
        for member in chosen:
            answer = self._received(member)
            if isinstance(answer, float):
                total += answer
            else:  # there is no room for so many: this one gives nothing
                self._dismiss(member)
        return total

    def resize(self, size: int) -> None:
        """Keep so many processes, and dismiss the rest."""
        self.size = size
        for member in self.members[size:]:
            self._dismiss(member)

    def __enter__(self) -> "ProcessExecutor":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for member in self.members:
            member.process.kill()  # all of them, before the first is waited for
        for member in list(self.members):
            self._dismiss(member)

    def _assign(self, task: _Task, member: _Child) -> None:
        member.task = task
        self._send(member, Order(task.job, threads(self.size)))

    def _begin(self) -> _Child:
        """A new process: not ready yet, but its orders can be sent."""
        number = min(set(range(len(self.members) + 1)) - {member.number for member in self.members})
        context = multiprocessing.get_context("spawn")  # torch's OpenMP does not outlive a fork
        here, there = context.Pipe()
        process = context.Process(target=member_main, args=(there,), daemon=True)
        with _signals_blocked():
            process.start()
        there.close()
        member = _Child(number, process, here)
        self.members.append(member)
        self._send(member, replace(self.context_spec, device=self.given[number % len(self.given)]))
        return member

    def _answer(self, member: _Child, epoch: Epoch) -> None:
        assert member.task is not None, "only orders are answered"
        answer: bool | StopTraining
        try:
            answer = member.task.report(epoch)
        except StopTraining as leave:
            answer = leave
        self._send(member, answer)

    def _heard(self, seconds: float | None) -> list[_Child]:
        """Members that have something to say, or have died."""
        heard = wait([member.connection for member in self.members], seconds)
        return [member for member in self.members if member.connection in heard]

    def _received(self, member: _Child) -> Any:
        """The next message; None where the process has died."""
        try:
            message = member.connection.recv()
        except (EOFError, OSError):
            return None
        member.ready |= message == READY
        return message

    def _send(self, member: _Child, message: Any) -> None:
        with suppress(OSError):  # it has died, which the next `wait` hears
            member.connection.send(message)

    def _settle(self, member: _Child, answer: Any) -> None:
        task, member.task = member.task, None
        assert task is not None, "only orders are answered"
        task.done(answer)

    def _failed(self, member: _Child, error: Exception) -> None:
        if not isinstance(error, FAILURES):
            raise error
        if not member.ready:
            raise InputError(f"a training process cannot be started: {reason_of(error)}")
        task = member.task
        self._dismiss(member)  # an error of CUDA's makes all that comes after it fail
        assert task is not None, "only orders are answered"
        task.done(error)

    def _died(self, member: _Child) -> None:
        member.process.join(DYING_SECONDS)  # the pipe closes a moment before the process ends
        task, ready, how = member.task, member.ready, _words(member.process.exitcode)
        self._dismiss(member)
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

    def _dismiss(self, member: _Child) -> None:
        self.members.remove(member)
        member.connection.close()
        member.process.kill()  # what it writes is whole or absent at any moment
        member.process.join()
        member.process.close()


def threads(members: int) -> int:
    """CPU threads of each of so many members."""
    return max(1, cores() // members)


def _words(code: int | None) -> str:
    return f"signal {-code}" if code is not None and code < 0 else f"exit status {code}"


def _too_many(size: int, how: str) -> str:
    return (
        f"training processes must be able to start, but one died of it ({how}); "
        f"is there memory for {size}? Choose fewer: --parallel"
    )


@contextmanager
def _signals_blocked() -> Iterator[None]:
    """A process that is begun here never gets Ctrl-C, not even before its first line."""
    resource_tracker.ensure_running()  # or starting it would unblock the signals
    before = signal.pthread_sigmask(signal.SIG_BLOCK, HEEDED)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
