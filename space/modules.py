"""What layers are in torch: convolutions with their norms, gates, squeeze-and-excitation.

Shape suffixes: N images, C channels, H x W pixels.
"""

from collections.abc import Callable
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from space.layers import Layer, split_kernels

ACTIVATION_MODULES: dict[str, Callable[[], nn.Module]] = {
    "": nn.Identity,
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "hardswish": nn.Hardswish,
    "silu": nn.SiLU,
}


class Convolution(nn.Conv2d):
    """What `nn.Conv2d` computes, without three faults of oneDNN, PyTorch's library on the CPU.

    The backward pass of a 1x1 convolution with a stride writes past its workspace where there are
    fewer channels than a vector has places (uxlfoundation/oneDNN#6035). So the pixels that the
    stride visits are taken first, and what is left is a convolution of stride 1.

    In bfloat16, weights that meet nothing but padding, because the image is so small, can get
    memory that nobody has written for their gradient. So they are left out, and get 0.

    In bfloat16 and channels_last, weights of grouped convolutions with a dilation get unwritten
    memory for their gradient where images have 32 pixels or more. So these are computed in NCHW.
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
        if max(self.dilation) > 1 and self.groups > 1 and torch.is_autocast_enabled("cpu"):
            images_NCHW = images_NCHW.contiguous()
            # A depthwise weight counts as channels_last, too, until it is written anew.
            weight = weight.clone(memory_format=torch.contiguous_format)
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
    """Turn the convolutions of another library's network into these, in place; returns it.

    Those stay that pad with something else than zeros, or by a rule ("same").
    """
    for module in network.modules():
        if type(module) is nn.Conv2d and module.padding_mode == "zeros":
            module.padding = (0, 0) if module.padding == "valid" else module.padding
            if not isinstance(module.padding, str):
                module.__class__ = Convolution
    return network


class Affine(nn.Module):
    """A folded batch norm that cannot be part of its convolution: a scale and a bias a channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def reset_parameters(self) -> None:
        nn.init.ones_(self.weight)
        nn.init.zeros_(self.bias)

    def forward(self, images_NCHW: Tensor) -> Tensor:
        return images_NCHW * self.weight[:, None, None] + self.bias[:, None, None]


class Normed(nn.Module):
    """A layer with batch norms: of a block that is applied several times, one each time.

    `forward` takes the images and which application it is, from 0.
    """


class ConvNorm(Normed):
    """Convolution, batch norm where there is one, activation where there is one."""

    def __init__(self, layer: Layer, folded: bool, dilation: int = 1) -> None:
        super().__init__()
        shared = layer.applications > 1
        self.conv = Convolution(
            layer.inputs,
            layer.outputs,
            layer.kernel,
            stride=layer.stride,
            padding=layer.kernel // 2 * dilation,
            dilation=dilation,
            groups=layer.groups,
            bias=not shared if folded else layer.bias,
        )
        make = Affine if folded else nn.BatchNorm2d
        first, *later = (make(layer.outputs) for _ in range(layer.applications))
        # The first apart, and no list where it is the only one: checkpoints of networks without
        # shared weights know it by this name, and are known by what the network prints as.
        self.norm = first if (shared if folded else layer.norm) else None
        self.later_norms = nn.ModuleList(later) if later else None
        self.activation = ACTIVATION_MODULES[layer.activation]()

    @property
    def norms(self) -> tuple[nn.BatchNorm2d | Affine, ...]:
        """One for each application; none where there is no norm or it is part of the weights."""
        found = () if self.norm is None else (self.norm, *(self.later_norms or ()))
        return cast(tuple[nn.BatchNorm2d | Affine, ...], found)

    def forward(self, images_NCHW: Tensor, application: int = 0) -> Tensor:
        images_NCHW = self.conv(images_NCHW)
        norms = self.norms
        if norms:
            images_NCHW = norms[application](images_NCHW)
        return cast(Tensor, self.activation(images_NCHW))


class Cheap(Normed):
    """The channels, and as many again, made of them by a depthwise convolution."""

    def __init__(self, layer: Layer, folded: bool) -> None:
        super().__init__()
        self.made = ConvNorm(layer._replace(outputs=layer.inputs), folded)

    def forward(self, images_NCHW: Tensor, application: int = 0) -> Tensor:
        return torch.cat((images_NCHW, self.made(images_NCHW, application)), dim=1)


class Split(Normed):
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

    def forward(self, images_NCHW: Tensor, application: int = 0) -> Tensor:
        passing, *convolved = images_NCHW.chunk(4, dim=1)
        if self.stride > 1:
            passing = F.avg_pool2d(passing, self.stride, ceil_mode=True)
        made = (
            part(images, application) for part, images in zip(self.parts, convolved, strict=True)
        )
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
