"""Gradients: of every kind of layer, in both layouts and precisions, those of float64."""

import copy
import itertools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from commands import environment
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import BLOCKS
from torch import Tensor, nn

from space import spaces
from space.architecture import Architecture, Stage
from space.build import _module
from space.layers import Layer, layers
from space.modules import Convolution, with_sound_convolutions
from trainers.engine.modes import LAYOUTS, ComputeMode
from trainers.recipe import PRECISIONS
from trainers.teachers.networks import make_network

MODES = [ComputeMode(layout, precision) for layout in LAYOUTS for precision in PRECISIONS[1:]]
WRONG_BY = {"fp32": 1e-4, "bf16": 0.25}  # of the norm; a weight of nine that is not told: 0.33
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _unwritten_memory_shows() -> Iterator[None]:
    """`torch.empty` is not a number here."""
    torch.manual_seed(0)
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(before)


def all_layers() -> list[Layer]:
    """Every kind of layer that there is, with few channels and with many."""
    found: set[Layer] = set()
    for block, width, stride, kernel in itertools.product(
        BLOCKS, (4, 12, 24, 40), (1, 2), (1, 3, 5)
    ):
        stage = Stage(
            width=width,
            block=block,
            depth=2,
            stride=stride,
            kernel=kernel,
            groups=4,
            shuffle=True,
            expansion=3,
            se=4,
            downsample="maxpool" if stride == 2 and kernel == 5 else "stride",
        )
        for channels in (1, 3):
            stem = Stage(width=width, stride=stride, kernel=kernel)
            network = Architecture(stem=stem, stages=(stage,), classes=7, channels=channels)
            found |= {_bare(layer) for layer in layers(network)}
    return sorted(found)


def _bare(layer: Layer) -> Layer:
    """Without its name; an activation is a layer of its own, because it has a kink."""
    bare = layer.op in ("conv", "cheap")
    return layer._replace(name="layer", activation="" if bare else layer.activation)


def gradients(module: nn.Module, inputs: Tensor, outer: Tensor, mode: ComputeMode) -> list[Tensor]:
    """What a step computes: outputs, gradient of the inputs, gradients of the weights."""
    module = copy.deepcopy(module).to(memory_format=mode.memory_format)
    if inputs.ndim == 4:
        inputs = inputs.contiguous(memory_format=mode.memory_format)
    inputs = inputs.clone().requires_grad_()
    with mode.autocast(CPU):
        outputs = module(inputs)
    outputs.to(outer.dtype).backward(outer)
    assert inputs.grad is not None
    return [
        outputs.detach(),
        inputs.grad,
        *(p.grad for p in module.parameters() if p.grad is not None),
    ]


def agree(module: nn.Module, inputs: Tensor, what: object) -> None:
    generator = torch.Generator().manual_seed(2)
    outer = torch.randn(module(inputs).shape, generator=generator)
    plain = ComputeMode(layout="contiguous")
    exact = gradients(copy.deepcopy(module).double(), inputs.double(), outer.double(), plain)
    for mode in MODES:
        found = gradients(module, inputs, outer, mode)
        assert len(found) == len(exact)
        for got, right in zip(found, exact, strict=True):
            off = (got.double() - right).norm() / right.norm().clamp(min=1e-9)
            assert off < WRONG_BY[mode.precision], (what, mode.words, tuple(got.shape), float(off))


def modules(op: str) -> Iterator[tuple[nn.Module, tuple[int, ...], object]]:
    """Modules of that kind, with the shapes of their inputs."""
    for layer in all_layers():
        # Of one channel a gradient is one number, in bfloat16 mostly the rounding of large ones.
        if layer.op == op and (op != "split" or layer.inputs > 4):
            for size in (1, 2, 3, 9, 32):
                shape = (3, layer.inputs, size, size)[: 2 if op == "linear" else 4]
                # Batch norm is a kind of its own: after it a convolution's gradient is a
                # difference of nearly the same numbers.
                yield _module(layer, folded=True), shape, layer
                if layer.op == "conv" and layer.norm and size > 2:
                    yield nn.BatchNorm2d(layer.inputs), shape, "norm"


@pytest.mark.parametrize("op", sorted({layer.op for layer in all_layers()}))
def test_every_layer_in_every_mode(op: str) -> None:
    generator = torch.Generator().manual_seed(1)
    for module, shape, what in modules(op):
        agree(module, torch.rand(shape, generator=generator), what)


@settings(max_examples=150)
@given(
    st.sampled_from((1, 3, 5, 7, 11)),
    st.integers(1, 4),
    st.integers(1, 3),
    st.tuples(st.integers(1, 14), st.integers(1, 14)),
    st.sampled_from(((1, 1, 1), (4, 12, 1), (6, 6, 6), (8, 12, 4))),
)
def test_a_convolution_is_torch_s(
    kernel: int, stride: int, dilation: int, image: tuple[int, int], channels: tuple[int, int, int]
) -> None:
    inputs, outputs, groups = channels
    padding = kernel // 2 * dilation
    plain = nn.Conv2d(inputs, outputs, kernel, stride, padding, dilation, groups).double()
    ours = copy.deepcopy(plain)
    assert list(with_sound_convolutions(ours).state_dict()) == list(plain.state_dict())
    assert type(ours) is Convolution
    images_NCHW = torch.rand(2, inputs, *image, dtype=torch.float64)
    outer = torch.rand_like(plain(images_NCHW))
    mode = ComputeMode(layout="contiguous")
    found = gradients(ours, images_NCHW, outer, mode)
    for got, right in zip(found, gradients(plain, images_NCHW, outer, mode), strict=True):
        torch.testing.assert_close(got, right)


def test_a_network_from_elsewhere_has_such_convolutions() -> None:
    network = make_network("resnet18", classes=10, channels=3, seed=0).eval()
    assert not any(type(part) is nn.Conv2d for part in network.modules())
    agree(network, torch.rand(4, 3, 8, 8), "its last layers see one pixel")


def trained(space: str, size: int, count: int) -> None:
    """Train random students in a process of their own, which must not crash."""
    program = Path(__file__).with_name("students.py")
    done = subprocess.run(
        [sys.executable, str(program), space, str(size), str(count)],
        env=environment() | {"MALLOC_CHECK_": "3", "MALLOC_PERTURB_": "128"},
        capture_output=True,
        text=True,
        check=False,
    )
    told = f"exit status {done.returncode}\n{done.stdout}\n{done.stderr}"
    assert done.returncode == 0, told
    assert done.stdout.endswith("done\n"), told


@pytest.mark.parametrize(("space", "size"), [("plain", 256), ("mixed", 256), ("group", 64)])
def test_random_students_end_no_process(space: str, size: int) -> None:
    trained(space, size, 3)


@pytest.mark.slow
@pytest.mark.parametrize("size", [64, 384])
@pytest.mark.parametrize("space", spaces.FAMILIES)
def test_many_random_students_end_no_process(space: str, size: int) -> None:
    if space == "pyramid" and size > 64:
        pytest.skip("late halvings of large images take many minutes")
    trained(space, size, 6 if size == 64 and space != "pyramid" else 3)
