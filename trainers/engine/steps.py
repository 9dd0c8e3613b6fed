"""Batches of an epoch, and the optimiser that steps after each of them."""

from collections.abc import Iterator

import torch
from torch import nn

from trainers.data.datasets import Data, Split
from trainers.data.random import order
from trainers.recipe import Recipe


def make_optimizer(
    model: nn.Module, recipe: Recipe, rate: torch.Tensor | float
) -> torch.optim.Optimizer:
    """The recipe's optimiser; weight decay spares biases and norms.

    Args:
        rate: the learning rate; as a tensor it can be changed where it is.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": recipe.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if recipe.optimizer == "sgd":
        nesterov = recipe.momentum > 0
        return torch.optim.SGD(
            groups, lr=rate, momentum=recipe.momentum, nesterov=nesterov, fused=True
        )
    adam = torch.optim.Adam if recipe.optimizer == "adam" else torch.optim.AdamW
    on_gpu = any(p.device.type == "cuda" for p in parameters)
    return adam(groups, lr=rate, fused=True, capturable=on_gpu)


def batch_indices(
    count: int, recipe: Recipe, epoch: int, device: torch.device | str = "cpu"
) -> Iterator[torch.Tensor]:
    """Image indices of every batch; a last batch of one image is dropped: batch norm needs two."""
    order_N = order(count, seed=recipe.seed, epoch=epoch, device=device)
    for index_N in torch.split(order_N, recipe.batch):
        if len(index_N) > 1:
            yield index_N


def unlabelled_for(data: Data, recipe: Recipe) -> Split | None:
    """The images without labels, where there are any and a teacher speaks of them."""
    return data.unlabelled if recipe.needs_teacher else None


def images_per_epoch(data: Data, recipe: Recipe) -> int:
    """Images that are trained on in an epoch, those without labels among them."""
    unlabelled = unlabelled_for(data, recipe)
    return len(data.train) + (0 if unlabelled is None else len(unlabelled))


def steps_per_epoch(data: Data, recipe: Recipe) -> int:
    full, rest = divmod(images_per_epoch(data, recipe), recipe.batch)
    return full + (rest > 1)
