"""An ablation as its TOML file states it: baseline, factors, levels, seeds, teachers."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from search.ablation.baseline import with_winner
from search.ablation.factors import Settings, check_settings, levels_of
from search.study.folder import check_name
from search.study.naming import plain_name
from search.study.plan import FACTORIAL, ONE_FACTOR, STATED
from search.study.settings import read_toml
from space.errors import InputError, require, require_one_of, require_range, shown
from space.file_format import check_format
from space.pyramid import INPUT_SIZES
from space.schema import read
from space.solver import Budget
from trainers.data.layouts import DIGITS

DESIGNS = (ONE_FACTOR, FACTORIAL, STATED)
SIZE_MATCHED, FIXED = "size-matched", "fixed"
SHARED, PER_SEED = "shared", "per-seed"
MAX_SEEDS = 10_000
MAX_ARMS = 1_000
BASELINE = "baseline"
RESERVED = ("arm", "seed")  # parameters that every trial has
QUICK = "quick"


class Candidate(NamedTuple):
    """An arm as it is asked for; whether it can exist is yet to be seen."""

    name: str
    levels: dict[str, str]  # factor -> label
    changes: Settings  # over the baseline's


@dataclass(frozen=True, slots=True, kw_only=True)
class Design:
    """Every setting of an ablation; the names are those of the TOML file."""

    name: str
    question: str = ""
    data: str = DIGITS  # or a folder of photographs
    unlabelled: str | None = None  # a folder of photographs without labels, to train on too
    size: int | None = None  # pixels; 64 for photographs, 8 for digits
    design: str = ONE_FACTOR
    widths: str = SIZE_MATCHED  # or "fixed"
    budget: str | None = None  # what the baseline takes, where none is given
    macs: str | None = None
    ram: str | None = None
    format: str = "int8"
    multiple: int = 4  # of every width
    seeds: int = 5  # of every arm
    views: str = SHARED  # by all seeds, and so the bank of logits; or "per-seed"
    recipe: str | Settings | None = None  # a name, or a table with `base` and settings
    epochs: int | None = None
    teachers: Settings | None = None  # name -> table, see `search.training.teacher_cache`
    baseline: Settings | None = None
    factors: Settings | None = None
    arms: list[object] | None = None  # beside the baseline
    published: Settings | None = None

    def check(self) -> None:
        """Raise InputError for a setting outside its rule."""
        check_name(self.name)
        require_one_of("design", self.design, DESIGNS)
        require_one_of("widths", self.widths, (SIZE_MATCHED, FIXED))
        require_one_of("views", self.views, (SHARED, PER_SEED))
        require_range("seeds", self.seeds, 1, MAX_SEEDS)
        require("multiple", self.multiple, self.multiple >= 1, "at least 1")
        check_format(self.format)
        Budget.parse(self.budget or "1GB", self.format, self.macs, self.ram)
        if self.widths == FIXED and any("budget" in settings for settings in self.varied):
            raise InputError(
                "the budget varies in this design, so its arms must be size-matched; "
                "leave --fixed-width out"
            )
        if self.design == STATED and self.factors:
            raise InputError(f"a design of stated {STATED} has no factors; choose one of the two")
        if self.design != STATED and (self.arms or not self.factors):
            raise InputError(
                f"a {self.design} design needs [factors] and no [[arms]]; "
                f'arms are stated with: design = "{STATED}"'
            )
        check_published(self.published or {})
        check_settings("baseline", self.base)
        for factor in self.factors or ():
            check_text("factor's name", factor)
            rule = f"another one than {', '.join(RESERVED)}"
            require("factor's name", factor, factor not in RESERVED, rule)
        for factor, levels in self.levels.items():
            for label, changes in levels.items():
                check_text(f"level of factor {factor!r}", label)
                check_settings(f"factor {factor!r}, level {label!r}", changes)
        for arm in (Candidate(self.baseline_name, {}, {}), *self.stated):
            check_text("arm's name", arm.name)
            check_settings(f"arm {arm.name!r}", arm.changes)
        for size in self.sizes:
            low, high = INPUT_SIZES
            valid = type(size) is int and low <= size <= high
            require("size", size, valid, f"a whole number from {low} to {high} pixels")
        count = math.prod(len(levels) for levels in self.levels.values())
        if self.design == FACTORIAL:
            require_range("number of arms", count, 1, MAX_ARMS)

    @property
    def sizes(self) -> list[int]:
        """Pixels of inputs that the baseline or an arm states."""
        stated = (settings.get("size") for settings in (self.base, *self.varied))
        return [size for size in stated if size is not None]

    @property
    def asked(self) -> set[str]:
        """Teachers that the baseline or an arm has; the baseline's is the first by default."""
        stated = (settings.get("teacher") for settings in self.varied)
        of_baseline = self.base.get("teacher", next(iter(self.teacher_tables), None))
        return {str(name) for name in (of_baseline, *stated) if name is not None}

    @property
    def teacher_tables(self) -> Settings:
        """The tables of `[teachers]`; where there are none, one from scratch."""
        return {"scratch": {}} if self.teachers is None else self.teachers

    @property
    def base(self) -> Settings:
        """The baseline's settings."""
        return {k: v for k, v in (self.baseline or {}).items() if k != "name"}

    @property
    def baseline_name(self) -> str:
        return str((self.baseline or {}).get("name", BASELINE))

    @property
    def is_unnamed(self) -> bool:
        """Whether the file leaves the baseline's name to us."""
        return "name" not in (self.baseline or {})

    @property
    def levels(self) -> dict[str, dict[str, Settings]]:
        """Factor -> label -> settings that the level changes."""
        return levels_of(self.factors or {})

    @property
    def stated(self) -> list[Candidate]:
        """The arms of a stated list, the baseline first."""
        if self.design != STATED:
            return []
        arms = [_stated(arm) for arm in self.arms or ()]
        return [Candidate(self.baseline_name, {}, {}), *arms]

    @property
    def varied(self) -> list[Settings]:
        """What levels and stated arms change."""
        return [
            *(changes for levels in self.levels.values() for changes in levels.values()),
            *(arm.changes for arm in self.stated),
        ]

    def combinations(self) -> Iterator[Candidate]:
        """Every combination of the factors' levels."""
        levels = self.levels
        for labels in product(*levels.values()):
            chosen = dict(zip(levels, labels, strict=True))
            name = ", ".join(f"{factor}={label}" for factor, label in chosen.items())
            changes = [levels[factor][label] for factor, label in chosen.items()]
            yield Candidate(name, chosen, _merged(changes))

    def single_changes(self) -> Iterator[Candidate]:
        """Every level alone; `levels` holds its own factor only."""
        for factor, levels in self.levels.items():
            for label, changes in levels.items():
                yield Candidate(f"{factor}={label}", {factor: label}, changes)


def read_design(path: Path, quick: bool, flags: Settings, storage: str) -> Design:
    """A design from its file, its `[quick]` table over it, and flags over both.

    Args:
        storage: where the study lies whose student is the baseline, if one is.

    Raises:
        InputError: the file cannot be read, or a setting is unknown or outside its rule.
    """
    document = read_toml(path)
    variant = document.pop(QUICK, None)
    name = document.get("name", plain_name(path.stem, "ablation"))
    if quick:
        if not isinstance(variant, Mapping):
            raise InputError(f"{path} has no [{QUICK}] table; leave --{QUICK} out")
        document = _over(document, {"name": f"{name}-{QUICK}", **variant})
    given = {key: value for key, value in flags.items() if value is not None}
    document = {"name": name, **document, **given}
    read(Design, document, str(path))
    if document.get("widths") == FIXED:
        document = _without_budget(document, given)
    elif "budget" in given:
        document = _with_budget(document)
    document = with_winner(document, storage)
    design = read(Design, document, str(path))
    try:
        design.check()
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    return design


def _with_budget(document: dict[str, Any]) -> dict[str, Any]:
    """The document, its `--budget` being that of every arm."""
    if "budget" in (document.get("factors") or {}):
        raise InputError("the budget is a factor of this design; leave --budget out")
    baseline = {k: v for k, v in (document.get("baseline") or {}).items() if k != "budget"}
    return {**document, "baseline": baseline}


def _without_budget(document: dict[str, Any], flags: Settings) -> dict[str, Any]:
    """The document at widths as they are written: a budget that it states counts no more."""
    if "budget" in flags:
        raise InputError("--budget is for size-matched arms: leave it or --fixed-width out")
    baseline = {k: v for k, v in (document.get("baseline") or {}).items() if k != "budget"}
    return {**document, "budget": None, "macs": None, "ram": None, "baseline": baseline}


def check_text(what: str, text: str) -> None:
    """Raise InputError for a name that cannot stand in a line."""
    require(what, text, bool(text.strip()) and text.isprintable(), "text of one line")


def check_published(published: Settings) -> None:
    """Raise InputError unless it is a `source` and accuracies from 0 to 1 by arm."""
    for key, value in published.items():
        require_one_of("published", key, ("source", "accuracy"))
        if key == "source":
            require("published source", value, isinstance(value, str), "text")
            continue
        shares = value.values() if isinstance(value, Mapping) else [None]
        valid = all(
            isinstance(share, int | float) and share is not True and 0 <= share <= 1
            for share in shares
        )
        require("published accuracy", value, valid, "a table: arm = accuracy from 0 to 1")


def _stated(arm: object) -> Candidate:
    if not isinstance(arm, Mapping) or not isinstance(arm.get("name"), str):
        raise InputError(f"every arm must be a table with a name, but got {shown(arm)}")
    return Candidate(arm["name"], {}, {k: v for k, v in arm.items() if k != "name"})


def _merged(changes: list[Settings]) -> Settings:
    return {name: value for part in changes for name, value in part.items()}


def _over(document: dict[str, Any], variant: Settings) -> dict[str, Any]:
    """The variant's settings over the document's; tables are merged one level deep, but a
    variant's factors, arms and published figures stand for themselves."""
    merged = dict(document)
    for name, value in variant.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(name), Mapping)
        whole = name in ("factors", "published")
        merged[name] = {**merged[name], **value} if both and not whole else value
    return merged
