"""The averaged network that is evaluated and shipped, and its batch norm statistics."""

import copy
from collections.abc import Iterable

import torch
from torch import nn


def copy_of(model: nn.Module) -> nn.Module:
    """A copy of the model that needs no gradients."""
    average = copy.deepcopy(model)
    average.requires_grad_(False)
    return average


def weight(decay: float, step: int) -> float:
    """Weight of the new parameters in the average: 1 - min(decay, (1 + step) / (10 + step)).

    So the first steps are soon forgotten. Without a decay the average is left alone.
    """
    return 1 - min(decay, (1 + step) / (10 + step)) if decay else 0.0


@torch.no_grad()
def update(average: nn.Module, model: nn.Module, weight: torch.Tensor) -> None:
    """Exponential moving average of the parameters: a <- a + w (p - a).

    Buffers are left alone: `recalibrate` measures them on the averaged weights themselves.

    Args:
        weight: w, a scalar on the parameters' device.
    """
    averages = tuple(average.parameters())
    steps = torch._foreach_sub(tuple(model.parameters()), averages)
    torch._foreach_mul_(steps, weight)
    torch._foreach_add_(averages, steps)


@torch.no_grad()
def follow(average: nn.Module, model: nn.Module) -> None:
    """Take over the current parameters: what is evaluated where nothing is averaged."""
    torch._foreach_copy_(tuple(average.parameters()), tuple(model.parameters()))


@torch.no_grad()
def recalibrate(
    model: nn.Module, batches: Iterable[torch.Tensor], autocast: torch.autocast
) -> None:
    """Replace batch norm's statistics by their plain mean over `batches` of images.

    All else is as when the network is evaluated: no dropout, and so no random numbers.
    """
    norms = [part for part in model.modules() if isinstance(part, nn.BatchNorm2d)]
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # PyTorch's cumulative mean
    model.eval()
    for norm in norms:
        norm.train()
    for images_NCHW in batches:
        with autocast:
            model(images_NCHW)
    model.eval()
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
