"""A network with its own input size and normalisation: what both teachers and students are."""

import torch
import torch.nn.functional as F
from torch import nn

from space.fingerprint import fingerprint


class Model(nn.Module):
    """Images in [0, 1] -> logits.

    Resizes to `size` pixels, repeats one channel where the network wants three, normalises.
    These are settings of the model, not of the data: a teacher and its student may differ.
    """

    mean_C11: torch.Tensor
    std_C11: torch.Tensor

    def __init__(
        self,
        network: nn.Module,
        *,
        size: int,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        order: tuple[int, ...] = (),
    ) -> None:
        """Give a network its input.

        Args:
            order: which of its outputs the logits are; (): all, in their order.
        """
        super().__init__()
        self.order = order
        self.network = network
        self.size = size
        self.layout = torch.channels_last  # of what the network sees
        self.register_buffer("mean_C11", torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("std_C11", torch.tensor(std).view(-1, 1, 1), persistent=False)

    def extra_repr(self) -> str:
        mean, std = (tensor.flatten().tolist() for tensor in (self.mean_C11, self.std_C11))
        return f"size={self.size}, mean={mean}, std={std}"

    def forward(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        if images_NCHW.shape[-1] != self.size:
            images_NCHW = F.interpolate(
                images_NCHW, (self.size, self.size), mode="bilinear", antialias=True
            )
        images_NCHW = images_NCHW.expand(-1, len(self.mean_C11), -1, -1)
        normalised_NCHW = (images_NCHW - self.mean_C11) / self.std_C11
        logits_NK: torch.Tensor = self.network(
            normalised_NCHW.contiguous(memory_format=self.layout)
        )
        return logits_NK[:, self.order] if self.order else logits_NK


def set_layout(model: nn.Module, layout: torch.memory_format) -> nn.Module:
    """Put a model's weights, and what its networks see, into a memory layout; returns it."""
    model.to(memory_format=layout)
    for part in model.modules():
        if isinstance(part, Model):
            part.layout = layout
    return model


def weights_hash(module: nn.Module) -> str:
    """Twelve hexadecimal digits of every weight and buffer of the state dict."""
    named = sorted(module.state_dict().items())
    parts = ((name, memoryview(tensor.cpu().reshape(-1).numpy())) for name, tensor in named)
    return fingerprint(*(part for pair in parts for part in pair))
