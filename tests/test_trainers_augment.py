from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import stats
from torchvision.transforms.v2 import functional as vision
from views import mixed_views, views

from space.errors import InputError
from space.schema import read
from trainers.data.augment import (
    BRIGHTNESS,
    CONTRAST,
    FLIP,
    ROTATION,
    SATURATION,
)
from trainers.data.mixing import area, mixed, mixing
from trainers.data.random import mix, order, uniform, uniforms, words
from trainers.policies import POLICIES, Augment

EVERYTHING = replace(POLICIES["standard"], shift=0.1, mixup=0.4)
ALL_MIXED = replace(EVERYTHING, cutmix=1.0, mix_probability=0.8)
COUNT = 24
PINNED = [[2486773172, 3868381556], [896017630, 1973591581], [1790432834, 433803070]]


def noise(count: int = COUNT, channels: int = 3, size: int = 16) -> torch.Tensor:
    generator = np.random.default_rng(0)
    shape = (count, channels, size, size)
    return torch.from_numpy(generator.integers(0, 256, shape, dtype=np.uint8))


def view(
    images_NCHW: torch.Tensor, augment: Augment, seed: int = 0, epoch: int = 0
) -> torch.Tensor:
    index_N = torch.arange(len(images_NCHW))
    return views(images_NCHW, index_N, seed=seed, epoch=epoch, augment=augment)


def signed(lane: int, count: int) -> torch.Tensor:
    return uniform(0, 0, torch.arange(count), lane) * 2 - 1


# --- the hash


def reference_mix(word: int) -> int:
    """lowbias32 as its author prints it, in unsigned 32-bit arithmetic."""
    word ^= word >> 16
    word = word * 0x7FEB352D % 2**32
    word ^= word >> 15
    word = word * 0x846CA68B % 2**32
    return word ^ (word >> 16)


@given(st.integers(0, 2**32 - 1))
def test_mix_is_lowbias32(word: int) -> None:
    assert mix(word) == mix(torch.tensor([word])).item() == reference_mix(word)


@pytest.mark.parametrize("word", [0, 1, 2**31 - 1, 2**31, 2**32 - 1])
def test_mix_at_the_edges(word: int) -> None:
    assert mix(torch.tensor([word])).item() == reference_mix(word)


def test_uniforms_are_uniform() -> None:
    draw = uniforms(0, 0, torch.arange(100_000), range(4)).double()
    assert draw.min() >= 0
    assert draw.max() < 1
    assert (draw.mean(0) - 0.5).abs().max() < 4 / np.sqrt(12 * 100_000)
    assert (draw.var(0) - 1 / 12).abs().max() < 0.001
    for bits in (0, 8, 16, 24):  # every byte of the word
        byte = (words(0, 0, torch.arange(100_000), range(1))[:, 0] >> bits) & 255
        assert is_flat(torch.bincount(byte, minlength=256))


def is_flat(observed: torch.Tensor) -> bool:
    return bool(1e-4 < stats.chisquare(observed.numpy()).pvalue < 1 - 1e-4)


@pytest.mark.parametrize(
    ("seed", "epoch", "lane", "step"),
    [(1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1), (1, -1, 0, 0), (0, 1, -1, 0)],
)
def test_neighbouring_keys_are_independent(seed: int, epoch: int, lane: int, step: int) -> None:
    index_N = torch.arange(50_000)
    first = uniform(5, 7, index_N, 3)
    second = uniform(5 + seed, 7 + epoch, index_N + step, 3 + lane)
    assert abs(np.corrcoef(first, second)[0, 1]) < 4 / np.sqrt(50_000)
    cells = (first * 16).long() * 16 + (second * 16).long()
    assert is_flat(torch.bincount(cells, minlength=256))


def test_no_lane_is_another_shifted() -> None:
    lanes_NL = words(0, 0, torch.arange(5000), range(20))
    assert len(lanes_NL.unique()) > 0.9999 * lanes_NL.numel()


def test_seeds_beyond_32_bits_differ() -> None:
    index_N = torch.arange(100)
    draws = [uniform(seed, 0, index_N, 0) for seed in (0, 1, 2**32, 2**33, -1)]
    for first, second in pairwise(draws):
        assert (first != second).all()


def test_draws_stay_what_they_were() -> None:
    """Kept teacher logits and half-trained students depend on these bits."""
    assert words(1, 2, torch.tensor([0, 1, 1000]), range(2)).tolist() == PINNED


def test_order_is_a_permutation_of_its_own_each_epoch() -> None:
    first, again, second = (order(1000, seed=3, epoch=epoch) for epoch in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, second)
    assert torch.equal(first.sort().values, torch.arange(1000))
    assert abs(np.corrcoef(first, torch.arange(1000))[0, 1]) < 0.12
    assert order(0, seed=0, epoch=0).tolist() == []


# --- purity


AUGMENTS = st.builds(
    Augment,
    scale_min=st.floats(0.05, 1),
    ratio_max=st.floats(1, 3),
    shift=st.floats(0, 0.5),
    flip=st.floats(0, 1),
    rotation=st.floats(0, 180),
    brightness=st.floats(0, 1),
    contrast=st.floats(0, 1),
    saturation=st.floats(0, 1),
    mixup=st.sampled_from([0.0, 0.2, 1.0]),
    cutmix=st.sampled_from([0.0, 0.5, 1.0]),
    mix_probability=st.sampled_from([0.0, 0.6, 1.0]),
    padding=st.sampled_from(["reflection", "border", "zeros"]),
)


@settings(max_examples=60, deadline=None)
@given(
    augment=AUGMENTS,
    batch=st.lists(st.integers(0, COUNT - 1), min_size=1, max_size=9),
    channels=st.sampled_from([1, 3]),
    size=st.sampled_from([5, 8, 16]),
    seed=st.integers(0, 2**40),
    epoch=st.integers(0, 1000),
)
def test_a_view_hangs_on_nothing_but_its_key(
    augment: Augment, batch: list[int], channels: int, size: int, seed: int, epoch: int
) -> None:
    augment.check()
    images_NCHW = noise(COUNT, channels, size)
    key: dict[str, Any] = {"seed": seed, "epoch": epoch, "augment": augment}
    all_views = mixed_views(images_NCHW, torch.arange(COUNT), **key)
    some_views = mixed_views(images_NCHW, torch.tensor(batch), **key)
    for whole, part in zip(all_views, some_views, strict=True):
        assert torch.equal(whole[batch], part)
    assert all_views[0].min() >= 0
    assert all_views[0].max() <= 1


def smooth(size: int) -> torch.Tensor:
    """Photographs of waves of a few colours, uint8, each pixel the mean over its area."""
    fine, factor = 512, 512 // size
    at_S = (torch.arange(fine) + 0.5) / fine * 2 * np.pi
    wave_N11 = torch.arange(1, COUNT + 1)[:, None, None]
    phase_C111 = torch.arange(3)[:, None, None, None]
    x_S, y_S1 = at_S[None, None, :], at_S[None, :, None]
    bright_CNHW = 0.5 + 0.4 * torch.sin(x_S + wave_N11 + phase_C111) * torch.cos(y_S1 - wave_N11)
    bright_NCHW = bright_CNHW.transpose(0, 1)
    return (torch.nn.functional.avg_pool2d(bright_NCHW, factor) * 255).round().to(torch.uint8)


EACH = {
    "crop": Augment(scale_min=0.3, ratio_max=2),
    "shift": Augment(shift=0.3),
    "flip": Augment(flip=0.5),
    "rotation": Augment(rotation=60),
    "brightness": Augment(brightness=0.5),
    "contrast": Augment(contrast=0.5),
    "saturation": Augment(saturation=0.5),
    "mixup": Augment(mixup=0.4),
    "cutmix": Augment(cutmix=1.0),
    "both": Augment(mixup=0.4, cutmix=1.0, mix_probability=0.7),
    **{padding: Augment(shift=0.3, padding=padding) for padding in ("border", "zeros")},
    **POLICIES,
}


@pytest.mark.parametrize("augment", EACH.values(), ids=EACH)
def test_views_are_the_same_crops_at_every_size(augment: Augment) -> None:
    """A view drawn at 128 pixels and reduced to 64 is the view drawn at 64, to a few grey levels
    where nothing lies outside the image, and another epoch's view is not."""
    index_N = torch.arange(COUNT)
    key: dict[str, Any] = {"seed": 3, "augment": augment}
    large_NCHW, small_NCHW = (
        mixed_views(smooth(size), index_N, epoch=2, **key)[0] for size in (128, 64)
    )
    reduced_NCHW = torch.nn.functional.avg_pool2d(large_NCHW, 2)
    apart_N = (reduced_NCHW - small_NCHW).abs().mean((1, 2, 3))
    assert apart_N.max() < 0.006
    other_NCHW, *_ = mixed_views(smooth(64), index_N, epoch=5, **key)
    if augment != POLICIES["none"]:
        assert (other_NCHW - small_NCHW).abs().mean() > 0.02


@pytest.mark.parametrize("threads", [1, 2])
def test_views_do_not_hang_on_threads(threads: int) -> None:
    images_NCHW = noise(64, 3, 64)
    expected = view(images_NCHW, EVERYTHING)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        assert torch.equal(view(images_NCHW, EVERYTHING), expected)
        assert torch.equal(view(images_NCHW[:1], EVERYTHING), expected[:1])
    finally:
        torch.set_num_threads(before)


def test_torch_generator_is_left_alone() -> None:
    before = torch.get_rng_state()
    mixed_views(noise(), torch.arange(COUNT), seed=0, epoch=0, augment=ALL_MIXED)
    assert torch.equal(torch.get_rng_state(), before)


def test_each_image_and_each_epoch_has_its_own_draw() -> None:
    same_NCHW = noise(1).expand(COUNT, -1, -1, -1)
    first, second = (view(same_NCHW, POLICIES["standard"], epoch=epoch) for epoch in (0, 1))
    both = torch.cat([first, second]).flatten(1)
    distances = torch.cdist(both, both) + torch.eye(len(both)) * 9
    assert distances.min() > 0.1


@pytest.mark.gpu
def test_cpu_and_gpu_agree() -> None:
    images_NCHW, index_N = noise(64, 3, 64), torch.arange(64)
    key: dict[str, Any] = {"seed": 1, "epoch": 2, "augment": ALL_MIXED}
    expected = mixed_views(images_NCHW, index_N, **key)
    found = mixed_views(images_NCHW.cuda(), index_N.cuda(), **key)
    assert torch.equal(found[1].cpu(), expected[1])
    torch.testing.assert_close(found[2].cpu(), expected[2], rtol=0, atol=1e-6)
    torch.testing.assert_close(found[0].cpu(), expected[0], rtol=0, atol=1e-4)


# --- what views look like


@pytest.mark.parametrize("channels", [1, 3])
def test_nothing_on_is_the_image(channels: int) -> None:
    images_NCHW = noise(COUNT, channels)
    found = view(images_NCHW, POLICIES["none"])
    assert found.dtype == torch.float32
    assert torch.equal(found, images_NCHW / 255)


def test_flip_has_its_probability() -> None:
    images_NCHW = noise(1, 1, 4).expand(4000, -1, -1, -1)
    found = view(images_NCHW, Augment(flip=0.3))
    straight, mirrored = images_NCHW[0] / 255, images_NCHW[0].flip(-1) / 255
    is_mirrored = (found - mirrored).abs().amax((1, 2, 3)) < 1e-5
    is_straight = (found - straight).abs().amax((1, 2, 3)) < 1e-5
    assert (is_mirrored ^ is_straight).all()
    assert torch.equal(is_mirrored, uniform(0, 0, torch.arange(4000), FLIP) < 0.3)
    assert abs(is_mirrored.float().mean() - 0.3) < 4 * np.sqrt(0.21 / 4000)


def test_rotation_is_pillows() -> None:
    y, x = np.mgrid[:64, :64]
    smooth = 127 + 60 * np.sin(x / 7) + 60 * np.cos(y / 11 + x / 23)
    image = Image.fromarray(smooth.astype(np.uint8))
    images_NCHW = torch.from_numpy(np.array(image)).expand(8, 1, 64, 64)
    found = view(images_NCHW, Augment(rotation=40)) * 255
    inside = (x - 31.5) ** 2 + (y - 31.5) ** 2 < 30**2
    angles = (signed(ROTATION, 8) * 40).tolist()
    assert max(map(abs, angles)) > 20
    for angle, image_CHW in zip(angles, found, strict=True):
        expected = np.array(image.rotate(angle, Image.Resampling.BILINEAR), dtype=float)
        assert np.abs(image_CHW[0].numpy() - expected)[inside].max() < 2


def crop_boxes(augment: Augment, count: int) -> torch.Tensor:
    """Left, right, top, bottom of each view in its image, from 0 to 1: a ramp tells its place."""
    ramp = torch.arange(0, 256, 4, dtype=torch.uint8)
    across, down = ramp[None, :].expand(64, 64), ramp[:, None].expand(64, 64)
    images_NCHW = torch.stack([across, down, down]).expand(count, -1, -1, -1)
    found = (view(images_NCHW, augment) * 255 / 4 + 0.5) / 64
    across_NW, down_NH = found[:, 0, 32], found[:, 1, :, 32]
    edges = []
    for line in (across_NW, down_NH):
        step = (line[:, 48] - line[:, 16]) / 32
        middle = (line[:, 31] + line[:, 32]) / 2
        edges += [middle - 32 * step, middle + 32 * step]
    return torch.stack(edges)


def test_crops_lie_in_the_image_and_in_their_ranges() -> None:
    left, right, top, bottom = crop_boxes(Augment(scale_min=0.3, ratio_max=1.5), 2000)
    width, height = right - left, bottom - top
    assert min(left.min(), top.min()) > -1e-3
    assert max(right.max(), bottom.max()) < 1 + 1e-3
    area, ratio = width * height, torch.maximum(width / height, height / width)
    assert area.min() > 0.299
    assert area.max() < 1.001
    assert abs(area.mean() - 0.65) < 0.02
    assert 1.45 < ratio.max() < 1.501
    assert abs(torch.log(width / height).mean()) < 0.02
    assert abs(((left + right) / 2).mean() - 0.5) < 0.01
    assert (left < 0.02).any()
    assert (right > 0.98).any()


def test_shift_moves_by_its_share_at_most() -> None:
    spot = torch.zeros(500, 1, 21, 21, dtype=torch.uint8)
    spot[:, :, 10, 10] = 255
    found = view(spot, Augment(shift=0.2, padding="zeros"))[:, 0]
    places = torch.arange(21.0)
    mass = found.sum((1, 2))
    for axis in (1, 2):
        center = (found.sum(3 - axis) * places).sum(1) / mass
        assert (center - 10).abs().max() <= 0.2 * 21 + 1e-3
        assert (center - 10).min() < -3.5
        assert (center - 10).max() > 3.5


@pytest.mark.parametrize("padding", ["reflection", "border", "zeros"])
def test_padding(padding: str) -> None:
    white = torch.full((50, 1, 8, 8), 255, dtype=torch.uint8)
    found = view(white, Augment(shift=0.5, rotation=45, padding=padding))
    assert (found.min() < 0.1) == (padding == "zeros")


@pytest.mark.parametrize(
    ("setting", "lane", "reference"),
    [
        ("brightness", BRIGHTNESS, vision.adjust_brightness),
        ("contrast", CONTRAST, vision.adjust_contrast),
        ("saturation", SATURATION, vision.adjust_saturation),
    ],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_colors_are_torchvisions(
    setting: str, lane: int, reference: Callable[..., torch.Tensor], channels: int
) -> None:
    images_NCHW = noise(COUNT, channels)
    strong: dict[str, Any] = {setting: 0.8}
    found = view(images_NCHW, Augment(**strong))
    factors = (1 + signed(lane, COUNT) * 0.8).tolist()
    for factor, image_CHW, found_CHW in zip(factors, images_NCHW, found, strict=True):
        expected = reference(image_CHW / 255, factor)
        torch.testing.assert_close(found_CHW, expected, rtol=0, atol=1e-3)


def test_color_changes_stack() -> None:
    images_NCHW = (noise(COUNT) // 4) + 96  # mid grey: nothing is clamped
    found = view(images_NCHW, Augment(brightness=0.1, contrast=0.2, saturation=0.3))
    lanes = (BRIGHTNESS, CONTRAST, SATURATION)
    sizes = (0.1, 0.2, 0.3)
    factors = [(1 + signed(n, COUNT) * s).tolist() for n, s in zip(lanes, sizes, strict=True)]
    for index in range(COUNT):
        image = vision.adjust_brightness(images_NCHW[index] / 255, factors[0][index])
        image = vision.adjust_contrast(image, factors[1][index])
        image = vision.adjust_saturation(image, factors[2][index])
        torch.testing.assert_close(found[index], image, rtol=0, atol=1e-3)


# --- mixup


@pytest.mark.parametrize("alpha", [0.1, 0.4, 1.0, 5.0])
def test_mixup_weights_follow_beta(alpha: float) -> None:
    index_N = torch.arange(20_000)
    partner_N, weight_N, _ = mixing(index_N, 20_000, seed=0, epoch=0, augment=Augment(mixup=alpha))
    for bound in np.linspace(0.01, 0.99, 50):  # not up to 1, which float32 rounds many weights to
        share = (weight_N < bound).double().mean()
        assert abs(share - stats.beta.cdf(bound, alpha, alpha)) < 0.015
    assert partner_N.min() >= 0
    assert partner_N.max() < 20_000
    assert is_flat(torch.bincount(partner_N // 200, minlength=100))
    assert abs(np.corrcoef(partner_N, weight_N)[0, 1]) < 0.03


def test_a_partner_is_mixed_in_as_its_own_view() -> None:
    images_NCHW, index_N = noise(), torch.tensor([3, 1, 7])
    key = {"seed": 4, "epoch": 5}
    found, partner_N, weight_N = mixed_views(images_NCHW, index_N, augment=EVERYTHING, **key)
    own = views(images_NCHW[index_N], index_N, augment=EVERYTHING, **key)
    other = views(images_NCHW[partner_N], partner_N, augment=EVERYTHING, **key)
    share = weight_N[:, None, None, None]
    torch.testing.assert_close(found, share * own + (1 - share) * other)
    assert weight_N.dtype == torch.float32


def test_without_mixup_every_image_is_its_own_partner() -> None:
    images_NCHW, index_N = noise(), torch.tensor([3, 1, 7])
    key: dict[str, Any] = {"seed": 4, "epoch": 5, "augment": POLICIES["standard"]}
    found, partner_N, weight_N = mixed_views(images_NCHW, index_N, **key)
    assert torch.equal(found, views(images_NCHW[index_N], index_N, **key))
    assert torch.equal(partner_N, index_N)
    assert weight_N.tolist() == [1, 1, 1]


@given(mixup=st.sampled_from([0.2, 1.0]), seed=st.integers(0, 2**40), epoch=st.integers(0, 99))
def test_mixup_alone_is_what_it_was(mixup: float, seed: int, epoch: int) -> None:
    """To the bit: banks and half-trained students of version 0.1 depend on it."""
    index_N = torch.arange(COUNT)
    partner_N, weight_N, box_N4 = mixing(
        index_N, COUNT, seed=seed, epoch=epoch, augment=Augment(mixup=mixup)
    )
    assert box_N4.shape == (COUNT, 0)
    view_PCHW = noise(2 * COUNT) / 255
    own_NCHW, other_NCHW = view_PCHW.chunk(2)
    weight_N111 = weight_N[:, None, None, None]
    before_NCHW = own_NCHW * weight_N111 + other_NCHW * (1 - weight_N111)
    assert torch.equal(mixed(view_PCHW, weight_N, box_N4), before_NCHW)
    assert partner_N.max() < COUNT


def test_mixups_draws_stay_what_they_were() -> None:
    partner_N, weight_N, _ = mixing(torch.arange(8), 8, seed=3, epoch=2, augment=Augment(mixup=0.4))
    assert partner_N.tolist() == [6, 6, 2, 6, 1, 0, 2, 4]
    assert [weight.hex() for weight in weight_N.tolist()[:3]] == [
        "0x1.0863ac0000000p-1",
        "0x1.5a64e80000000p-3",
        "0x1.ab13520000000p-1",
    ]


# --- CutMix

MANY = 20_000


def boxes(augment: Augment, count: int = MANY) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights and boxes of that many images."""
    _, weight_N, box_N4 = mixing(torch.arange(count), count, seed=0, epoch=0, augment=augment)
    return weight_N, box_N4


def painted(box_N4: torch.Tensor, weight_N: torch.Tensor, size: int) -> torch.Tensor:
    """What is left of white images where black ones are pasted, N x H x W."""
    white_NCHW = torch.ones(len(box_N4), 1, size, size)
    view_PCHW = torch.cat([white_NCHW, torch.zeros_like(white_NCHW)])
    return mixed(view_PCHW, weight_N, box_N4)[:, 0]


@settings(deadline=None)
@given(
    alpha=st.floats(0.1, 10),
    size=st.sampled_from([1, 5, 8, 48, 64]),
    seed=st.integers(0, 2**40),
    epoch=st.integers(0, 1000),
)
def test_a_label_weighs_what_is_left_of_its_image(
    alpha: float, size: int, seed: int, epoch: int
) -> None:
    """Of its pixels, at every size of the image."""
    _, weight_N, box_N4 = mixing(
        torch.arange(COUNT), COUNT, seed=seed, epoch=epoch, augment=Augment(cutmix=alpha)
    )
    assert box_N4.min() >= 0
    assert box_N4.max() <= 1
    assert (box_N4[:, 2:] >= box_N4[:, :2]).all()
    assert torch.equal(weight_N, 1 - area(box_N4))
    left_NHW = painted(box_N4, weight_N, size)
    assert left_NHW.min() >= -1e-5
    assert left_NHW.max() <= 1
    torch.testing.assert_close(left_NHW.mean((1, 2)), weight_N, rtol=0, atol=1e-5)


@pytest.mark.parametrize("alpha", [0.3, 1.0, 4.0])
def test_boxes_are_drawn_as_in_the_paper(alpha: float) -> None:
    """Side sqrt(1 - lambda), centre uniform, cut off at the image's edge."""
    weight_N, box_N4 = boxes(Augment(cutmix=alpha))
    left_N, top_N, right_N, bottom_N = box_N4.double().unbind(1)
    inside = (left_N > 0) & (right_N < 1) & (top_N > 0) & (bottom_N < 1)
    assert 0.05 < inside.double().mean() < 0.7
    torch.testing.assert_close((right_N - left_N)[inside], (bottom_N - top_N)[inside])
    rng = np.random.default_rng(1)
    side_N = np.sqrt(1 - rng.beta(alpha, alpha, MANY))
    edges = [
        np.clip(center + sign * side_N / 2, 0, 1)
        for center in (rng.random(MANY), rng.random(MANY))
        for sign in (-1, 1)
    ]
    expected_N = 1 - (edges[1] - edges[0]) * (edges[3] - edges[2])
    assert stats.ks_2samp(weight_N.numpy(), expected_N).pvalue > 1e-3
    assert stats.ks_2samp(left_N.numpy(), edges[0]).pvalue > 1e-3
    assert stats.ks_2samp(bottom_N.numpy(), edges[3]).pvalue > 1e-3
    assert abs(np.corrcoef(left_N, top_N)[0, 1] - np.corrcoef(edges[0], edges[2])[0, 1]) < 0.05


def test_a_box_shows_the_partner_and_the_rest_the_image() -> None:
    images_NCHW, index_N = noise(), torch.arange(COUNT)
    augment = replace(POLICIES["standard"], cutmix=1.0)
    key = {"seed": 4, "epoch": 5}
    found, partner_N, _ = mixed_views(images_NCHW, index_N, augment=augment, **key)
    own = views(images_NCHW, index_N, augment=augment, **key)
    other = views(images_NCHW[partner_N], partner_N, augment=augment, **key)
    *_, box_N4 = mixing(index_N, COUNT, augment=augment, **key)
    edge_S = torch.arange(17) / 16
    low_S, high_S = edge_S[:-1], edge_S[1:]
    left, top, right, bottom = (edge_N[:, None] for edge_N in box_N4.unbind(1))
    within_NHW = ((top <= low_S) & (bottom >= high_S))[:, :, None] & (
        (left <= low_S) & (right >= high_S)
    )[:, None]
    without_NHW = ((bottom <= low_S) | (top >= high_S))[:, :, None] | (
        (right <= low_S) | (left >= high_S)
    )[:, None]
    for where_NHW, expected in ((within_NHW, other), (without_NHW, own)):
        assert where_NHW.any()
        mask = where_NHW[:, None].expand_as(found)
        assert torch.equal(found[mask], expected[mask])


@pytest.mark.parametrize("chance", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("mixup", [0.0, 0.4])
def test_as_many_images_are_mixed_as_was_asked_for(chance: float, mixup: float) -> None:
    augment = Augment(mixup=mixup, cutmix=1.0, mix_probability=chance)
    weight_N, box_N4 = boxes(augment)
    cut_N, mixed_N = area(box_N4) > 0, weight_N < 1
    assert (mixed_N | ~cut_N).all()
    assert abs(mixed_N.double().mean() - chance) < 0.02  # some weights round to 1
    half = chance / 2 if mixup else chance
    assert abs(cut_N.double().mean() - half) < 0.02
    # An image that is mixed is mixed as it is where all are.
    every_N, every_N4 = boxes(replace(augment, mix_probability=1.0))
    assert torch.equal(weight_N[mixed_N], every_N[mixed_N])
    assert torch.equal(box_N4[mixed_N], every_N4[mixed_N])


def test_images_that_are_not_mixed_are_their_own_views() -> None:
    images_NCHW, index_N = noise(), torch.arange(COUNT)
    augment = replace(ALL_MIXED, mix_probability=0.5)
    found, _, weight_N = mixed_views(images_NCHW, index_N, seed=4, epoch=5, augment=augment)
    alone_N = weight_N == 1
    assert 0 < alone_N.sum() < COUNT
    own = views(images_NCHW, index_N, seed=4, epoch=5, augment=augment)
    assert torch.equal(found[alone_N], own[alone_N])


# --- settings


@pytest.mark.parametrize("name", POLICIES)
def test_policies_are_valid_and_come_back_from_json_data(name: str) -> None:
    POLICIES[name].check()
    assert read(Augment, POLICIES[name].to_dict(), "augment") == POLICIES[name]


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("scale_min", 0.0),
        ("scale_min", 1.1),
        ("ratio_max", 0.5),
        ("shift", -0.1),
        ("flip", 2.0),
        ("rotation", 181.0),
        ("brightness", float("nan")),
        ("contrast", 1.5),
        ("saturation", -1.0),
        ("mixup", -0.2),
        ("cutmix", -0.2),
        ("cutmix", float("nan")),
        ("mix_probability", 1.1),
        ("padding", "mirror"),
    ],
)
def test_settings_outside_their_rules(setting: str, value: Any) -> None:
    with pytest.raises(InputError, match=f"{setting} must be .* but got") as error:
        Augment(**{setting: value}).check()
    assert "\n" not in str(error.value)
