"""The product's own path: photographs decoded once, the bank, the crew, files that are scored.

A trial is `search.training.objective.train_student`: it trains, writes a checkpoint after every
epoch, writes the student's int8 file and a float32 one, and its accuracy is that of the file as
read back. The peers write nothing.
"""

import shutil
import time
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

from benchmarks.rounds import Ran
from benchmarks.task import Task
from search.study.folder import Folder
from search.study.spec import OWN_TEACHER, SearchSpec
from search.training.context import ContextSpec, TrainingContext
from search.training.job import Job
from search.training.row import Trained
from search.workers.executor import Executor, Failure, keep_busy
from space.errors import InputError
from space.file_format import stored_bytes
from space.solver import Budget
from trainers.engine.result import Epoch, StopTraining, TrialResult
from trainers.recipe import Recipe
from trainers.teachers import teacher as teachers


@dataclass(frozen=True, slots=True)
class Making:
    """What a search pays once, in seconds."""

    decoding: float
    bank: float

    @property
    def total(self) -> float:
        return self.decoding + self.bank


def make_station(task: Task, place: Path, photographs: Path) -> ContextSpec:
    """A study's folder with its teacher, and a cache whose bank is empty.

    Args:
        place: a folder that is this run's own.
        photographs: the cache that the task's were decoded into.
    """
    spec = SearchSpec(
        space="mixed",  # the architecture itself is given
        compressed_stem=False,
        # For `--workers auto`, which measures students of the space that fill the budget.
        budget=Budget.parse(f"{stored_bytes(task.architecture, 'int8', task.metadata)}B", "int8"),
        multiple=4,
        recipe=task.recipe,
        sampler="random",
        pruner="none",
        seed=0,
        source=task.source,
        data=task.data.fingerprint,
        classes=task.data.classes,
        channels=task.data.channels,
        size=task.data.size,
        teacher=task.teacher.hash,
        version="",
    )
    folder = Folder(f"sqlite:///{place.resolve()}/studies.db", "throughput")
    folder.path.mkdir(parents=True)
    teachers.save(folder.teacher(OWN_TEACHER), task.teacher.model, task.teacher.info)
    # One GPU, as the peers: a bare "cuda" would give the processes every one there is.
    device = "cuda:0" if str(task.device) == "cuda" else str(task.device)
    return ContextSpec(spec, folder, str(Path(task.source).resolve()), photographs, device)


def make_bank(context: TrainingContext, recipe: Recipe) -> float:
    """Ask the teacher once for every epoch; gives the seconds."""
    bank = context.bank(OWN_TEACHER, recipe)
    assert bank is not None
    # What PyTorch loads and chooses on first use is not the bank's: it is paid in any process.
    bank.live_logits(0)
    began = time.perf_counter()
    for epoch in range(recipe.epochs):
        bank.epoch_logits(epoch)
    return time.perf_counter() - began


class Ours:
    """Rounds of as many students as there are workers.

    Args:
        folder: the study's.
        precision: of the steps; what the engine chooses by default.
    """

    def __init__(
        self, task: Task, executor: Executor, folder: Path, precision: str = "auto"
    ) -> None:
        self.task, self.executor, self.folder, self.precision = task, executor, folder, precision
        self.workers = executor.free  # all of them
        self.places = count()

    def warm_up(self) -> None:
        """A student of one epoch in every process, not timed."""
        self.train(range(self.workers), epochs=1)

    def round(self, number: int) -> Ran:
        """Train the round's students side by side; a trial's seconds are the round's by them."""
        first = number * self.workers
        began = time.perf_counter()
        students = self.train(range(first, first + self.workers))
        seconds = (time.perf_counter() - began) / self.workers
        accuracies = tuple(student.accuracy or 0.0 for student in students)
        return Ran(seconds, accuracies, mode_of(students[-1].result))

    def train(self, seeds: range, epochs: int | None = None) -> list[Trained]:
        """In the order in which they ended; their files are removed."""
        names = {seed: f"trial{next(self.places):04d}" for seed in seeds}
        ended: list[Trained | Failure | StopTraining] = []
        waiting = list(seeds)

        def start_next() -> bool:
            if not waiting:
                return False
            seed = waiting.pop(0)
            recipe = replace(self.task.seeded(seed, epochs), precision=self.precision)
            job = Job(self.task.architecture, recipe, "int8", OWN_TEACHER, names[seed])
            self.executor.start(job, _go_on, ended.append)
            return True

        keep_busy(self.executor, start_next)
        for name in names.values():
            shutil.rmtree(self.folder / name, ignore_errors=True)
        return [_finished(trained) for trained in ended]


def mode_of(result: TrialResult) -> str:
    """How a student's steps were computed, and why not as graphs where they should have been."""
    return result.mode + (f" (not captured: {result.fallback})" if result.fallback else "")


def _go_on(_: Epoch) -> bool:
    return False


def _finished(trained: Trained | Failure | StopTraining) -> Trained:
    if not isinstance(trained, Trained):
        raise trained
    if trained.accuracy is None:
        raise InputError(f"our student did not finish: {trained.result.reason}")
    return trained
