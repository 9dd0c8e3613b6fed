"""Our engine with each of its parts switched off alone: the arms of `--ablation`.

They train in this process, one student after the other, by `trainers.engine.training.train`; parts
are switched off where the engine fetches pixels, makes views or asks the teacher, so that the rest
stays what it is. The arms "with files" are the product's path (`benchmarks/our_arm.py`): their
ratio to each other is what training side by side gives.
"""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

from benchmarks.our_arm import Ours, mode_of
from benchmarks.rounds import Arm, Ran
from benchmarks.task import Task
from search.study.spec import OWN_TEACHER
from search.training.context import TrainingContext
from search.workers.executor import InProcessExecutor
from trainers.data.augment import drawn_views
from trainers.data.photographs import decode_unguarded, pillow_warnings
from trainers.engine.batches import Batch, Batches
from trainers.engine.modes import ComputeMode, has_bfloat16, measured_mode
from trainers.engine.result import TeacherLogits
from trainers.engine.training import images_per_second, train
from trainers.teachers.bank import LogitBank

FULL = "full, one at a time"
MEASURED_SECONDS = 1.5  # of each mode

Switch = Callable[[], AbstractContextManager[Any]]


class LiveTeacher:
    """Asks the teacher in every epoch and keeps nothing."""

    def __init__(self, bank: LogitBank) -> None:
        self.bank, self.key = bank, bank.key

    def epoch_logits(self, epoch: int) -> torch.Tensor:
        return self.bank.live_logits(epoch)


@contextmanager
def decoding_every_batch(task: Task) -> Iterator[None]:
    """Each batch's files are read and decoded when it is due, by as many threads as cores."""
    size, channels = task.data.size, task.data.channels

    def decoded(index: int) -> Any:
        return decode_unguarded(task.train.paths[index], size, channels)

    with ThreadPoolExecutor(task.cores) as pool, pillow_warnings():

        def pixels(batches: Batches, photographs_P: torch.Tensor) -> torch.Tensor:
            images = list(pool.map(decoded, photographs_P.tolist()))
            return torch.from_numpy(np.stack(images)).to(batches.device)

        with patch.object(Batches, "pixels", pixels):
            yield


@contextmanager
def one_view_at_a_time() -> Iterator[None]:
    """The same views, image by image."""

    def views(batches: Batches, batch: Batch) -> torch.Tensor:
        pairs = zip(batch.pixels_PCHW.split(1), batch.draws_PL.split(1), strict=True)
        return torch.cat([drawn_views(*pair, batches.recipe.augment) for pair in pairs])

    with patch.object(Batches, "views", views):
        yield


def fastest_mode(task: Task) -> ComputeMode:
    """What the engine chooses for itself in a long run: short ones take its default."""

    def seconds_a_step(mode: ComputeMode) -> float:
        speed = images_per_second(
            task.student(0), task.recipe, task.data, task.device, MEASURED_SECONDS, mode
        )
        return task.recipe.batch / speed

    return measured_mode(seconds_a_step, task.device, task.recipe.precision)


def arms(task: Task, context: TrainingContext, ours: Ours) -> list[Arm]:
    """The full engine first."""
    mode, bank = fastest_mode(task), context.bank(OWN_TEACHER, task.recipe)
    assert bank is not None

    def arm(
        name: str,
        *,
        mode: ComputeMode = mode,
        teacher: TeacherLogits = bank,
        switch: Switch = nullcontext,
    ) -> Arm:
        def run(number: int) -> Ran:
            with switch():
                return _train(task, mode, teacher, number)

        return Arm(name, run)

    found = [
        arm(FULL),
        arm("every batch decoded", switch=lambda: decoding_every_batch(task)),
        arm("views one by one", switch=one_view_at_a_time),
        arm("live teacher", teacher=LiveTeacher(bank)),
        *(arm(name, mode=other) for name, other in _other_modes(mode, task.device)),
    ]
    return found + _products(task, context, ours, mode)


def _products(task: Task, context: TrainingContext, ours: Ours, mode: ComputeMode) -> list[Arm]:
    """The product's path, alone and side by side, in the same precision as the others."""
    crews = (
        [InProcessExecutor(context), ours.executor]
        if ours.workers > 1
        else [InProcessExecutor(context)]
    )
    found = []
    for executor in crews:
        same = Ours(task, executor, ours.folder, mode.precision)
        count = "one at a time" if same.workers == 1 else f"{same.workers} side by side"
        found.append(Arm(f"with files, {count}", same.round))
    return found


def _other_modes(mode: ComputeMode, device: torch.device) -> Iterator[tuple[str, ComputeMode]]:
    """The mode with one setting changed; its name says to what."""
    layout = "contiguous" if mode.layout == "channels_last" else "channels_last"
    yield f"{layout} layout", mode._replace(layout=layout)
    if has_bfloat16(device):
        precision = "fp32" if mode.precision == "bf16" else "bf16"
        yield precision, mode._replace(precision=precision)
    if mode.graphs:
        yield "eager (no CUDA graphs)", mode._replace(graphs=False)


def _train(task: Task, mode: ComputeMode, teacher: TeacherLogits, number: int) -> Ran:
    began = time.perf_counter()
    result = train(
        task.student(number),
        task.seeded(number),
        task.data,
        device=task.device,
        teacher=teacher,
        mode=mode,
    )
    return Ran(time.perf_counter() - began, (result.accuracy,), mode_of(result))
