"""benchmarks/throughput.py end to end, and that its plain loop does what our engine does."""

import csv
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from commands import ROOT
from PIL import Image
from rich.console import Console

from benchmarks import distill_box, results, throughput
from benchmarks.plain_data import Photographs, scaled, training_transform
from benchmarks.plain_loop import averaged, kd_loss
from benchmarks.rounds import Arm, Measured, Ran, measure
from benchmarks.summary import summary
from benchmarks.task import Files
from trainers.engine import averaging
from trainers.losses import hard_loss, kd
from trainers.policies import POLICIES

SCRIPT = ROOT / "benchmarks" / "throughput.py"
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}
TINY = (
    *("--size", "16", "--epochs", "2", "--rounds", "2", "--batch", "4", "--device", "cpu"),
    *("--architecture", "report-student", "--teacher", "teacher-small", "--teacher-epochs", "1"),
    *("--workers", "1"),
)
ABOUT = ("date", "torch", "device", "processor", "cores", "size", "batch", "epochs", "images")


def command(folder: Path, *arguments: str) -> list[str]:
    places = ("--data", str(folder), "--cache", f"{folder}/../cache", "--out", f"{folder}/../out")
    return [sys.executable, str(SCRIPT), *places, *TINY, *arguments]


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(folder, *arguments),
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def rows(folder: Path, pattern: str) -> dict[str, dict[str, str]]:
    (path,) = (folder / "../out").glob(pattern)
    with path.open(newline="") as file:
        return {row["arm"]: row for row in csv.DictReader(file)}


@pytest.mark.slow
def test_compares_ours_with_its_peers(flat_folder: Path) -> None:
    done = run(flat_folder)
    assert done.returncode == 0, done.stderr
    found = rows(flat_folder, "*-throughput-torch*-cpu-1.csv")
    assert sorted(found) == ["ours", "plain", "torchdistill", "untuned"]
    for arm, row in found.items():
        assert all(row[name] for name in ABOUT), row
        if arm == "torchdistill" and distill_box.MISSING:
            assert "cannot be imported" in row["note"]
            continue
        low, middle, high = (float(row[f"seconds{end}"]) for end in ("_min", "", "_max"))
        assert 0 < low <= middle <= high
        # 11 photographs, 2 epochs
        assert float(row["images_per_second"]) == pytest.approx(22 / middle, rel=1e-4)
        assert (row["rounds"], row["students"], row["images"]) == ("2", "2", "11")
        assert arm in done.stdout
    ratio = float(found["plain"]["seconds"]) / float(found["ours"]["seconds"])
    assert float(found["ours"]["ratio"]) == pytest.approx(ratio, rel=1e-4)


@pytest.mark.slow
def test_switches_each_part_off(flat_folder: Path) -> None:
    done = run(flat_folder, "--ablation", "--rounds", "1")
    assert done.returncode == 0, done.stderr
    found = rows(flat_folder, "*-ablation-torch*-cpu-1.csv")
    arms = ["full, one at a time", "every batch decoded", "views one by one", "live teacher"]
    assert list(found)[:4] == arms
    assert any("layout" in arm for arm in found)
    # The parts change the speed, not the training; the teacher's banked answers are rounded.
    assert len({found[arm]["accuracy_mean"] for arm in arms[:3]}) == 1


@pytest.mark.slow
def test_says_what_was_measured_before_ctrl_c(flat_folder: Path) -> None:
    process = subprocess.Popen(
        command(flat_folder, "--rounds", "100000", "--peers", "plain"),
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stderr is not None
    lines = [process.stderr.readline()]
    while not lines[-1].startswith("round 2"):
        assert lines[-1], lines
        lines.append(process.stderr.readline())
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to its loaders, too
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "plain" in out
    assert "ours" in out
    assert "Traceback" not in err
    assert not list((flat_folder / "../out").glob("*.csv"))


@pytest.mark.parametrize(
    "arguments",
    [("--peers", "keras"), ("--workers", "0"), ("--data", "/nowhere"), ("--teacher", "nobody")],
)
def test_refuses_wrong_flags_in_one_line(
    flat_folder: Path,
    arguments: tuple[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", command(flat_folder, *arguments)[1:])
    with pytest.raises(SystemExit) as end:
        results.run(throughput.main)
    told = capsys.readouterr()
    assert end.value.code == 2, told
    assert told.err.startswith("throughput.py: ")
    assert told.err.count("\n") == 1


def test_losses_are_ours() -> None:
    generator = torch.Generator().manual_seed(0)
    student_NK, teacher_NK = (torch.randn(16, 10, generator=generator) * 5 for _ in range(2))
    labels_N = torch.randint(0, 10, (16,), generator=generator)
    soft_N = kd(student_NK, teacher_NK, labels_N, 4.0)
    ours = (0.7 * hard_loss(student_NK, labels_N) + 0.3 * soft_N).mean()
    plain = kd_loss(student_NK, teacher_NK, labels_N, 4.0, 0.3)
    torch.testing.assert_close(plain, ours)


@pytest.mark.skipif(bool(distill_box.MISSING), reason=distill_box.MISSING)
def test_the_box_has_our_loss_and_spares_norms() -> None:
    from torchdistill.losses.mid_level import KDLoss

    generator = torch.Generator().manual_seed(0)
    student_NK, teacher_NK = (torch.randn(16, 10, generator=generator) * 5 for _ in range(2))
    labels_N = torch.randint(0, 10, (16,), generator=generator)
    loss = KDLoss(".", "output", ".", "output", temperature=4.0, alpha=0.7)
    box = loss({".": {"output": student_NK}}, {".": {"output": teacher_NK}}, labels_N)
    torch.testing.assert_close(box, kd_loss(student_NK, teacher_NK, labels_N, 4.0, 0.3))


@pytest.mark.parametrize("kind", ["pil", "tensor"])
def test_transforms_give_images_of_the_size(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "0_0.jpg"
    Image.effect_noise((50, 31), 90).save(path)  # grey: comes out with three channels
    transform = training_transform(POLICIES["standard"], 16, kind)
    split = Photographs(Files((path,) * 4, (3,) * 4), transform, 16)
    images_NCHW = torch.stack([split[index][0] for index in range(len(split))])
    assert images_NCHW.dtype == torch.uint8
    views_NCHW = scaled(images_NCHW, torch.device("cpu"))
    assert views_NCHW.shape == (4, 3, 16, 16)
    assert views_NCHW.dtype == torch.float32
    assert 0 <= views_NCHW.min() < views_NCHW.max() <= 1
    assert not torch.equal(views_NCHW[0], views_NCHW[1])
    assert split[0][1] == 3


def test_average_is_ours() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    ours, plain = averaging.copy_of(model), averaged(model, 0.9)
    for step in range(30):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.full_like(parameter, 0.1 * step))
        averaging.update(ours, model, torch.tensor(averaging.weight(0.9, step)))
        plain.update_parameters(model)
        if step == 0:  # AveragedModel begins with a copy, ours with the initial weights
            ours.load_state_dict(plain.module.state_dict())
    for left, right in zip(ours.parameters(), plain.module.parameters(), strict=True):
        torch.testing.assert_close(left, right)


def test_arms_take_turns_and_keep_what_was_measured() -> None:
    order: list[str] = []

    def arm(name: str) -> Arm:
        def once(number: int) -> Ran:
            if len(order) == 7:
                raise KeyboardInterrupt
            order.append(f"{name}{number}")
            return Ran(2.0 if name == "a" else 1.0 + number, (0.5,))

        return Arm(name, once)

    arms, measured = [arm(name) for name in "abc"], Measured()
    with pytest.raises(KeyboardInterrupt):
        measure(arms, 3, measured, Console(quiet=True))
    assert order == ["a0", "b0", "c0", "b1", "c1", "a1", "c2"]
    lines = summary(arms, [], measured, "a", {"c": 5.0})
    assert [(line.arm, line.seconds, line.ratio, line.search) for line in lines] == [
        ("a", 2.0, 1.0, 20.0),
        ("b", 1.5, 2.0 / 1.5, 15.0),
        ("c", 2.0, 1.0, 25.0),
    ]
