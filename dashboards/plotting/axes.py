"""Axes: logarithmic ones of sizes; shares from 0 to 100 %; counts and times from 0."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from search.terminal.output import short
from space.solver import format_bytes

Axis = dict[str, object]  # settings of one, as Plotly names them


class SizeAxis(NamedTuple):
    """A size that accuracy may be drawn against."""

    title: str  # at the axis
    name: str  # on its button
    words: Callable[[float], str]
    units: Sequence[str]  # of ticks: one, a thousand, a million ...


def _byte_words(size: float) -> str:
    return format_bytes(round(size))


COUNTS = ("", "k", "M", "G")
AXES: Mapping[str, SizeAxis] = {  # a row for each of SIZES
    "bytes": SizeAxis("stored bytes", "stored bytes", _byte_words, (" B", " KB", " MB", " GB")),
    "params": SizeAxis("parameters", "parameters", short, COUNTS),
    "macs": SizeAxis("multiply-accumulates an image", "MACs", short, COUNTS),
}
SHARES = ".6~%"  # up to six digits, as each tick needs, also after zooming
ROOM = 0.06  # of the range, on both sides
LEVEL_ROOM = 0.02  # of an axis of shares, on both sides of a single value
ROUNDING = 1e-6  # of that: values that differ by less count as one
FEW_COUNTS = 10  # up to so many, each count has a tick
LEAST_ROOM = 1.005  # a factor; sizes may differ by a single byte
TICKS = 6
FEWEST = 3  # ticks


def size_range(sizes: Sequence[float]) -> tuple[float, float]:
    """Ends of an axis that leave room around the sizes."""
    low, high = min(sizes), max(sizes)
    room = max((high / low) ** 0.06, LEAST_ROOM) if high > low else 1.05
    return low / room, high * room


def size_axis(axis: str, low: float, high: float) -> Axis:
    """Settings of a logarithmic axis of sizes between two ends."""
    ticks = nice_ticks(low, high)
    return {
        "type": "log",
        "range": [math.log10(low), math.log10(high)],
        "tickvals": ticks,
        "ticktext": tick_words(axis, ticks),
        "title": {"text": AXES[axis].title},
    }


def tick_words(axis: str, ticks: Sequence[float]) -> list[str]:
    """Ticks in words, with all their digits, so that no two are alike."""
    return [_exact(tick, AXES[axis].units) for tick in ticks]


def _exact(tick: float, units: Sequence[str]) -> str:
    power = min(max(0, math.floor(math.log10(tick) / 3 + 1e-9)), len(units) - 1)
    return f"{tick / 1000**power:,.12g}{units[power]}"


def nice_ticks(low: float, high: float) -> list[float]:
    """Round numbers between the ends: 1, 2, 5 a decade, or evenly spaced if these are too few."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    every = [m * 10.0**power for power in range(first, last + 1) for m in (1, 2, 5)]
    inside = [tick for tick in every if low <= tick <= high]
    if len(inside) < FEWEST:
        return even_ticks(low, high, least=1.0)
    return inside if len(inside) <= 2 * TICKS else [t for t in inside if str(t).startswith("1")]


def even_ticks(low: float, high: float, least: float = 0.0) -> list[float]:
    """Evenly spaced round numbers between the ends, at least `least` apart."""
    step = max(least, _nice_step((high - low) / TICKS))
    return [tick * step for tick in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _nice_step(rough: float) -> float:
    power = 10.0 ** math.floor(math.log10(rough))
    return next(m * power for m in (1, 2, 5, 10) if m * power >= rough * (1 - 1e-9))


def share_axis(values: Iterable[float], room: float = ROOM) -> Axis:
    """Settings of an axis of shares (0 to 1), in per cent; for other numbers Plotly's defaults."""
    ends = share_range(values, room)
    return ends | {"tickformat": SHARES} if ends else {}


def share_range(values: Iterable[float], room: float = ROOM) -> Axis:
    """The range of an axis of shares, with no zoom beyond 0 and 1; {} for other numbers."""
    ends = share_ends(values, room)
    return {"range": [*ends], "minallowed": 0, "maxallowed": 1} if ends else {}


def share_ends(values: Iterable[float], room: float = ROOM) -> tuple[float, float] | None:
    """A range within 0 and 1 that holds these shares; None for other numbers."""
    known = [value for value in values if math.isfinite(value)]
    if not known or not 0 <= min(known) <= max(known) <= 1:
        return None
    low, high = with_room(known, LEVEL_ROOM, room)
    return max(0.0, low), min(1.0, high)


def with_room(values: Sequence[float], least: float, share: float = ROOM) -> tuple[float, float]:
    """A range with room on both sides of the values; `least` room if all are equal."""
    low, high = min(values), max(values)
    room = share * (high - low) if high - low > least * ROUNDING else least
    return low - room, high + room


def amount_axis(values: Iterable[float]) -> Axis:
    """Settings of an axis of numbers that are never negative: times, losses."""
    return {"rangemode": "nonnegative"} if all(value >= 0 for value in values) else {}


def count_axis(counts: Iterable[float]) -> Axis:
    """As `amount_axis`, for whole numbers: no tick lies between two of them."""
    known = list(counts)
    return amount_axis(known) | {"dtick": 1 if max(known) <= FEW_COUNTS else None}


def finite(values: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """Which values are finite numbers."""
    found: npt.NDArray[np.bool_] = np.isfinite(np.asarray(values, dtype=float))
    return found
