"""The student's file as pure data: which bytes it holds, before any of them exists.

A file is safetensors (https://github.com/huggingface/safetensors): eight bytes of header length,
a JSON header padded to eight bytes, the tensors. Weights lie end to end in one flat tensor a
dtype, in the order of `space.layers.walk`; the architecture in the header says where each one
begins. Named tensors would cost some 70 header bytes each, a fifth of a 20 KB student.

Batch norm is folded into the convolution before it, so a file holds weights and biases only.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from space.architecture import Architecture
from space.layers import Layer, layers

FORMATS = ("fp32", "fp16", "int8")
METADATA_KEY = "distilnas"
ELEMENT_BYTES = {"F32": 4, "F16": 2, "I8": 1}
RECIPE_DIGITS = 12  # of a recipe's fingerprint


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """What predicting needs beside the weights; all of it is known before training."""

    classes: tuple[str, ...]  # names, in the order of the logits
    size: int  # pixels; the input is size x size
    mean: tuple[float, ...]  # per channel, of inputs in [0, 1]
    std: tuple[float, ...]
    recipe: str = "0" * RECIPE_DIGITS  # fingerprint


class Weight(NamedTuple):
    """One weight array, its output channels first; it always has a bias of `shape[0]`."""

    name: str
    shape: tuple[int, ...]

    @property
    def elements(self) -> int:
        product = 1
        for length in self.shape:
            product *= length
        return product


def layer_weights(layer: Layer) -> tuple[Weight, ...]:
    """Arrays that a layer stores once its batch norm is folded."""
    if layer.op == "conv":
        shape = (layer.outputs, layer.inputs // layer.groups, layer.kernel, layer.kernel)
        return (Weight(layer.name, shape),)
    if layer.op == "linear":
        return (Weight(layer.name, (layer.outputs, layer.inputs)),)
    if layer.op == "se":
        return (
            Weight(f"{layer.name}.reduce", (layer.hidden, layer.inputs)),
            Weight(f"{layer.name}.expand", (layer.outputs, layer.hidden)),
        )
    return ()


def weights(architecture: Architecture) -> Iterator[Weight]:
    """Arrays of the whole network in the order of the file."""
    for layer in layers(architecture):
        yield from layer_weights(layer)
