"""Exact counts: parameters, buffers, multiply-accumulates, activations, stored bytes.

All of them are read off `space.layers.walk`, so what is counted is what is built.

A multiply-accumulate (MAC) is one weight times one value: convolutions, linear layers and the
two layers of squeeze-and-excitation. Biases, norms, activations and pooling are not counted.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from space.architecture import Architecture
from space.file_format import FORMATS, StudentMetadata, layer_weights, stored_bytes
from space.layers import Block, Layer, walk


class LayerCost(NamedTuple):
    """What one layer costs for one image."""

    layer: Layer
    parameters: int  # trainable: weights, biases, batch norm's scale and shift
    buffers: int  # batch norm's running mean and variance
    macs: int
    output_size: int  # pixels; the output is outputs x output_size x output_size
    activations: int  # elements alive while it runs: inputs, outputs, and what a shortcut waits for


class Cost(NamedTuple):
    """What a student costs."""

    parameters: int
    buffers: int
    macs: int  # for one image
    activation_peak: int  # elements, for one image
    stored: Mapping[str, int]  # format -> bytes of the file


def layer_parameters(layer: Layer) -> int:
    """Trainable parameters of a layer as it is trained, its batch norm not yet folded."""
    count = sum(weight.elements for weight in layer_weights(layer))
    if layer.norm:
        count += 2 * layer_rows(layer) * layer.applications
    if layer.bias or layer.op == "se":
        count += layer_rows(layer)
    return count


def layer_rows(layer: Layer) -> int:
    """Output channels of all of a layer's weights: so many scales has one batch norm."""
    return sum(weight.shape[0] for weight in layer_weights(layer))


def layer_buffers(layer: Layer) -> int:
    """Elements of running mean and variance; `num_batches_tracked`, a counter, is left out."""
    return 2 * layer_rows(layer) * layer.applications if layer.norm else 0


def layer_macs(layer: Layer, output_size: int) -> int:
    """Multiply-accumulates of a layer for one image, all its applications together."""
    positions = 1 if layer.op in ("linear", "se") else output_size**2
    return layer.times * positions * sum(weight.elements for weight in layer_weights(layer))


def output_size(layer: Layer, size: int) -> int:
    """Pixels after a layer: padding is 'same', so a stride divides and rounds up."""
    return 1 if layer.op == "avgpool" else -(-size // layer.stride)


def block_costs(block: Block, size: int) -> Iterator[LayerCost]:
    """Costs of a block's layers, for a size x size input of the block.

    The body runs before the shortcut: while it does, the block's input waits; while the
    shortcut runs, the body's output waits.
    """
    first = block.body[0]
    body_size = size
    for layer in block.body:
        waits = block.shortcut is not None and layer is not first
        waiting = first.inputs * size**2 if waits else 0
        yield _layer_cost(layer, body_size, waiting)
        body_size = output_size(layer, body_size)
    shortcut_size = size
    for layer in block.shortcut or ():
        yield _layer_cost(layer, shortcut_size, block.body[-1].outputs * body_size**2)
        shortcut_size = output_size(layer, shortcut_size)
    for layer in block.tail:
        yield _layer_cost(layer, body_size, 0)
        body_size = output_size(layer, body_size)


def _layer_cost(layer: Layer, size: int, waiting: int) -> LayerCost:
    after = output_size(layer, size)
    return LayerCost(
        layer,
        layer_parameters(layer),
        layer_buffers(layer),
        layer_macs(layer, after),
        after,
        layer.inputs * size**2 + layer.outputs * after**2 + waiting,
    )


def layer_costs(architecture: Architecture, size: int) -> Iterator[LayerCost]:
    """Costs layer by layer in forward order, for size x size inputs."""
    for block in walk(architecture):
        for item in block_costs(block, size):
            yield item
        size = item.output_size


def parameters(architecture: Architecture) -> int:
    """Trainable parameters."""
    return sum(item.parameters for item in layer_costs(architecture, 1))


def buffers(architecture: Architecture) -> int:
    """Elements of batch norm's running statistics; `num_batches_tracked` is left out."""
    return sum(item.buffers for item in layer_costs(architecture, 1))


def macs(architecture: Architecture, size: int) -> int:
    """Multiply-accumulates for one image of size x size pixels."""
    return sum(item.macs for item in layer_costs(architecture, size))


def activation_peak(architecture: Architecture, size: int) -> int:
    """Most elements alive at once in a forward pass over one image of size x size pixels."""
    return max(item.activations for item in layer_costs(architecture, size))


def cost(architecture: Architecture, metadata: StudentMetadata) -> Cost:
    """Everything at once; raises InputError if the metadata do not suit the architecture."""
    items = list(layer_costs(architecture, metadata.size))
    return Cost(
        parameters=sum(item.parameters for item in items),
        buffers=sum(item.buffers for item in items),
        macs=sum(item.macs for item in items),
        activation_peak=max(item.activations for item in items),
        stored={format: stored_bytes(architecture, format, metadata) for format in FORMATS},
    )
