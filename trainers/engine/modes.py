"""How a step is computed: memory layout, precision, CUDA graphs. It changes nothing but rounding.

Which layout and precision are the fastest depends on the network and on the device: on one CPU the
same precision made one student 1.24 times as fast and another 0.41 times (docs/lab-notes.md). So
they are measured, on the network itself, in a second.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch

LAYOUTS = {"channels_last": torch.channels_last, "contiguous": torch.contiguous_format}
# What another mode must be faster by: less would be noise, and change roundings for nothing.
GAIN = 1.15
# A run of fewer steps does not win back what measuring costs (about a dozen steps).
STEPS_WORTH_MEASURING = 450


class ComputeMode(NamedTuple):
    """How a step is computed."""

    layout: str = "channels_last"  # NHWC in memory; or "contiguous", NCHW
    precision: str = "fp32"  # or "bf16": autocast, the weights themselves stay in float32
    graphs: bool = False  # whole steps as CUDA graphs

    @property
    def words(self) -> str:
        """E.g. `channels_last, bf16, graphs`."""
        return ", ".join([self.layout, self.precision, *(["graphs"] if self.graphs else [])])

    @property
    def memory_format(self) -> torch.memory_format:
        return LAYOUTS[self.layout]

    def autocast(self, device: torch.device) -> torch.autocast:
        return torch.autocast(device.type, torch.bfloat16, enabled=self.precision == "bf16")


def default_mode(device: torch.device, precision: str = "auto") -> ComputeMode:
    """What is right more often than not; `auto` is bf16 on a GPU that has it, fp32 elsewhere."""
    on_gpu = device.type == "cuda"
    if precision == "auto":
        precision = "bf16" if on_gpu and has_bfloat16(device) else "fp32"
    return ComputeMode(precision=precision, graphs=on_gpu)


def measured_mode(
    seconds_a_step: Callable[[ComputeMode], float], device: torch.device, precision: str = "auto"
) -> ComputeMode:
    """The fastest mode: first the layout, then, where it is free to choose, a CPU's precision."""
    best = default_mode(device, precision)
    least = seconds_a_step(best)
    changes: list[Callable[[ComputeMode], ComputeMode]] = [
        lambda mode: mode._replace(layout="contiguous")
    ]
    if precision == "auto" and device.type == "cpu" and has_bfloat16(device):
        changes.append(lambda mode: mode._replace(precision="bf16"))
    for change in changes:
        other = change(best)
        seconds = seconds_a_step(other)
        if seconds * GAIN < least:
            best, least = other, seconds
    return best


def has_bfloat16(device: torch.device) -> bool:
    """Whether the hardware multiplies bfloat16; PyTorch emulates it elsewhere, slowly."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    names = ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16")
    return any(bool(capabilities.get(name)) for name in names)
