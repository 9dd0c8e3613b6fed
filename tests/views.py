"""Views of a batch as training makes them, for tests that compare with them."""

import torch

from trainers.data.augment import LANES, drawn_views
from trainers.data.datasets import Split
from trainers.data.random import uniforms
from trainers.engine.batches import Batches
from trainers.policies import Augment
from trainers.recipe import Recipe


def views(
    images_NCHW: torch.Tensor, index_N: torch.Tensor, *, seed: int, epoch: int, augment: Augment
) -> torch.Tensor:
    """The views of images whose places in the data set are `index_N`, before any are mixed."""
    return drawn_views(images_NCHW, uniforms(seed, epoch, index_N, LANES), augment)


def mixed_views(
    images_all_NCHW: torch.Tensor,
    index_N: torch.Tensor,
    *,
    seed: int,
    epoch: int,
    augment: Augment,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Views of the images of those places, their partners' places, and their own weights."""
    split = Split(images_all_NCHW, torch.arange(len(images_all_NCHW)))
    batches = Batches(split, Recipe(view_seed=seed, augment=augment), images_all_NCHW.device)
    batches.begin(epoch)
    batch = batches.batch(index_N)
    return batches.views(batch), batch.labels_P[-len(batch) :], batch.weight_N
