import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from space.errors import InputError
from trainers.data import decode


def gradient(mode: str = "RGB") -> Image.Image:
    """40 x 30 pixels: red grows to the right, green downwards."""
    pixels = np.zeros((30, 40, 3), dtype=np.uint8)
    pixels[..., 0] = np.linspace(0, 250, 40)[None]
    pixels[..., 1] = np.linspace(0, 250, 30)[:, None]
    return Image.fromarray(pixels).convert(mode)


def saved(image: Image.Image, form: str, **options: object) -> io.BytesIO:
    file = io.BytesIO()
    image.save(file, form, **options)
    file.seek(0)
    return file


@pytest.mark.parametrize(
    ("mode", "form", "tolerance"),
    [
        ("RGB", "PNG", 0),
        ("RGB", "JPEG", 12),
        ("CMYK", "JPEG", 12),
        ("RGB", "WEBP", 25),
        ("RGBA", "PNG", 0),
        ("RGB", "BMP", 0),
    ],
)
def test_color_formats(mode: str, form: str, tolerance: int) -> None:
    expected = decode(saved(gradient(), "PNG"), 16, 3).astype(int)
    options = {"quality": 95} if form in ("JPEG", "WEBP") else {}
    pixels = decode(saved(gradient(mode), form, **options), 16, 3)
    assert (pixels.shape, pixels.dtype) == ((3, 16, 16), np.uint8)
    assert np.abs(pixels.astype(int) - expected).max() <= tolerance


def test_palette() -> None:
    colors = decode(saved(gradient().quantize(256), "PNG"), 16, 3).astype(int)
    assert np.abs(colors - decode(saved(gradient(), "PNG"), 16, 3)).mean() < 6


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_grey_becomes_three_equal_channels(form: str) -> None:
    pixels = decode(saved(gradient("L"), form), 16, 3)
    assert np.array_equal(pixels[0], pixels[1])
    assert np.array_equal(pixels[0], pixels[2])
    assert np.abs(pixels[0].astype(int) - decode(saved(gradient("L"), form), 16, 1)[0]).max() == 0


def test_sixteen_bit_grey_keeps_its_upper_bits() -> None:
    levels = np.tile(np.linspace(0, 65535, 16).astype(np.uint16), (16, 1))
    pixels = decode(saved(Image.fromarray(levels), "PNG"), 16, 1)
    assert np.array_equal(pixels[0], (levels >> 8).astype(np.uint8))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_is_white(mode: str) -> None:
    image = Image.new("RGBA", (10, 10), (0, 0, 0, 0))
    options = {}
    if mode == "P":
        image, options = Image.new("P", (10, 10), 0), {"transparency": 0}
    elif mode == "LA":
        image = image.convert("LA")
    assert decode(saved(image, "PNG", **options), 8, 3).min() == 255


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(orientation: int) -> None:
    upright = gradient()
    # Each stored turn is undone by the one that its tag asks for.
    stored = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }.get(orientation)
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned = upright if stored is None else upright.transpose(stored)
    pixels = decode(saved(turned, "PNG", exif=exif), 16, 3).astype(int)
    assert np.abs(pixels - decode(saved(upright, "PNG"), 16, 3)).max() <= 1


def test_shrinking_is_antialiased() -> None:
    board = np.indices((64, 64)).sum(0) % 2 * 255
    image = Image.fromarray(board.astype(np.uint8))
    inner = decode(saved(image, "PNG"), 8, 1)[0, 1:-1, 1:-1].astype(int)
    assert np.abs(inner - 127).max() < 4


def test_unreadable_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = saved(gradient(), "JPEG").getvalue()
    for data in (b"", b"text", whole[: len(whole) // 2], saved(gradient(), "PNG").getvalue()[:99]):
        with pytest.raises(InputError, match="an image must be readable"):
            decode(io.BytesIO(data), 16, 3)
    with pytest.raises(InputError, match="No such file"):
        decode(tmp_path / "missing.jpg", 16, 3)
    for limit in (1000, 100):  # Pillow warns above the limit, and raises above twice the limit
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        with pytest.raises(InputError, match="decompression bomb"):
            decode(io.BytesIO(whole), 16, 3)
