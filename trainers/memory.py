"""Whether an exception says that memory ran out, on whichever device."""

from collections.abc import Callable, Iterator

import torch

# What CUDA and its libraries say outside PyTorch's own allocator.
CUDA = ("CUDA error: out of memory", "STATUS_ALLOC_FAILED")


def is_out_of_memory(error: BaseException) -> bool:
    """PyTorch raises a class of its own on GPUs, a plain RuntimeError on CPUs."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    text = str(error)
    return any(words in text for words in ("DefaultCPUAllocator", "not enough memory", *CUDA))


def in_parts(
    count: int, size: int, compute: Callable[[int, int], torch.Tensor]
) -> Iterator[torch.Tensor]:
    """`compute(begin, end)` over 0 ... count, `size` at a time; half as many where memory ends."""
    begin = 0
    while begin < count:
        end = min(begin + size, count)
        try:
            part = compute(begin, end)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error) or size == 1:
                raise
            size = max(1, size // 2)
            continue
        yield part
        begin = end
