"""Steps as CUDA graphs: hundreds of kernels launched by one call.

A small student's kernels are shorter than their launches, so that an eager step waits for Python.
A graph replays kernels on fixed addresses with the arguments they were captured with: whatever
changes from step to step must live in tensors (the batch, the learning rate, the loss mix, the
average's weight), and is copied there before each replay.
"""

import threading
from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch

from trainers.engine.batches import Batch

ONE_CAPTURE = threading.Lock()
WARM_UP_STEPS = 3  # lazily made workspaces and optimiser states must exist before the capture


class Recording(NamedTuple):
    """What a captured computation leaves: call `replay`, then read `output`."""

    output: torch.Tensor
    replay: Callable[[], None]


class GraphedStep:
    """One step for batches of one shape.

    The constructor trains a few steps to warm up and takes them back: parameters, batch norm
    statistics, momentum, average and random numbers are as before.

    Args:
        compute: a whole step, which gives its loss.
        changing: the tensors that a step changes; those that only the first step makes begin at
            zero, which is what optimisers begin with.

    Raises:
        RuntimeError: the step cannot be captured; everything is as before.
    """

    def __init__(
        self,
        compute: Callable[[Batch], torch.Tensor],
        changing: Callable[[], Iterable[torch.Tensor]],
        batch: Batch,
        device: torch.device,
    ) -> None:
        self.inputs = Batch(*(tensor.clone() for tensor in batch))
        before = {id(tensor): (tensor, tensor.detach().clone()) for tensor in changing()}
        try:
            with torch.random.fork_rng([device] if device.type == "cuda" else []):
                warm_up(lambda: compute(self.inputs), device)
        finally:
            _restore(changing(), before)
        self.recording = record(lambda: compute(self.inputs))

    def __call__(self, batch: Batch) -> torch.Tensor:
        """Run the step on a batch; gives its loss."""
        for kept, given in zip(self.inputs, batch, strict=True):
            kept.copy_(given, non_blocking=True)
        self.recording.replay()
        return self.recording.output.clone()


def warm_up(compute: Callable[[], torch.Tensor], device: torch.device) -> None:
    """Run it on a side stream, as a capture will."""
    stream = torch.cuda.Stream(device)
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP_STEPS):
            compute()
    torch.cuda.current_stream(device).wait_stream(stream)


def record(compute: Callable[[], torch.Tensor]) -> Recording:
    """Capture without running."""
    graph = torch.cuda.CUDAGraph()
    # Other threads of the process may talk to the GPU meanwhile, but not capture.
    with ONE_CAPTURE, torch.cuda.graph(graph, capture_error_mode="thread_local"):
        output = compute()
    return Recording(output, graph.replay)


@torch.no_grad()
def _restore(
    changed: Iterable[torch.Tensor], before: dict[int, tuple[torch.Tensor, torch.Tensor]]
) -> None:
    for tensor in changed:
        if id(tensor) in before:
            tensor.copy_(before[id(tensor)][1])
        else:
            tensor.zero_()
