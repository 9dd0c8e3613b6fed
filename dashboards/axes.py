"""Axes of sizes: logarithmic, with ticks that people read."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from search.report import short
from space.budget import format_bytes

TITLES: Mapping[str, str] = {
    "bytes": "stored bytes",
    "params": "parameters",
    "macs": "multiply-accumulates an image",
}
WORDS: Mapping[str, Callable[[float], str]] = {
    "bytes": lambda size: format_bytes(round(size)),
    "params": short,
    "macs": short,
}
LEAST_ROOM = 1.005  # a factor; sizes may differ by a single byte
TICKS = 6
FEWEST = 3  # ticks


def size_range(sizes: Sequence[float]) -> tuple[float, float]:
    """Ends that leave room around the sizes."""
    low, high = min(sizes), max(sizes)
    room = max((high / low) ** 0.06, LEAST_ROOM) if high > low else 1.05
    return low / room, high * room


def size_axis(axis: str, low: float, high: float) -> dict[str, Any]:
    """Settings of a logarithmic axis of sizes between two ends."""
    ticks = nice_ticks(low, high)
    return {
        "type": "log",
        "range": [math.log10(low), math.log10(high)],
        "tickvals": ticks,
        "ticktext": tick_words(axis, ticks),
        "title": {"text": TITLES[axis]},
    }


def tick_words(axis: str, ticks: Sequence[float]) -> list[str]:
    """In words; exact counts where words would be the same twice."""
    words = [WORDS[axis](tick) for tick in ticks]
    return words if len(set(words)) == len(words) else [f"{tick:,.0f}" for tick in ticks]


def nice_ticks(low: float, high: float) -> list[float]:
    """Round numbers between the ends: 1, 2, 5 a decade, or evenly spaced where these are few."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    every = [m * 10.0**power for power in range(first, last + 1) for m in (1, 2, 5)]
    inside = [tick for tick in every if low <= tick <= high]
    if len(inside) < FEWEST:
        step = max(1.0, _nice_step((high - low) / TICKS))
        return [tick * step for tick in range(math.ceil(low / step), math.floor(high / step) + 1)]
    return inside if len(inside) <= 2 * TICKS else [t for t in inside if str(t).startswith("1")]


def _nice_step(rough: float) -> float:
    power = 10.0 ** math.floor(math.log10(rough))
    return next(m * power for m in (1, 2, 5, 10) if m * power >= rough * (1 - 1e-9))


def finite(values: Any) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Which values are numbers."""
    found: np.ndarray[Any, np.dtype[np.bool_]] = np.isfinite(np.asarray(values, dtype=float))
    return found
