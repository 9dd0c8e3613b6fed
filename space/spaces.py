"""Spaces of shapes: the parameters that a sampler chooses, and the shape that they make.

A space is flat: every parameter is always sampled, and what a shape does not use is dropped by
its canonical form. Multivariate samplers lose conditional parameters; they keep these. So a space
of several input sizes has the stages of its largest one, and a number of halvings that a size does
not have means the nearest that it has.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import lcm

from space.architecture import BLOCK_SETTINGS, MAX_WIDTH, Architecture, Stage
from space.choices import FAMILIES, PLACINGS, Choices, choices, name_of
from space.errors import InputError, shown
from space.pyramid import halvings, nearest, pyramid, strides
from space.references import REFERENCES, reference
from space.schema import Table

__all__ = [
    "FAMILIES",
    "PLACINGS",
    "REFERENCES",
    "SearchSpace",
    "random_params",
    "reference",
    "search_space",
]

Value = int | float | str | bool
Params = Mapping[str, Value]

NOMINAL_STEP = 32  # of widths; larger where a space's group counts do not divide it
STEM_STEPS = 8  # the stem's nominal width: only ratios count, and this keeps them after rounding
SIZE = "size"  # the parameter of the input size, where that is a choice
COMPRESSED_STEMS = ("conv", "depthwise", "inverted")


@dataclass(frozen=True)
class SearchSpace:
    """A space of shapes for one input size, or for several with a parameter `size`."""

    name: str
    description: str
    choices: Mapping[str, tuple[Value, ...]]  # parameter -> its values, each fit for JSON
    fixed: Mapping[str, Value]  # parameters that have one value in this space
    size: int  # pixels of the input; where that is a choice, of the largest
    stages: int
    step: int = NOMINAL_STEP  # of nominal widths: every group count divides it

    def shape(self, params: Params, *, classes: int, channels: int, size: int) -> Architecture:
        """The canonical architecture, at nominal widths, that those values mean.

        Raises:
            InputError: a parameter is missing, or has a value that is not among its choices; a
                size that this space was not made for, or that the values do not state.
        """
        if size != self.size_of(params):
            raise InputError(
                f"space {self.name!r} was made for inputs of {self.size_of(params)} pixels, "
                f"but got {size}"
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
            repeat=values["repeat"],
        )

    def strides(self, params: Params) -> tuple[int, ...]:
        """Strides of the stem and of every stage."""
        values = {**self.fixed, **params}
        count = nearest(int(values["halvings"]), self.size_of(params))
        return pyramid(count, str(values["placing"]), self.stages)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Pixels of the inputs that its shapes may have, the smallest first."""
        return tuple(map(int, self.choices.get(SIZE, (self.size,))))

    def size_of(self, params: Params) -> int:
        """Pixels of the input that the values mean."""
        return int(params.get(SIZE, self.size))


def _stage(**settings: Value) -> Stage:
    """A stage from values that were checked against their choices."""
    return Stage(**settings)  # type: ignore[arg-type]


def search_space(space: str | Table, *, size: int, compressed_stem: bool = False) -> SearchSpace:
    """The space for size x size inputs: a named one, or one's own (`space.choices`).

    Args:
        size: pixels, of a space that states no `sizes`.
        compressed_stem: let depthwise and inverted blocks start from the first layer. The report
            that this project starts from found that to train badly.

    Raises:
        InputError: an unknown name (the valid ones are listed), or a table outside its rules.
    """
    found = choices(space)
    sizes = found.sizes or (size,)
    stages = len(strides(sizes[-1])) - 1
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
    counts = halvings(sizes[-1])[:1]
    if found.fewer_halvings:
        counts = tuple(sorted({n for pixels in sizes for n in halvings(pixels)}, reverse=True))
    values["halvings"] = counts
    values["placing"] = found.placings
    if found.sizes:
        values[SIZE] = sizes
    for index in range(1, stages + 1):
        at_stage = found.early if index <= (stages + 1) // 2 else found.late
        values |= _stage_choices(f"stage{index}_", at_stage, found)
    return SearchSpace(
        name=name_of(space),
        description=found.description,
        choices={key: given for key, given in values.items() if len(given) > 1},
        fixed={key: given[0] for key, given in values.items() if len(given) == 1},
        size=sizes[-1],
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
        f"{prefix}repeat": found.repeats,
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
