"""Filters of a study's page: how they are read from its address, and which trials pass."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qs, urlencode

import pandas as pd

from search.database.row import SIZES

STATES = ("COMPLETE", "PRUNED", "FAIL", "RUNNING", "WAITING")
SE = ("none", "some", "all")
KNOWN = {"se": SE, "state": STATES, "axis": SIZES}  # the values that a filter may have
SIZE = re.compile(r"(\d+(?:\.\d+)?) ?([kmg]i?)?b?", re.ASCII | re.IGNORECASE)
FACTORS = {"": 1, "k": 1e3, "m": 1e6, "g": 1e9, "ki": 2**10, "mi": 2**20, "gi": 2**30}
LIMITS = ("low", "high")
# Names in addresses -> fields.
FIELDS = {"block": "blocks", "se": "se", "pixels": "pixels", "state": "states"}
PIXELS = re.compile(r"\d{1,9}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Filters:
    """Empty tuples and None let everything pass."""

    blocks: tuple[str, ...] = ()
    se: tuple[str, ...] = ()
    states: tuple[str, ...] = ()
    low: float | None = None  # limits of the size on the axis
    high: float | None = None
    axis: str = "bytes"
    pixels: tuple[str, ...] = ()  # of the input, where a study has several sizes

    @classmethod
    def parse(cls, query: str) -> "Filters":
        """Read the filters in an address; values that are not understood are ignored."""
        given = parse_qs(query.removeprefix("?"))
        axis = given.get("axis", ["bytes"])[-1]
        return cls(
            blocks=_known(given, "block"),
            se=_known(given, "se"),
            pixels=tuple(filter(PIXELS.fullmatch, _known(given, "pixels"))),
            states=_known(given, "state"),
            low=size_of(written(query, "low")),
            high=size_of(written(query, "high")),
            axis=axis if axis in SIZES else "bytes",
        )

    @property
    def query(self) -> str:
        """The address's part after the question mark; empty for no filters."""
        pairs = [
            *(("block", block) for block in self.blocks),
            *(("se", se) for se in self.se),
            *(("pixels", size) for size in self.pixels),
            *(("state", state) for state in self.states),
            *((name, f"{n:.12g}") for name, n in (("low", self.low), ("high", self.high)) if n),
            *([("axis", self.axis)] if self.axis != "bytes" else []),
        ]
        return urlencode(pairs)

    def has(self, name: str, value: str) -> bool:
        """Whether a filter (block, se, pixels, state, axis) has a value."""
        return value == self.axis if name == "axis" else value in getattr(self, FIELDS[name])

    def apply(self, trials: pd.DataFrame) -> pd.DataFrame:
        """The trials that pass. Trials without a size pass unless a size limit is set."""
        keep = pd.Series(True, index=trials.index)
        for column, allowed in (("block", self.blocks), ("se", self.se), ("state", self.states)):
            if allowed:
                keep &= trials[column].isin(allowed)
        if self.pixels:
            keep &= trials["size"].isin([float(size) for size in self.pixels])
        if self.low is not None:
            keep &= trials[self.axis] >= self.low
        if self.high is not None:
            keep &= trials[self.axis] <= self.high
        return trials[keep]


def _known(given: Mapping[str, list[str]], name: str) -> tuple[str, ...]:
    values = dict.fromkeys(given.get(name, ()))
    return tuple(value for value in values if value in KNOWN.get(name, values))


def written(query: str, limit: str) -> str:
    """The text that an address gives for a limit (`low` or `high`), a valid size or not."""
    return parse_qs(query.removeprefix("?")).get(limit, [""])[-1]


def size_of(text: str) -> float | None:
    """`20KB`, `1.5 MiB`, `256k` or `20,000` as a number; None for other texts."""
    match = SIZE.fullmatch(text.replace(",", "").strip())
    size = float(match[1]) * FACTORS[(match[2] or "").lower()] if match else math.inf
    return size if size < math.inf else None


def misread(query: str) -> str:
    """Which filters of an address are not understood, in words; "" if all are."""
    given = parse_qs(query.removeprefix("?"))
    unknown = [
        f"{name} {value!r}"
        for name, allowed in KNOWN.items()
        for value in given.get(name, ())
        if value not in allowed
    ]
    unknown += [
        f"pixels {text!r}" for text in given.get("pixels", ()) if not PIXELS.fullmatch(text)
    ]
    sizes = [
        repr(text) for limit in LIMITS if (text := written(query, limit)) and size_of(text) is None
    ]
    told = [
        *([f"{' and '.join(sizes)}: no size, such as 20KB, 1.5MB or 20000"] if sizes else []),
        *([f"{' and '.join(unknown)}: not known"] if unknown else []),
    ]
    return f"{'; '.join(told)}. This filters nothing." if told else ""
