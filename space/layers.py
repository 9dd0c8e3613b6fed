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
    op: str  # conv | cheap | split | gate | linear | se | shuffle | activation | maxpool | avgpool
    inputs: int  # channels
    outputs: int  # channels
    kernel: int = 1
    stride: int = 1
    groups: int = 1
    hidden: int = 0  # channels between the two layers of squeeze-and-excitation
    bias: bool = False
    norm: bool = False
    activation: str = ""
    times: int = 1  # in a row that its block is applied, with the same weights

    @property
    def applications(self) -> int:
        """How often a batch norm follows a weight, each time one of its own; 1 without a norm."""
        return self.times if self.norm else 1


class Block(NamedTuple):
    """`tail(body(x) + shortcut(x))`; without a shortcut, `tail(body(x))`; applied `times` in a row.

    All applications share the weights, and each has batch norms of its own: they see other
    statistics (slimmable networks, arXiv:1812.08928). Weights tied over depth: ALBERT,
    arXiv:1909.11942; in networks for images, sliced recursive transformers, arXiv:2111.05297.
    """

    name: str
    body: tuple[Layer, ...]
    shortcut: tuple[Layer, ...] | None = None  # (): the identity
    tail: tuple[Layer, ...] = ()

    @property
    def layers(self) -> tuple[Layer, ...]:
        return self.body + (self.shortcut or ()) + self.tail

    @property
    def times(self) -> int:
        return self.body[0].times

    def repeated(self, times: int) -> "Block":
        """The block, applied so many times in a row."""
        parts = (self.body, self.shortcut or (), self.tail)
        body, shortcut, tail = (
            tuple(layer._replace(times=times) for layer in part) for part in parts
        )
        return Block(self.name, body, None if self.shortcut is None else shortcut, tail)


class Position(NamedTuple):
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


def _conv(stage: Stage, position: Position, stride: int) -> tuple[Layer, ...]:
    return (
        position.conv(
            "conv",
            position.inputs,
            stage.width,
            kernel=stage.kernel,
            stride=stride,
            activation=stage.activation,
        ),
    )


def _depthwise(stage: Stage, position: Position, stride: int) -> tuple[Layer, ...]:
    """Depthwise + pointwise, norm and activation after both (MobileNet, arXiv:1704.04861)."""
    return (
        _spatial(stage, position, position.inputs, stride),
        position.conv("pw", position.inputs, stage.width, activation=stage.activation),
    )


def _depthwise_bare(stage: Stage, position: Position, stride: int) -> tuple[Layer, ...]:
    """Depthwise + pointwise with a bare pointwise: bias, no norm, no activation.

    The student of NTU's ML2020 course, homework 7.
    """
    return (
        _spatial(stage, position, position.inputs, stride),
        Layer(f"{position.name}.pw", "conv", position.inputs, stage.width, bias=True),
    )


def _inverted(stage: Stage, position: Position, stride: int) -> tuple[Layer, ...]:
    """Expand, depthwise, project linearly (MobileNetV2, arXiv:1801.04381); no expansion at 1."""
    hidden = position.inputs * stage.expansion
    expand = position.conv("expand", position.inputs, hidden, activation=stage.activation)
    return (
        *((expand,) if stage.expansion > 1 else ()),
        _spatial(stage, position, hidden, stride),
        position.conv("project", hidden, stage.width),
    )


def _group(stage: Stage, position: Position, stride: int) -> tuple[Layer, ...]:
    """Group convolution, with a channel shuffle on request (ShuffleNet, arXiv:1707.01083)."""
    conv = position.conv(
        "conv",
        position.inputs,
        stage.width,
        kernel=stage.kernel,
        stride=stride,
        groups=stage.groups,
        activation=stage.activation,
    )
    if not stage.shuffle:
        return (conv,)
    name = f"{position.name}.shuffle"
    return (conv, Layer(name, "shuffle", stage.width, stage.width, groups=stage.groups))


def _residual(stage: Stage, position: Position, stride: int) -> tuple[Layer, ...]:
    """Two convolutions; the activation after the second follows the addition (ResNet v1)."""
    kernel = stage.kernel
    first = position.conv(
        "conv1",
        position.inputs,
        stage.width,
        kernel=kernel,
        stride=stride,
        activation=stage.activation,
    )
    return (first, position.conv("conv2", stage.width, stage.width, kernel=kernel))


def _fused(stage: Stage, position: Position, stride: int) -> tuple[Layer, ...]:
    """Expand by a plain convolution, project linearly (EfficientNetV2, arXiv:2104.00298)."""
    hidden = position.inputs * stage.expansion
    expand = position.conv(
        "expand",
        position.inputs,
        hidden,
        kernel=stage.kernel,
        stride=stride,
        activation=stage.activation,
    )
    return (expand, position.conv("project", hidden, stage.width))


def _ghost(stage: Stage, position: Position, stride: int) -> tuple[Layer, ...]:
    """Two ghost modules, one that expands and one that projects (GhostNet, arXiv:1911.11907).

    A pointwise convolution makes half of a module's channels, a depthwise one the other half of
    them. A stride is that of a depthwise convolution between the modules.
    """
    hidden = position.inputs * stage.expansion
    between = (_spatial(stage, position, hidden, stride)._replace(activation=""),)
    return (
        *_ghost_module(stage, position, "expand", (position.inputs, hidden), stage.activation),
        *(between if stride > 1 else ()),
        *_ghost_module(stage, position, "project", (hidden, stage.width), ""),
    )


def _ghost_module(
    stage: Stage, position: Position, part: str, widths: tuple[int, int], activation: str
) -> tuple[Layer, Layer]:
    inputs, outputs = widths
    half = outputs // 2
    first = position.conv(part, inputs, half, activation=activation)
    name, kernel = f"{position.name}.{part}-cheap", stage.kernel
    cheap = Layer(name, "cheap", half, outputs, kernel, 1, half, 0, position.bias, True, activation)
    return (first, cheap)


def _split(stage: Stage, position: Position, stride: int) -> tuple[Layer, ...]:
    """Depthwise convolutions of four sizes, each over a quarter of the channels; a gated expansion.

    Quarters as in InceptionNeXt (arXiv:2303.16900): none, 3 x 3, the stage's kernel, and that
    kernel dilated. Then a pointwise convolution to twice the hidden width, of which one half is
    multiplied by the activation of the other (gated linear units, arXiv:2002.05202), and a
    linear projection.
    """
    inputs, hidden = position.inputs, position.inputs * stage.expansion
    name, gate = f"{position.name}.split", f"{position.name}.gate"
    return (
        Layer(name, "split", inputs, inputs, stage.kernel, stride, 4, 0, position.bias, True),
        position.conv("expand", inputs, 2 * hidden),
        Layer(gate, "gate", 2 * hidden, hidden, activation=stage.activation),
        position.conv("project", hidden, stage.width),
    )


def _spatial(stage: Stage, position: Position, channels: int, stride: int) -> Layer:
    return position.conv(
        "dw",
        channels,
        channels,
        kernel=stage.kernel,
        stride=stride,
        groups=channels,
        activation=stage.activation,
    )


def split_kernels(layer: Layer) -> tuple[tuple[int, int], ...]:
    """Kernel and dilation of the quarters of a "split" layer that are convolved."""
    return ((3, 1), (layer.kernel, 1), (layer.kernel, 2))


# A block type's body; shortcut, squeeze-and-excitation and pooling are the same for all of them.
BLOCKS: dict[str, Callable[[Stage, Position, int], tuple[Layer, ...]]] = {
    "conv": _conv,
    "depthwise": _depthwise,
    "depthwise-bare": _depthwise_bare,
    "inverted": _inverted,
    "group": _group,
    "residual": _residual,
    "fused": _fused,
    "ghost": _ghost,
    "split": _split,
}


def block(stage: Stage, position: Position) -> Block:
    """One block of a stage.

    Squeeze-and-excitation (arXiv:1709.01507) stands on the body's output, before the addition.
    """
    pooled = position.first and stage.stride > 1 and stage.downsample == "maxpool"
    stride = stage.stride if position.first and not pooled else 1
    name, width = position.name, stage.width
    body = BLOCKS[stage.block](stage, position, stride)
    if stage.se:
        body += (Layer(f"{name}.se", "se", width, width, hidden=se_width(width, stage.se)),)
    shortcut: tuple[Layer, ...] | None = None
    tail: tuple[Layer, ...] = ()
    if stage.block == "residual":
        shortcut = (
            (position.conv("skip", position.inputs, width, stride=stride),)
            if position.first
            else ()
        )
        tail = (Layer(f"{name}.act", "activation", width, width, activation=stage.activation),)
    elif stage.residual and not position.first:
        shortcut = ()
    if pooled:
        tail += (Layer(f"{name}.pool", "maxpool", width, width, kernel=2, stride=stage.stride),)
    made = Block(name, body, shortcut, tail)
    return made if position.first or stage.repeat == 1 else made.repeated(stage.repeat)


def head(part: Head, position: Position, classes: int) -> Block:
    """Optional 1x1 convolution, global average pooling, linear classifier."""
    inputs = position.inputs
    body: tuple[Layer, ...] = ()
    if part.width:
        body = (position.conv("conv", inputs, part.width, activation=part.activation),)
        inputs = part.width
    pool = Layer("head.pool", "avgpool", inputs, inputs)
    return Block(
        position.name, (*body, pool, Layer("head.fc", "linear", inputs, classes, bias=True))
    )


def walk(architecture: Architecture) -> Iterator[Block]:
    """Blocks of the network in forward order, the head last."""
    inputs, bias = architecture.channels, architecture.bias
    for index, stage in enumerate((architecture.stem, *architecture.stages)):
        for depth in range(stage.depth):
            yield block(stage, Position(f"s{index}.{depth}", inputs, depth == 0, bias))
            inputs = stage.width
    yield head(architecture.head, Position("head", inputs, True, bias), architecture.classes)


def layers(architecture: Architecture) -> Iterator[Layer]:
    """Layers of the network in forward order."""
    for part in walk(architecture):
        yield from part.layers
