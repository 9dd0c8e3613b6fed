"""Levels of more than 8 bits: which depth a file really uses, and the 8 bits that are kept.

Files have room for 16 or 32 bits; cameras, scanners and microscopes fill 10, 12 or 14 of them, and
some put levels from 0 to 1 or below 0 there. Cut as if the room were full, they come out black.
"""

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from PIL.ImageFile import ImageFile

DEPTHS = (8, 10, 12, 14, 16, 24, 32)  # bits that files use
FULL = 16  # bits
FRACTIONS = 16.0  # floating-point levels below it are shares of white, not steps of grey
# Pillow cuts colours of 16 bits to their higher bytes. Read in the other order of bytes, the same
# file gives the lower ones.
OTHER_ORDER = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}


def is_deep(image: Image.Image) -> bool:
    """Whether a picture is grey of more than 8 bits."""
    return image.mode.startswith(("I", "F"))


def eight_bits(levels: npt.NDArray[np.generic]) -> npt.NDArray[np.uint8]:
    """Levels of any type as 8 bits.

    Fractions are shares of white, which is 1 or the highest of them, and levels below 0 make the
    lowest one black; all others are cut to the upper 8 bits of the smallest usual depth that holds
    them.
    """
    numbers = levels.astype(np.float64)
    numbers = np.where(np.isfinite(numbers), numbers, 0.0)
    low, high = min(0.0, float(numbers.min())), float(numbers.max())
    fractions = levels.dtype.kind == "f" and high < FRACTIONS
    if low < 0 or fractions or high >= 2 ** DEPTHS[-1]:
        shares = (numbers - low) / max(high - low, 1.0)
        return np.rint(255 * shares).astype(np.uint8)
    return np.floor(numbers / 2.0 ** (_depth(high) - 8)).astype(np.uint8)


def color_levels(
    image: Image.Image, again: Callable[[], ImageFile]
) -> npt.NDArray[np.uint8] | None:
    """Colours of a file of 16 bits that uses 14 of them or fewer, as 8 bits; else None.

    Args:
        image: not decoded yet; it is here.
        again: opens the same file once more.
    """
    order = _order(image)
    if order is None:
        return None
    high = np.asarray(image)
    if _depth(256.0 * int(high[..., :3].max())) == FULL:
        return None  # Pillow's cut is the right one
    with again() as other:
        other.tile = [
            tile._replace(args=_in_order(tile.args, OTHER_ORDER[order])) for tile in other.tile
        ]
        levels = 256 * high.astype(np.int64) + np.asarray(other)
    colors = eight_bits(levels[..., :3])
    if levels.shape[2] == 3:
        return colors
    return np.concatenate([colors, eight_bits(levels[..., 3:])], axis=2)


def _depth(highest: float) -> int:
    return next(bits for bits in DEPTHS if highest < 2**bits)


def _order(image: Image.Image) -> str | None:
    """The order of bytes of colours of 16 bits; None of other pictures."""
    tiles = getattr(image, "tile", None)
    if image.mode not in ("RGB", "RGBA") or not tiles:
        return None
    mode, _, bits = _raw_mode(tiles[0].args).partition(";16")
    return bits if mode == image.mode and bits in OTHER_ORDER else None


def _raw_mode(args: object) -> str:
    """How a file keeps its pixels, in Pillow's words, e.g. `RGB;16B`."""
    first = args[0] if isinstance(args, tuple) and args else args
    return first if isinstance(first, str) else ""


def _in_order(args: Any, order: str) -> Any:
    mode = _raw_mode(args)[:-1] + order
    return (mode, *args[1:]) if isinstance(args, tuple) else mode
