"""Spaces of shapes: the parameters that a sampler chooses, and the shape that they make.

A space is flat: every parameter is always sampled, and what a shape does not use is dropped by
its canonical form. Multivariate samplers lose conditional parameters; they keep these.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import product
from math import lcm

from space.architecture import BLOCK_SETTINGS, MAX_WIDTH, Architecture, Stage
from space.choices import FAMILIES, PLACINGS, Choices, choices, name_of
from space.errors import InputError, shown
from space.file_format import StudentMetadata
from space.pyramid import halvings, pyramid, strides
from space.references import REFERENCES, reference
from space.schema import Table
from space.smallest import extreme
from space.solver import Budget, Meter, Solution, smallest_stage

__all__ = [
    "FAMILIES",
    "PLACINGS",
    "REFERENCES",
    "SearchSpace",
    "check",
    "floor_range",
    "random_params",
    "reference",
    "search_space",
    "smallest",
]

Value = int | float | str | bool
Params = Mapping[str, Value]

NOMINAL_STEP = 32  # of widths; larger where a space's group counts do not divide it
STEM_STEPS = 8  # the stem's nominal width: only ratios count, and this keeps them after rounding
NO_LIMIT = 2**62  # bytes or parameters
COMPRESSED_STEMS = ("conv", "depthwise", "inverted")


@dataclass(frozen=True)
class SearchSpace:
    """A space of shapes for one input size."""

    name: str
    description: str
    choices: Mapping[str, tuple[Value, ...]]  # parameter -> its values, each fit for JSON
    fixed: Mapping[str, Value]  # parameters that have one value in this space
    size: int  # pixels of the input
    stages: int
    step: int = NOMINAL_STEP  # of nominal widths: every group count divides it

    def shape(self, params: Params, *, classes: int, channels: int, size: int) -> Architecture:
        """The canonical architecture, at nominal widths, that those values mean.

        Raises:
            InputError: a parameter is missing, or has a value that is not among its choices; a
                size that this space was not made for.
        """
        if size != self.size:
            raise InputError(
                f"space {self.name!r} was made for inputs of {self.size} pixels, but got {size}"
            )
        for name, values in self.choices.items():
            if params.get(name) not in values:
                raise InputError(
                    f"space {self.name!r}: {name} must be one of {shown(list(values))}, "
                    f"but got {shown(params.get(name))}"
                )
        architecture = Architecture(
            stem=self.stage(params, 0),
            stages=tuple(self.stage(params, place) for place in range(1, self.stages + 1)),
            classes=classes,
            channels=channels,
        ).canonical()
        architecture.check()
        return architecture

    def stage(self, params: Params, place: int) -> Stage:
        """The stage that the values mean at a place, at its nominal width; place 0: the stem."""
        values = {**self.fixed, **params}
        stride, prefix = self.strides(params)[place], f"stage{place}_" if place else "stem_"
        # What the stage chooses for itself stands in place of the network's choice.
        values |= {n.removeprefix(prefix): v for n, v in values.items() if n.startswith(prefix)}
        given = {name: values[name] for name in ("block", "activation")}
        given |= {"stride": stride, "expansion": values.get("expansion", 1)}
        if place == 0:
            return _stage(width=STEM_STEPS * self.step, **given)
        relative = float(values["growth"]) ** place * float(values["width"])
        steps = min(max(1, round(STEM_STEPS * relative)), MAX_WIDTH // self.step)
        return _stage(
            width=self.step * steps,
            **given,
            **{name: values[name] for name in ("depth", "kernel", "se", "residual")},
            groups=values.get("groups", 1),
            shuffle=values.get("shuffle", False),
        )

    def strides(self, params: Params) -> tuple[int, ...]:
        """Strides of the stem and of every stage."""
        values = {**self.fixed, **params}
        return pyramid(int(values["halvings"]), str(values["placing"]), self.stages)


def _stage(**settings: Value) -> Stage:
    """A stage from values that were checked against their choices."""
    return Stage(**settings)  # type: ignore[arg-type]


def search_space(space: str | Table, *, size: int, compressed_stem: bool = False) -> SearchSpace:
    """The space for size x size inputs: a named one, or one's own (`space.choices`).

    Args:
        compressed_stem: let depthwise and inverted blocks start from the first layer. The report
            that this project starts from found that to train badly.

    Raises:
        InputError: an unknown name (the valid ones are listed), or a table outside its rules.
    """
    found, stages = choices(space), len(strides(size)) - 1
    values: dict[str, tuple[Value, ...]] = {
        "stem_block": COMPRESSED_STEMS if compressed_stem else found.stem_blocks,
        "growth": found.growths,
        "kernel": found.kernels,
        "activation": found.activations,
        "residual": found.residual,
    }
    stems = tuple(map(str, values["stem_block"]))
    blocks = (*stems, *found.early, *found.late)
    if _some_read("expansion", blocks):
        values["expansion"] = found.expansions
    if _some_read("shuffle", blocks):
        values["shuffle"] = found.shuffle
    for name, of_stages in (
        ("kernel", found.stage_kernels),
        ("expansion", found.stage_expansions),
        ("activation", found.stage_activations),
    ):
        if of_stages:
            values.pop(name, None)
    values |= _own_choices("stem_", stems, replace(found, stage_kernels=()))
    values["halvings"] = halvings(size) if found.fewer_halvings else halvings(size)[:1]
    values["placing"] = found.placings
    for index in range(1, stages + 1):
        at_stage = found.early if index <= (stages + 1) // 2 else found.late
        values |= _stage_choices(f"stage{index}_", at_stage, found)
    return SearchSpace(
        name=name_of(space),
        description=found.description,
        choices={key: given for key, given in values.items() if len(given) > 1},
        fixed={key: given[0] for key, given in values.items() if len(given) == 1},
        size=size,
        stages=stages,
        step=lcm(NOMINAL_STEP, *(found.groups if _some_read("groups", blocks) else ())),
    )


def _stage_choices(
    prefix: str, blocks: tuple[str, ...], found: Choices
) -> dict[str, tuple[Value, ...]]:
    return {
        f"{prefix}block": blocks,
        f"{prefix}depth": found.depths,
        f"{prefix}width": found.widths,
        f"{prefix}se": found.se,
        **({f"{prefix}groups": found.groups} if _some_read("groups", blocks) else {}),
        **_own_choices(prefix, blocks, found),
    }


def _own_choices(
    prefix: str, blocks: tuple[str, ...], found: Choices
) -> dict[str, tuple[Value, ...]]:
    """What a stage, or the stem, chooses for itself in place of the network."""
    expands = _some_read("expansion", blocks)
    given: dict[str, tuple[Value, ...]] = {
        f"{prefix}kernel": found.stage_kernels,
        f"{prefix}expansion": found.stage_expansions if expands else (),
        f"{prefix}activation": found.stage_activations,
    }
    return {name: values for name, values in given.items() if values}


def _some_read(setting: str, blocks: tuple[str, ...]) -> bool:
    return any(setting in BLOCK_SETTINGS[block] for block in blocks)


def random_params(search_space: SearchSpace, rng: random.Random) -> dict[str, Value]:
    """A value for every parameter, each drawn uniformly from its choices."""
    return {name: rng.choice(values) for name, values in search_space.choices.items()}


def smallest(
    search_space: SearchSpace, budget: Budget, metadata: StudentMetadata, multiple: int = 4
) -> Solution:
    """The smallest student that the space can reach, counted as the budget counts.

    Its share exceeds 1 if not even that one keeps the budget. With limits beside the budget: of
    the smallest in each of them, what comes closest to all.
    """
    found = [
        _extreme(search_space, part, metadata, multiple, largest=False)
        for part in _single_limits(budget)
    ]
    return min((_counted(student, budget, metadata) for student in found), key=lambda s: s.share)


def floor_range(
    search_space: SearchSpace, budget: Budget, metadata: StudentMetadata, multiple: int = 4
) -> tuple[Solution, Solution]:
    """The smallest student of the space, and the largest that some shape needs unrepaired."""
    found = [
        _extreme(search_space, part, metadata, multiple, largest=True)
        for part in _single_limits(budget)
    ]
    largest = max((_counted(student, budget, metadata) for student in found), key=lambda s: s.share)
    return smallest(search_space, budget, metadata, multiple), largest


def check(
    search_space: SearchSpace, budget: Budget, metadata: StudentMetadata, multiple: int = 4
) -> str | None:
    """Whether the space suits the budget; to be asked before anything is trained.

    Returns:
        A warning with the way out where many shapes will have to be repaired, else None.

    Raises:
        InfeasibleError: no student of the space keeps the budget; names the smallest.
    """
    low, high = floor_range(search_space, budget, metadata, multiple)
    for limit in _single_limits(budget):
        student = _extreme(search_space, limit, metadata, multiple, largest=False)
        if _counted(student, limit, metadata).share > 1:
            raise budget.refusal(student, metadata, f"space {search_space.name!r}")
    if high.share <= 1:
        return None
    way_out = f"a width multiple of {multiple // 2}, " if multiple > 1 else ""
    return (
        f"budget {budget} is close to the floor of space {search_space.name!r}: "
        f"at its smallest widths a student takes {budget.amount(low.cost)} to "
        f"{budget.amount(high.cost)}, so some shapes "
        f"must be made shallower; choose {way_out}a smaller space or a larger budget"
    )


def _single_limits(budget: Budget) -> tuple[Budget, ...]:
    """The budget and each limit beside it, one at a time."""
    alone = replace(budget, macs=None, ram=None)
    unlimited = replace(alone, limit=NO_LIMIT)
    found = [alone]
    if budget.macs is not None:
        found.append(replace(unlimited, macs=budget.macs))
    if budget.ram is not None:
        found.append(replace(unlimited, ram=budget.ram))
    return tuple(found)


def _counted(student: Architecture, budget: Budget, metadata: StudentMetadata) -> Solution:
    cost = budget.count(student, metadata)
    widths = student.widths if student.head.width else (*student.widths, 0)
    return Solution(student, cost, Meter(student, budget, metadata).share(widths), (), 1)


def _extreme(
    search_space: SearchSpace,
    budget: Budget,
    metadata: StudentMetadata,
    multiple: int,
    *,
    largest: bool,
) -> Architecture:
    """The space's smallest repaired, or largest unrepaired, student at smallest widths.

    Values that hold for the whole network are ordered from the cheapest to the dearest.
    """
    pick = -1 if largest else 0
    choices = search_space.choices.items()
    whole = {name: vs[pick] for name, vs in choices if not name.startswith(("stem_", "stage"))}
    if budget.macs is None and budget.ram is None and "halvings" in whole:
        # Pixels are not stored, but each halving is, in the header.
        whole["halvings"] = search_space.choices["halvings"][-1 - pick]
    places: list[list[Stage]] = []
    for place in range(search_space.stages + 1):
        prefix = f"stage{place}_" if place else "stem_"
        placed = {name: vs for name, vs in choices if name.startswith(prefix)}
        combinations = (
            dict(zip(placed, values, strict=True))
            for values in product(*(_that_matter(n, vs, pick) for n, vs in placed.items()))
        )
        stages = (search_space.stage(whole | combination, place) for combination in combinations)
        places.append(
            list(dict.fromkeys((s if largest else smallest_stage(s)).canonical() for s in stages))
        )
    return extreme(places, budget, metadata, multiple, largest=largest)


def _that_matter(name: str, values: tuple[Value, ...], pick: int) -> tuple[Value, ...]:
    """Values that an extreme may have, widths being at their smallest.

    Depths, kernels and expansions are ordered; of an activation only the name costs anything, in
    the header, and the default none.
    """
    if name.endswith("_activation"):
        values = tuple(sorted(values, key=lambda value: (value != "relu", len(str(value)))))
    elif not name.endswith(("_width", "_depth", "_kernel", "_expansion")):
        return values
    return values[pick:][:1]
