"""Whether an exception says that memory ran out, on whichever device."""

import torch


def is_out_of_memory(error: BaseException) -> bool:
    """PyTorch raises a class of its own on GPUs, a plain RuntimeError on CPUs."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    text = str(error)
    return "DefaultCPUAllocator" in text or "not enough memory" in text
