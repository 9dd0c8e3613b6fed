"""Counter == torch, and every kind of block runs."""

import itertools
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from counting import measured
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import BLOCKS, architectures, plain_card
from torch import Tensor, nn

from space import count
from space.architecture import Architecture, Stage
from space.build import build
from space.errors import InputError
from space.file_format import FORMATS, layer_weights, weights
from space.layers import Layer
from space.modules import Affine, Cheap, ConvNorm, Gate, Shuffle, Split
from space.spaces import reference


@settings(max_examples=200)
@given(architectures(), st.integers(1, 17))
def test_counter_is_torch(architecture: Architecture, size: int) -> None:
    student = build(architecture, seed=0)
    items = list(count.layer_costs(architecture, size))
    assert count.parameters(architecture) == sum(p.numel() for p in student.parameters())
    assert count.buffers(architecture) == sum(
        b.numel() for name, b in student.named_buffers() if "num_batches" not in name
    )
    macs, shapes = measured(student, architecture.channels, size)
    assert count.macs(architecture, size) == macs
    assert shapes == Counter(
        str((weight.shape[0], item.output_size, item.output_size))
        for item in items
        for weight in layer_weights(item.layer) * item.layer.times
        if len(weight.shape) == 4
    )
    cost = count.cost(architecture, plain_card(architecture, size))
    assert cost[:3] == (count.parameters(architecture), count.buffers(architecture), macs)
    assert cost.activation_peak == count.activation_peak(architecture, size)
    assert set(cost.stored) == set(FORMATS)


@settings(max_examples=100)
@given(architectures())
def test_weighted_follows_the_file(architecture: Architecture) -> None:
    for folded in (False, True):
        student = build(architecture, folded=folded, seed=0)
        found = list(student.weighted())
        assert [weight for weight, _, _ in found] == list(weights(architecture))
        for weight, module, norms in found:
            assert tuple(module.weight.shape) == weight.shape
            shared = weight.applications > 1
            most = weight.applications if shared or not folded else 0
            assert len(norms) == most or not (norms or shared)
            assert not folded or (module.bias is None) == shared
        of_torch = {type(m) for _, _, norms in found for m in norms}
        assert of_torch <= {Affine if folded else nn.BatchNorm2d}
        seen = sum(isinstance(m, nn.BatchNorm2d | Affine) for m in student.modules())
        assert seen == sum(len(norms) for _, _, norms in found)


VARIANTS = list(
    itertools.product(BLOCKS, (0, 4), ((1, "stride"), (2, "stride"), (2, "maxpool")), (0, 1))
)


@pytest.mark.parametrize(("block", "se", "down", "residual"), VARIANTS)
def test_every_block_trains_and_predicts(
    block: str, se: int, down: tuple[int, str], residual: int
) -> None:
    stage = Stage(
        width=16,
        block=block,
        depth=2,
        stride=down[0],
        downsample=down[1],
        groups=4,
        shuffle=True,
        expansion=2,
        se=se,
        residual=bool(residual),
    )
    architecture = Architecture(stem=Stage(width=8), stages=(stage,), classes=5)
    student = build(architecture, seed=1)
    for size in (1, 7, 8):
        images_NCHW = torch.randn(4, 3, size, size, generator=torch.Generator().manual_seed(2))
        logits_NK = student.train()(images_NCHW)
        assert logits_NK.shape == (4, 5)
        logits_NK.square().sum().backward()
        assert student.eval()(images_NCHW).isfinite().all()
    gradients = [p.grad for p in student.parameters()]
    assert all(g is not None and g.isfinite().all() for g in gradients)


def test_shuffle_is_the_permutation_of_the_paper() -> None:
    images_NCHW = torch.randn(2, 12, 3, 5)
    for groups in (1, 2, 3, 4, 6, 12):
        order = np.arange(12).reshape(groups, 12 // groups).T.reshape(-1)
        shuffled = Shuffle(groups)(images_NCHW)
        assert sorted(order) == list(range(12))
        assert np.array_equal(shuffled.numpy(), images_NCHW.numpy()[:, order])


def test_shortcut_adds_the_blocks_input() -> None:
    stage = Stage(width=8, depth=2, residual=True)
    with_skip = Architecture(stem=Stage(width=8), stages=(stage,), classes=3)
    without = replace(with_skip, stages=(replace(stage, residual=False),))
    one, two = build(with_skip, seed=0).eval(), build(without, seed=0).eval()
    images_NCHW = torch.randn(2, 3, 6, 6)
    inputs = one.blocks[1](one.blocks[0](images_NCHW))
    torch.testing.assert_close(one.blocks[2](inputs), two.blocks[2](inputs) + inputs)


def test_seed_fixes_the_weights_and_leaves_the_global_generator() -> None:
    architecture = reference("report-student", classes=11)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one = build(architecture, seed=3).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(6)
    two, three = build(architecture, seed=3).state_dict(), build(architecture, seed=4).state_dict()
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert not all(torch.equal(one[key], three[key]) for key in one)


def test_what_cannot_be_built_is_refused() -> None:
    stage = Stage(width=9, block="group", groups=2)
    with pytest.raises(InputError, match="groups must divide"):
        build(Architecture(stem=Stage(width=8), stages=(stage,), classes=3))


def test_activation_peak_by_hand() -> None:
    stage = Stage(width=8, depth=2, residual=True)
    architecture = Architecture(stem=Stage(width=8), stages=(stage,), classes=3)
    # Stage 1's second block: its only convolution's input is what the shortcut waits for.
    assert count.activation_peak(architecture, 4) == 2 * 8 * 16
    inverted = replace(stage, block="inverted", expansion=4)
    # Its depthwise convolution reads and writes 32 channels while 8 wait.
    architecture = replace(architecture, stages=(inverted,))
    assert count.activation_peak(architecture, 4) == (32 + 32 + 8) * 16


def with_weights(part: nn.Module, weights: Tensor) -> None:
    """Give a convolution without a norm those weights, and no bias."""
    assert isinstance(part, ConvNorm)
    part.conv.weight.data = weights.expand_as(part.conv.weight).clone()
    assert part.conv.bias is not None
    nn.init.zeros_(part.conv.bias)


def test_split_passes_a_quarter_and_convolves_three() -> None:
    split = Split(Layer("", "split", 8, 8, kernel=5, stride=2, norm=True), folded=True)
    for part in split.parts:
        with_weights(part, torch.ones(()))
    seen = split(torch.ones(1, 8, 9, 9))[0, ::2]
    assert seen.shape == (4, 5, 5)
    assert seen[:, 2, 2].tolist() == [1, 9, 25, 25]  # weights that meet a pixel in the middle
    assert seen[:, 0, 0].tolist() == [1, 4, 9, 9]  # and in a corner
    image = torch.zeros(1, 8, 9, 9)
    image[0, 7, 4, 8] = 1  # seen from up to two steps of the dilation away
    assert split(image)[0, 7, 2].tolist() == [0, 0, 1, 1, 1]


def test_a_gate_multiplies_two_halves() -> None:
    gate = Gate(Layer("", "gate", 4, 2, activation="relu"))
    images = torch.tensor([2.0, 3.0, 5.0, -7.0]).reshape(1, 4, 1, 1)
    assert gate(images).flatten().tolist() == [10, 0]


def test_cheap_channels_follow_those_that_they_are_made_of() -> None:
    cheap = Cheap(Layer("", "cheap", 2, 4, kernel=1, groups=2, activation="relu"), folded=True)
    with_weights(cheap.made, torch.tensor([2.0, -3.0]).reshape(2, 1, 1, 1))
    images = torch.tensor([5.0, 7.0]).reshape(1, 2, 1, 1)
    assert cheap(images).flatten().tolist() == [5, 7, 10, 0]
