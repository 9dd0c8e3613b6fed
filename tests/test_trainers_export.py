"""A student's file: what it holds, how exactly, and that nothing damaged gets past `read`."""

import json
import pickle
import random
import shutil
import struct
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import BLOCKS, architectures, cards, plain_card
from tiny import one_thread
from torch import nn

from space.architecture import Architecture, Stage
from space.build import Student, build
from space.errors import InputError
from space.file_format import FORMATS, METADATA_KEY, stored_bytes
from trainers import export
from trainers.model import Model

__all__ = ["one_thread"]

CARD = plain_card(tiny.ARCHITECTURE, size=8)


def trained(architecture: Architecture, seed: int = 0) -> Student:
    """As if trained: no norm is the identity, no bias zero, the classifier as large as the rest."""
    student = build(architecture, seed=seed)
    generator = torch.Generator().manual_seed(seed)

    def uniform(like: torch.Tensor, low: float, high: float) -> torch.Tensor:
        return torch.rand(like.shape, generator=generator) * (high - low) + low

    with torch.no_grad():
        for module in student.modules():
            if isinstance(module, nn.BatchNorm2d):
                assert module.running_mean is not None
                assert module.running_var is not None
                module.weight.copy_(uniform(module.weight, -1.5, 1.5))
                module.bias.copy_(uniform(module.bias, -0.5, 0.5))
                module.running_mean.copy_(uniform(module.running_mean, -0.5, 0.5))
                module.running_var.copy_(uniform(module.running_var, 0.2, 3.0))
            elif isinstance(bias := getattr(module, "bias", None), torch.Tensor):
                bias.copy_(uniform(bias, -0.5, 0.5))
            if isinstance(module, nn.Linear):
                module.weight.copy_(uniform(module.weight, -0.5, 0.5))
    return student.eval()


def images(architecture: Architecture, size: int = 9, count: int = 5) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(count, architecture.channels, size, size, generator=generator)


def live(student: Student, metadata: Any) -> Model:
    return Model(student, size=metadata.size, mean=metadata.mean, std=metadata.std).eval()


@torch.no_grad()
def distance(left: nn.Module, right: nn.Module, images_NCHW: torch.Tensor) -> float:
    """Largest difference of the logits, relative to the largest logit."""
    one, other = left(images_NCHW), right(images_NCHW)
    return float((one - other).abs().max() / one.abs().max())


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as error:
        export.read(path)
    message = str(error.value)
    assert "\n" not in message
    assert len(message) < 2_000
    return message


def parts(content: bytes) -> tuple[dict[str, Any], bytes]:
    """Header and tensors of a safetensors file."""
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def joined(header: dict[str, Any] | bytes, tensors: bytes) -> bytes:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    raw += b" " * (-len(raw) % 8)
    return struct.pack("<Q", len(raw)) + raw + tensors


@pytest.fixture(scope="module", params=FORMATS)
def file(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("files") / f"{request.param}.safetensors"
    export.write(trained(tiny.ARCHITECTURE), CARD, request.param, path)
    return path


@pytest.fixture
def damaged(file: Path, tmp_path: Path) -> Callable[[bytes], Path]:
    def make(content: bytes) -> Path:
        path = tmp_path / "damaged.safetensors"
        path.write_bytes(content)
        return path

    return make


# --- folding


@settings(max_examples=60)
@given(st.data())
def test_any_network_predicts_the_same_as_read_back(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    architecture = data.draw(architectures())
    metadata = plain_card(architecture, size=9)
    student = trained(architecture, seed=data.draw(st.integers(0, 9)))
    path = tmp_path_factory.getbasetemp() / "any.safetensors"
    export.write(student, metadata, "fp32", path)
    stored = export.read(path)
    assert stored.architecture == architecture
    assert stored.metadata == metadata
    assert distance(live(student, metadata), stored.model, images(architecture)) < 1e-4
    assert not any(isinstance(part, nn.BatchNorm2d) for part in stored.model.modules())


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("se", [0, 4])
@pytest.mark.parametrize("bias", [False, True])
def test_every_block_predicts_the_same_as_read_back(
    tmp_path: Path, block: str, residual: bool, se: int, bias: bool
) -> None:
    stage = Stage(
        width=16,
        block=block,
        depth=2,
        stride=2,
        groups=4,
        shuffle=True,
        expansion=3,
        se=se,
        residual=residual,
        activation="hardswish",
    )
    architecture = Architecture(stem=Stage(width=8), stages=(stage,), classes=4, bias=bias)
    student, metadata = trained(architecture), plain_card(architecture, size=9)
    for format, tolerance in (("fp32", 1e-4), ("fp16", 1e-2), ("int8", 0.1)):
        path = tmp_path / format
        size = export.write(student, metadata, format, path)
        assert size == path.stat().st_size == stored_bytes(architecture, format, metadata)
        close = distance(live(student, metadata), export.read(path).model, images(architecture))
        assert close < tolerance
        assert format == "fp32" or close > 0  # it was rounded


def test_folding_by_hand() -> None:
    """Convolution weight 2 bias 1; norm g 3, beta 5, mean 7, variance 3 (eps 1)."""
    norm = nn.BatchNorm2d(1, eps=1.0)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    with torch.no_grad():
        norm.weight.fill_(3)
        norm.bias.fill_(5)
        norm.running_mean.fill_(7)
        norm.running_var.fill_(3)
        one = export.Array(torch.full((1, 1, 1, 1), 2.0), torch.tensor([1.0]))
        array, shared = export.fold(one, (norm,)), export.fold(one, (norm, nn.BatchNorm2d(1)))
    assert array.weight.item() == 2 * 3 / 2
    assert array.bias.item() == (1 - 7) * 3 / 2 + 5
    assert array.scale is None
    assert shared.weight.item() == 2  # of two norms, neither can be part of it
    assert shared.scale is not None
    assert shared.scale[0].item() == 3 / 2
    assert shared.bias[:, 0].tolist() == pytest.approx([(1 - 7) * 3 / 2 + 5, 1], rel=1e-4)


# --- rounding


def decoded(student: Student, format: str, path: Path) -> list[export.Array]:
    export.write(student, plain_card(student.architecture), format, path)
    network = export.read(path).model.network
    assert isinstance(network, Student)
    return list(export.folded(network))


def each_application(array: export.Array) -> list[torch.Tensor]:
    """The weight, a row an output channel, as each application of its block sees it."""
    rows = array.weight.flatten(1)
    return [rows] if array.scale is None else [rows * scale[:, None] for scale in array.scale]


@settings(max_examples=40)
@given(architectures(), st.integers(0, 9))
def test_int8_is_within_half_a_code_and_fp16_within_half_a_digit(
    tmp_path_factory: pytest.TempPathFactory, architecture: Architecture, seed: int
) -> None:
    student = trained(architecture, seed)
    path = tmp_path_factory.getbasetemp() / "rounded.safetensors"
    exact = list(export.folded(student))
    for array, read in zip(exact, decoded(student, "fp16", path), strict=True):
        for left, right in zip(array.parts, read.parts, strict=True):
            assert ((left - right).abs() <= left.abs() * 2**-11 + 2**-25).all()
    for array, read in zip(exact, decoded(student, "int8", path), strict=True):
        for rows, codes in zip(each_application(array), each_application(read), strict=True):
            scale = rows.abs().amax(1, keepdim=True) / 127
            # The scale itself is stored in 16 bits, which moves the largest codes by 127 / 2^11;
            # that of a shared weight is rounded once more.
            digits = 127 * 2**-11 * (1 if array.scale is None else 2)
            assert ((rows - codes).abs() <= scale * (0.5 + digits) + 127 * 2**-25).all()
        assert ((array.bias - read.bias).abs() <= array.bias.abs() * 2**-11 + 2**-25).all()


@given(
    st.lists(st.floats(-1, 1, width=32), min_size=4, max_size=4),
    st.floats(-24, 22).map(lambda power: 2.0**power),
)
def test_quantised_rows_are_within_half_their_stored_scale(
    values: list[float], factor: float
) -> None:
    weight = torch.tensor(values).view(2, 2) * factor
    codes, scale = export.quantise(weight)
    assert codes.dtype == torch.int8
    assert codes.min() >= -127
    assert torch.equal(scale, scale.half().float())
    error = (codes * scale[:, None] - weight).abs()
    assert (error <= scale[:, None] * (0.5 + 1e-4) + 2**-24 * 64).all()


def test_each_output_channel_has_its_own_scale() -> None:
    weight = torch.tensor([[1000.0, -400.0], [0.001, 0.0004], [0.0, 0.0]])
    codes, scale = export.quantise(weight)
    assert codes[0].tolist() == [127, -51]
    assert codes[1].tolist() == [127, 51]
    assert codes[2].tolist() == [0, 0]
    assert scale[2] == 0


# --- the file


@settings(max_examples=30)
@given(st.data())
def test_any_card_and_network_come_back_and_the_size_is_as_predicted(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    architecture = data.draw(architectures())
    metadata = data.draw(cards(architecture))
    format = data.draw(st.sampled_from(list(FORMATS)))
    path = tmp_path_factory.getbasetemp() / "card.safetensors"
    size = export.write(trained(architecture), metadata, format, path)
    assert size == path.stat().st_size == stored_bytes(architecture, format, metadata)
    stored = export.read(path)
    assert (stored.architecture, stored.metadata, stored.format) == (architecture, metadata, format)


def test_the_file_alone_is_enough(file: Path, tmp_path: Path) -> None:
    alone = tmp_path / "empty" / "student"
    alone.parent.mkdir()
    shutil.copy(file, alone)
    stored = export.read(alone)
    assert (stored.metadata, stored.format) == (CARD, file.stem)
    assert not stored.model.training
    assert not any(p.requires_grad for p in stored.model.parameters())
    assert stored.model.size == 8
    assert stored.model.mean_C11.item() == pytest.approx(0.5123)
    tolerance = {"fp32": 1e-4, "fp16": 1e-2, "int8": 0.05}[file.stem]
    student = trained(tiny.ARCHITECTURE)
    assert distance(live(student, CARD), stored.model, images(tiny.ARCHITECTURE)) < tolerance
    assert list(alone.parent.iterdir()) == [alone]


def test_the_same_student_gives_the_same_bytes(file: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    export.write(trained(tiny.ARCHITECTURE), CARD, file.stem, again)
    assert again.read_bytes() == file.read_bytes()
    export.write(trained(tiny.ARCHITECTURE, seed=1), CARD, file.stem, again)
    assert again.read_bytes() != file.read_bytes()
    assert len(again.read_bytes()) == len(file.read_bytes())


def test_writing_leaves_the_student_as_it_was() -> None:
    student = trained(tiny.ARCHITECTURE)
    before = {key: value.clone() for key, value in student.state_dict().items()}
    list(export.folded(student))
    assert tiny.same(student.state_dict(), before)


@pytest.mark.parametrize("format", FORMATS)
def test_converted_to_any_format(file: Path, tmp_path: Path, format: str) -> None:
    path = tmp_path / "new" / "converted"
    size = export.convert(file, format, path)
    assert size == path.stat().st_size == stored_bytes(tiny.ARCHITECTURE, format, CARD)
    stored, source = export.read(path), export.read(file)
    assert (stored.format, stored.metadata) == (format, CARD)
    if format == file.stem:
        assert path.read_bytes() == file.read_bytes()
    loss = {"fp32": 1e-6, "fp16": 1e-2, "int8": 0.05}[format]
    assert distance(source.model, stored.model, images(tiny.ARCHITECTURE)) <= loss


def test_unknown_format_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="fp32, fp16, int8"):
        export.write(trained(tiny.ARCHITECTURE), CARD, "int4", tmp_path / "new" / "file")
    assert list(tmp_path.iterdir()) == []


# --- weights that do not fit


def spoilt(value: float, where: str) -> Student:
    """One weight, bias, norm or statistic replaced."""
    student = trained(tiny.ARCHITECTURE)
    conv = next(part for part in student.modules() if isinstance(part, nn.Conv2d))
    norm = next(part for part in student.modules() if isinstance(part, nn.BatchNorm2d))
    linear = [part for part in student.modules() if isinstance(part, nn.Linear)][-1]
    tensors: dict[str, Any] = {
        "weight": conv.weight,
        "scale": norm.weight,
        "mean": norm.running_mean,
        "classifier": linear.weight,
        "bias": linear.bias,
    }
    with torch.no_grad():
        tensors[where].view(-1)[0] = value
    return student


@pytest.mark.parametrize("where", ["weight", "scale", "mean", "classifier", "bias"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e9])
@pytest.mark.parametrize("format", FORMATS)
def test_weights_that_do_not_fit_are_refused_and_nothing_is_written(
    tmp_path: Path, format: str, value: float, where: str
) -> None:
    path = tmp_path / "file"
    path.write_text("before")
    student = spoilt(value, where)
    if format == "fp32" and value == 1e9:
        export.write(student, CARD, format, path)
        assert export.read(path).format == "fp32"
        return
    with pytest.raises(OverflowError) as error:
        export.write(student, CARD, format, path)
    assert "\n" not in str(error.value)
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_int8_stores_weights_that_fp16_cannot(tmp_path: Path) -> None:
    student = spoilt(1e6, "classifier")
    with pytest.raises(OverflowError, match="65504"):
        export.write(student, CARD, "fp16", tmp_path / "file")
    arrays = decoded(student, "int8", tmp_path / "file")
    assert arrays[-1].weight.max().item() == pytest.approx(1e6, rel=1e-3)


# --- damage


def test_truncated_anywhere(file: Path, damaged: Callable[[bytes], Path]) -> None:
    content = file.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    lengths = {*range(32), *range(0, len(content), 97), length + 7, length + 8, len(content) - 1}
    for size in lengths:
        refusal(damaged(content[:size]))
    refusal(damaged(content + b"\0"))
    refusal(damaged(content + content))


def test_every_bit_of_the_header_flipped(file: Path, damaged: Callable[[bytes], Path]) -> None:
    """It reads something whole or it refuses: nothing else."""
    content = file.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    chance, refused = random.Random(0), 0
    places = [(at, bit) for at in range(8 + length) for bit in range(8)]
    for at, bit in chance.sample(places, 500):
        changed = bytearray(content)
        changed[at] ^= 1 << bit
        path = damaged(bytes(changed))
        try:
            stored = export.read(path)
        except InputError as error:
            assert "\n" not in str(error)  # noqa: PT017
            refused += 1
        else:
            stored.model(torch.zeros(1, 1, 8, 8))
    assert refused > 300


@settings(max_examples=400)
@given(data=st.data())
def test_any_corruption_of_the_header_is_one_line(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.getbasetemp()
    content = _contents(folder, data.draw(st.sampled_from(list(FORMATS))))
    (length,) = struct.unpack("<Q", content[:8])
    begin = data.draw(st.integers(0, 8 + length))
    end = min(8 + length, begin + data.draw(st.integers(0, 40)))
    pieces = st.binary(max_size=40) | st.sampled_from(
        [
            b'"',
            b"{",
            b"}",
            b"[",
            b"]",
            b",",
            b"\\u0000",
            b"\xff",
            b"-1",
            b"1e999",
            b"null",
            b"99999999",
        ]
    )
    changed = content[:begin] + data.draw(pieces) + content[end:]
    if data.draw(st.booleans()):  # with the length put right, so that the JSON itself is read
        header = changed[8 : 8 + length + len(changed) - len(content)]
        changed = joined(header, content[8 + length :])
    path = folder / "corrupted.safetensors"
    path.write_bytes(changed)
    try:
        stored = export.read(path)
    except InputError as error:
        assert "\n" not in str(error)  # noqa: PT017
    else:  # harmless: a class's name, a fingerprint
        stored.model(torch.zeros(1, stored.architecture.channels, 8, 8))


_written: dict[str, bytes] = {}


def _contents(folder: Path, format: str) -> bytes:
    if format not in _written:
        path = folder / f"whole-{format}"
        export.write(trained(tiny.ARCHITECTURE), CARD, format, path)
        _written[format] = path.read_bytes()
    return _written[format]


def edited(content: bytes, change: Callable[[dict[str, Any]], object]) -> bytes:
    """The document in the header changed, the rest kept."""
    header, tensors = parts(content)
    document = json.loads(header["__metadata__"][METADATA_KEY])
    change(document)
    header["__metadata__"][METADATA_KEY] = json.dumps(document)
    return joined(header, tensors)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d["architecture"]["stem"].update(width=12), "needs tensors"),
        (lambda d: d["architecture"]["stem"].update(width=65_536), "needs tensors"),
        (lambda d: d["architecture"]["stem"].update(width=10**12), "width"),
        (lambda d: d["architecture"]["stem"].update(width="8"), "width"),
        (lambda d: d["architecture"]["stages"][1].update(groups=3), "groups"),
        (lambda d: d["architecture"]["stages"].pop(), "needs tensors"),
        (lambda d: d["architecture"]["stages"].append({"width": 16}), "needs tensors"),
        (lambda d: d["architecture"]["stages"][0].update(block="wavelet"), "block"),
        (lambda d: d["architecture"]["stages"][0].update(depth=10**9), "depth"),
        (lambda d: d.update(classes=["a"]), "class names"),
        (lambda d: d.update(format="fp64"), "fp32, fp16, int8"),
        (lambda d: d.update(v=99), "version"),
        (lambda d: d.clear(), "version"),
        (lambda d: d.update(mean=[]), "mean"),
        (lambda d: d.update(size=10**9), "input size"),
    ],
)
def test_a_tampered_header_is_one_line(
    file: Path, damaged: Callable[[bytes], Path], change: Callable[[Any], object], words: str
) -> None:
    assert words in refusal(damaged(edited(file.read_bytes(), change)))


def test_another_format_s_tensors_are_refused(damaged: Callable[[bytes], Path], file: Path) -> None:
    for format in FORMATS:
        if format != file.stem:
            content = edited(file.read_bytes(), partial(dict.update, format=format))
            assert "needs tensors" in refusal(damaged(content))


def saved(flat: dict[str, torch.Tensor], file: Path) -> bytes:
    header, _ = parts(file.read_bytes())
    return safetensors.torch.save(flat, metadata=header["__metadata__"])


def test_other_tensors_are_refused(file: Path, damaged: Callable[[bytes], Path]) -> None:
    flat = safetensors.torch.load_file(file)
    name, tensor = next(iter(flat.items()))
    for changed in (
        {**flat, "extra": torch.zeros(3)},
        {**flat, name: tensor[:-1]},
        {**flat, name: torch.cat([tensor, tensor[:1]])},
        {**flat, name: tensor.to(torch.float64)},
        {**flat, name: tensor.to(torch.bfloat16)},
        {f"{key}x": value for key, value in flat.items()},
        {key: value for key, value in flat.items() if key != name},
        {f"layer.{index}": torch.zeros(2) for index in range(500)},
    ):
        assert "needs tensors" in refusal(damaged(saved(changed, file)))
    assert (
        export.read(damaged(saved(flat, file))).metadata == CARD
    )  # the saving itself does no harm


def test_weights_that_are_not_numbers_are_refused(
    file: Path, damaged: Callable[[bytes], Path]
) -> None:
    flat = safetensors.torch.load_file(file)
    name = "f" if file.stem == "fp32" else "h"
    for value in (float("nan"), float("inf")):
        flat[name][3] = value
        assert "not numbers" in refusal(damaged(saved(flat, file)))


@pytest.mark.parametrize(
    "dtype", ["F4", "F8_E8M0", "F8_E4M3", "U16", "I64", "BOOL", "C64", "X9", "BF16", 3, None]
)
def test_dtypes_that_no_student_has(
    file: Path, damaged: Callable[[bytes], Path], dtype: Any
) -> None:
    header, tensors = parts(file.read_bytes())
    for name in header:
        if name != "__metadata__":
            header[name]["dtype"] = dtype
    refusal(damaged(joined(header, tensors)))


def test_files_of_other_kinds(tmp_path: Path, damaged: Callable[[bytes], Path]) -> None:
    random_ = random.Random(0)
    for content in (
        b"",
        b"\0" * 8,
        b"\0" * 100,
        b"\xff" * 100,
        b"{}",
        pickle.dumps({"weight": 1}),
        random_.randbytes(3_000),
        joined({}, b""),
        joined({"__metadata__": {"format": "pt"}}, b""),
        joined({"__metadata__": {METADATA_KEY: "{"}}, b""),
        joined({"__metadata__": {METADATA_KEY: "[" * 100_000}}, b""),
        joined(b"[" * 4_000, b""),
        struct.pack("<Q", 2**63) + b"{}",
    ):
        refusal(damaged(content))
    torch.save({"weight": torch.zeros(3)}, tmp_path / "damaged.safetensors")
    refusal(tmp_path / "damaged.safetensors")
    refusal(tmp_path / "missing")
    refusal(tmp_path)
