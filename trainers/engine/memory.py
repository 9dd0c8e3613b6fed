"""Detect running out of memory on any device; keep freed CPU memory for reuse."""

import ctypes
from collections.abc import Callable, Iterator

import torch

# What CUDA and its libraries say outside PyTorch's own allocator.
CUDA = ("CUDA error: out of memory", "STATUS_ALLOC_FAILED")

# Of glibc's <malloc.h>.
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
TRIM_BYTES = 2**31 - 1  # the largest that it takes


def keep_freed_memory() -> None:
    """Let this process keep large blocks that it frees, for the next ones of their size.

    By default glibc gives each of a step's tensors back to the kernel and gets it anew, page by
    page and zeroed: a third to nearly a half of a step on a CPU (`python benchmarks/allocator.py`).
    Where the C library is another one, nothing happens.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return
    mallopt(M_MMAP_MAX, 0)
    mallopt(M_TRIM_THRESHOLD, TRIM_BYTES)


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
