"""Architecture -> torch module.

Shape suffixes: N images, C channels, H x W pixels, K classes.
"""

from collections.abc import Iterator
from typing import cast

import torch
from torch import Tensor, nn

from space.architecture import Architecture
from space.file_format import Weight, layer_weights
from space.layers import Block, Layer, walk
from space.modules import (
    ACTIVATION_MODULES,
    Affine,
    Cheap,
    ConvNorm,
    Gate,
    GlobalPool,
    Normed,
    Shuffle,
    Split,
    SqueezeExcitation,
)

Norms = tuple[nn.BatchNorm2d | Affine, ...]
Weighted = tuple[Weight, nn.Conv2d | nn.Linear, Norms]


def _module(layer: Layer, folded: bool) -> nn.Module:
    match layer.op:
        case "conv":
            return ConvNorm(layer, folded)
        case "cheap":
            return Cheap(layer, folded)
        case "split":
            return Split(layer, folded)
        case "gate":
            return Gate(layer)
        case "linear":
            return nn.Linear(layer.inputs, layer.outputs)
        case "se":
            return SqueezeExcitation(layer)
        case "shuffle":
            return Shuffle(layer.groups)
        case "activation":
            return ACTIVATION_MODULES[layer.activation]()
        case "maxpool":  # rounds up, as a strided convolution with 'same' padding does
            return nn.MaxPool2d(layer.kernel, stride=layer.stride, ceil_mode=True)
        case "avgpool":
            return GlobalPool()
    raise AssertionError(f"no module for {layer.op}")


class BlockModule(nn.Module):
    """`tail(body(x) + shortcut(x))`, once or several times, as `space.layers.Block` says."""

    def __init__(self, block: Block, folded: bool) -> None:
        super().__init__()
        self.shape = block
        self.body = _sequential(block.body, folded)
        self.shortcut = None if block.shortcut is None else _sequential(block.shortcut, folded)
        self.tail = _sequential(block.tail, folded)

    def forward(self, images_NCHW: Tensor) -> Tensor:
        for application in range(self.shape.times):
            images_NCHW = self._applied(images_NCHW, application)
        return images_NCHW

    def _applied(self, images_NCHW: Tensor, application: int) -> Tensor:
        outputs_NCHW = _through(self.body, images_NCHW, application)
        if self.shortcut is not None:
            outputs_NCHW = outputs_NCHW + _through(self.shortcut, images_NCHW, application)
        return _through(self.tail, outputs_NCHW, application)

    def layers(self) -> Iterator[tuple[Layer, nn.Module]]:
        modules = [*self.body, *(self.shortcut or ()), *self.tail]
        yield from zip(self.shape.layers, modules, strict=True)


def _sequential(layers: tuple[Layer, ...], folded: bool) -> nn.Sequential:
    return nn.Sequential(*(_module(layer, folded) for layer in layers))


def _through(modules: nn.Sequential, images_NCHW: Tensor, application: int) -> Tensor:
    for module in modules:
        arguments = (application,) if isinstance(module, Normed) else ()
        images_NCHW = module(images_NCHW, *arguments)
    return images_NCHW


class Student(nn.Module):
    """The network of an architecture."""

    def __init__(self, architecture: Architecture, *, folded: bool = False) -> None:
        super().__init__()
        self.architecture = architecture
        self.folded = folded
        self.blocks = nn.ModuleList(BlockModule(block, folded) for block in walk(architecture))

    def forward(self, images_NCHW: Tensor) -> Tensor:
        """Normalised images (float, any size) -> logits_NK."""
        outputs = images_NCHW
        for block in self.blocks:
            outputs = block(outputs)
        return outputs

    def layers(self) -> Iterator[tuple[Layer, nn.Module]]:
        """Every layer with its module, in forward order."""
        for block in self.blocks:
            yield from cast(BlockModule, block).layers()

    def weighted(self) -> Iterator[Weighted]:
        """Modules with weights in exactly the order of `space.file_format.weights`.

        Yields (weight, module, norms after it: one for each application, or none). A folded student
        has none but scales and biases for the applications of shared weights.
        """
        for layer, module in self.layers():
            found = zip(layer_weights(layer), _weighted(module), strict=True)
            yield from ((weight, part, norms) for weight, (part, norms) in found)


def _weighted(module: nn.Module) -> Iterator[tuple[nn.Conv2d | nn.Linear, Norms]]:
    if isinstance(module, Normed):
        for part in module.modules():
            if isinstance(part, ConvNorm):
                yield part.conv, part.norms
    elif isinstance(module, SqueezeExcitation):
        yield module.reduce, ()
        yield module.expand, ()
    elif isinstance(module, nn.Linear):
        yield module, ()


def build(architecture: Architecture, *, folded: bool = False, seed: int | None = None) -> Student:
    """The student, initialised, in training mode, on the CPU.

    Args:
        folded: convolutions with a bias and without batch norm (with scales and biases where they
            are shared): what a file decodes into.
        seed: the same weights every time, whatever the state of the global generators.
            Without one the weights are drawn from torch's global generator.

    The global generators are left untouched if a seed is given.

    Raises:
        InputError: not a network that can be built.
    """
    architecture.check()
    with torch.random.fork_rng(devices=[]):  # the modules' own initialisation is not used
        student = Student(architecture, folded=folded)
    # An own generator: torch.manual_seed would also seed those of every GPU.
    initialise(student, None if seed is None else torch.Generator().manual_seed(seed))
    return student


def initialise(student: Student, generator: torch.Generator | None = None) -> None:
    """Draw the weights anew; biases become 0, batch norms the identity.

    Convolutions and squeeze-and-excitation: normal, std = sqrt(2 / fan-out of a group) (He et
    al., arXiv:1502.01852). Classifier: normal, std = 0.01.
    """
    for weight, module, norms in student.weighted():
        if isinstance(module, nn.Linear) and not weight.name.endswith((".reduce", ".expand")):
            std = 0.01
        else:
            groups = module.groups if isinstance(module, nn.Conv2d) else 1
            fan_out = weight.elements // weight.shape[1] // groups
            std = (2 / fan_out) ** 0.5
        nn.init.normal_(module.weight, std=std, generator=generator)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
        for norm in norms:
            norm.reset_parameters()
