"""How many students are trained at once: the number given, or the fastest that is measured."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from rich.console import Console

from search.study.spec import SearchSpec
from search.training.context import ContextSpec, TrainingContext
from search.training.costs import middle, sampled_students
from search.workers.child import Probe
from search.workers.executor import Executor, InProcessExecutor
from search.workers.processes import ProcessExecutor
from space.architecture import Architecture
from trainers.machine import cores, free_memory
from trainers.recipe import Recipe

# Memory of one process on the CPU (`python benchmarks/memory.py`): PyTorch itself, and what a step
# needs for each pixel of its batch.
PROCESS_BYTES, PIXEL_BYTES = 500_000_000, 1_000
PROCESSES_A_GPU = 8  # the most that auto tries
PROBE_SECONDS = 1.5
# More at once must be faster by this factor: each student takes longer, and fewer trials are known
# when the next one is drawn.
GAIN = 1.05


class Typical(NamedTuple):
    """A student that represents those of a study."""

    architecture: Architecture
    recipe: Recipe
    size: int | None = None  # pixels of its input, where they are not the study's


def open_executor(
    context: TrainingContext,
    context_spec: ContextSpec,
    parallel: int | None,
    left: int,
    typical: Callable[[], Typical],
    console: Console,
) -> Executor:
    """An executor for a study.

    Args:
        context: for training in this process.
        context_spec: what other processes make the same from.
        parallel: students trained at once; None measures how many are fastest.
        left: trainings that are left, as far as that is known.
        typical: makes the student to measure with.
    """
    if parallel == 1:
        return InProcessExecutor(context)
    devices = _devices(context.device, context_spec.device)
    if parallel is None:
        return _measured(context, context_spec, devices, left, typical(), console)
    if context.device.type == "cpu" and parallel > cores():
        shared = f"{parallel} students at once share {cores()} CPU cores"
        _say(console, f"warning: {shared}; fewer may be faster")
    _say(console, f"{parallel} students at once, in processes that take some seconds to start")
    return ProcessExecutor(context_spec, parallel, devices)


def _measured(
    context: TrainingContext,
    context_spec: ContextSpec,
    devices: tuple[str, ...],
    left: int,
    typical: Typical,
    console: Console,
) -> Executor:
    pixels = typical.recipe.batch * context.spec.size**2
    highest = min(_room(context.device, PROCESS_BYTES + PIXEL_BYTES * pixels), left)
    if highest < 2:
        _say(console, "parallel: 1, there is no room or no work for more")
        return InProcessExecutor(context)
    _say(console, f"parallel: measuring 1 to {highest} at once")
    probe = Probe(typical.architecture, typical.recipe, PROBE_SECONDS, typical.size)
    executor = ProcessExecutor(context_spec, highest, devices)
    try:
        rates = {k: executor.speed(k, probe) for k in candidates(highest)}
        chosen = best(rates)
        executor.resize(chosen if chosen > 1 else 0)
    except BaseException:
        executor.__exit__(None, None, None)
        raise
    words = ", ".join(f"{k}: {rate:,.0f}" for k, rate in rates.items())
    _say(console, f"parallel: {chosen} (images a second by students at once: {words})")
    return executor if chosen > 1 else InProcessExecutor(context)


def candidates(highest: int) -> list[int]:
    """1, 2, 4 ... and the highest."""
    powers = [2**k for k in range(highest.bit_length())]
    return sorted({*powers, highest})


def best(rates: dict[int, float]) -> int:
    """How many at once have the highest rate; fewer where they are nearly as fast."""
    enough = max(rates.values()) / GAIN
    return min(count for count, rate in rates.items() if rate >= enough)


def _devices(chosen: torch.device, given: str) -> tuple[str, ...]:
    """Devices that processes are given in turn: every GPU, unless one was named."""
    if chosen.type == "cpu" or given not in ("auto", "cuda"):
        return (str(chosen),)
    return tuple(f"cuda:{index}" for index in range(torch.cuda.device_count()))


def _room(device: torch.device, each: int) -> int:
    """Processes that there are cores and memory for, at so many bytes each."""
    if device.type == "cuda":
        return min(cores(), PROCESSES_A_GPU * torch.cuda.device_count())
    free = free_memory()
    return cores() if free is None else max(1, min(cores(), free // each))


def typical_student(spec: SearchSpec) -> Typical:
    """The student of the median MACs among random ones of a study's space."""
    student = middle(sampled_students(spec, spec.seed))
    return Typical(student.student.architecture, spec.recipe, student.size)


def _say(console: Console, text: str) -> None:
    console.print(text, soft_wrap=True)
