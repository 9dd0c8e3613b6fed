"""Cost of a shape as a function of its widths: exact, and cheap enough for the solver.

Without squeeze-and-excitation every count of a block is a polynomial of second degree in its
input and output channels. Its six coefficients are read off the walk at six pairs of widths, so
the walk stays the only place that knows what a block is made of. Squeeze-and-excitation rounds,
hence is counted apart.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

from space.architecture import Architecture, Head, Stage, se_width
from space.count import LayerCost, block_costs, layer_macs, layer_parameters, output_size
from space.file_format import StudentMetadata, file_bytes, layer_weights, metadata_length, tensors
from space.layers import Block, Layer, Position, block, head

Measure = Callable[[Layer, int], int]  # layer, pixels of its output -> count
Widths = tuple[int, ...]


def stored_elements(layer: Layer, size: int) -> int:
    """Elements of a layer's weights."""
    return sum(weight.elements for weight in layer_weights(layer))


def stored_biases(layer: Layer, size: int) -> int:
    """Biases of a layer's weights."""
    return sum(weight.biases for weight in layer_weights(layer))


def stored_scales(layer: Layer, size: int) -> int:
    """Scales of a layer's shared weights."""
    return sum(weight.scales for weight in layer_weights(layer))


def trainable(layer: Layer, size: int) -> int:
    """Trainable parameters of a layer."""
    return layer_parameters(layer)


class Quadratic(NamedTuple):
    """constant + x X + y Y + xy X Y + xx X^2 + yy Y^2."""

    constant: int
    x: int
    y: int
    xy: int
    xx: int
    yy: int


def interpolate(count: Callable[[int, int], int]) -> Quadratic:
    """The polynomial of second degree that `count` is."""
    p11, p21, p31 = count(1, 1), count(2, 1), count(3, 1)
    p12, p13, p22 = count(1, 2), count(1, 3), count(2, 2)
    xx, yy = (p31 - 2 * p21 + p11) // 2, (p13 - 2 * p12 + p11) // 2
    xy = p22 - p21 - p12 + p11
    x, y = p21 - p11 - 3 * xx - xy, p12 - p11 - 3 * yy - xy
    return Quadratic(p11 - x - y - xy - xx - yy, x, y, xy, xx, yy)


@lru_cache(maxsize=2**15)
def stage_quadratic(kind: Stage, bias: bool, measure: Measure, size: int) -> Quadratic:
    """Count of a `_kind` of stage, its widths in units of its groups."""
    unit = kind.channel_groups

    def at(inputs: int, width: int) -> int:
        return stage_count(replace(kind, width=width * unit), inputs * unit, measure, size, bias)

    return interpolate(at)


@lru_cache(maxsize=4096)
def head_quadratic(part: Head, classes: int, bias: bool, measure: Measure, size: int) -> Quadratic:
    """Count of the head; its convolution's width is 0 where there is none."""

    def at(inputs: int, width: int) -> int:
        scaled = Head(width=width if part.width else 0)
        return head_count(scaled, inputs, classes, measure, size, bias)

    return interpolate(at)


@lru_cache(maxsize=65536)
def se_count(measure: Measure, width: int, reduction: int, times: int) -> int:
    """Count of one squeeze-and-excitation."""
    hidden = se_width(width, reduction)
    return measure(Layer("", "se", width, width, hidden=hidden, times=times), 1)


def stage_count(stage: Stage, inputs: int, measure: Measure, size: int, bias: bool = False) -> int:
    """A measure over all blocks of a stage, for size x size inputs."""
    parts = _stage_blocks(stage, inputs, size, bias)
    return sum(count * block_count(part, measure, pixels) for part, pixels, count in parts)


def _stage_blocks(
    stage: Stage, inputs: int, size: int, bias: bool
) -> Iterator[tuple[Block, int, int]]:
    """The first block of a stage and the later ones, which are alike: block, input size, count."""
    yield block(stage, Position("", inputs, True, bias)), size, 1
    if stage.depth > 1:
        later = block(stage, Position("", stage.width, False, bias))
        yield later, -(-size // stage.stride), stage.depth - 1


def head_count(
    part: Head, inputs: int, classes: int, measure: Measure, size: int, bias: bool = False
) -> int:
    """A measure over the head, for size x size inputs."""
    return block_count(head(part, Position("", inputs, True, bias), classes), measure, size)


def block_count(part: Block, measure: Measure, size: int) -> int:
    """A measure over a block's layers, for size x size inputs."""
    total, body_size, shortcut_size = 0, size, size
    for layer in part.body:
        body_size = output_size(layer, body_size)
        total += measure(layer, body_size)
    for layer in part.shortcut or ():
        shortcut_size = output_size(layer, shortcut_size)
        total += measure(layer, shortcut_size)
    return total  # nothing after the addition is counted: activation and pooling


class Segment(NamedTuple):
    """A stage's count as a function of its input and output widths."""

    quadratic: Quadratic
    unit: int  # channels per X and Y
    reduction: int  # of squeeze-and-excitation; 0: none
    later: int  # blocks after the first
    repeat: int  # applications of each of them


class Chain:
    """One measure of a whole shape: the sum over stages of a function of two widths each."""

    def __init__(self, shape: Architecture, measure: Measure, size: int | None = None) -> None:
        """Without a size, the measure must not depend on pixels."""
        self.channels = shape.channels
        self.measure = measure
        self.segments = tuple(_segments(shape, measure, size))

    def total(self, widths: Widths) -> int:
        """The measure at those widths (stem, stages, head's convolution or 0)."""
        total, inputs = 0, self.channels
        for (quadratic, unit, reduction, later, repeat), width in zip(
            self.segments, widths, strict=True
        ):
            constant, x, y, xy, xx, yy = quadratic
            i, o = inputs // unit, width // unit
            total += constant + i * (x + xx * i) + o * (y + yy * o + xy * i)
            if reduction:
                once = again = se_count(self.measure, width, reduction, 1)
                if repeat > 1:  # rarely: the solver asks for nothing more often than for this
                    again = se_count(self.measure, width, reduction, repeat)
                total += once + later * again
            inputs = width
        return total


@lru_cache(maxsize=2**14)
def _kind(stage: Stage) -> Stage:
    """What a stage's polynomial depends on: every setting but those that are counted apart."""
    return replace(stage, width=1, se=0)


def _segments(shape: Architecture, measure: Measure, size: int | None) -> Iterator[Segment]:
    pixels = size or 1
    for stage in (shape.stem, *shape.stages):
        quadratic = stage_quadratic(_kind(stage), shape.bias, measure, pixels)
        yield Segment(quadratic, stage.channel_groups, stage.se, stage.depth - 1, stage.repeat)
        pixels = -(-pixels // stage.stride)
    part = Head(width=1 if shape.head.width else 0)
    quadratic = head_quadratic(part, shape.classes, shape.bias, measure, pixels)
    yield Segment(quadratic, 1, 0, 0, 1)


class BytesMeter:
    """Size of the file in bytes, as a function of the widths."""

    def __init__(self, shape: Architecture, metadata: StudentMetadata, format: str) -> None:
        self.format = format
        self.elements = Chain(shape, stored_elements)
        self.biases = Chain(shape, stored_biases)
        shared = any(stage.repeat > 1 for stage in (shape.stem, *shape.stages))
        self.scales = Chain(shape, stored_scales) if shared else None
        # Widths are all that changes in the header: its length is a constant and their digits.
        self.fixed = metadata_length(shape, metadata, format) - digits(shape.widths)
        self.headless = not shape.head.width

    def total(self, widths: Widths) -> int:
        scales = self.scales.total(widths) if self.scales else 0
        elements, biases = self.elements.total(widths), self.biases.total(widths)
        flat = tensors(elements, biases, scales, self.format)
        return file_bytes(self.fixed + digits(widths) - self.headless, flat)


def digits(widths: Widths) -> int:
    """Characters that the widths take in JSON."""
    return sum(len(str(width)) for width in widths)


class PeakMeter:
    """Most elements alive at once in a forward pass, as a function of the widths.

    Every layer's elements are linear in the two widths of its stage: their coefficients are read
    off the walk, as `stage_quadratic` does.
    """

    def __init__(self, shape: Architecture, size: int) -> None:
        self.channels = shape.channels
        self.segments: list[tuple[tuple[Linear, ...], int]] = []
        for stage in (shape.stem, *shape.stages):
            peaks = stage_peaks(_peak_kind(stage), shape.bias, size)
            self.segments.append((peaks, stage.channel_groups))
            size = -(-size // stage.stride)
        part = Head(width=1 if shape.head.width else 0)
        self.segments.append((head_peaks(part, shape.classes, shape.bias, size), 1))

    def total(self, widths: Widths) -> int:
        """The peak at those widths (stem, stages, head's convolution or 0)."""
        peak, inputs = 0, self.channels
        for (peaks, unit), width in zip(self.segments, widths, strict=True):
            i, o = inputs // unit, width // unit
            peak = max(peak, *(constant + x * i + y * o for constant, x, y in peaks))
            inputs = width
        return peak


class Linear(NamedTuple):
    """constant + x X + y Y."""

    constant: int
    x: int
    y: int


@lru_cache(maxsize=2**14)
def _peak_kind(stage: Stage) -> Stage:
    """What a stage's peak depends on; squeeze-and-excitation counts whatever its reduction."""
    return replace(stage, width=1, se=min(stage.se, 1))


@lru_cache(maxsize=2**15)
def stage_peaks(kind: Stage, bias: bool, size: int) -> tuple[Linear, ...]:
    """Elements alive in each layer of a stage, its widths in units of its groups."""
    unit = kind.channel_groups

    def at(inputs: int, width: int) -> list[int]:
        stage = replace(kind, width=width * unit)
        return [item.activations for item in stage_costs(stage, inputs * unit, size, bias)]

    return _linear(at)


@lru_cache(maxsize=4096)
def head_peaks(part: Head, classes: int, bias: bool, size: int) -> tuple[Linear, ...]:
    """The same of the head; its convolution's width is 0 where there is none."""

    def at(inputs: int, width: int) -> list[int]:
        scaled = head(
            Head(width=width if part.width else 0), Position("", inputs, True, bias), classes
        )
        return [item.activations for item in block_costs(scaled, size)]

    return _linear(at)


def _linear(at: Callable[[int, int], list[int]]) -> tuple[Linear, ...]:
    found = zip(at(1, 1), at(2, 1), at(1, 2), strict=True)
    layers = {Linear(p - (q - p) - (r - p), q - p, r - p) for p, q, r in found}
    # What is nowhere above another layer is never the peak: most layers.
    return tuple(one for one in layers if not any(_is_below(one, other) for other in layers))


def _is_below(one: Linear, other: Linear) -> bool:
    """Whether another layer has at least as many elements at all widths."""
    return one != other and all(a <= b for a, b in zip(one, other, strict=True))


def stage_costs(stage: Stage, inputs: int, size: int, bias: bool = False) -> Iterator[LayerCost]:
    """Costs of the layers of a stage's first block, and of one later block where there is one."""
    for part, pixels, _ in _stage_blocks(stage, inputs, size, bias):
        yield from block_costs(part, pixels)


def stage_peak(stage: Stage, inputs: int, size: int) -> int:
    """Most elements alive at once in a stage, for size x size inputs."""
    return max(item.activations for item in stage_costs(stage, inputs, size))


def head_peak(inputs: int, classes: int, size: int) -> int:
    """The same of a head without a convolution."""
    return max(
        item.activations
        for item in block_costs(head(Head(), Position("", inputs, True, False), classes), size)
    )


def macs_meter(shape: Architecture, size: int) -> Chain:
    """Multiply-accumulates for one image, as a function of the widths."""
    return Chain(shape, layer_macs, size)


def parameters_meter(shape: Architecture) -> Chain:
    """Trainable parameters, as a function of the widths."""
    return Chain(shape, trainable)
