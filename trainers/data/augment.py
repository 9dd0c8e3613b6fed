"""Views: random crops, flips, rotations and colours, batched on the images' device.

A view is a pure function of (seed, epoch, image index): it depends neither on the batch that the
image is in nor on any generator's state. So a run resumes exactly, every student of a search sees
the same views, and a teacher's logits for them can be kept.

Shape suffixes: N images, C channels, H x W pixels, L lanes (independent draws of one image).
"""

from collections.abc import Iterator
from functools import lru_cache

import torch
from torch.nn.functional import grid_sample

from trainers.policies import Augment

GREY = (0.299, 0.587, 0.114)  # weights of red, green, blue (ITU-R BT.601), as Pillow's "L"
# One lane a draw: a new one takes the next number, so that old views stay what they were.
AREA, RATIO, CENTER_X, CENTER_Y, SHIFT_X, SHIFT_Y, FLIP, ROTATION = range(8)
BRIGHTNESS, CONTRAST, SATURATION = range(8, 11)
LANES = range(11)  # `trainers.data.mixing` has those from 16 on
# Of the pixels that a CPU works on at a time: temporaries of 1.5 MB stay in its cache, which is
# 2.7 times as fast as 64 photographs of 64 pixels at once. A GPU takes the whole batch.
CHUNK_VALUES = 32 * 3 * 64 * 64
MEAN_STEPS = 1 << 16  # fixed-point steps of a grey level that means are taken over


def drawn_views(images_NCHW: torch.Tensor, draw_NL: torch.Tensor, augment: Augment) -> torch.Tensor:
    """The images' views, before any are mixed.

    Cropped, flipped, then rotated about the crop's centre, in one bilinear sampling; a crop is
    never larger than the image, so nothing is made smaller and nothing needs antialiasing. Then
    brightness, contrast and saturation, and one clamp at the end.

    Args:
        images_NCHW: uint8, square, one or three channels.
        draw_NL: `trainers.data.random.uniforms` of seed, epoch, the images' indices and LANES, on
            the same device.

    Returns:
        float32 in [0, 1], NCHW; with every setting off exactly `images / 255`.
    """
    if images_NCHW.device.type != "cpu":
        return _views(images_NCHW, draw_NL, augment)
    count = max(1, CHUNK_VALUES // max(1, images_NCHW[:1].numel()))
    view_NCHW = torch.empty(images_NCHW.shape, dtype=torch.float32)
    pieces = (torch.split(tensor, count) for tensor in (view_NCHW, images_NCHW, draw_NL))
    for view, images, draw in zip(*pieces, strict=True):
        view.copy_(_views(images, draw, augment))
    return view_NCHW


def _views(images_NCHW: torch.Tensor, draw_NL: torch.Tensor, augment: Augment) -> torch.Tensor:
    view_NCHW = images_NCHW.to(torch.float32).div_(255)
    if not (augment.moves or augment.colors):
        return view_NCHW
    # In double precision, rounded once at the end: the same float32 on every device.
    draw_LN = draw_NL.to(torch.float64).T
    if augment.moves:
        grid_NHW2 = _grid(draw_LN, view_NCHW.shape[-1], augment)
        view_NCHW = grid_sample(
            view_NCHW, grid_NHW2, "bilinear", augment.padding, align_corners=False
        )
    if augment.colors:
        view_NCHW = _jitter(view_NCHW, draw_LN, augment)
    return view_NCHW.clamp_(0, 1)


def _grid(draw_LN: torch.Tensor, size: int, augment: Augment) -> torch.Tensor:
    """Where each pixel of a view comes from: NHW2, x before y, the image being [-1, 1].

    Sums and products of single elements only: a matrix product may round differently in another
    batch.
    """
    width_N, height_N = _crop_sides(draw_LN, augment)
    x_N = _signed(draw_LN[CENTER_X]) * (1 - width_N) + _signed(draw_LN[SHIFT_X]) * 2 * augment.shift
    y_N = (
        _signed(draw_LN[CENTER_Y]) * (1 - height_N) + _signed(draw_LN[SHIFT_Y]) * 2 * augment.shift
    )
    angle_N = torch.deg2rad(_signed(draw_LN[ROTATION]) * augment.rotation)
    cos_N, sin_N = angle_N.cos(), angle_N.sin()
    flipped_N = torch.where(draw_LN[FLIP] < augment.flip, -width_N, width_N)
    step_S = (torch.arange(size, dtype=torch.float32, device=draw_LN.device) * 2 + 1) / size - 1
    across_S, down_S = step_S[None, None, :], step_S[None, :, None]
    from_x = _cells(flipped_N * cos_N) * across_S + _cells(-flipped_N * sin_N) * down_S
    from_y = _cells(height_N * sin_N) * across_S + _cells(height_N * cos_N) * down_S
    return torch.stack([from_x + _cells(x_N), from_y + _cells(y_N)], dim=-1)


def _crop_sides(draw_LN: torch.Tensor, augment: Augment) -> tuple[torch.Tensor, torch.Tensor]:
    """Width and height of the crops, shares of the image's side.

    The area is uniform, the aspect log-uniform within what fits into the image at that area: so
    no draw is rejected, and none falls back to another distribution.
    """
    area_N = 1 - draw_LN[AREA] * (1 - augment.scale_min)
    limit_N = (-area_N.log()).clamp(max=_log(augment.ratio_max))
    aspect_N = (_signed(draw_LN[RATIO]) * limit_N).exp()
    return (area_N * aspect_N).sqrt(), (area_N / aspect_N).sqrt()


@lru_cache(maxsize=8)
def _log(ratio: float) -> float:
    """In float32, as everywhere; kept, because a CUDA graph cannot wait for a number."""
    return torch.tensor(ratio).log().item()


def _jitter(view_NCHW: torch.Tensor, draw_LN: torch.Tensor, augment: Augment) -> torch.Tensor:
    """Brightness b, contrast c about the mean grey m, saturation s about the grey g, in one step.

    s (c (b x - b m) + b m) + (1 - s) (c (b g - b m) + b m)
        = s c b x + (1 - s) c b g + (1 - c) b m
    """
    bright_N, contrast_N, saturation_N = _factors(draw_LN, augment)
    grey_NHW = _grey(view_NCHW)
    if view_NCHW.shape[1] == 1:
        saturation_N = torch.ones_like(saturation_N)
    gain_N = contrast_N * bright_N
    base_NHW = grey_NHW * _cells((1 - saturation_N) * gain_N)
    base_NHW = base_NHW + _cells((1 - contrast_N) * bright_N * _mean(grey_NHW))
    return view_NCHW.mul_(_cells(saturation_N * gain_N)[:, None]).add_(base_NHW[:, None])


def _factors(draw_LN: torch.Tensor, augment: Augment) -> Iterator[torch.Tensor]:
    changes = {
        BRIGHTNESS: augment.brightness,
        CONTRAST: augment.contrast,
        SATURATION: augment.saturation,
    }
    return (1 + _signed(draw_LN[lane]) * change for lane, change in changes.items())


def _grey(view_NCHW: torch.Tensor) -> torch.Tensor:
    if view_NCHW.shape[1] == 1:
        return view_NCHW[:, 0]
    red, green, blue = GREY
    return view_NCHW[:, 0] * red + view_NCHW[:, 1] * green + view_NCHW[:, 2] * blue


def _mean(grey_NHW: torch.Tensor) -> torch.Tensor:
    """Mean of each image, float64: summed in integers, whose sum has no order to depend on."""
    steps_NHW = (grey_NHW * MEAN_STEPS).round().to(torch.int32)
    pixels = grey_NHW.shape[1] * grey_NHW.shape[2]
    return steps_NHW.sum((1, 2)).to(torch.float64) / (MEAN_STEPS * pixels)


def _signed(draw_N: torch.Tensor) -> torch.Tensor:
    """[0, 1) to [-1, 1)."""
    return draw_N * 2 - 1


def _cells(value_N: torch.Tensor) -> torch.Tensor:
    """One float32 an image, to be spread over its pixels."""
    return value_N.to(torch.float32)[:, None, None]
