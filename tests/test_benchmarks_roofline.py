"""What the roofline counts, against hand-computed layers and sums; and that it runs."""

import csv
import sys
from itertools import pairwise
from pathlib import Path

import click
import pytest
import torch
from commands import refused_benchmark
from tiny import one_thread  # noqa: F401
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import results, roofline
from benchmarks.traffic import Work, step_work
from space import count
from space.architecture import Architecture, Head, Stage
from space.build import build
from space.errors import InputError
from space.references import REFERENCES, reference
from trainers.recipe import Recipe

RECIPE = Recipe(ema=0.99)
TINY = Architecture(
    stem=Stage(width=16), stages=(Stage(width=32, block="depthwise", stride=2),), classes=5
)
EVERY_RULE = Architecture(
    stem=Stage(width=8, block="residual"),
    stages=(
        Stage(width=16, block="inverted", expansion=4, se=4, depth=2, residual=True),
        Stage(width=16, block="group", groups=4, shuffle=True, stride=2, downsample="maxpool"),
        Stage(width=24, block="residual", stride=2, activation="hardswish"),
        Stage(width=24, block="ghost", expansion=2),
        Stage(width=24, block="split", expansion=2, stride=2),
    ),
    classes=5,
    head=Head(width=32),
)


def work_of(architecture: Architecture, size: int, batch: int, precision: str) -> dict[str, Work]:
    items = step_work(architecture, size, batch, precision, RECIPE)
    assert len({item.name for item in items}) == len(items)
    return {item.name: item for item in items}


def test_one_convolution_by_hand() -> None:
    """The stem, 3 -> 16 channels at 8 x 8, two images; after it a norm and an activation."""
    stem = work_of(TINY, 8, 2, "fp32")["s0.0.conv"]
    macs = 16 * 3 * 9 * 64
    assert (stem.forward, stem.backward) == (2 * 2 * macs, 2 * 2 * macs)  # no gradient by image
    x, y, w = 2 * 3 * 64, 2 * 16 * 64, 16 * 3 * 9
    convolution = (x + w + y) + (x + y + w)
    norm, activation = 3 * y + 5 * y, 2 * y + 3 * y
    assert stem.unfused == 4 * (convolution + norm + activation)
    assert stem.fused == 4 * ((x + w + y) + (y + y + x + w))


def test_one_depthwise_block_by_hand() -> None:
    """16 channels, 8 -> 4 pixels, then 16 -> 32; two images, bfloat16."""
    work = work_of(TINY, 8, 2, "bf16")
    x, y, w = 2 * 16 * 64, 2 * 16 * 16, 16 * 9
    depthwise = work["s1.0.dw"]
    assert (depthwise.forward, depthwise.backward) == (2 * 2 * w * 16, 2 * 2 * 2 * w * 16)
    assert depthwise.unfused == 2 * (3 * (x + y + w) + 13 * y)
    assert depthwise.fused == 2 * ((x + w + y) + (y + y + x + w + w + x))
    x, y, w = y, 2 * 32 * 16, 32 * 16
    pointwise = work["s1.0.pw"]
    assert (pointwise.forward, pointwise.backward) == (2 * 2 * w * 16, 2 * 2 * 2 * w * 16)
    assert pointwise.unfused == 2 * (3 * (x + y + w) + 13 * y)
    assert pointwise.fused == 2 * ((x + w + y) + (y + y + x + w + w + x))


def test_passes_without_weights_by_hand() -> None:
    work = work_of(EVERY_RULE, 8, 2, "fp32")
    y = 2 * 8 * 64  # the stem, whose input is the image: one gradient of it is not needed
    assert (work["s0.0.add"].unfused, work["s0.0.add"].fused) == (4 * 3 * y, 4 * 6 * y)
    assert (work["s0.0.act"].unfused, work["s0.0.act"].fused) == (4 * 5 * y, 0)
    y = 2 * 16 * 64
    assert (work["s1.1.add"].unfused, work["s1.1.add"].fused) == (4 * 6 * y, 4 * 6 * y)
    w = 2 * 4 * 16
    se = work["s1.0.se"]
    assert (se.unfused, se.fused) == (4 * (10 * y + 3 * w), 4 * (3 * y + 3 * w))
    assert (work["s2.0.shuffle"].unfused, work["s2.0.shuffle"].fused) == (4 * 4 * y, 0)
    pool, pooled = work["s2.0.pool"], 2 * 16 * 16
    assert pool.unfused == 4 * 2 * (y + pooled) + 8 * 2 * pooled
    assert pool.fused == 4 * (3 * y + 2 * pooled)


def test_joined_and_gated_channels_by_hand() -> None:
    work = work_of(EVERY_RULE, 8, 2, "fp32")  # the fourth stage at 2 x 2 pixels
    x, y, w = 2 * 24 * 4, 2 * 48 * 4, 24 * 9
    cheap = work["s4.0.expand-cheap"]
    assert cheap.unfused == 4 * (3 * (x + x + w) + 13 * x + 2 * y + 3 * x)
    assert cheap.fused == 4 * ((x + w + y) + (2 * y + x + w + w + x))
    x, y, w = 2 * 24 * 4, 2 * 24, 3 * 6 * 9
    split = work["s5.0.split"]
    assert split.unfused == 4 * (3 * (3 * (x + y) // 4 + w) + 6 * y + 2 * y + 2 * x)
    gate, x, y = work["s5.0.gate"], 2 * 96, 2 * 48
    assert (gate.unfused, gate.fused) == (4 * (13 * y + 2 * x), 4 * (3 * x + 2 * y))


def test_the_optimiser_by_hand() -> None:
    parameters = count.parameters(TINY)
    weights = 16 * 27 + 16 * 9 + 32 * 16 + 5 * 32
    fp32, bf16 = (work_of(TINY, 8, 2, precision)["optimiser"] for precision in ("fp32", "bf16"))
    assert (fp32.unfused, fp32.fused) == (4 * (5 + 3) * parameters, 4 * (5 + 2) * parameters)
    assert bf16.unfused == fp32.unfused + 12 * weights
    adam = step_work(TINY, 8, 2, "fp32", Recipe(optimizer="adam"))[-1]
    assert adam.unfused == adam.fused == 4 * 7 * parameters


@pytest.mark.parametrize("name", [*REFERENCES, "every rule"])
def test_sums_are_three_forward_passes_but_for_gradients_of_the_image(name: str) -> None:
    student = EVERY_RULE if name == "every rule" else reference(name, classes=5)
    work = step_work(student, 32, 4, "fp32", RECIPE)
    flops = sum(item.flops for item in work)
    of_image = sum(w.forward for w in work if w.backward == w.forward)
    assert sum(w.forward for w in work) == 2 * 4 * count.macs(student, 32)
    assert flops == 3 * 2 * 4 * count.macs(student, 32) - of_image
    first = {"s0.0.conv"} if name != "every rule" else {"s0.0.conv1", "s0.0.skip"}
    assert {w.name for w in work if w.forward and w.backward == w.forward} == first
    assert all(w.fused <= w.unfused for w in work if w.op == "conv")


@pytest.mark.parametrize("name", [*REFERENCES, "every rule"])
def test_pytorch_counts_the_same_flops(name: str) -> None:
    student = EVERY_RULE if name == "every rule" else reference(name, classes=5)
    network, work = build(student, seed=0), step_work(student, 32, 4, "fp32", RECIPE)
    with FlopCounterMode(display=False) as counter:
        loss = network(torch.rand(4, 3, 32, 32)).sum()
    assert counter.get_total_flops() == sum(item.forward for item in work)
    if name == "teacher-small":  # the only one without groups, which PyTorch forgets in backward
        with counter:
            loss.backward()
        assert counter.get_total_flops() == sum(item.backward for item in work)


def test_every_layer_is_counted_once_in_forward_order() -> None:
    names = [item.name for item in step_work(EVERY_RULE, 16, 2, "fp32", RECIPE)]
    layers = [item.layer.name for item in count.layer_costs(EVERY_RULE, 16)]
    assert [name for name in names if name in layers] == layers
    assert set(names) - set(layers) == {"s0.0.add", "s1.1.add", "s3.0.add", "optimiser"}


def test_traffic_grows_with_the_batch_and_halves_in_bfloat16() -> None:
    one, two = (step_work(TINY, 16, batch, "fp32", RECIPE) for batch in (8, 16))
    totals = [sum(item.unfused for item in work) for work in (one, two)]
    assert all(small < large <= 2 * small for small, large in pairwise(totals))
    half = step_work(TINY, 16, 8, "bf16", RECIPE)
    assert [2 * item.unfused for item in half[:-1]] == [item.unfused for item in one[:-1]]


def ran(command: click.Command, *arguments: str) -> None:
    command.main(list(arguments), standalone_mode=False)


def test_it_prints_and_writes_its_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    student = tmp_path / "student.json"
    student.write_text(TINY.to_json())
    tiny = "--size 8 --batch 8 --seconds 0.01 --repeats 1 --matrix 16 --copy-mb 1 --layers"
    where = ["--architecture", str(student), "--out", str(tmp_path / "results"), "--device", "cpu"]
    ran(roofline.main, *tiny.split(), *where, "--images", "80", "--epochs", "2")
    printed = capsys.readouterr().out
    assert "conv 16 | depthwise 32 /2" in printed
    assert "s for 160 images" in printed
    assert "s1.0.dw" in printed
    (file,) = (tmp_path / "results").iterdir()
    release = torch.__version__.split("+")[0]
    assert file.name.endswith(f"-roofline-torch{release}-cpu-1.csv")
    rows = list(csv.DictReader(file.read_text().splitlines()))
    assert [row["what"] for row in rows[:5]] == [row["what"] for row in rows[5:]]
    assert {row["precision"] for row in rows} == {"fp32", "bf16"}
    unfused, measured = rows[1], rows[3]
    assert float(unfused["amount_a_step"]) == sum(
        item.unfused for item in step_work(TINY, 8, 8, "fp32", Recipe(ema=0.99))
    )
    share = float(unfused["seconds_a_step"]) / float(measured["seconds_a_step"])
    assert float(unfused["reached"]) == pytest.approx(share, rel=1e-4)
    assert float(measured["seconds_in_all"]) == pytest.approx(
        20 * float(measured["seconds_a_step"]), rel=1e-4
    )


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ("--size 0", "size must be 1 to 1,024"),
        ("--batch 1", "batch must be at least 2 images"),
        ("--seconds 0", "seconds must be more than 0"),
        ("--architecture nope", "or a JSON file, but got 'nope'"),
        ("--recipe nope", "recipe must be one of"),
        ("--device nope", "device must be auto, cpu or cuda"),
        ("--precision nope", "'nope' is not one of"),
        ("--copy-mb none", "'none' is not a valid integer"),
    ],
)
def test_wrong_input_is_one_line_and_status_2(
    wrong: str,
    told: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "argv", ["benchmarks/roofline.py", *wrong.split()])
    refused_benchmark(roofline.main, "roofline.py: ", told, capsys)


def test_a_gpu_is_named_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _device: "NVIDIA H200")
    assert results.device_slug(torch.device("cuda")) == "nvidia-h200"


def test_results_that_cannot_be_written_are_one_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="choose another --out"):
        results.write_csv(tmp_path / "file" / "results.csv", [{"a": 1}])
