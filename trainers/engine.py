"""The training loop: a network, a recipe and data -> a trained network and its TrialResult.

It knows neither Optuna nor files of students. Everything random is a function of the recipe's
seeds and of counters, so a run that is killed and resumed equals one that was never interrupted.
"""

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import torch
from torch import nn

from trainers import averaging
from trainers.augment import mixed_views
from trainers.checkpoint import Checkpoint
from trainers.data import Data
from trainers.evaluation import autocast, device_name, evaluate
from trainers.losses import hard_loss, soft_loss
from trainers.memory import is_out_of_memory
from trainers.model import text_hash, weights_hash
from trainers.recipe import Recipe
from trainers.result import Epoch, Report, TeacherLogits, TrialResult
from trainers.schedules import learning_rate, soft_share
from trainers.steps import batches, make_optimizer, steps_per_epoch

DIVERGED_LOSS = 1e4  # far above the log K that cross-entropy of K classes starts from


@dataclass(slots=True)
class _State:
    """What changes while training; all of it is in the checkpoint."""

    history: list[Epoch]
    steps: int = 0
    seconds: float = 0.0
    splits: int = 1  # micro-batches a batch


def train(
    model: nn.Module,
    recipe: Recipe,
    data: Data,
    report: Report | None = None,
    *,
    device: torch.device,
    teacher: TeacherLogits | None = None,
    checkpoint: Checkpoint | None = None,
) -> TrialResult:
    """Train `model` (images in [0, 1] -> logits) in place.

    On return the model holds the averaged weights (where the recipe has an EMA) and batch norm
    statistics that were recalibrated on training views.

    Args:
        report: called behind every epoch; returning True ends training as pruned.
        teacher: needed by recipes with a soft share.
        checkpoint: written behind every epoch; training goes on from it where it exists.
    """
    return _Training(model, recipe, data, device, teacher).run(report, checkpoint)


def seconds_per_epoch(
    model: nn.Module, recipe: Recipe, data: Data, device: torch.device, steps: int = 5
) -> float:
    """What an epoch of this model would take, from a few steps without a teacher."""
    training = _Training(model, replace(recipe, phases=((0.0, 0.0),)), data, device, None)
    chosen = list(islice(batches(len(data.train), recipe, 0), steps + 1))
    training.step(chosen[0].to(device), 0, None)  # the first step also makes room in memory
    began = time.perf_counter()
    for index_N in chosen[1:]:
        training.step(index_N.to(device), 0, None).item()
    taken = (time.perf_counter() - began) / max(1, len(chosen) - 1)
    began = time.perf_counter()
    evaluate(training.average, data.validation, device)
    return taken * steps_per_epoch(data, recipe) + time.perf_counter() - began


class _Training:
    def __init__(
        self,
        model: nn.Module,
        recipe: Recipe,
        data: Data,
        device: torch.device,
        teacher: TeacherLogits | None,
    ) -> None:
        if recipe.needs_teacher and teacher is None:
            raise ValueError("a recipe with a soft share needs a teacher, but got none")
        self.model = model.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.recipe, self.device, self.data = recipe, device, data
        self.teacher = teacher if recipe.needs_teacher else None
        self.images_NCHW = data.train.images_NCHW.to(device)
        self.labels_N = data.train.labels_N.to(device)
        self.average = averaging.copy_of(self.model)
        self.optimizer = make_optimizer(self.model, recipe)
        self.soft_loss = soft_loss(recipe.loss)
        self.state = _State(history=[])
        self.start = f"{weights_hash(self.model)} {text_hash(repr(self.model))}"

    def run(self, report: Report | None, checkpoint: Checkpoint | None) -> TrialResult:
        if checkpoint is not None:
            self.restore(checkpoint.read(self.identity))
        ended, reason = "finished", ""
        for epoch in range(len(self.state.history), self.recipe.epochs):
            began = time.perf_counter()
            with self.seeded(epoch):
                loss = self.train_epoch(epoch)
            if not loss < DIVERGED_LOSS:  # NaN compares false
                ended, reason = "diverged", f"training loss was {loss:g} in epoch {epoch + 1}"
                break
            self.recalibrate(epoch)
            accuracy = evaluate(self.average, self.data.validation, self.device)
            seconds = time.perf_counter() - began
            self.state.seconds += seconds
            done = Epoch(epoch + 1, accuracy, loss, len(self.images_NCHW) / seconds)
            self.state.history.append(done)
            if report is not None and report(done):
                ended, reason = "pruned", f"pruned behind epoch {epoch + 1}"
                break
            if checkpoint is not None:
                checkpoint.write(self.identity, self.snapshot())
        self.model.load_state_dict(self.average.state_dict())
        micro_batch = math.ceil(self.recipe.batch / self.state.splits)
        return TrialResult(
            history=tuple(self.state.history),
            ended=ended,
            reason=reason,
            seconds=self.state.seconds,
            device=device_name(self.device),
            micro_batch=micro_batch,
        )

    def train_epoch(self, epoch: int) -> float:
        """Mean training loss of one pass over the data."""
        self.model.train()
        teacher_NK = self.teacher_logits(epoch)
        losses = []
        for index_N in batches(len(self.images_NCHW), self.recipe, epoch):
            losses.append(self.step(index_N.to(self.device), epoch, teacher_NK))
            self.state.steps += 1
        return torch.stack(losses).mean().item()

    def teacher_logits(self, epoch: int) -> torch.Tensor | None:
        """What the teacher says to this epoch's views, unless no step of it has a soft share."""
        first, count = self.state.steps, steps_per_epoch(self.data, self.recipe)
        if self.teacher is None or not any(map(self.share, range(first, first + count))):
            return None
        return self.teacher.epoch_logits(epoch).to(self.device)

    @contextmanager
    def seeded(self, epoch: int) -> Iterator[None]:
        """Dropout draws from PyTorch's global generators: seed them, and put them back."""
        with torch.random.fork_rng([self.device] if self.device.type == "cuda" else []):
            torch.manual_seed((self.recipe.seed * 1_000_003 + epoch) % 2**63)
            yield

    def progress(self, step: int) -> float:
        return step / (self.recipe.epochs * steps_per_epoch(self.data, self.recipe))

    def share(self, step: int) -> float:
        """Of the soft loss."""
        return soft_share(self.recipe.phases, self.progress(step))

    def step(
        self, index_N: torch.Tensor, epoch: int, teacher_NK: torch.Tensor | None
    ) -> torch.Tensor:
        """One optimiser step; a batch too large for memory is accumulated from smaller ones."""
        recipe = self.recipe
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(
                recipe.schedule,
                self.progress(self.state.steps),
                start=recipe.lr,
                end=recipe.lr_end,
                warmup=recipe.warmup,
            )
        share = self.share(self.state.steps)
        while True:
            try:
                loss = self.accumulate(index_N, epoch, teacher_NK, share)
                break
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error) or self.state.splits >= recipe.batch // 2:
                    raise
            # Outside the handler, whose traceback would keep the failed graph alive.
            self.state.splits *= 2
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
        if recipe.clip:
            nn.utils.clip_grad_norm_(self.model.parameters(), recipe.clip)
        self.optimizer.step()
        averaging.update(self.average, self.model, recipe.ema, self.state.steps)
        return loss

    def accumulate(
        self, index_N: torch.Tensor, epoch: int, teacher_NK: torch.Tensor | None, share: float
    ) -> torch.Tensor:
        """Gradients of the mean loss over a batch, from `state.splits` parts of it."""
        self.optimizer.zero_grad(set_to_none=True)
        total = torch.zeros((), device=self.device)
        for part_N in self.parts(index_N):
            with autocast(self.device):
                loss = self.loss(part_N, epoch, teacher_NK, share) / len(index_N)
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        return total

    def parts(self, index_N: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """A batch in as many parts as memory asks for, none of one image: batch norm needs two."""
        return torch.tensor_split(index_N, max(1, min(self.state.splits, len(index_N) // 2)))

    def loss(
        self, index_N: torch.Tensor, epoch: int, teacher_NK: torch.Tensor | None, share: float
    ) -> torch.Tensor:
        """Sum over the images of (1 - share) hard loss + share soft loss."""
        views_NCHW, partner_N, weight_N = self.views(index_N, epoch)
        logits_NK = self.model(views_NCHW)
        labels_N = self.labels_N[index_N]
        smoothing = self.recipe.label_smoothing
        total: torch.Tensor = logits_NK.new_zeros((), dtype=torch.float32)
        if share < 1:
            hard_N = hard_loss(logits_NK, labels_N, smoothing)
            if self.recipe.augment.mixup:
                other_N = hard_loss(logits_NK, self.labels_N[partner_N], smoothing)
                hard_N = weight_N * hard_N + (1 - weight_N) * other_N
            total = total + (1 - share) * hard_N.sum()
        if share > 0 and teacher_NK is not None:
            soft_N = self.soft_loss(
                logits_NK, teacher_NK[index_N], labels_N, self.recipe.temperature
            )
            total = total + share * soft_N.sum()
        return total

    def views(
        self, index_N: torch.Tensor, epoch: int
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        recipe = self.recipe
        return mixed_views(
            self.images_NCHW, index_N, seed=recipe.view_seed, epoch=epoch, augment=recipe.augment
        )

    def recalibrate(self, epoch: int) -> None:
        """Batch norm statistics of the averaged network, from training views of this epoch.

        Running statistics belong to other weights; measured early in training, they rank
        networks wrongly.
        """
        if not self.recipe.ema:
            averaging.follow(self.average, self.model)
        chosen = list(batches(len(self.images_NCHW), self.recipe, epoch))[: self.recipe.bn_batches]
        parts = (part_N for index_N in chosen for part_N in self.parts(index_N.to(self.device)))
        views = (self.views(part_N, epoch)[0] for part_N in parts)
        averaging.recalibrate(self.average, views, autocast(self.device))

    @property
    def identity(self) -> dict[str, str]:
        """What a checkpoint must agree on before training goes on from it."""
        key = self.teacher.key if self.teacher else ""
        return {
            "model": self.start,  # its structure and the weights that it began with
            "recipe": self.recipe.fingerprint,
            "data": self.data.fingerprint,
            "teacher": key,
        }

    def snapshot(self) -> dict[str, Any]:
        return {
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "history": [tuple(epoch) for epoch in self.state.history],
            "steps": self.state.steps,
            "seconds": self.state.seconds,
            "splits": self.state.splits,
        }

    def restore(self, snapshot: Mapping[str, Any] | None) -> None:
        if snapshot is None:
            return
        self.model.load_state_dict(snapshot["model"])
        self.average.load_state_dict(snapshot["average"])
        self.optimizer.load_state_dict(snapshot["optimizer"])
        self.state = _State(
            history=[Epoch(*epoch) for epoch in snapshot["history"]],
            steps=snapshot["steps"],
            seconds=snapshot["seconds"],
            splits=snapshot["splits"],
        )
