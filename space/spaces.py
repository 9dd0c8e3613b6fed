"""Named spaces of shapes: which choices there are, and the shape that choices make.

A space is flat: every parameter is always sampled, and what a shape does not use is dropped by
its canonical form. Multivariate samplers lose conditional parameters; they keep these.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import product
from typing import NamedTuple

from space.architecture import BLOCK_SETTINGS, Architecture, Stage
from space.errors import InputError, require_one_of, shown
from space.file_format import StudentMetadata
from space.references import REFERENCES, reference
from space.smallest import extreme
from space.solver import Budget, Meter, Solution, smallest_stage

__all__ = [
    "FAMILIES",
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

SMALLEST_MAP = 4  # pixels; no downsampling goes below it
LARGEST_LAST_MAP = 16  # pixels; what a pyramid leaves for the last stage, at most
STEM_STRIDE_FROM = 4  # downsamplings; with fewer the stem keeps the image's resolution
NOMINAL_WIDTH = 256  # of the stem; only ratios count, and this many keep them after rounding
NOMINAL_STEP = 32  # every group count divides it
NO_LIMIT = 2**62  # bytes or parameters

WIDTHS = (0.5, 0.71, 1.0, 1.41, 2.0)  # of a stage, relative to the profile
GROWTHS = (1.41, 1.68, 2.0)  # of the profile from stage to stage
DEPTHS = (1, 2, 3)
GROUPS = (2, 4, 8)
REDUCTIONS = (0, 4, 16)  # of squeeze-and-excitation; 0: none
STEM_BLOCKS = ("conv", "depthwise", "inverted")
KERNELS = (3, 5, 7)  # where each stage has its own
PLACINGS = ("early", "even", "late")  # of the halvings; from the fewest MACs to the most


class Profile(NamedTuple):
    """What makes one space differ from another."""

    description: str
    early: tuple[str, ...]  # blocks that stages of the first half may have
    late: tuple[str, ...]
    residual: tuple[bool, ...] = (False, True)
    # Whether the number and the places of the halvings are choices, and each stage's kernel.
    pyramids: bool = False


FAMILIES: dict[str, Profile] = {
    "mobile": Profile(
        "depthwise separable and inverted residual blocks",
        ("depthwise", "inverted"),
        ("depthwise", "inverted"),
    ),
    "group": Profile("group convolutions, with a channel shuffle", ("group",), ("group",)),
    "plain": Profile(
        "plain convolutions and residual blocks", ("conv", "residual"), ("conv", "residual")
    ),
    "mixed": Profile(
        "every block in every stage",
        ("conv", "depthwise", "inverted", "group", "residual"),
        ("conv", "depthwise", "inverted", "group", "residual"),
    ),
    "pyramid": Profile(
        "every block in every stage, with choices of where the image is halved",
        ("conv", "depthwise", "inverted", "group", "residual"),
        ("conv", "depthwise", "inverted", "group", "residual"),
        pyramids=True,
    ),
    "report": Profile(
        "depthwise early, group or depthwise late, always with shortcuts",
        ("depthwise",),
        ("group", "depthwise"),
        (True,),
    ),
}


@dataclass(frozen=True)
class SearchSpace:
    """A space of shapes for one input size."""

    name: str
    description: str
    choices: Mapping[str, tuple[Value, ...]]  # parameter -> its values, each fit for JSON
    fixed: Mapping[str, Value]  # parameters that have one value in this space
    size: int  # pixels of the input
    stages: int

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
        stride = self.strides(params)[place]
        if place == 0:
            return _stage(
                width=NOMINAL_WIDTH,
                block=values["stem_block"],
                stride=stride,
                expansion=values.get("expansion", 1),
                activation=values["activation"],
            )
        prefix = f"stage{place}_"
        relative = float(values["growth"]) ** place * float(values[f"{prefix}width"])
        steps = max(1, round(NOMINAL_WIDTH * relative / NOMINAL_STEP))
        return _stage(
            width=NOMINAL_STEP * steps,
            block=values[f"{prefix}block"],
            depth=values[f"{prefix}depth"],
            stride=stride,
            kernel=values[f"{prefix}kernel" if f"{prefix}kernel" in values else "kernel"],
            groups=values.get(f"{prefix}groups", 1),
            shuffle=values.get("shuffle", False),
            expansion=values.get("expansion", 1),
            se=values[f"{prefix}se"],
            residual=values["residual"],
            activation=values["activation"],
        )

    def strides(self, params: Params) -> tuple[int, ...]:
        """Strides of the stem and of every stage."""
        values = {**self.fixed, **params}
        if "halvings" not in values:
            return strides(self.size)
        return pyramid(int(values["halvings"]), str(values["placing"]), self.stages)


def _stage(**settings: Value) -> Stage:
    """A stage from values that were checked against their choices."""
    return Stage(**settings)  # type: ignore[arg-type]


def strides(size: int) -> tuple[int, ...]:
    """Strides of the stem and of every stage for size x size inputs.

    As many downsamplings as leave 4 x 4 pixels or more, as early as possible, in 3 to 5 stages.
    """
    if size < 1:
        raise InputError(f"input size must be at least 1 pixel, but got {size}")
    most = most_halvings(size)
    stages = 3 if most <= 2 else 4 if most <= 4 else 5
    return pyramid(most, "early", stages)


def most_halvings(size: int) -> int:
    """How often size x size inputs can be halved until 4 x 4 pixels, or a few more, are left."""
    return max(0, (size // SMALLEST_MAP).bit_length() - 1)


def pyramid(count: int, placing: str, stages: int) -> tuple[int, ...]:
    """Strides of the stem and of every stage.

    Args:
        count: of halvings.
        placing: "early": as early as possible, from four halvings on in the stem, too; "even":
            spread over the stages, the last stage being halved; "late": in the last stages.
            The later, the larger are the maps, and the dearer the network in MACs; what is
            stored does not change.
    """
    if placing == "early":
        first = 0 if count >= STEM_STRIDE_FROM else 1
        halved = set(range(first, first + count))
    elif placing == "late" or count > stages:
        halved = set(range(stages + 1 - count, stages + 1))
    else:
        halved = {-(-stages * part // count) for part in range(1, count + 1)}
    return tuple(2 if place in halved else 1 for place in range(stages + 1))


def search_space(name: str, *, size: int, compressed_stem: bool = False) -> SearchSpace:
    """The named space for size x size inputs.

    Args:
        compressed_stem: let depthwise and inverted blocks start from the first layer. The report
            that this project starts from found that to train badly.

    Raises:
        InputError: an unknown name; the valid ones are listed.
    """
    require_one_of("space", name, FAMILIES)
    profile, stages = FAMILIES[name], len(strides(size)) - 1
    values: dict[str, tuple[Value, ...]] = {
        "stem_block": STEM_BLOCKS if compressed_stem else ("conv",),
        "growth": GROWTHS,
        "kernel": (3,) if profile.pyramids else (3, 5),
        "activation": ("relu", "hardswish"),
        "residual": profile.residual,
    }
    blocks = (*map(str, values["stem_block"]), *profile.early, *profile.late)
    if _some_read("expansion", blocks):
        values["expansion"] = (2, 3, 4, 6)
    if _some_read("shuffle", blocks):
        values["shuffle"] = (False, True)
    if profile.pyramids:
        values |= {"halvings": halvings(size), "placing": PLACINGS}
    for index in range(1, stages + 1):
        at_stage = profile.early if index <= (stages + 1) // 2 else profile.late
        values |= _stage_choices(f"stage{index}_", at_stage)
        values |= {f"stage{index}_kernel": KERNELS} if profile.pyramids else {}
    return SearchSpace(
        name=name,
        description=profile.description,
        choices={key: given for key, given in values.items() if len(given) > 1},
        fixed={key: given[0] for key, given in values.items() if len(given) == 1},
        size=size,
        stages=stages,
    )


def halvings(size: int) -> tuple[int, ...]:
    """Numbers of halvings that leave a last map of at most 16 pixels, the most first."""
    most = most_halvings(size)
    return tuple(
        count
        for count in range(most, -1, -1)
        if count == most or -(-size // 2**count) <= LARGEST_LAST_MAP
    )


def _stage_choices(prefix: str, blocks: tuple[str, ...]) -> dict[str, tuple[Value, ...]]:
    return {
        f"{prefix}block": blocks,
        f"{prefix}depth": DEPTHS,
        f"{prefix}width": WIDTHS,
        f"{prefix}se": REDUCTIONS,
        **({f"{prefix}groups": GROUPS} if _some_read("groups", blocks) else {}),
    }


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
    """Values that an extreme may have: widths are at their smallest, and depth only costs."""
    return values[pick:][:1] if name.endswith(("_width", "_depth")) else values
