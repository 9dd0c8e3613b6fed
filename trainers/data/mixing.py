"""Two images in one view: mixup blends them, CutMix pastes a box of one into the other.

Whom an image is mixed with, by which of the two and how much, is a pure function of (seed, epoch,
image index), as its view is (`trainers.data.augment`).

Shape suffixes: N images, P photographs (the N images, then their N partners), C channels, H x W
pixels, S pixels of a side, 4 edges of a box: left, top, right, bottom.
"""

from functools import lru_cache
from typing import NamedTuple

import torch
from scipy.special import betaincinv

from trainers.data.random import uniform, words
from trainers.policies import Augment

# Lanes after those of the views; a new one takes the next number.
PARTNER, WEIGHT, CENTER_X, CENTER_Y, CHANCE, KIND = range(16, 22)
TABLE_STEPS = 4096  # of the inverse distribution of a weight


class Mixing(NamedTuple):
    """With whom images are mixed, and how."""

    partner_N: torch.Tensor  # int64, places in the data set
    weight_N: torch.Tensor  # float32 in [0, 1], of the image's own label; 1: it is not mixed
    box_N4: torch.Tensor  # float32, shares of the side; empty where nothing is cut; N x 0: never


def mixing(index_N: torch.Tensor, count: int, *, seed: int, epoch: int, augment: Augment) -> Mixing:
    """The mixing of the images at places `index_N` (int64) of a data set of `count` images.

    mixup (Zhang et al., ICLR 2018, https://arxiv.org/abs/1710.09412) and CutMix (Yun et al., ICCV
    2019, https://arxiv.org/abs/1905.04899), with partners from the whole data set instead of the
    batch, so that they are the image's own too. Where both are on, each has half of the mixed
    images. A box has the area 1 - lambda, lambda from Beta(cutmix, cutmix), and the image's shape;
    its centre is uniform, what lies outside is cut off, and the label's weight is the share of the
    image that is left.
    """
    word_N = words(seed, epoch, index_N, range(PARTNER, PARTNER + 1))[:, 0]
    partner_N = (word_N * count) >> 32
    place_N = uniform(seed, epoch, index_N, WEIGHT).to(torch.float64) * TABLE_STEPS
    weight_N = torch.ones_like(place_N, dtype=torch.float32)
    if augment.mixup:
        weight_N = _beta(place_N, augment.mixup).to(torch.float32)
    box_N4 = weight_N.new_empty(len(index_N), 0)
    if augment.cutmix:
        x_N, y_N, kind_N = (
            uniform(seed, epoch, index_N, lane) for lane in (CENTER_X, CENTER_Y, KIND)
        )
        box_N4 = _box(1 - _beta(place_N, augment.cutmix), x_N, y_N)
        cut_N = kind_N < (0.5 if augment.mixup else 1)
        weight_N = torch.where(cut_N, 1 - area(box_N4), weight_N)
        box_N4 = torch.where(cut_N[:, None], box_N4, 0)
    if augment.mix_probability < 1:
        mixed_N = uniform(seed, epoch, index_N, CHANCE) < augment.mix_probability
        weight_N = torch.where(mixed_N, weight_N, 1)
        box_N4 = torch.where(mixed_N[:, None], box_N4, 0)
    return Mixing(partner_N, weight_N, box_N4)


def mixed(view_PCHW: torch.Tensor, weight_N: torch.Tensor, box_N4: torch.Tensor) -> torch.Tensor:
    """Views of N images and, after them, of their partners -> their mixtures, NCHW.

    Without a box a view is `weight * own + (1 - weight) * partner's`, as its label is. Within a
    box it is the partner's, outside of it its own; a pixel that a box covers in part is so in
    part: however many pixels there are, the box is the same share of them.
    """
    own_NCHW, other_NCHW = view_PCHW.chunk(2)
    share_N1HW = weight_N[:, None, None, None]
    if box_N4.shape[1]:
        left_N, top_N, right_N, bottom_N = box_N4.unbind(1)
        height, width = view_PCHW.shape[2:]
        across_NW, down_NH = _covered(left_N, right_N, width), _covered(top_N, bottom_N, height)
        outside_NHW = 1 - down_NH[:, :, None] * across_NW[:, None, :]
        has_box_N = (right_N > left_N) & (bottom_N > top_N)
        share_N1HW = torch.where(has_box_N[:, None, None, None], outside_NHW[:, None], share_N1HW)
    return own_NCHW * share_N1HW + other_NCHW * (1 - share_N1HW)


def area(box_N4: torch.Tensor) -> torch.Tensor:
    """Of boxes, as shares of the image, float32 (N,)."""
    left_N, top_N, right_N, bottom_N = box_N4.to(torch.float64).unbind(1)
    return ((right_N - left_N) * (bottom_N - top_N)).to(torch.float32)


def _box(area_N: torch.Tensor, x_N: torch.Tensor, y_N: torch.Tensor) -> torch.Tensor:
    half_N = area_N.sqrt() / 2
    edges = [x_N - half_N, y_N - half_N, x_N + half_N, y_N + half_N]
    return torch.stack(edges, 1).clamp(0, 1).to(torch.float32)


def _covered(low_N: torch.Tensor, high_N: torch.Tensor, size: int) -> torch.Tensor:
    """How much of each of a line's pixels lies between two edges: float32 in [0, 1], N x S."""
    begin_S = torch.arange(size, dtype=torch.float32, device=low_N.device)
    low_N1, high_N1 = low_N[:, None] * size, high_N[:, None] * size
    return (torch.minimum(high_N1, begin_S + 1) - torch.maximum(low_N1, begin_S)).clamp(min=0)


def _beta(place_N: torch.Tensor, alpha: float) -> torch.Tensor:
    """Draws from Beta(alpha, alpha), float64 (N,), of places in the table of its quantiles."""
    table = _beta_quantiles(alpha).to(place_N.device)
    below_N = place_N.floor()
    low_N, high_N = table[below_N.long()], table[below_N.long() + 1]
    return low_N + (high_N - low_N) * (place_N - below_N)


@lru_cache(maxsize=8)
def _beta_quantiles(alpha: float) -> torch.Tensor:
    """Quantiles 0, 1/4096, ..., 1 of Beta(alpha, alpha), float64."""
    share = torch.linspace(0, 1, TABLE_STEPS + 1, dtype=torch.float64)
    return torch.from_numpy(betaincinv(alpha, alpha, share.numpy()))
