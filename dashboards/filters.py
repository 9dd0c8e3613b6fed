"""Filters of a study's page: what the address says, and which trials pass."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import parse_qs, urlencode

import pandas as pd

STATES = ("COMPLETE", "PRUNED", "FAIL", "RUNNING", "WAITING")
AXES = ("bytes", "params", "macs")  # what accuracy is drawn against
SE = ("none", "some", "all")
FIELDS = {"block": "blocks", "se": "se", "state": "states"}  # of the names in addresses
SIZE = re.compile(r"(\d+(?:\.\d+)?) ?([kKmM]?)[bB]?", re.ASCII)
FACTORS = {"": 1, "K": 1_000, "M": 1_000_000}


@dataclass(frozen=True, slots=True)
class Filters:
    """Empty tuples and None let everything pass."""

    blocks: tuple[str, ...] = ()
    se: tuple[str, ...] = ()
    states: tuple[str, ...] = ()
    low: float | None = None  # of the axis' size
    high: float | None = None
    axis: str = "bytes"

    @classmethod
    def parse(cls, query: str) -> "Filters":
        """From an address; what is unknown or no number is left out, whatever it is."""
        given = parse_qs(query.removeprefix("?"))
        axis = given.get("axis", ["bytes"])[-1]
        return cls(
            blocks=_known(given, "block", None),
            se=_known(given, "se", SE),
            states=_known(given, "state", STATES),
            low=_number(given, "low"),
            high=_number(given, "high"),
            axis=axis if axis in AXES else "bytes",
        )

    @property
    def query(self) -> str:
        """The address's part behind the question mark; empty for no filters."""
        pairs = [
            *(("block", block) for block in self.blocks),
            *(("se", se) for se in self.se),
            *(("state", state) for state in self.states),
            *((name, f"{n:.12g}") for name, n in (("low", self.low), ("high", self.high)) if n),
            *([("axis", self.axis)] if self.axis != "bytes" else []),
        ]
        return urlencode(pairs)

    def has(self, name: str, value: str) -> bool:
        """Whether a filter (block, se, state, axis) has a value."""
        return value == self.axis if name == "axis" else value in getattr(self, FIELDS[name])

    def toggled(self, name: str, value: str) -> "Filters":
        """The value taken in, or out where it was in."""
        if name == "axis":
            return self.with_axis(value if value in AXES else self.axis)
        values = getattr(self, FIELDS[name])
        left = tuple(other for other in values if other != value)
        changed: dict[str, Any] = {FIELDS[name]: left if value in values else (*values, value)}
        return replace(self, **changed)

    def with_axis(self, axis: str) -> "Filters":
        """Another axis: limits of the old one mean nothing there."""
        return self if axis == self.axis else replace(self, axis=axis, low=None, high=None)

    def apply(self, trials: pd.DataFrame) -> pd.DataFrame:
        """The trials that pass. A size is no reason to hide what has none, unless one is asked."""
        keep = pd.Series(True, index=trials.index)
        for column, allowed in (("block", self.blocks), ("se", self.se), ("state", self.states)):
            if allowed:
                keep &= trials[column].isin(allowed)
        if self.low is not None:
            keep &= trials[self.axis] >= self.low
        if self.high is not None:
            keep &= trials[self.axis] <= self.high
        return trials[keep]


def _known(
    given: Mapping[str, list[str]], name: str, allowed: tuple[str, ...] | None
) -> tuple[str, ...]:
    values = dict.fromkeys(given.get(name, ()))
    return tuple(value for value in values if allowed is None or value in allowed)


def parse_size(text: str | None) -> float | None:
    """`20KB`, `256k` or `20000`; None for what is none of these, or nothing."""
    match = SIZE.fullmatch((text or "").replace(",", "").strip())
    return float(match[1]) * FACTORS[match[2].upper()] if match else None


def _number(given: Mapping[str, list[str]], name: str) -> float | None:
    try:
        number = float(given.get(name, [""])[-1])
    except ValueError:
        return None
    return number if 0 <= number < float("inf") else None
