"""Schedules: progress in [0, 1] (share of all steps done) -> learning rate, loss mix."""

import math
from collections.abc import Callable, Sequence

Schedule = Callable[[float, float, float], float]


def constant(progress: float, start: float, end: float) -> float:
    return start


def linear(progress: float, start: float, end: float) -> float:
    return start + (end - start) * progress


def cosine(progress: float, start: float, end: float) -> float:
    """Half a cosine from start to end (SGDR without restarts, arXiv:1608.03983)."""
    return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2


def step(progress: float, start: float, end: float) -> float:
    """Three equal parts: start, the geometric mean of both, end."""
    return (start, math.sqrt(start * end), end)[min(2, int(progress * 3))]


SCHEDULES: dict[str, Schedule] = {
    "constant": constant,
    "linear": linear,
    "cosine": cosine,
    "step": step,
}


def learning_rate(
    schedule: str, progress: float, *, start: float, end: float, warmup: float
) -> float:
    """Learning rate at `progress`: a linear rise over the first `warmup`, then the schedule."""
    if progress < warmup:
        return start * progress / warmup
    return SCHEDULES[schedule]((progress - warmup) / (1 - warmup), start, end)


def soft_share(phases: Sequence[tuple[float, float]], progress: float) -> float:
    """Share of the soft loss at `progress`; `phases` are (from progress, share), ascending."""
    return [share for begin, share in phases if begin <= progress][-1]
