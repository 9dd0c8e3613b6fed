"""A child process of an executor: trains one student after the other, as it is told through a pipe.

The parent sends a ContextSpec once, then Orders; after each epoch, whether to stop. The child sends
READY once, then for each order its epochs and a final result (Trained, images a second, or the
exception; StopTraining, where it was told to stop).
"""

import os
import pickle
import signal
import threading
import traceback
from multiprocessing import parent_process
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING, NamedTuple

# Nothing slow is imported here: a process must watch its coordinator before it loads torch.
if TYPE_CHECKING:
    from search.training.context import TrainingContext
    from search.training.job import Job
    from space.architecture import Architecture
    from trainers.engine.result import Epoch
    from trainers.recipe import Recipe

READY = "ready"
COORDINATOR_LOST = 3  # exit status


class Probe(NamedTuple):
    """Measure how fast such students train here."""

    architecture: "Architecture"
    recipe: "Recipe"
    seconds: float


class Order(NamedTuple):
    """Something to do, and the CPU threads to do it with."""

    work: "Job | Probe"
    threads: int


def main(connection: Connection) -> None:
    """The process's life; it ends when the coordinator closes the pipe, or ends itself."""
    for heeded in (signal.SIGINT, signal.SIGTERM):  # Ctrl-C and schedulers tell all processes,
        signal.signal(heeded, signal.SIG_IGN)  # but it is the coordinator's to leave
    threading.Thread(target=_die_with_coordinator, daemon=True).start()
    try:
        context_spec = connection.recv()  # loads torch
        import torch

        own_threads = torch.get_num_threads()  # OMP_NUM_THREADS, where it is set
        from trainers.engine.memory import keep_freed_memory

        keep_freed_memory()
        torch.set_num_threads(1)
        context = context_spec.context(progress=False)
        connection.send(READY)
        while True:
            order: Order = connection.recv()
            torch.set_num_threads(min(order.threads, own_threads))
            connection.send(_answer(context, order.work, connection))
    except (EOFError, ConnectionError):
        pass  # the coordinator is gone
    except Exception as error:
        connection.send(_portable(error))


def _die_with_coordinator() -> None:
    """However it ends, SIGKILL included: nobody would hear what is trained here."""
    coordinator = parent_process()
    assert coordinator is not None
    wait([coordinator.sentinel])
    os._exit(COORDINATOR_LOST)


def _answer(context: "TrainingContext", work: "Job | Probe", connection: Connection) -> object:
    from search.training import objective
    from trainers.engine.result import StopTraining

    def report(epoch: "Epoch") -> bool:
        connection.send(epoch)
        answer: bool | StopTraining = connection.recv()
        if isinstance(answer, StopTraining):
            raise answer
        return answer

    try:
        if isinstance(work, Probe):
            return objective.speed(context, *work)
        return objective.train_student(context, work, report)
    except StopTraining as leave:
        return leave
    except Exception as error:
        return _portable(error)


def _portable(error: Exception) -> Exception:
    """The exception, with its traceback as a note; its text where it cannot be pickled."""
    error.add_note("".join(traceback.format_exception(error)))
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
