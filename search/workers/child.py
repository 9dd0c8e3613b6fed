"""A child process of an executor: trains one student after another, on orders through a pipe.

| parent (the coordinator) sends            | child sends                                          |
|-------------------------------------------|------------------------------------------------------|
| a ContextSpec, once                       | READY, once                                          |
| an Order                                  |                                                      |
| after every Epoch: whether to end as      | an Epoch after every epoch; in the end a result:     |
| pruned, or a StopTraining                 | Trained, images a second, StopTraining, or an error  |
"""

import os
import pickle
import signal
import threading
import traceback
from multiprocessing import parent_process
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING, NamedTuple

# Nothing slow is imported here: the process must watch its coordinator before it loads torch.
if TYPE_CHECKING:
    from search.training.context import TrainingContext
    from search.training.job import Job
    from space.architecture import Architecture
    from trainers.engine.result import Epoch
    from trainers.recipe import Recipe

READY = "ready"
COORDINATOR_LOST = 3  # exit status


class Probe(NamedTuple):
    """An order to measure how fast such a student trains, for so many seconds."""

    architecture: "Architecture"
    recipe: "Recipe"
    seconds: float
    size: int | None = None  # pixels of its input, where they are not the study's


class Order(NamedTuple):
    """What to do, and with how many CPU threads."""

    work: "Job | Probe"
    threads: int


def main(connection: Connection) -> None:
    """Run the process until the coordinator closes the pipe or ends."""
    for heeded in (signal.SIGINT, signal.SIGTERM):  # Ctrl-C and schedulers signal all processes,
        signal.signal(heeded, signal.SIG_IGN)  # but only the coordinator decides to stop
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
        pass  # the coordinator has ended
    except Exception as error:
        connection.send(_portable(error))


def _die_with_coordinator() -> None:
    """End when the coordinator ends, even by SIGKILL: nobody would receive the results."""
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
    """The exception with its traceback as a note, or only its text if it cannot be pickled."""
    error.add_note("".join(traceback.format_exception(error)))
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
