"""Hypothesis strategies: random shapes, architectures and cards."""

import math
from dataclasses import replace

from hypothesis import settings as settings
from hypothesis import strategies as st

from benchmarks.random_spaces import random_table
from space.architecture import ACTIVATIONS, BLOCK_SETTINGS, DOWNSAMPLES, Architecture, Head, Stage
from space.file_format import StudentMetadata
from space.solver import smallest_stage
from space.spaces import random_params, search_space

# The same examples every time, and no deadline: the machine may be busy with other tests.
settings.register_profile("stable", deadline=None, derandomize=True)
settings.load_profile("stable")

BLOCKS = tuple(BLOCK_SETTINGS)
# Blocks that an image's one or three channels suit.
UNDIVIDED = tuple(b for b in BLOCKS if Stage(width=1, block=b, groups=2).channel_groups == 1)


@st.composite
def stages(draw: st.DrawFn, blocks: tuple[str, ...] = BLOCKS) -> Stage:
    """A stage whose width is yet to be put on its lattice."""
    return Stage(
        width=draw(st.integers(1, 24)),
        block=draw(st.sampled_from(blocks)),
        depth=draw(st.integers(1, 3)),
        stride=draw(st.sampled_from((1, 2))),
        kernel=draw(st.sampled_from((1, 3, 5))),
        groups=draw(st.sampled_from((1, 2, 3, 4))),
        shuffle=draw(st.booleans()),
        expansion=draw(st.integers(1, 4)),
        se=draw(st.sampled_from((0, 1, 3, 4, 16))),
        residual=draw(st.booleans()),
        activation=draw(st.sampled_from(ACTIVATIONS)),
        downsample=draw(st.sampled_from(DOWNSAMPLES)),
        repeat=draw(st.sampled_from((1, 1, 2, 3))),
    )


@st.composite
def architectures(draw: st.DrawFn) -> Architecture:
    """Any network that can be built, small; not canonical."""
    drawn = [draw(stages(UNDIVIDED))]
    drawn += draw(st.lists(stages(), min_size=1, max_size=4))
    return Architecture(
        stem=_on_lattice(drawn, 0),
        stages=tuple(_on_lattice(drawn, index) for index in range(1, len(drawn))),
        classes=draw(st.integers(2, 12)),
        channels=draw(st.sampled_from((1, 3))),
        head=Head(
            width=draw(st.sampled_from((0, 0, 5, 20))),
            activation=draw(st.sampled_from(ACTIVATIONS)),
        ),
        bias=draw(st.booleans()),
    )


def _on_lattice(drawn: list[Stage], index: int) -> Stage:
    groups = [stage.channel_groups for stage in drawn[index : index + 2]]
    return replace(drawn[index], width=drawn[index].width * math.lcm(*groups))


@st.composite
def cards(draw: st.DrawFn, architecture: Architecture) -> StudentMetadata:
    """A card that suits the architecture, with names that JSON must escape."""
    number = st.floats(0.001, 1, allow_nan=False)
    channels, classes = architecture.channels, architecture.classes
    return StudentMetadata(
        classes=tuple(draw(st.lists(st.text(max_size=9), min_size=classes, max_size=classes))),
        size=draw(st.integers(1, 256)),
        mean=tuple(draw(st.lists(number, min_size=channels, max_size=channels))),
        std=tuple(draw(st.lists(number, min_size=channels, max_size=channels))),
        recipe=draw(st.text("0123456789abcdef", min_size=12, max_size=12)),
    )


# Tables `[space]` that are let pass.
TABLES = st.randoms(use_true_random=False).map(random_table)


@st.composite
def shapes_of_own_spaces(draw: st.DrawFn, size: int) -> Architecture:
    """A shape, at nominal widths, of a random space of one's own."""
    space = search_space(draw(TABLES), size=size)
    params = random_params(space, draw(st.randoms(use_true_random=False)))
    return space.shape(params, classes=10, channels=3, size=size)


def repaired_fully(shape: Architecture) -> Architecture:
    """The shape with all that the solver's repair may take away taken away."""
    stages = tuple(map(smallest_stage, shape.stages))
    return replace(shape, stem=smallest_stage(shape.stem), stages=stages)


def plain_card(architecture: Architecture, size: int = 32) -> StudentMetadata:
    """One card for an architecture."""
    return StudentMetadata(
        classes=tuple(f"class {index}" for index in range(architecture.classes)),
        size=size,
        mean=(0.5123,) * architecture.channels,
        std=(0.2345,) * architecture.channels,
    )
