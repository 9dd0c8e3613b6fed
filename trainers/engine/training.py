"""The training loop: a network, a recipe and data -> a trained network and its TrialResult.

It knows neither Optuna nor files of students. Everything random is a function of the recipe's
seeds and of counters, so a run that is killed and resumed equals one that was never interrupted.
"""

import copy
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from typing import Any

import torch
from torch import nn

from space.fingerprint import fingerprint
from trainers.data.datasets import Data, Split
from trainers.engine import averaging
from trainers.engine.batches import Batch, Batches, resident
from trainers.engine.checkpoint import Checkpoint
from trainers.engine.evaluation import device_name, evaluate
from trainers.engine.learner import NO_RATES, Learner, rates
from trainers.engine.modes import STEPS_WORTH_MEASURING, ComputeMode, default_mode, measured_mode
from trainers.engine.result import (
    FINISHED,
    Epoch,
    Keeper,
    Report,
    StopTraining,
    TeacherLogits,
    TrialResult,
)
from trainers.engine.steps import images_per_epoch, steps_per_epoch, unlabelled_for
from trainers.model import weights_hash
from trainers.recipe import HARD_ONLY, Recipe

DIVERGED_LOSS = 1e4  # far above the log K that cross-entropy of K classes starts from
GPU_QUEUE = 16  # steps between two looks at the clock, each of which waits for the GPU
EVALUATED = 256  # images that a validation's speed is measured with
MEASURED_STEPS = 2  # of each mode, after one that makes room in memory


def train(
    model: nn.Module,
    recipe: Recipe,
    data: Data,
    report: Report | None = None,
    *,
    device: torch.device,
    teacher: TeacherLogits | None = None,
    checkpoint: Checkpoint | None = None,
    mode: ComputeMode | None = None,
    keeper: Keeper | None = None,
) -> TrialResult:
    """Train `model` (images in [0, 1] -> logits) in place.

    On return the model holds the averaged weights (where the recipe has an EMA) and batch norm
    statistics that were recalibrated on training views.

    Args:
        report: called after every epoch; returning True ends training as pruned. It may raise
            `StopTraining`, which is raised again after the checkpoint that it asks for.
        teacher: needed by recipes with a soft share.
        checkpoint: written after every epoch for which it is due. Where it exists, training goes on
            from it, in the same mode as before.
        mode: how steps are computed; measured where None is given.
        keeper: shown the network after every epoch, before the report and the checkpoint.
    """
    return _Training(model, recipe, data, device, teacher, mode, keeper).run(report, checkpoint)


def images_per_second(
    model: nn.Module,
    recipe: Recipe,
    data: Data,
    device: torch.device,
    seconds: float = 1.5,
    mode: ComputeMode | None = None,
) -> float:
    """Training images a second without a teacher, views included, measured for some seconds.

    This changes the model: give one that is not needed any more.
    """
    recipe = replace(recipe, phases=HARD_ONLY)
    batches = Batches(data.train, recipe, device)
    learner = Learner(model, recipe, batches, mode or default_mode(device, recipe.precision))
    learner.model.train()
    endless = _without_end(batches)
    learner.step(next(endless), rates(recipe, 0, 1))  # makes room in memory
    _synchronise(device)
    images, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        for batch in islice(endless, GPU_QUEUE if device.type == "cuda" else 1):
            learner.step(batch, rates(recipe, 0, 1))
            images += len(batch)
        _synchronise(device)
    return images / (time.perf_counter() - began)


def _without_end(batches: Batches) -> Iterator[Batch]:
    while True:
        yield from batches


def seconds_per_epoch(
    model: nn.Module, recipe: Recipe, data: Data, device: torch.device, seconds: float = 1.5
) -> float:
    """Seconds that an epoch of this model takes when the teacher's logits are cached.

    Args:
        seconds: of training that it is measured by.
    """
    rate = images_per_second(model, recipe, data, device, seconds)
    training = images_per_epoch(data, recipe) / rate
    some = data.validation
    some = Split(some.images_NCHW[:EVALUATED], some.labels_N[:EVALUATED])
    began = time.perf_counter()
    evaluate(model, some, device)
    an_image = (time.perf_counter() - began) / len(some)
    return training + len(data.validation) * an_image


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class _Training:
    """One run of `train`."""

    def __init__(
        self,
        model: nn.Module,
        recipe: Recipe,
        data: Data,
        device: torch.device,
        teacher: TeacherLogits | None,
        mode: ComputeMode | None = None,
        keeper: Keeper | None = None,
    ) -> None:
        if recipe.needs_teacher and teacher is None:
            raise ValueError("a recipe with a soft share needs a teacher, but got none")
        self.model, self.recipe, self.device, self.data = model, recipe, device, data
        self.teacher = teacher if recipe.needs_teacher else None
        self.mode, self.keeper = mode, keeper
        unlabelled = unlabelled_for(data, recipe)
        self.batches = Batches(data.train, recipe, device, unlabelled)
        validation = data.validation
        (images_NCHW,) = resident(device, validation.images_NCHW)
        self.validation = Split(images_NCHW, validation.labels_N)
        self.steps_per_epoch = steps_per_epoch(data, recipe)
        self.history: list[Epoch] = []
        self.seconds = 0.0
        self.start = f"{weights_hash(model)} {fingerprint(repr(model))}"

    def run(self, report: Report | None, checkpoint: Checkpoint | None) -> TrialResult:
        self.learner = self.begun(checkpoint)
        ended, reason = FINISHED, ""
        for epoch in range(len(self.history), self.recipe.epochs):
            began = time.perf_counter()
            with self.seeded(epoch):
                loss = self.train_epoch(epoch)
            if not loss < DIVERGED_LOSS:  # NaN compares false
                ended, reason = "diverged", f"training loss was {loss:g} in epoch {epoch + 1}"
                break
            self.recalibrate()
            accuracy = self.evaluated(last=epoch + 1 == self.recipe.epochs)
            seconds = time.perf_counter() - began
            self.seconds += seconds
            self.history.append(Epoch(epoch + 1, accuracy, loss, self.batches.count / seconds))
            if self.keeper is not None:
                self.keeper.keep(self.history[-1], self.learner.average)
            if self.told(report, checkpoint):
                ended, reason = "pruned", f"stopped early after epoch {epoch + 1}"
                break
            if checkpoint is not None and checkpoint.due:
                checkpoint.write(self.identity, self.snapshot())
        self.model.load_state_dict(self.learner.average.state_dict())
        return TrialResult(
            history=tuple(self.history),
            ended=ended,
            reason=reason,
            seconds=self.seconds,
            device=device_name(self.device),
            micro_batch=math.ceil(self.recipe.batch / self.learner.splits),
            mode=self.learner.mode.words,
            fallback=self.learner.fallback,
        )

    def told(self, report: Report | None, checkpoint: Checkpoint | None) -> bool:
        """Report the last epoch; whether training is to stop."""
        try:
            return report is not None and report(self.history[-1])
        except StopTraining as leave:
            if leave.keep and checkpoint is not None:
                checkpoint.write(self.identity, self.snapshot())
            raise

    def begun(self, checkpoint: Checkpoint | None) -> Learner:
        """The learner where the checkpoint left it, or a new one in the fastest mode.

        A measured mode is written to the checkpoint at once: a run that is killed and started
        again might measure another mode, which rounds differently.
        """
        kept = checkpoint.read(self.identity) if checkpoint is not None else None
        if kept is not None and self.whole([Epoch(*epoch) for epoch in kept["history"]]):
            mode = ComputeMode(*kept["mode"])
            learner = Learner(self.model, self.recipe, self.batches, mode)
            learner.restore(kept)
            self.history = [Epoch(*epoch) for epoch in kept["history"]]
            self.seconds = kept["seconds"]
            return learner
        steps = self.recipe.epochs * self.steps_per_epoch
        measured = self.mode is None and steps >= STEPS_WORTH_MEASURING
        if measured:
            self.mode = measured_mode(self.seconds_a_step, self.device, self.recipe.precision)
        mode = self.mode or default_mode(self.device, self.recipe.precision)
        self.learner = Learner(self.model, self.recipe, self.batches, mode)
        if measured and checkpoint is not None:
            checkpoint.write(self.identity, self.snapshot())
        return self.learner

    def whole(self, history: list[Epoch]) -> bool:
        """Whether what is to be kept of these epochs is there; else they are trained again."""
        return self.keeper is None or self.keeper.has(history)

    def seconds_a_step(self, mode: ComputeMode) -> float:
        """Seconds that a step of this network takes in a mode: the least of a few."""
        with self.seeded(0):
            learner = Learner(copy.deepcopy(self.model), self.recipe, self.batches, mode)
            learner.model.train()
            batch = next(iter(self.batches))
            taken = []
            for _ in range(MEASURED_STEPS + 1):
                began = time.perf_counter()
                learner.step(batch, NO_RATES)
                _synchronise(self.device)
                taken.append(time.perf_counter() - began)
        return min(taken[1:])

    def train_epoch(self, epoch: int) -> float:
        """Mean training loss of one pass over the data."""
        self.batches.begin(epoch, self.teacher_logits(epoch))
        self.learner.model.train()
        total, first = self.recipe.epochs * self.steps_per_epoch, epoch * self.steps_per_epoch
        steps = range(first, first + self.steps_per_epoch)
        rates_SR = torch.tensor(
            [rates(self.recipe, step, total) for step in steps], device=self.device
        )
        losses = [
            self.learner.step(batch, rates_R)
            for batch, rates_R in zip(self.batches, rates_SR, strict=True)
        ]
        return torch.stack(losses).mean().item()

    def teacher_logits(self, epoch: int) -> torch.Tensor | None:
        """The teacher's logits for this epoch's views; None where no step has a soft share."""
        if self.teacher is None or not self.recipe.hears_teacher(epoch):
            return None
        return self.teacher.epoch_logits(self.recipe.view_epoch(epoch))

    @contextmanager
    def seeded(self, epoch: int) -> Iterator[None]:
        """Dropout draws from PyTorch's global generators: seed them, and put them back."""
        with torch.random.fork_rng([self.device] if self.device.type == "cuda" else []):
            torch.manual_seed((self.recipe.seed * 1_000_003 + epoch) % 2**63)
            yield

    def evaluated(self, *, last: bool) -> float:
        """Validation accuracy, in the mode's precision; after the last epoch in float32."""
        mode = ComputeMode() if last else self.learner.mode
        average = self.learner.average
        return evaluate(average, self.validation, self.device, mode.autocast(self.device))

    def recalibrate(self) -> None:
        """Batch norm statistics of the averaged network, from training views of this epoch.

        Running statistics belong to other weights; measured early in training, they rank
        networks wrongly.
        """
        learner = self.learner
        if not self.recipe.ema:
            averaging.follow(learner.average, learner.model)
        chosen = islice(self.batches, self.recipe.bn_batches)
        views = (self.batches.views(part) for batch in chosen for part in learner.parts(batch))
        averaging.recalibrate(learner.average, views, learner.mode.autocast(self.device))

    @property
    def identity(self) -> dict[str, str]:
        """What a checkpoint must agree on before training goes on from it."""
        key = self.teacher.key if self.teacher else ""
        kept = {"kept": self.keeper.key} if self.keeper is not None else {}
        content = [self.data.fingerprint]
        content += [self.data.unlabelled_fingerprint] if self.batches.some_unlabelled else []
        return {
            "model": self.start,  # its structure and the weights that it began with
            "recipe": self.recipe.fingerprint,
            "data": " ".join(content),
            "teacher": key,
            **kept,
        }

    def snapshot(self) -> dict[str, Any]:
        return self.learner.snapshot() | {
            "history": [tuple(epoch) for epoch in self.history],
            "seconds": self.seconds,
            "mode": tuple(self.learner.mode),
        }
