"""What a student can learn from a teacher: how its answers look on what students will see.

A student hears more than the labels only where the teacher's answers are softer than they are, and
only where these answers are right. A network that has learned its training images by heart answers
there as the labels do, and its validation accuracy says nothing of that.

Shape suffixes: N images, K classes.
"""

import math
from dataclasses import dataclass, replace

import torch

from trainers.data.datasets import Data, Split
from trainers.engine.batches import Batches
from trainers.engine.evaluation import batch_size
from trainers.engine.memory import in_parts
from trainers.model import Model
from trainers.policies import Augment
from trainers.recipe import Recipe

NEARLY_ONE_HOT = 0.99  # largest probability above which an answer hardly differs from a label
# Training images that a teacher is asked about, spread evenly over the split: a share of so many
# is known to 0.8 points, and a large network on a CPU answers within minutes.
MOST_ASKED = 4096
# When it knows its training images by heart. The gap: chance moves the accuracy on 100 validation
# images by 5 points (one standard error), so it alone does not warn; and teachers that teach well
# stay below it (fine-tuned on food: near 100 % and 88 %). One-hot: on most views, because then most
# of what a student hears is the label once more.
GAP = 0.15  # of accuracy, training views over validation
MOST = 0.5  # share of training views


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """A teacher's answers to some images, at temperature 1."""

    images: int  # asked about; each view of an image counts
    accuracy: float  # share of the images
    entropy: float  # nats, mean over the images
    relative_entropy: float  # share of log K, which is the entropy of knowing nothing
    one_hot: float  # share of the images whose largest probability is above NEARLY_ONE_HOT

    @property
    def facts(self) -> dict[str, object]:
        """JSON data."""
        return {
            "images": self.images,
            "accuracy": self.accuracy,
            "entropy": self.entropy,
            "relative_entropy": self.relative_entropy,
            "one_hot": self.one_hot,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Looks:
    """A teacher's answers to what students learn from, and to what they are judged by."""

    views: Answers  # training images as students see them
    training: Answers  # the same images, not augmented
    validation: Answers  # not augmented

    @property
    def by_heart(self) -> bool:
        """Whether it knows its training images by heart."""
        far = self.views.accuracy - self.validation.accuracy > GAP
        return far and self.views.one_hot > MOST


def look(model: Model, data: Data, recipe: Recipe, views: int, device: torch.device) -> Looks:
    """Ask a teacher about training images' views, the same images as they are, and validation.

    In float32: the figures must not depend on the device.

    Args:
        data: with labels in the order of the teacher's classes, at its own input size.
        recipe: whose views, of its own view seed.
        views: of each image: those of the recipe's first epochs.
    """
    clean = replace(recipe, augment=Augment())
    asked = (
        (data.train, recipe, range(views), MOST_ASKED),
        (data.train, clean, range(1), MOST_ASKED),
        (data.validation, clean, range(1), len(data.validation)),
    )
    seen, training, validation = (_answers(model, *what, device) for what in asked)
    return Looks(views=seen, training=training, validation=validation)


def described(logits_NK: torch.Tensor, labels_N: torch.Tensor) -> Answers:
    """How answers look: logits of N images, and their labels (int64)."""
    chance_NK = logits_NK.double().softmax(1)
    entropy = torch.special.entr(chance_NK).sum(1).mean().item()
    return Answers(
        images=len(labels_N),
        accuracy=_share(logits_NK.argmax(1) == labels_N),
        entropy=entropy,
        relative_entropy=entropy / math.log(logits_NK.shape[1]),
        one_hot=_share(chance_NK.amax(1) > NEARLY_ONE_HOT),
    )


def _answers(
    model: Model, split: Split, recipe: Recipe, epochs: range, most: int, device: torch.device
) -> Answers:
    model, batches = model.to(device).eval(), Batches(split, recipe, device)
    count = min(len(split), most)
    place_N = torch.arange(count, device=batches.images_NCHW.device) * len(split) // count
    labels: list[torch.Tensor] = []

    @torch.inference_mode()
    def logits(begin: int, end: int) -> torch.Tensor:
        batch = batches.batch(place_N[begin:end])
        told_NK: torch.Tensor = model(batches.views(batch)).float().cpu()
        own_N, *other = batch.labels_P.split(end - begin)
        if other:  # a mixed view is an image of what most of it shows
            own_N = torch.where(batch.weight_N < 0.5, other[0], own_N)
        labels.append(own_N.cpu())
        return told_NK

    told: list[torch.Tensor] = []
    for epoch in epochs:
        batches.begin(epoch)
        told += in_parts(count, batch_size(batches.images_NCHW, device), logits)
    return described(torch.cat(told), torch.cat(labels))


def _share(held_N: torch.Tensor) -> float:
    return held_N.double().mean().item()
