"""The averaged network that is evaluated and shipped, and its batch norm statistics."""

import copy
from collections.abc import Iterable

import torch
from torch import nn


def copy_of(model: nn.Module) -> nn.Module:
    """A copy that no gradient reaches."""
    average = copy.deepcopy(model)
    average.requires_grad_(False)
    return average


@torch.no_grad()
def update(average: nn.Module, model: nn.Module, decay: float, step: int) -> None:
    """Exponential moving average of the parameters: a <- d a + (1 - d) p.

    d = min(decay, (1 + step) / (10 + step)), so that the first steps are soon forgotten. Buffers
    are left alone: `recalibrate` measures them on the averaged weights themselves.
    """
    if decay:
        weight = 1 - min(decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(tuple(average.parameters()), tuple(model.parameters()), weight)


@torch.no_grad()
def follow(average: nn.Module, model: nn.Module) -> None:
    """Without an average, the current parameters are what is evaluated."""
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
