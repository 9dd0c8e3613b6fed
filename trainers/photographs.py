"""One photograph to pixels: the same way for training, testing and predicting."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from space.errors import InputError

DECODER = 1  # raise it when `decode` comes to give other pixels
# What scraped files with the ending .jpg turn out to be. Named, because Pillow's other readers
# include some that start programs (EPS) and many that nobody needs.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
ORIENTATION_TAG = 0x0112
TURNS = {  # EXIF orientation -> what makes the photograph upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# JPEG is decoded at the smallest of 1/1, 1/2, 1/4, 1/8 that still has twice the pixels wanted:
# 2.4 times as fast as whole decoding and 1.3 grey levels (root mean square) from it, where
# stopping at the pixels wanted would be 3.1 times as fast and 3.7 levels off (512 to 64 pixels).
DRAFT_SCALE = 2


class UnreadableError(InputError):
    """The file is not an image, is damaged, or is too large to be meant."""


def decode(source: str | Path | BinaryIO, size: int, channels: int = 3) -> npt.NDArray[np.uint8]:
    """Decode one photograph to `size` x `size` pixels.

    The whole photograph is squashed to the square: the network sees the same geometry in
    training and in prediction, and nothing at the rims is cut off before it can be learned. EXIF
    orientation is applied, transparency is laid on white, 16-bit levels are cut to 8.

    Args:
        source: a path, or a file open for reading bytes.
        size: pixels.
        channels: 3 (RGB) or 1 (grey).

    Returns:
        uint8, (channels, size, size).

    Raises:
        InputError: the file cannot be opened, or (UnreadableError) is no image that can be read.
    """
    name = str(source) if isinstance(source, str | Path) else getattr(source, "name", "image")
    with pillow_warnings():
        try:
            return decode_unguarded(source, size, channels)
        except UnreadableError as error:
            raise UnreadableError(f"an image must be readable, but {name}: {error}") from None
        except OSError as error:
            raise InputError(f"an image must be readable, but {name}: {error.strerror}") from None


@contextmanager
def pillow_warnings() -> Iterator[None]:
    """Pillow's warnings as this module needs them.

    Put around a whole pool of threads, never inside one: warning filters belong to the process.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # e.g. of odd EXIF data
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


def decode_unguarded(
    source: str | Path | BinaryIO, size: int, channels: int
) -> npt.NDArray[np.uint8]:
    """`decode` inside `pillow_warnings`.

    Raises:
        UnreadableError: with the reason only.
        OSError: the operating system's own, e.g. no such file.
    """
    try:
        with Image.open(source, formats=FORMATS) as image:
            pixels = _square(image, size, channels)
    except MemoryError:
        raise
    except Exception as error:  # Pillow's readers raise about anything on damaged files
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise UnreadableError(_reason(error)) from None
    return np.ascontiguousarray(pixels.reshape(size, size, channels).transpose(2, 0, 1))


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "not an image"
    return " ".join(str(error).split()) or type(error).__name__


def _square(image: Image.Image, size: int, channels: int) -> npt.NDArray[np.uint8]:
    image.draft("RGB", (DRAFT_SCALE * size, DRAFT_SCALE * size))
    plain = _plain(image).convert("RGB" if channels == 3 else "L")
    square = plain.resize((size, size), Image.Resampling.BILINEAR)  # antialiased
    turn = TURNS.get(_orientation(image))
    # Turned when it is small: squashing to a square and turning commute.
    return np.asarray(square if turn is None else square.transpose(turn))


def _plain(image: Image.Image) -> Image.Image:
    """8 bits a channel, nothing transparent."""
    if image.mode.startswith("I"):  # 16-bit grey, which Pillow would clip at 255
        levels = np.asarray(image).astype(np.int64) >> 8
        return Image.fromarray(levels.clip(0, 255).astype(np.uint8))
    if image.has_transparency_data:
        colors = image.convert("RGBA")
        white = Image.new("RGBA", colors.size, "white")
        return Image.alpha_composite(white, colors)
    return image


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(ORIENTATION_TAG, 1))
    except Exception:  # damaged EXIF data does not make the pixels unreadable
        return 1
