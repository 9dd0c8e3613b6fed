"""Devices, and a model's predictions on images as they are."""

from collections.abc import Iterator

import torch
from torch import nn

from space.errors import InputError
from trainers.data import Split

BATCH = 256  # images


@torch.inference_mode()
def predict(
    model: nn.Module, images_NCHW: torch.Tensor, device: torch.device
) -> Iterator[torch.Tensor]:
    """Logits of uint8 images, float32 on the CPU, batch by batch."""
    model.eval()
    for part_NCHW in torch.split(images_NCHW, BATCH):
        with autocast(device):
            logits_NK = model(part_NCHW.to(device).float() / 255)
        yield logits_NK.float().cpu()


def evaluate(model: nn.Module, split: Split, device: torch.device) -> float:
    """Accuracy on the untouched images of a split, the model in evaluation mode."""
    predicted_N = torch.cat([part.argmax(1) for part in predict(model, split.images_NCHW, device)])
    return (predicted_N == split.labels_N).double().mean().item()


def autocast(device: torch.device) -> torch.autocast:
    """bfloat16 on GPUs that have it; float32 elsewhere."""
    enabled = device.type == "cuda" and torch.cuda.is_bf16_supported()
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled)


def choose_device(name: str) -> torch.device:
    """`auto`, `cpu`, `cuda` or `cuda:1`; auto takes the GPU where there is one."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name != "cpu" and not name.startswith("cuda"):
        raise InputError(f"device must be auto, cpu or cuda, but got {name!r}")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise InputError(f"device {name!r} needs a GPU that PyTorch sees; choose --device cpu")
    return torch.device(name)


def device_name(device: torch.device) -> str:
    """The device in words, e.g. `cpu x2` (threads) or `NVIDIA H200`."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"cpu x{torch.get_num_threads()}"
