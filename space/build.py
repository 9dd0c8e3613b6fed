"""Architecture -> torch module. The only file of `space` that imports torch.

Shape suffixes: N images, C channels, H x W pixels, K classes.
"""

from collections.abc import Callable, Iterator
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from space.architecture import Architecture
from space.file_format import Weight, layer_weights
from space.layers import Block, Layer, split_kernels, walk

Weighted = tuple[Weight, nn.Conv2d | nn.Linear, nn.BatchNorm2d | None]

ACTIVATION_MODULES: dict[str, Callable[[], nn.Module]] = {
    "": nn.Identity,
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "hardswish": nn.Hardswish,
    "silu": nn.SiLU,
}


class Convolution(nn.Conv2d):
    """What `nn.Conv2d` computes, without two faults of oneDNN, PyTorch's library on the CPU.

    The backward pass of a 1x1 convolution with a stride writes past its workspace where there are
    fewer channels than a vector has places (uxlfoundation/oneDNN#6035). So the pixels that the
    stride visits are taken first, and what is left is a convolution of stride 1.

    In bfloat16, weights that meet nothing but padding, because the image is so small, can get
    memory that nobody has written for their gradient. So they are left out, and get 0.
    """

    def forward(self, images_NCHW: Tensor) -> Tensor:
        if images_NCHW.device.type != "cpu":
            return super().forward(images_NCHW)
        weight, padding, stride = self.weight, self.padding, self.stride
        assert not isinstance(padding, str), "padding is given in pixels"
        if self.kernel_size == (1, 1) and stride != (1, 1):
            # Means of one pixel each. Slices are the same numbers, but their gradient is slow.
            images_NCHW, stride = F.avg_pool2d(images_NCHW, 1, stride), (1, 1)
        elif min(images_NCHW.shape[2:]) <= max(self.dilation) * (max(self.kernel_size) - 1):
            shapes = (images_NCHW.shape[2:], self.kernel_size, stride, padding, self.dilation)
            (rows, *vertical), (columns, *horizontal) = map(_that_meet, *shapes)
            weight, padding = weight[:, :, rows, columns], (vertical[0], horizontal[0])
            if vertical[0] != vertical[1] or horizontal[0] != horizontal[1]:
                images_NCHW, padding = F.pad(images_NCHW, (*horizontal, *vertical)), (0, 0)
        return F.conv2d(images_NCHW, weight, self.bias, stride, padding, self.dilation, self.groups)


def _that_meet(
    size: int, kernel: int, stride: int, padding: int, dilation: int
) -> tuple[slice, int, int]:
    """The weights of a line that meet some of `size` pixels, and the padding on either side.

    Padding differs only where it must: the remainder of a stride is not read.
    """
    last_step = (size + 2 * padding - dilation * (kernel - 1) - 1) // stride * stride
    first = max(0, -((last_step - padding) // dilation))
    last = min(kernel - 1, (padding + size - 1) // dilation)
    before = padding - first * dilation
    after = last_step - before + dilation * (last - first) + 1 - size
    return slice(first, last + 1), before, before if 0 <= before - after < stride else after


def with_sound_convolutions(network: nn.Module) -> nn.Module:
    """Turn the convolutions of another library's network into these, in place; returns it."""
    for module in network.modules():
        if type(module) is nn.Conv2d:
            module.__class__ = Convolution
    return network


class ConvNorm(nn.Module):
    """Convolution, batch norm where there is one, activation where there is one."""

    def __init__(self, layer: Layer, folded: bool, dilation: int = 1) -> None:
        super().__init__()
        norm = layer.norm and not folded
        self.conv = Convolution(
            layer.inputs,
            layer.outputs,
            layer.kernel,
            stride=layer.stride,
            padding=layer.kernel // 2 * dilation,
            dilation=dilation,
            groups=layer.groups,
            bias=layer.bias or folded,
        )
        self.norm = nn.BatchNorm2d(layer.outputs) if norm else None
        self.activation = ACTIVATION_MODULES[layer.activation]()

    def forward(self, images_NCHW: Tensor) -> Tensor:
        images_NCHW = self.conv(images_NCHW)
        if self.norm is not None:
            images_NCHW = self.norm(images_NCHW)
        return cast(Tensor, self.activation(images_NCHW))


class Cheap(nn.Module):
    """The channels, and as many again, made of them by a depthwise convolution."""

    def __init__(self, layer: Layer, folded: bool) -> None:
        super().__init__()
        self.made = ConvNorm(layer._replace(outputs=layer.inputs), folded)

    def forward(self, images_NCHW: Tensor) -> Tensor:
        return torch.cat((images_NCHW, self.made(images_NCHW)), dim=1)


class Split(nn.Module):
    """Depthwise convolutions over three quarters of the channels; the first quarter passes."""

    def __init__(self, layer: Layer, folded: bool) -> None:
        super().__init__()
        self.stride = layer.stride
        quarter = layer.inputs // 4
        part = layer._replace(inputs=quarter, outputs=quarter, groups=quarter)
        self.parts = nn.ModuleList(
            ConvNorm(part._replace(kernel=kernel), folded, dilation)
            for kernel, dilation in split_kernels(layer)
        )

    def forward(self, images_NCHW: Tensor) -> Tensor:
        passing, *convolved = images_NCHW.chunk(4, dim=1)
        if self.stride > 1:
            passing = F.avg_pool2d(passing, self.stride, ceil_mode=True)
        made = (part(images) for part, images in zip(self.parts, convolved, strict=True))
        return torch.cat((passing, *made), dim=1)


class Gate(nn.Module):
    """The first half of the channels times the activation of the second (arXiv:2002.05202)."""

    def __init__(self, layer: Layer) -> None:
        super().__init__()
        self.activation = ACTIVATION_MODULES[layer.activation]()

    def forward(self, images_NCHW: Tensor) -> Tensor:
        values, gates = images_NCHW.chunk(2, dim=1)
        return values * cast(Tensor, self.activation(gates))


class SqueezeExcitation(nn.Module):
    """Channels weighted by what global average pooling sees (arXiv:1709.01507)."""

    def __init__(self, layer: Layer) -> None:
        super().__init__()
        self.reduce = nn.Linear(layer.inputs, layer.hidden)
        self.expand = nn.Linear(layer.hidden, layer.outputs)

    def forward(self, images_NCHW: Tensor) -> Tensor:
        pooled_NC = images_NCHW.mean(dim=(2, 3))
        gate_NC = torch.sigmoid(self.expand(F.relu(self.reduce(pooled_NC))))
        return images_NCHW * gate_NC[:, :, None, None]


class Shuffle(nn.Module):
    """Channel c of group g becomes channel g of group c (ShuffleNet, arXiv:1707.01083)."""

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def forward(self, images_NCHW: Tensor) -> Tensor:
        n, c, h, w = images_NCHW.shape
        grouped = images_NCHW.reshape(n, self.groups, c // self.groups, h, w)
        return grouped.transpose(1, 2).reshape(n, c, h, w)


class GlobalPool(nn.Module):
    """Mean over all pixels: NCHW -> NC."""

    def forward(self, images_NCHW: Tensor) -> Tensor:
        return images_NCHW.mean(dim=(2, 3))


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
    """`tail(body(x) + shortcut(x))`, as `space.layers.Block` says."""

    def __init__(self, block: Block, folded: bool) -> None:
        super().__init__()
        self.shape = block
        self.body = _sequential(block.body, folded)
        self.shortcut = None if block.shortcut is None else _sequential(block.shortcut, folded)
        self.tail = _sequential(block.tail, folded)

    def forward(self, images_NCHW: Tensor) -> Tensor:
        outputs_NCHW = self.body(images_NCHW)
        if self.shortcut is not None:
            outputs_NCHW = outputs_NCHW + self.shortcut(images_NCHW)
        return cast(Tensor, self.tail(outputs_NCHW))

    def layers(self) -> Iterator[tuple[Layer, nn.Module]]:
        modules = [*self.body, *(self.shortcut or ()), *self.tail]
        yield from zip(self.shape.layers, modules, strict=True)


def _sequential(layers: tuple[Layer, ...], folded: bool) -> nn.Sequential:
    return nn.Sequential(*(_module(layer, folded) for layer in layers))


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

        Yields (weight, module, batch norm after it or None). A folded student has no norms.
        """
        for layer, module in self.layers():
            yield from zip(layer_weights(layer), *_weighted(module), strict=False)


def _weighted(
    module: nn.Module,
) -> tuple[tuple[nn.Conv2d | nn.Linear, ...], tuple[nn.BatchNorm2d | None, ...]]:
    if isinstance(module, ConvNorm | Cheap | Split):
        parts = [part for part in module.modules() if isinstance(part, ConvNorm)]
        return tuple(part.conv for part in parts), tuple(part.norm for part in parts)
    if isinstance(module, SqueezeExcitation):
        return (module.reduce, module.expand), (None, None)
    if isinstance(module, nn.Linear):
        return (module,), (None,)
    return (), ()


def build(architecture: Architecture, *, folded: bool = False, seed: int | None = None) -> Student:
    """The student, initialised, in training mode, on the CPU.

    Args:
        folded: convolutions with a bias and without batch norm: what a file decodes into.
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
    for weight, module, norm in student.weighted():
        if isinstance(module, nn.Linear) and not weight.name.endswith((".reduce", ".expand")):
            std = 0.01
        else:
            groups = module.groups if isinstance(module, nn.Conv2d) else 1
            fan_out = weight.elements // weight.shape[1] // groups
            std = (2 / fan_out) ** 0.5
        nn.init.normal_(module.weight, std=std, generator=generator)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
        if norm is not None:
            norm.reset_parameters()
