import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from space.errors import InputError
from trainers.data.datasets import decode
from trainers.data.levels import eight_bits
from trainers.data.photographs import DECODER, FIRST, pillow_warnings, since


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
        ("RGB", "TIFF", 0),
        ("CMYK", "TIFF", 1),
        ("RGB", "PPM", 0),
        ("RGB", "TGA", 0),
        ("RGB", "JPEG2000", 12),
        ("RGB", "MPO", 12),
    ],
)
def test_color_formats(mode: str, form: str, tolerance: int) -> None:
    expected = decode(saved(gradient(), "PNG"), 16, 3).astype(int)
    options = {"quality": 95} if form in ("JPEG", "WEBP", "MPO") else {}
    pixels = decode(saved(gradient(mode), form, **options), 16, 3)
    assert pixels.shape == (3, 16, 16)
    assert pixels.dtype == np.uint8
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


def deep_png(levels_HWC: np.ndarray) -> io.BytesIO:
    """16 bits a channel, which Pillow reads and does not write."""
    height, width, channels = levels_HWC.shape
    kind = {1: 0, 3: 2, 4: 6}[channels]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in levels_HWC)
    header = struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)
    file = b"\x89PNG\r\n\x1a\n"
    for name, part in ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")):
        checked = name + part
        file += struct.pack(">I", len(part)) + checked + struct.pack(">I", zlib.crc32(checked))
    return io.BytesIO(file)


def deep_tiff(levels_HWC: np.ndarray, order: str) -> io.BytesIO:
    """The same, uncompressed, in either order of bytes."""
    height, width, channels = levels_HWC.shape
    values = {256: width, 257: height, 259: 1, 262: 2 if channels > 1 else 1, 277: channels}
    values |= {278: height, 279: levels_HWC.size * 2} | ({338: 2} if channels == 4 else {})
    begin = 8 + 2 + 12 * (len(values) + 2) + 4
    bits = struct.pack(f"{order}{channels}H", *[16] * channels)
    values[258] = begin if channels > 1 else 16
    values[273] = begin + len(bits)
    entries = b"".join(
        struct.pack(f"{order}HHI", tag, 3, channels if tag == 258 else 1)
        + (struct.pack(f"{order}I", value) if tag == 258 and channels > 1 else b"")
        + (struct.pack(f"{order}HH", value, 0) if tag != 258 or channels == 1 else b"")
        for tag, value in sorted(values.items())
    )
    head = {"<": b"II", ">": b"MM"}[order] + struct.pack(f"{order}HIH", 42, 8, len(values))
    data = levels_HWC.astype(f"{order}u2").tobytes()
    return io.BytesIO(head + entries + struct.pack(f"{order}I", 0) + bits + data)


@pytest.mark.parametrize("form", ["PNG", "TIFF <", "TIFF >"])
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("top", [255, 1023, 4095, 16383, 65535])
def test_deep_levels_are_scaled_by_the_depth_that_is_used(
    form: str, channels: int, top: int
) -> None:
    """Cameras write 10, 12 or 14 bits into files of 16."""
    shares = np.linspace(0, 1, 32)
    levels = np.tile((shares * top).astype(np.uint16)[None, :, None], (32, 1, channels))
    levels[..., 3:] = top  # opaque
    file = deep_png(levels) if form == "PNG" else deep_tiff(levels, form[-1])
    pixels = decode(file, 32, 3).astype(int)
    assert np.abs(pixels - np.rint(shares * 255)).max() <= 1
    with pillow_warnings():
        assert since(file) == (FIRST if top == 65535 else DECODER)


@pytest.mark.parametrize(
    "levels",
    [
        np.linspace(0, 1, 32, dtype=np.float32),
        np.linspace(0, 255, 32, dtype=np.float32),
        np.linspace(-1, 1, 32, dtype=np.float32),
        np.linspace(0, 1.3, 32, dtype=np.float32),
        np.linspace(0, 4095, 32, dtype=np.float32),
        np.linspace(-1024, 3071, 32).astype(np.int32),
        np.linspace(0, 2**30, 32).astype(np.int32),
    ],
)
def test_fractions_and_levels_below_zero_are_stretched(levels: np.ndarray) -> None:
    file = saved(Image.fromarray(np.tile(levels, (32, 1))), "TIFF")
    pixels = decode(file, 32, 1)[0].astype(int)
    assert (np.diff(pixels[0]) > 0).all()
    assert pixels[0, 0] == 0
    assert pixels[0, -1] >= 63  # of the depth that is used, a fourth at least
    with pillow_warnings():
        assert since(file) == DECODER


@settings(deadline=None)
@given(
    st.lists(
        st.integers(-(2**31), 2**31 - 1) | st.floats(width=32, allow_infinity=False), min_size=1
    ),
    st.sampled_from([np.uint16, np.int32, np.float32]),
)
def test_any_levels_keep_their_order(numbers: list[float], kind: Any) -> None:
    levels = np.sort(np.nan_to_num(np.array(numbers, dtype=np.float64)))
    if kind is not np.float32:
        levels = levels.clip(np.iinfo(kind).min, np.iinfo(kind).max)
    assert (np.diff(eight_bits(levels.astype(kind)).astype(int)) >= 0).all()


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_plain_photographs_decode_as_ever(form: str) -> None:
    """What was decoded of them, and studies of them, stay valid."""
    with pillow_warnings():
        assert since(saved(gradient(), form)) == FIRST
        assert since(saved(gradient("L"), form)) == FIRST
        assert since(io.BytesIO(b"no photograph")) == FIRST
        assert since(saved(gradient(), "PPM")) == DECODER


def test_an_animation_is_its_first_picture() -> None:
    file = saved(gradient("L"), "GIF", save_all=True, append_images=[Image.new("L", (40, 30))])
    assert np.array_equal(decode(file, 16, 1), decode(saved(gradient("L"), "GIF"), 16, 1))


def test_one_bit() -> None:
    board = Image.fromarray((np.indices((16, 16)).sum(0) % 2 * 255).astype(np.uint8)).convert("1")
    for form in ("PNG", "TIFF", "BMP", "GIF"):
        assert set(np.unique(decode(saved(board, form), 16, 3))) == {0, 255}


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_is_white(mode: str) -> None:
    image = Image.new("RGBA", (10, 10), (0, 0, 0, 0))
    options = {}
    if mode == "P":
        image, options = Image.new("P", (10, 10), 0), {"transparency": 0}
    elif mode == "LA":
        image = image.convert("LA")
    assert decode(saved(image, "PNG", **options), 8, 3).min() == 255


@pytest.mark.parametrize(
    ("form", "options"),
    [
        ("PNG", {}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("WEBP", {"lossless": True}),
    ],
)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(orientation: int, form: str, options: dict[str, object]) -> None:
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
    pixels = decode(saved(turned, form, exif=exif, **options), 16, 3).astype(int)
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


@pytest.mark.parametrize("progressive", [False, True])
def test_of_a_large_jpeg_counts_what_is_decoded(
    monkeypatch: pytest.MonkeyPatch, progressive: bool
) -> None:
    """A telephone's 108 megapixels are decoded at an eighth."""
    image = gradient().resize((320, 256))
    file = saved(image, "JPEG", progressive=progressive)
    expected = decode(file, 16, 3)
    least = 320 * 256 // 2 if progressive else 40 * 32  # a progressive one is taken in whole
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", least)
    assert np.array_equal(decode(file, 16, 3), expected)
    with pillow_warnings():
        assert since(file) == DECODER
    with pytest.raises(InputError, match="decompression bomb"):
        decode(file, 128, 3)  # of 256 pixels nothing is left out
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", least - 1)
    with pytest.raises(InputError, match="decompression bomb"):
        decode(file, 16, 3)
    with pytest.raises(InputError, match="decompression bomb"):
        decode(saved(image, "PNG"), 16, 3)


def test_a_telephone_s_108_megapixels(tmp_path: Path) -> None:
    path = tmp_path / "large.jpg"
    Image.new("L", (12000, 9000), 200).save(path)
    assert abs(int(decode(path, 64, 3).mean()) - 200) <= 1
