"""Storage formats: a row in each of two tables is all that one needs, and neither is forgotten."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
import torch
from strategies import plain_card

from space import count
from space.architecture import Architecture, Stage
from space.build import build
from space.errors import InputError
from space.file_format import ELEMENT_BYTES, EXACT_FORMAT, FORMATS, Format, Weight, stored_bytes
from space.solver import Budget, solve
from trainers import export
from trainers.export import CODECS, FLAT, Array, Codec, Flat

SHAPE = Architecture(
    stem=Stage(width=8),
    stages=(
        Stage(width=16, block="depthwise", stride=2, se=4),
        Stage(width=24, block="group", groups=4, depth=2, residual=True),
    ),
    classes=5,
)
CARD = plain_card(SHAPE, size=16)
LEVELS = 7  # of a code of four bits, either way


def test_both_tables_have_the_same_rows() -> None:
    assert list(CODECS) == list(FORMATS)
    assert EXACT_FORMAT in FORMATS
    assert list(FLAT) == list(ELEMENT_BYTES)
    for name, dtype in FLAT.items():
        assert dtype.itemsize == ELEMENT_BYTES[name]


def encode(arrays: list[Array]) -> Flat:
    """Codes of four bits, two in a byte, with a scale an output channel."""
    scales = [array.weight.flatten(1).abs().amax(1) / LEVELS for array in arrays]
    codes = [
        (array.weight.flatten(1) / scale[:, None]).round().to(torch.int8).flatten()
        for array, scale in zip(arrays, scales, strict=True)
    ]
    flat = torch.cat(codes)
    flat = torch.cat([flat, flat.new_zeros(len(flat) % 2)])
    rest = [part for pair in zip(scales, arrays, strict=True) for part in (pair[0], pair[1].bias)]
    return {"p": (flat[::2] << 4) | (flat[1::2] & 15), "f": torch.cat(rest)}


def decode(flat: Flat, weights: Iterable[Weight]) -> Iterator[Array]:
    packed, rest = flat["p"], flat["f"]
    codes = torch.stack([packed >> 4, (packed << 4) >> 4], 1).flatten().float()
    at = 0
    for weight in weights:
        rows = weight.shape[0]
        scale, bias, rest = rest[:rows], rest[rows : 2 * rows], rest[2 * rows :]
        own = codes[at : at + weight.elements].view(rows, -1)
        at += weight.elements
        yield Array((own * scale[:, None]).view(weight.shape), bias)


@pytest.fixture
def int4(monkeypatch: pytest.MonkeyPatch) -> str:
    """A fourth format, of other tensors than the three have."""
    row = Format(
        lambda elements, biases, _: {"p": ("I8", -(-elements // 2)), "f": ("F32", 2 * biases)}
    )
    monkeypatch.setitem(FORMATS, "int4", row)
    monkeypatch.setitem(CODECS, "int4", Codec(encode, decode))
    return "int4"


def test_a_new_row_goes_through_counter_solver_file_and_reader(int4: str, tmp_path: Path) -> None:
    solved = solve(SHAPE, Budget.parse("12KB", int4), CARD)
    assert 0.97 < solved.share <= 1
    student = build(solved.architecture, seed=1).eval()
    path = tmp_path / "student.safetensors"
    size = export.write(student, CARD, int4, path)
    assert size == path.stat().st_size == solved.cost
    assert size == stored_bytes(solved.architecture, int4, CARD)
    assert size == count.cost(solved.architecture, CARD).stored[int4]
    stored = export.read(path)
    assert (stored.format, stored.architecture) == (int4, solved.architecture)
    exact = list(export.folded(student))
    found = list(export.folded(stored.model.network))  # type: ignore[arg-type]
    for before, after in zip(exact, found, strict=True):
        scale = before.weight.flatten(1).abs().amax(1) / LEVELS
        error = (before.weight - after.weight).flatten(1).abs()
        assert (error <= scale[:, None] * 0.5001).all()
        assert torch.equal(before.bias, after.bias)
    as_int8 = tmp_path / "int8.safetensors"
    assert export.convert(path, "int8", as_int8) == stored_bytes(solved.architecture, "int8", CARD)


def test_an_old_program_refuses_a_new_format(int4: str, tmp_path: Path) -> None:
    path = tmp_path / "student.safetensors"
    export.write(build(SHAPE, seed=1), CARD, int4, path)
    del FORMATS[int4]
    with pytest.raises(InputError, match="one of fp32, fp16, int8, but got 'int4'"):
        export.read(path)


def test_a_format_without_its_codec_writes_nothing(int4: str, tmp_path: Path) -> None:
    del CODECS[int4]
    with pytest.raises(KeyError):
        export.write(build(SHAPE, seed=1), CARD, int4, tmp_path / "student.safetensors")
    assert not any(tmp_path.iterdir())
