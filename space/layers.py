"""The one walk over an architecture: counter, builder and exporter all read it.

`walk` yields blocks in forward order; a block is a body, an optional shortcut that is added to
the body's output, and a tail after the addition. A convolution, its batch norm and its
activation are one layer, because that is the unit that is folded and stored.

Whether a block has a shortcut depends on its place in the stage, never on `inputs == outputs`:
otherwise widening a layer could remove a projection and make the network smaller.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from space.architecture import Architecture, Head, Stage, se_width


class Layer(NamedTuple):
    """One unit of work: a convolution (with norm and activation), or another operation."""

    name: str  # unique in the network, e.g. "s2.0.dw"
    op: str  # conv | linear | se | shuffle | activation | maxpool | avgpool
    inputs: int  # channels
    outputs: int  # channels
    kernel: int = 1
    stride: int = 1
    groups: int = 1
    hidden: int = 0  # channels between the two layers of squeeze-and-excitation
    bias: bool = False
    norm: bool = False
    activation: str = ""


class Block(NamedTuple):
    """`tail(body(x) + shortcut(x))`; without a shortcut, `tail(body(x))`."""

    name: str
    body: tuple[Layer, ...]
    shortcut: tuple[Layer, ...] | None = None  # (): the identity
    tail: tuple[Layer, ...] = ()

    @property
    def layers(self) -> tuple[Layer, ...]:
        return self.body + (self.shortcut or ()) + self.tail


class Place(NamedTuple):
    """Where a block stands: what its builder needs beyond the stage's settings."""

    name: str
    inputs: int
    first: bool
    bias: bool  # of convolutions followed by a norm

    def conv(
        self,
        part: str,
        inputs: int,
        outputs: int,
        *,
        kernel: int = 1,
        stride: int = 1,
        groups: int = 1,
        activation: str = "",
    ) -> Layer:
        """Convolution + batch norm (+ activation)."""
        name = f"{self.name}.{part}"
        return Layer(
            name, "conv", inputs, outputs, kernel, stride, groups, 0, self.bias, True, activation
        )


def _conv(stage: Stage, place: Place, stride: int) -> tuple[Layer, ...]:
    return (
        place.conv(
            "conv",
            place.inputs,
            stage.width,
            kernel=stage.kernel,
            stride=stride,
            activation=stage.activation,
        ),
    )


def _depthwise(stage: Stage, place: Place, stride: int) -> tuple[Layer, ...]:
    """Depthwise + pointwise, norm and activation after both (MobileNet, arXiv:1704.04861)."""
    return (
        _spatial(stage, place, place.inputs, stride),
        place.conv("pw", place.inputs, stage.width, activation=stage.activation),
    )


def _depthwise_bare(stage: Stage, place: Place, stride: int) -> tuple[Layer, ...]:
    """Depthwise + pointwise with a bare pointwise: bias, no norm, no activation.

    The student of NTU's ML2020 course, homework 7.
    """
    return (
        _spatial(stage, place, place.inputs, stride),
        Layer(f"{place.name}.pw", "conv", place.inputs, stage.width, bias=True),
    )


def _inverted(stage: Stage, place: Place, stride: int) -> tuple[Layer, ...]:
    """Expand, depthwise, project linearly (MobileNetV2, arXiv:1801.04381); no expansion at 1."""
    hidden = place.inputs * stage.expansion
    expand = place.conv("expand", place.inputs, hidden, activation=stage.activation)
    return (
        *((expand,) if stage.expansion > 1 else ()),
        _spatial(stage, place, hidden, stride),
        place.conv("project", hidden, stage.width),
    )


def _group(stage: Stage, place: Place, stride: int) -> tuple[Layer, ...]:
    """Group convolution, with a channel shuffle on request (ShuffleNet, arXiv:1707.01083)."""
    conv = place.conv(
        "conv",
        place.inputs,
        stage.width,
        kernel=stage.kernel,
        stride=stride,
        groups=stage.groups,
        activation=stage.activation,
    )
    if not stage.shuffle:
        return (conv,)
    name = f"{place.name}.shuffle"
    return (conv, Layer(name, "shuffle", stage.width, stage.width, groups=stage.groups))


def _residual(stage: Stage, place: Place, stride: int) -> tuple[Layer, ...]:
    """Two convolutions; the activation after the second follows the addition (ResNet v1)."""
    kernel = stage.kernel
    first = place.conv(
        "conv1",
        place.inputs,
        stage.width,
        kernel=kernel,
        stride=stride,
        activation=stage.activation,
    )
    return (first, place.conv("conv2", stage.width, stage.width, kernel=kernel))


def _spatial(stage: Stage, place: Place, channels: int, stride: int) -> Layer:
    return place.conv(
        "dw",
        channels,
        channels,
        kernel=stage.kernel,
        stride=stride,
        groups=channels,
        activation=stage.activation,
    )


# A block type's body; shortcut, squeeze-and-excitation and pooling are the same for all of them.
BLOCKS: dict[str, Callable[[Stage, Place, int], tuple[Layer, ...]]] = {
    "conv": _conv,
    "depthwise": _depthwise,
    "depthwise-bare": _depthwise_bare,
    "inverted": _inverted,
    "group": _group,
    "residual": _residual,
}


def block(stage: Stage, place: Place) -> Block:
    """One block of a stage.

    Squeeze-and-excitation (arXiv:1709.01507) stands on the body's output, before the addition.
    """
    pooled = place.first and stage.stride > 1 and stage.downsample == "maxpool"
    stride = stage.stride if place.first and not pooled else 1
    name, width = place.name, stage.width
    body = BLOCKS[stage.block](stage, place, stride)
    if stage.se:
        body += (Layer(f"{name}.se", "se", width, width, hidden=se_width(width, stage.se)),)
    shortcut: tuple[Layer, ...] | None = None
    tail: tuple[Layer, ...] = ()
    if stage.block == "residual":
        shortcut = (place.conv("skip", place.inputs, width, stride=stride),) if place.first else ()
        tail = (Layer(f"{name}.act", "activation", width, width, activation=stage.activation),)
    elif stage.residual and not place.first:
        shortcut = ()
    if pooled:
        tail += (Layer(f"{name}.pool", "maxpool", width, width, kernel=2, stride=stage.stride),)
    return Block(name, body, shortcut, tail)


def head(part: Head, place: Place, classes: int) -> Block:
    """Optional 1x1 convolution, global average pooling, linear classifier."""
    inputs = place.inputs
    body: tuple[Layer, ...] = ()
    if part.width:
        body = (place.conv("conv", inputs, part.width, activation=part.activation),)
        inputs = part.width
    pool = Layer("head.pool", "avgpool", inputs, inputs)
    return Block(place.name, (*body, pool, Layer("head.fc", "linear", inputs, classes, bias=True)))


def walk(architecture: Architecture) -> Iterator[Block]:
    """Blocks of the network in forward order, the head last."""
    inputs, bias = architecture.channels, architecture.bias
    for index, stage in enumerate((architecture.stem, *architecture.stages)):
        for depth in range(stage.depth):
            yield block(stage, Place(f"s{index}.{depth}", inputs, depth == 0, bias))
            inputs = stage.width
    yield head(architecture.head, Place("head", inputs, True, bias), architecture.classes)


def layers(architecture: Architecture) -> Iterator[Layer]:
    """Layers of the network in forward order."""
    for part in walk(architecture):
        yield from part.layers
