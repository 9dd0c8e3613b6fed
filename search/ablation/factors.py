"""Which settings an arm has, and what a factor's levels make of them."""

from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any

from space.changes import is_change, known
from space.errors import InputError, require
from trainers.policies import Augment
from trainers.ranges import AUGMENT
from trainers.recipe import MIX, SWITCH, Recipe

Settings = Mapping[str, Any]

# Settings of an arm beside those of its architecture (`space.changes`).
NOT_VARIED = ("seed", "view_seed")  # seeds are the design's
RECIPE_SETTINGS = (
    *(f.name for f in fields(Recipe) if f.name not in NOT_VARIED),
    *(f"{AUGMENT}.{f.name}" for f in fields(Augment)),
    *(MIX, SWITCH),
)
OTHER_SETTINGS = ("architecture", "budget", "format", "size", "teacher", "unlabelled")


def check_settings(where: str, settings: Settings) -> None:
    """Raise InputError for a setting that no arm has."""
    for name in settings:
        if not is_setting(name):
            raise InputError(f"{where}: unknown setting {name!r}; known: {_known()}")


def is_setting(name: str) -> bool:
    return name in (*RECIPE_SETTINGS, *OTHER_SETTINGS) or is_change(name)


def _known() -> str:
    return ", ".join((*OTHER_SETTINGS, *RECIPE_SETTINGS, *known()))


def levels_of(factors: Settings) -> dict[str, dict[str, Settings]]:
    """Factor -> label of a level -> settings that the level changes; raises InputError."""
    return {name: _levels(name, given) for name, given in _factors(factors)}


def _factors(given: Settings) -> Iterator[tuple[str, Any]]:
    """Factors by name; `augment.flip = [0, 1]`, which TOML reads as a table, is one of its own."""
    for name, levels in given.items():
        lists = isinstance(levels, Mapping) and any(isinstance(v, list) for v in levels.values())
        if name == AUGMENT and lists:
            yield from ((f"{AUGMENT}.{inner}", its) for inner, its in levels.items())
        else:
            yield name, levels


def _levels(factor: str, given: Any) -> dict[str, Settings]:
    """Label -> changes.

    A factor named like a setting lists that setting's values, or labels them in a table. Any
    other name needs a table of tables: label -> settings.
    """
    found: dict[str, Settings]
    if is_setting(factor):
        if isinstance(given, Mapping):
            found = {label: {factor: value} for label, value in given.items()}
        else:
            require(f"factor {factor!r}", given, isinstance(given, list), "a list of levels")
            found = {_label(value): {factor: value} for value in given}
            repeated = len(found) < len(given)
            require(f"factor {factor!r}", given, not repeated, "a list without repetition")
    else:
        tables = isinstance(given, Mapping) and all(isinstance(v, Mapping) for v in given.values())
        if not tables:
            raise InputError(
                f"unknown factor {factor!r}; known: {_known()}; a factor of your own needs a "
                "table of settings for every level"
            )
        found = {label: dict(settings) for label, settings in given.items()}
    require(f"factor {factor!r}", given, bool(found), "one level or more")
    return found


def _label(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
