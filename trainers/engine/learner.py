"""One step of training: views, losses, gradients, optimiser, average.

Shape suffixes: N images, K classes; P photographs, as in `trainers.engine.batches`.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import nn

from space.errors import first_line
from trainers.engine import averaging
from trainers.engine.batches import Batch, Batches
from trainers.engine.graphs import GraphedStep
from trainers.engine.memory import is_out_of_memory
from trainers.engine.modes import ComputeMode
from trainers.engine.steps import make_optimizer
from trainers.losses import NO_LABEL, hard_loss, soft_loss
from trainers.model import set_layout
from trainers.recipe import Recipe
from trainers.schedules import learning_rate, soft_share


class StepScalars(NamedTuple):
    """What changes from step to step besides the batch."""

    learning_rate: float
    hard_weight: float  # of the labels' loss
    soft_weight: float  # of the teacher's
    average_weight: float  # of the new parameters in their average


NO_RATES = StepScalars(0.0, 0.0, 0.0, 0.0)  # a step that changes nothing


def rates(recipe: Recipe, step: int, steps: int) -> StepScalars:
    """The rates of one of a run's steps, counted from 0."""
    progress = step / steps
    rate = learning_rate(
        recipe.schedule, progress, start=recipe.lr, end=recipe.lr_end, warmup=recipe.warmup
    )
    share = soft_share(recipe.phases, progress)
    rise = min(1.0, progress / recipe.soft_warmup) if recipe.soft_warmup else 1.0
    return StepScalars(rate, 1 - share, share * rise, averaging.weight(recipe.ema, step))


class Learner:
    """A network while it is taught, its optimiser and its average."""

    def __init__(
        self, model: nn.Module, recipe: Recipe, batches: Batches, mode: ComputeMode
    ) -> None:
        self.recipe, self.batches, self.device, self.mode = recipe, batches, batches.device, mode
        self.model = set_layout(model.to(self.device), mode.memory_format)
        self.average = averaging.copy_of(self.model)
        # On the device, because a graph would keep a number's first value for ever.
        self.scalars = torch.zeros(len(StepScalars._fields), device=self.device)
        self.learning_rate, self.hard_weight, self.soft_weight, self.average_weight = (
            self.scalars.unbind()
        )
        self.optimizer = make_optimizer(self.model, recipe, self.learning_rate)
        self.soft_loss = soft_loss(recipe.loss, recipe.beta)
        self.splits = 1  # micro-batches a batch
        self.graphs: dict[tuple[int, bool], GraphedStep] = {}
        self.fallback = ""  # why steps are not captured although the mode says so

    def step(self, batch: Batch, now: torch.Tensor | Sequence[float]) -> torch.Tensor:
        """One optimiser step; returns the loss. A batch too large for memory is done in parts.

        Args:
            now: the step's `StepScalars`.
        """
        self.scalars.copy_(torch.as_tensor(now))
        while True:
            try:
                return self._graphed(batch) if self.captures else self.compute(batch)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error) or self.splits >= self.recipe.batch // 2:
                    raise
            # Outside the handler, whose traceback would keep the failed step's tensors alive.
            self.splits *= 2
            self.graphs.clear()
            if self.device.type == "cuda":
                torch.cuda.empty_cache()

    @property
    def captures(self) -> bool:
        return self.mode.graphs and not self.fallback and self.splits == 1

    def _graphed(self, batch: Batch) -> torch.Tensor:
        kind = (len(batch), batch.teacher_NK.shape[1] > 0)
        if kind not in self.graphs:
            try:
                graph = GraphedStep(self.compute, self.changing, batch, self.device)
            except RuntimeError as error:
                if is_out_of_memory(error):
                    raise
                self.fallback = first_line(error)
                self.graphs.clear()
                return self.compute(batch)
            self.graphs[kind] = graph
        return self.graphs[kind](batch)

    def compute(self, batch: Batch) -> torch.Tensor:
        """The step itself: everything that it reads and changes is in tensors."""
        loss = self.accumulate(batch)
        if self.recipe.clip:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip)
        self.optimizer.step()
        if self.recipe.ema:
            averaging.update(self.average, self.model, self.average_weight)
        return loss

    def accumulate(self, batch: Batch) -> torch.Tensor:
        """Gradients of the mean loss over a batch, from `splits` parts of it."""
        self.optimizer.zero_grad(set_to_none=True)
        total = torch.zeros((), device=self.device)
        count = self.counted(batch)
        for part in self.parts(batch):
            with self.mode.autocast(self.device):
                loss = self.loss(part) / count
            loss.backward()
            total += loss.detach()
        return total

    def parts(self, batch: Batch) -> Iterator[Batch]:
        """As many parts as memory asks for, none of one image: batch norm needs two."""
        count = max(1, min(self.splits, len(batch) // 2))
        if count == 1:
            yield batch
            return
        for index_N in torch.tensor_split(torch.arange(len(batch)), count):
            yield batch.part(int(index_N[0]), int(index_N[-1]) + 1)

    def loss(self, batch: Batch) -> torch.Tensor:
        """Sum over the images of the weighted hard and soft losses.

        Of an image without a label it is the soft loss alone, whatever the share; nothing where
        no teacher is heard. A mixed image is so in part.
        """
        logits_NK = self.model(self.batches.views(batch))
        smoothing, own_N = self.recipe.label_smoothing, batch.labels_P[: len(batch)]
        hard_N = hard_loss(logits_NK, own_N, smoothing)
        if self.recipe.augment.mixes:
            other_N = hard_loss(logits_NK, batch.labels_P[len(batch) :], smoothing)
            hard_N = batch.weight_N * hard_N + (1 - batch.weight_N) * other_N
        if batch.teacher_NK.shape[1] == 0:
            return hard_N.sum()
        teacher_NK = batch.teacher_NK
        if self.batches.some_unlabelled:  # losses that ask for the label get the teacher's guess
            own_N = torch.where(own_N == NO_LABEL, teacher_NK.argmax(1), own_N)
        soft_N = self.soft_loss(logits_NK, teacher_NK, own_N, self.recipe.temperature)
        loss = self.hard_weight * hard_N.sum() + self.soft_weight * soft_N.sum()
        if self.batches.some_unlabelled:
            more = self.alone_weight - self.soft_weight
            loss = loss + more * (self.unlabelled(batch) * soft_N).sum()
        return loss

    @property
    def alone_weight(self) -> torch.Tensor:
        """Weight of the soft loss of an image without a label: 1 where the teacher is heard.

        While the soft loss is warmed up it rises with it; where the labels alone are heard it is 0.
        """
        share = 1 - self.hard_weight
        return torch.where(share > 0, self.soft_weight / share.clamp(min=1e-9), 0)

    def unlabelled(self, batch: Batch) -> torch.Tensor:
        """How much of each image has no label: 0 or 1, unless it is mixed."""
        none_P = (batch.labels_P == NO_LABEL).float()
        own_N, other_N = none_P[: len(batch)], none_P[len(batch) :]
        if not self.recipe.augment.mixes:
            return own_N
        return batch.weight_N * own_N + (1 - batch.weight_N) * other_N

    def counted(self, batch: Batch) -> torch.Tensor | int:
        """How many images a batch's mean loss is the mean of.

        An image without a label has the weight of its hard loss in its soft loss too, so it counts
        as one image, or as the part of one that a warm-up gives it. Where the labels alone are
        heard it has no loss: were it counted, steps would be smaller there, by a share that
        changes from batch to batch. Less than one image is not made one.
        """
        if not self.batches.some_unlabelled:
            return len(batch)
        weight = self.alone_weight if batch.teacher_NK.shape[1] else 0
        return (len(batch) - (1 - weight) * self.unlabelled(batch).sum()).clamp(min=1)

    def changing(self) -> Iterator[torch.Tensor]:
        """Every tensor that a step changes."""
        for module in (self.model, self.average):
            yield from module.parameters()
            yield from module.buffers()
        for state in self.optimizer.state.values():
            yield from (value for value in state.values() if isinstance(value, torch.Tensor))

    def snapshot(self) -> dict[str, Any]:
        """What training goes on from, without the place in the schedule."""
        return {
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "splits": self.splits,
        }

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """Go on from what `snapshot` returned."""
        self.model.load_state_dict(snapshot["model"])
        self.average.load_state_dict(snapshot["average"])
        self.optimizer.load_state_dict(snapshot["optimizer"])
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate  # loading has put a copy there
        self.splits = snapshot["splits"]
