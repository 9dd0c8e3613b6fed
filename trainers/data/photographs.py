"""One photograph to pixels: the same way for training, testing and predicting."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile

from space.errors import InputError
from trainers.data.levels import color_levels, eight_bits, is_deep

# Raise DECODER when `decode` gives other pixels than before, and let `since` say for which
# photographs: what was decoded of the others, and studies of them, stay valid.
FIRST, DECODER = 1, 2
FIRST_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")  # that decoder 1 read
# What cameras, scanners, drawing programs and the web write. Named, because Pillow's other readers
# start programs (EPS), need more libraries (WMF, HDF5), or take plain text for a picture (IM).
FORMATS = (
    *FIRST_FORMATS,
    *("AVIF", "JPEG2000", "PPM", "ICO", "ICNS", "DIB", "DDS", "PCX", "SGI", "SUN", "QOI", "PSD"),
    *("BLP", "MSP", "XBM", "XPM", "FITS", "TGA"),  # TGA last: no mark tells it from other files
)
SEVERAL = "MPO"  # a JPEG with further pictures after it, which Pillow's reader of JPEG opens
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
TOO_LARGE = (Image.DecompressionBombWarning, Image.DecompressionBombError)


def _suffixes() -> tuple[str, ...]:
    known = Image.registered_extensions()  # loads Pillow's readers
    return tuple(ending for ending, form in known.items() if form in (*FORMATS, SEVERAL))


SUFFIXES = _suffixes()  # in small letters


class UnreadableError(InputError):
    """The file is not an image, is damaged, or is too large to be meant."""


def decode(source: str | Path | BinaryIO, size: int, channels: int = 3) -> npt.NDArray[np.uint8]:
    """Decode one photograph to `size` x `size` pixels.

    The whole photograph is squashed to the square: the network sees the same geometry in
    training and in prediction, and nothing at the rims is cut off before it can be learned. EXIF
    orientation is applied, transparency is laid on white, deeper levels are cut to 8 bits. Of
    several pictures in a file the first one counts.

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
        with _opened(source, size) as image:
            pixels = _square(image, source, size, channels)
    except MemoryError:
        raise
    except Exception as error:  # Pillow's readers raise about anything on damaged files
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise UnreadableError(_reason(error)) from None
    return np.ascontiguousarray(pixels.reshape(size, size, channels).transpose(2, 0, 1))


def is_photograph(path: Path) -> bool:
    """Whether a file begins like a picture, whatever its name says.

    Call it inside `pillow_warnings`.

    Raises:
        OSError: the operating system's own, e.g. no permission.
    """
    try:
        with Image.open(path, formats=FORMATS):
            return True
    except TOO_LARGE:
        return True
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        return False


def since(source: BinaryIO) -> int:
    """The first version of `decode` that gave a photograph the pixels that it gets now.

    Call it inside `pillow_warnings`. What cannot be read now could not be read before.
    """
    try:
        with Image.open(source, formats=FORMATS) as image:
            if image.format not in (*FIRST_FORMATS, SEVERAL) or image.mode == "F":
                return DECODER
            if is_deep(image):
                levels = np.asarray(image)
                before = (levels.astype(np.int64) >> 8).clip(0, 255)
                return FIRST if np.array_equal(before, eight_bits(levels)) else DECODER
            return FIRST if color_levels(image, lambda: _reopened(source)) is None else DECODER
    except TOO_LARGE:
        with suppress(Exception), _large_jpeg(source, 1):
            return DECODER
    except MemoryError:
        raise
    except Exception:
        pass
    return FIRST


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "not an image"
    return " ".join(str(error).split()) or type(error).__name__


def _opened(source: str | Path | BinaryIO, size: int) -> Image.Image:
    """A file's first picture, a JPEG at the scale that is to be decoded."""
    try:
        image: Image.Image = Image.open(source, formats=FORMATS)
    except TOO_LARGE as error:
        try:
            return _large_jpeg(source, size)
        except SyntaxError:  # it is no JPEG
            raise error from None
    image.draft("RGB", (DRAFT_SCALE * size, DRAFT_SCALE * size))
    return image


def _large_jpeg(source: str | Path | BinaryIO, size: int) -> Image.Image:
    """A JPEG with more pixels than Pillow opens, if what is decoded of it is small enough.

    Pillow counts the pixels of the file, but decodes only those of the draft. A progressive JPEG
    is held in memory as a whole, so it may have at most twice Pillow's limit.
    """
    image = JpegImageFile(_rewound(source))
    whole = image.width * image.height
    image.draft("RGB", (DRAFT_SCALE * size, DRAFT_SCALE * size))
    limit = Image.MAX_IMAGE_PIXELS or whole
    progressive = bool(image.info.get("progressive"))
    if image.width * image.height > limit or (progressive and whole > 2 * limit):
        with image:  # closes what it has opened itself
            raise Image.DecompressionBombError(f"{whole} pixels, could be a decompression bomb")
    return image


def _rewound(source: str | Path | BinaryIO) -> str | Path | BinaryIO:
    if not isinstance(source, str | Path):
        source.seek(0)
    return source


def _reopened(source: str | Path | BinaryIO) -> ImageFile:
    return Image.open(_rewound(source), formats=FORMATS)


def _square(
    image: Image.Image, source: str | Path | BinaryIO, size: int, channels: int
) -> npt.NDArray[np.uint8]:
    plain = _plain(image, source).convert("RGB" if channels == 3 else "L")
    square = plain.resize((size, size), Image.Resampling.BILINEAR)  # antialiased
    turn = TURNS.get(_orientation(image))
    # Turned when it is small: squashing to a square and turning commute.
    return np.asarray(square if turn is None else square.transpose(turn))


def _plain(image: Image.Image, source: str | Path | BinaryIO) -> Image.Image:
    """8 bits a channel, nothing transparent."""
    if is_deep(image):
        return Image.fromarray(eight_bits(np.asarray(image)))
    levels = color_levels(image, lambda: _reopened(source))
    plain = image if levels is None else Image.fromarray(levels)
    if plain.has_transparency_data:
        colors = plain.convert("RGBA")
        white = Image.new("RGBA", colors.size, "white")
        return Image.alpha_composite(white, colors)
    return plain


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(ORIENTATION_TAG, 1))
    except Exception:  # damaged EXIF data does not make the pixels unreadable
        return 1
