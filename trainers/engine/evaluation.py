"""Devices, and a model's predictions on images that are not augmented."""

from collections.abc import Iterator
from contextlib import nullcontext

import torch
from torch import nn

from space.errors import InputError
from trainers.data.datasets import Split
from trainers.engine.memory import in_parts
from trainers.machine import keep_threads_to_cores

BATCH = 256  # images at once, where memory does not say fewer
CPU_VALUES = BATCH * 3 * 64 * 64  # pixels' values at once: a CPU gains nothing from more
SMALLEST = 16  # images at once


def batch_size(images_NCHW: torch.Tensor, device: torch.device) -> int:
    """Images at once without gradients; fewer large ones, so that memory stays bounded."""
    if device.type == "cuda":
        return BATCH
    return min(BATCH, max(SMALLEST, CPU_VALUES // max(1, images_NCHW[:1].numel())))


def predict(
    model: nn.Module,
    images_NCHW: torch.Tensor,
    device: torch.device,
    autocast: torch.autocast | None = None,
) -> Iterator[torch.Tensor]:
    """Logits of uint8 images, float32 on the CPU, batch by batch.

    In float32 on every device unless an autocast is given: an accuracy must not depend on where it
    was measured.
    """
    model.eval()

    @torch.inference_mode()
    def logits(begin: int, end: int) -> torch.Tensor:
        with autocast or nullcontext():
            logits_NK: torch.Tensor = model(images_NCHW[begin:end].to(device).float() / 255)
        return logits_NK.float().cpu()

    return in_parts(len(images_NCHW), batch_size(images_NCHW, device), logits)


def evaluate(
    model: nn.Module, split: Split, device: torch.device, autocast: torch.autocast | None = None
) -> float:
    """Accuracy on the untouched images of a split, the model in evaluation mode."""
    return accuracy_of(confusion(model, split, device, autocast))


def confusion(
    model: nn.Module, split: Split, device: torch.device, autocast: torch.autocast | None = None
) -> torch.Tensor:
    """K x K counts of a split's images: true class by predicted class."""
    logits_NK = torch.cat(list(predict(model, split.images_NCHW, device, autocast)))
    classes = logits_NK.shape[1]
    pairs_N = split.labels_N.long().cpu() * classes + logits_NK.argmax(1)
    return torch.bincount(pairs_N, minlength=classes**2).view(classes, classes)


def accuracy_of(confusion_KK: torch.Tensor) -> float:
    """Share of the images that are on the diagonal."""
    return (confusion_KK.trace().double() / confusion_KK.sum()).item()


def choose_device(name: str) -> torch.device:
    """`auto`, `cpu`, `cuda` or `cuda:1`; auto takes the GPU where there is one.

    Whatever trains or predicts calls this first, so PyTorch's threads are limited here too.
    """
    keep_threads_to_cores()
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name != "cpu" and not name.startswith("cuda"):
        raise InputError(f"device must be auto, cpu or cuda, but got {name!r}")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise InputError(f"device {name!r} needs a GPU that PyTorch sees; choose --device cpu")
    count = torch.cuda.device_count()
    if name not in ("cpu", "cuda", *(f"cuda:{index}" for index in range(count))):
        raise InputError(f"device must be cuda:0 to cuda:{count - 1} here, but got {name!r}")
    return torch.device(name)


def device_name(device: torch.device) -> str:
    """The device in words, e.g. `cpu x2` (threads) or `NVIDIA H200`."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"cpu x{torch.get_num_threads()}"
