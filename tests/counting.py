"""What torch counts of a student, independently of `space.count`."""

from collections import Counter

import torch
from torch import Tensor, nn

from space.build import Student


def measured(student: Student, channels: int, size: int) -> tuple[int, Counter[str]]:
    """MACs seen by hooks on the modules, and the outputs' sizes by kind."""
    total, shapes = 0, Counter[str]()

    def conv(module: nn.Module, _: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal total
        assert isinstance(module, nn.Conv2d)
        per_output = module.in_channels // module.groups * module.kernel_size[0] ** 2
        total += output.numel() * per_output
        shapes[str(tuple(output.shape[1:]))] += 1

    def linear(module: nn.Module, _: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal total
        assert isinstance(module, nn.Linear)
        total += output.numel() * module.in_features

    for module in student.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(conv)
        if isinstance(module, nn.Linear):
            module.register_forward_hook(linear)
    student.eval()(torch.zeros(1, channels, size, size))
    return total, shapes
