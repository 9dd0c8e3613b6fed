"""A trained student -> one file that is enough to predict, and back.

The layout of the file, and so its size before training, is in `space.file_format`.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import safetensors
import safetensors.torch
import torch
from torch import nn

from space.architecture import Architecture
from space.build import Norms, Student, build
from space.errors import InputError, shown
from space.file_format import (
    StudentMetadata,
    Weight,
    check_format,
    header_entries,
    payload,
    read_header,
    weights,
)
from space.modules import Affine
from trainers.files import write_atomically
from trainers.model import Model

INT8_MAX = 127
UNIT = 128.0  # codes over it are below 1, and exact
FLAT = {"F32": torch.float32, "F16": torch.float16, "I8": torch.int8}  # of `ELEMENT_BYTES`


class StoredStudent(NamedTuple):
    """What a student's file holds."""

    model: Model  # images in [0, 1] -> logits
    architecture: Architecture
    metadata: StudentMetadata
    format: str


class Array(NamedTuple):
    """One weight array and the batch norms after it, folded, float32."""

    weight: torch.Tensor  # output channels first
    bias: torch.Tensor  # one an output channel; of a shared weight, applications x channels
    # Of a shared weight, of the bias's shape: its norms, which differ, cannot be folded into it.
    scale: torch.Tensor | None = None

    @property
    def parts(self) -> tuple[torch.Tensor, ...]:
        """What is there, in the order of a file: weight, scale, bias."""
        return (self.weight, *(() if self.scale is None else (self.scale,)), self.bias)


# A file's flat tensors, as `space.file_format.payload` lays them out.
Flat = dict[str, torch.Tensor]


class Codec(NamedTuple):
    """How a storage format's tensors are written and read; `FORMATS` has the same names."""

    encode: Callable[[list[Array]], Flat]  # raises OverflowError for weights that it cannot hold
    decode: Callable[[Flat, Iterable[Weight]], Iterator[Array]]


def write(student: Student, metadata: StudentMetadata, format: str, path: Path) -> int:
    """Write the student's file and return its size in bytes.

    Raises:
        OverflowError: a weight is not a number or too large for the format.
        OSError: the folder cannot be written or the disk is full.
    """
    check_format(format)
    flat = CODECS[format].encode(list(folded(student)))
    header = header_entries(student.architecture, metadata, format)
    content = safetensors.torch.save(flat, metadata=header)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, lambda file: file.write(content))
    return os.path.getsize(path)


@torch.no_grad()
def folded(student: Student) -> Iterator[Array]:
    """Every weight array of the network, batch norm folded into the convolution before it.

    A shared weight stays as it is, beside the scales and biases that its norms fold into.

    w' = w g / sqrt(v + eps), b' = (b - m) g / sqrt(v + eps) + beta, with g, beta the norm's
    scale and shift, m, v its running mean and variance (Jacob et al., arXiv:1712.05877).
    """
    for _, layer, norms in student.weighted():
        weight = layer.weight.detach().float().cpu()
        bias = torch.zeros(len(weight)) if layer.bias is None else layer.bias.float().cpu()
        yield fold(Array(weight, bias), norms)


def fold(array: Array, norms: Norms) -> Array:
    """The array with the norms after it folded; several are those of a shared weight."""
    if not norms:
        return array
    scales, biases = zip(*(_affine(norm, array.bias) for norm in norms), strict=True)
    if len(norms) > 1:
        return Array(array.weight, torch.stack(biases), torch.stack(scales))
    return Array(array.weight * scales[0].view(-1, *[1] * (array.weight.ndim - 1)), biases[0])


def _affine(norm: nn.BatchNorm2d | Affine, bias: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Scale and bias that are the norm after a convolution which has that bias."""
    scale: torch.Tensor = norm.weight
    mean = torch.zeros_like(scale)
    if isinstance(norm, nn.BatchNorm2d):
        assert norm.running_mean is not None
        assert norm.running_var is not None
        scale, mean = scale / (norm.running_var + norm.eps).sqrt(), norm.running_mean
    scale = scale.float().cpu()
    return scale, (bias - mean.float().cpu()) * scale + norm.bias.float().cpu()


def convert(source: Path, format: str, path: Path) -> int:
    """Write a student's file again in another format; returns its size in bytes.

    A file that was int8 keeps its int8 accuracy; only its size grows. Raises as `read` and
    `write` do.
    """
    stored = read(source)
    if stored.format == format:
        content = source.read_bytes()
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, lambda file: file.write(content))
        return len(content)
    student = stored.model.network
    assert isinstance(student, Student)
    return write(student, stored.metadata, format, path)


def read(path: Path) -> StoredStudent:
    """Read a student's file back; it needs nothing but the file.

    Raises:
        InputError: the file is missing, truncated, tampered with, or not a student's.
    """
    try:
        with safetensors.safe_open(path, "pt") as file:
            header = file.metadata() or {}
            flat = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except OSError as error:
        raise InputError(f"student {path} cannot be read: {error.strerror or error}") from None
    except safetensors.SafetensorError as error:
        raise InputError(f"{path} is not a whole safetensors file: {error}") from None
    try:
        architecture, metadata, format = read_header(header)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    found = {name: (str(tensor.dtype), tensor.numel()) for name, tensor in flat.items()}
    layout = payload(architecture, format)
    expected = {name: (str(FLAT[kind]), count) for name, (kind, count) in layout.items()}
    if found != expected:
        raise InputError(
            f"{path}: the architecture in its header needs tensors {expected}, "
            f"but the file holds {shown(found)}; it is damaged or was changed"
        )
    if not all(torch.isfinite(tensor.float()).all() for tensor in flat.values()):
        raise InputError(f"{path} holds weights that are not numbers; it is damaged")
    student = build(architecture, folded=True)
    fill(student, CODECS[format].decode(flat, weights(architecture)))
    model = Model(student, size=metadata.size, mean=metadata.mean, std=metadata.std)
    model.requires_grad_(False).eval()
    return StoredStudent(model, architecture, metadata, format)


@torch.no_grad()
def fill(student: Student, arrays: Iterable[Array]) -> None:
    """Give a folded student its weights, in the order of `space.file_format.weights`."""
    for (_, layer, norms), array in zip(student.weighted(), arrays, strict=True):
        layer.weight.copy_(array.weight)
        if array.scale is None:
            assert layer.bias is not None
            layer.bias.copy_(array.bias)
        else:
            for norm, scale, bias in zip(norms, array.scale, array.bias, strict=True):
                norm.weight.copy_(scale)
                norm.bias.copy_(bias)


def quantise(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Symmetric int8 codes and one scale an output channel, w = code x scale.

    The scale is rounded to its stored 16 bits first, so that the codes suit what is read back.
    """
    rows = weight.flatten(1)
    scale = _half(rows.abs().amax(1) / INT8_MAX).float()
    safe = torch.where(scale > 0, scale, torch.ones_like(scale))
    codes = (rows / safe[:, None]).round().clamp(-INT8_MAX, INT8_MAX).to(torch.int8)
    return codes.view_as(weight), scale


def _encode_int8(arrays: list[Array]) -> Flat:
    codes, rest = [], []
    for array in arrays:
        found, scale = quantise(array.weight)
        codes.append(found.flatten())
        scales = scale if array.scale is None else array.scale * scale
        rest += [scales.flatten(), array.bias.flatten()]
    return {"q": torch.cat(codes), "h": _half(torch.cat(rest))}


def _decode_int8(flat: Flat, weights: Iterable[Weight]) -> Iterator[Array]:
    codes, rest = _Reader(flat["q"]), _Reader(flat["h"])
    for weight in weights:
        own = codes.take(weight.elements).view(weight.shape[0], -1)
        scale, bias = (_by_application(rest.take(weight.biases), weight) for _ in range(2))
        if weight.applications > 1:  # each has its own scale: the weight is left below 1
            yield Array((own / UNIT).view(weight.shape), bias, scale * UNIT)
        else:
            yield Array((own * scale[:, None]).view(weight.shape), bias)


def _by_application(values: torch.Tensor, weight: Weight) -> torch.Tensor:
    return values.view(weight.applications, -1) if weight.applications > 1 else values


def _floats(name: str, stored: Callable[[torch.Tensor], torch.Tensor]) -> Codec:
    """Every number as it is, in one tensor of that name."""

    def encode(arrays: list[Array]) -> Flat:
        parts = [part.flatten() for array in arrays for part in array.parts]
        return {name: stored(torch.cat(parts))}

    def decode(flat: Flat, weights: Iterable[Weight]) -> Iterator[Array]:
        numbers = _Reader(flat[name])
        for weight in weights:
            elements = numbers.take(weight.elements).view(weight.shape)
            scale = numbers.take(weight.scales)
            bias = _by_application(numbers.take(weight.biases), weight)
            yield Array(elements, bias, scale.view_as(bias) if weight.scales else None)

    return Codec(encode, decode)


class _Reader:
    """Takes a flat tensor apart, front to back."""

    def __init__(self, flat: torch.Tensor) -> None:
        self.flat, self.position = flat, 0

    def take(self, count: int) -> torch.Tensor:
        part = self.flat[self.position : self.position + count].float()
        self.position += count
        return part


def _half(values: torch.Tensor) -> torch.Tensor:
    half = _finite(values).half()
    if not torch.isfinite(half).all():
        worst = values.abs().max().item()
        raise OverflowError(f"stored values must fit 16 bits (up to 65504), but one is {worst:g}")
    return half


def _finite(values: torch.Tensor) -> torch.Tensor:
    if not torch.isfinite(values).all():
        raise OverflowError("stored values must be finite numbers, but a weight is not")
    return values


CODECS: dict[str, Codec] = {
    "fp32": _floats("f", _finite),
    "fp16": _floats("h", _half),
    "int8": Codec(_encode_int8, _decode_int8),
}
