"""The student's file as pure data: which bytes it holds, before any of them exists.

A file is safetensors (https://github.com/huggingface/safetensors): eight bytes of header length,
a JSON header padded to eight bytes, the tensors. Weights lie end to end in one flat tensor a
dtype, in the order of `space.layers.walk`; the architecture in the header says where each one
begins. Named tensors would cost some 70 header bytes each, a fifth of a 20 KB student.

Batch norm is folded into the convolution before it, so a file holds weights and biases only. Of a
block that is applied several times, each application has another batch norm: its weights are
stored once, as they are, with a scale and a bias per output channel for each application.
"""

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import NamedTuple

from space.architecture import Architecture
from space.errors import InputError, shown
from space.layers import Layer, layers, split_kernels
from space.schema import Table, as_table, read

METADATA_KEY = "distilnas"
ELEMENT_BYTES = {"F32": 4, "F16": 2, "I8": 1}  # `trainers.export.FLAT` has them as torch's
RECIPE_DIGITS = 12  # of a recipe's fingerprint
VERSION = 1  # of the header's document
LENGTH_BYTES = 8  # a file begins with the length of its header
MAX_SIZE = 4_096  # pixels
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


FlatTensors = dict[str, tuple[str, int]]  # name -> (dtype, elements)


class Format(NamedTuple):
    """A storage format: which flat tensors a file holds. Inside them, the weights' order.

    `trainers.export.CODECS` has the other half of every row: how they are written and read.
    """

    # From the elements, the biases and the scales of all weights together, which is all that the
    # solver adds up. Scales are those of shared weights; an unshared one has none.
    layout: Callable[[int, int, int], FlatTensors]


FORMATS: dict[str, Format] = {
    # The elements of a weight, then the scales where it is shared, then the biases.
    "fp32": Format(lambda elements, biases, scales: {"f": ("F32", elements + biases + scales)}),
    "fp16": Format(lambda elements, biases, scales: {"h": ("F16", elements + biases + scales)}),
    # q: the elements; h: for every weight a scale beside each bias, shared or not, then the biases.
    "int8": Format(lambda elements, biases, _: {"q": ("I8", elements), "h": ("F16", 2 * biases)}),
}
EXACT_FORMAT = "fp32"  # holds the weights as they were trained; others are made from it


@dataclass(frozen=True, slots=True, kw_only=True)
class StudentMetadata:
    """What predicting needs beside the weights; all of it is known before training."""

    classes: tuple[str, ...]  # names, in the order of the logits
    size: int  # pixels; the input is size x size
    mean: tuple[float, ...]  # per channel, of inputs in [0, 1]
    std: tuple[float, ...]
    recipe: str = "0" * RECIPE_DIGITS  # fingerprint


@dataclass(frozen=True, slots=True, kw_only=True)
class _Header(StudentMetadata):
    """The header's document; `header_entries` writes every setting out."""

    v: int
    format: str
    architecture: Architecture
    recipe: str


def normalisation(channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation for images in [0, 1]: ImageNet's, or one half for grey."""
    return (IMAGENET_MEAN, IMAGENET_STD) if channels == 3 else ((0.5,), (0.5,))


class Weight(NamedTuple):
    """One weight array, its output channels first, with a bias per channel and application."""

    name: str
    shape: tuple[int, ...]
    applications: int = 1  # each with a batch norm of its own; more than 1: shared

    @property
    def elements(self) -> int:
        product = 1
        for length in self.shape:
            product *= length
        return product

    @property
    def biases(self) -> int:
        return self.shape[0] * self.applications

    @property
    def scales(self) -> int:
        """Folded norms that cannot be part of the weight, because it is shared."""
        return self.biases if self.applications > 1 else 0


def layer_weights(layer: Layer) -> tuple[Weight, ...]:
    """Arrays that a layer stores once its batch norm is folded."""
    if layer.op == "conv":
        shape = (layer.outputs, layer.inputs // layer.groups, layer.kernel, layer.kernel)
        return (Weight(layer.name, shape, layer.applications),)
    if layer.op == "cheap":
        shape = (layer.inputs, 1, layer.kernel, layer.kernel)
        return (Weight(layer.name, shape, layer.applications),)
    if layer.op == "split":
        quarter = layer.inputs // 4
        return tuple(
            Weight(f"{layer.name}.{index}", (quarter, 1, kernel, kernel), layer.applications)
            for index, (kernel, _) in enumerate(split_kernels(layer), 1)
        )
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


def check_format(format: str) -> None:
    """Raise InputError, naming the valid ones, unless `format` is a storage format."""
    if format not in FORMATS:
        raise InputError(
            f"storage format must be one of {', '.join(FORMATS)}, but got {shown(format)}"
        )


def header_entries(
    architecture: Architecture, metadata: StudentMetadata, format: str
) -> dict[str, str]:
    """The header's entry: one key, compact ASCII JSON.

    Raises:
        InputError: an unknown format, or metadata that do not suit the architecture.
    """
    check_format(format)
    _check_metadata(metadata, architecture)
    document = {
        "v": VERSION,
        "format": format,
        "architecture": architecture.to_dict(),
        "classes": list(metadata.classes),
        "size": metadata.size,
        "mean": list(metadata.mean),
        "std": list(metadata.std),
        "recipe": metadata.recipe,
    }
    return {METADATA_KEY: json.dumps(document, separators=(",", ":"), ensure_ascii=True)}


def read_header(entries: Mapping[str, str]) -> tuple[Architecture, StudentMetadata, str]:
    """Read `header_entries`'s entry back: architecture, metadata, format.

    Raises:
        InputError: the entry is missing or damaged, or its parts do not suit each other.
    """
    header = read(_Header, _document(entries), "the student's header")
    check_format(header.format)
    metadata = StudentMetadata(**{f.name: getattr(header, f.name) for f in fields(StudentMetadata)})
    _check_metadata(metadata, header.architecture)
    return header.architecture, metadata, header.format


def payload(architecture: Architecture, format: str) -> FlatTensors:
    """Flat tensors of the file; inside each, the arrays follow in the order of `weights`."""
    return arrays_payload(weights(architecture), format)


def arrays_payload(arrays: Iterable[Weight], format: str) -> FlatTensors:
    """Flat tensors of some arrays alone."""
    elements, biases, scales = 0, 0, 0
    for weight in arrays:
        elements += weight.elements
        biases += weight.biases
        scales += weight.scales
    return tensors(elements, biases, scales, format)


def tensors(elements: int, biases: int, scales: int, format: str) -> FlatTensors:
    """`payload` of a network whose weights have so many elements, biases and (shared) scales."""
    check_format(format)
    return FORMATS[format].layout(elements, biases, scales)


def file_bytes(metadata_length: int, flat: FlatTensors) -> int:
    """Size of a safetensors file with those flat tensors.

    Args:
        metadata_length: characters of the header's object as `metadata_length` counts them.
    """
    header, end = metadata_length, 0
    # The library orders tensors by falling element size, then by name.
    for name, (dtype, count) in sorted(
        flat.items(), key=lambda item: (-ELEMENT_BYTES[item[1][0]], item[0])
    ):
        begin, end = end, end + count * ELEMENT_BYTES[dtype]
        header += len(
            f',"{name}":{{"dtype":"{dtype}","shape":[{count}],"data_offsets":[{begin},{end}]}}'
        )
    return LENGTH_BYTES + -(-header // 8) * 8 + end  # the data begin at a multiple of eight


def metadata_length(architecture: Architecture, metadata: StudentMetadata, format: str) -> int:
    """Characters of the header's JSON object with the metadata and no tensors.

    The library escapes as Python does, since the metadata are printable ASCII.
    """
    entries = header_entries(architecture, metadata, format)
    return len(json.dumps({"__metadata__": entries}, separators=(",", ":")))


def stored_bytes(architecture: Architecture, format: str, metadata: StudentMetadata) -> int:
    """Size of the student's file in bytes, header included: exact, by property test.

    Raises:
        InputError: an unknown format, or metadata that do not suit the architecture.
    """
    length = metadata_length(architecture, metadata, format)
    return file_bytes(length, payload(architecture, format))


def _check_metadata(metadata: StudentMetadata, architecture: Architecture) -> None:
    classes, channels = len(metadata.classes), architecture.channels
    if classes != architecture.classes:
        raise InputError(
            f"the architecture has {architecture.classes} classes, but {classes} class names"
        )
    if not 1 <= metadata.size <= MAX_SIZE:
        raise InputError(f"input size must be 1 to {MAX_SIZE:,} pixels, but got {metadata.size}")
    for name, values in (("mean", metadata.mean), ("std", metadata.std)):
        if len(values) != channels:
            raise InputError(
                f"{name} must be one number per channel, but got {len(values)} for "
                f"{channels} channel(s)"
            )
        if not all(math.isfinite(value) for value in values):
            raise InputError(f"{name} must be finite numbers, but got {shown(values)}")
    if min(metadata.std) <= 0:
        raise InputError(f"std must be more than 0, but got {shown(metadata.std)}")
    # The size of a file must not depend on what is known only after training.
    if len(metadata.recipe) != RECIPE_DIGITS or not metadata.recipe.isascii():
        raise InputError(
            f"recipe fingerprint must be {RECIPE_DIGITS} characters, "
            f"but got {shown(metadata.recipe)}"
        )


def _document(entries: Mapping[str, str]) -> Table:
    """The header's JSON object, of this version."""
    if METADATA_KEY not in entries:
        raise InputError(
            f"a student's file has a header entry {METADATA_KEY!r}, but this one has "
            f"{shown(sorted(entries))}; it was not written by DistilNAS"
        )
    try:
        document: object = json.loads(entries[METADATA_KEY])
    except (ValueError, RecursionError) as error:
        raise InputError(f"the student's header is damaged: {error}") from None
    table = as_table(document, "the student's header")
    version = table.get("v")
    if version != VERSION:
        raise InputError(
            f"the student's header must have version {VERSION}, but got {shown(version)}; "
            "read it with the version of DistilNAS that wrote it"
        )
    return table
