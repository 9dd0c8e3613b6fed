"""Filters of a study's page: what the address says, and which trials pass."""

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qs, urlencode

import pandas as pd

STATES = ("COMPLETE", "PRUNED", "FAIL", "RUNNING", "WAITING")
AXES = ("bytes", "params", "macs")  # what accuracy is drawn against
SE = ("none", "some", "all")
FIELDS = {"block": "blocks", "se": "se", "state": "states"}  # of the names in addresses


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


def _number(given: Mapping[str, list[str]], name: str) -> float | None:
    try:
        number = float(given.get(name, [""])[-1])
    except ValueError:
        return None
    return number if 0 <= number < float("inf") else None
