"""Slopes of known curves; points that change one thing at a time; and that it runs."""

import csv
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import refused_benchmark
from tiny import one_thread  # noqa: F401

from benchmarks import cost_curves, epochs, synthetic
from benchmarks.epochs import Point, Setting
from space.count import parameters
from space.errors import InputError
from trainers.data.layouts import read_layout

SMALL = "--middle-images 16 --middle-size 8 --middle-budget 50KB --batch 8".split()  # noqa: SIM905
FLAGS = {"images": (20, 10), "sizes": (16, 8), "budgets": ["100KB", "50KB"], "workers": (2, 1)}


def setting(tmp_path: Path, data: str | None = None) -> Setting:
    return Setting(torch.device("cpu"), "cpu", 8, data, tmp_path / "cache", 2)


@pytest.mark.parametrize("exponent", [0.5, 1.0, 2.0])
def test_a_power_s_exponent_is_found(exponent: float) -> None:
    amounts = [500, 1000, 4000]
    taken = [[3 * count**exponent, 3 * count**exponent] for count in amounts]
    assert cost_curves.fit(amounts, taken) == pytest.approx([exponent] * 4)


def test_the_spread_is_that_of_the_rounds_and_medians_leave_outliers_out() -> None:
    amounts = [1, 10, 100]
    rounds = np.array([[1, 10, 100], [1, 10, 100], [1, 10, 10_000]])
    found = cost_curves.fit(amounts, rounds.T.tolist())
    assert found == pytest.approx((1, 1, 2, 1))
    assert found.verdict(1) == "at most 1"
    assert found._replace(exponent=1.1).verdict(1) == "at most 1, within noise"
    assert found._replace(exponent=1.1, low=1.05).verdict(1) == "more than 1"


def test_fixed_costs_show_in_the_last_slope() -> None:
    amounts = [1, 10, 1000, 10_000]
    found = cost_curves.fit(amounts, [[100.0 + count] for count in amounts])
    assert found.exponent < 0.6 < found.last < 1


def test_points_change_one_thing_each_and_rise() -> None:
    middle = Point(100, 32, "50KB")
    points = cost_curves.all_points(middle, FLAGS)
    assert list(points) == list(cost_curves.AXES)
    assert [point.images for point in points["images"]] == [10, 20]
    assert [replace(point, images=100) for point in points["images"]] == [middle] * 2
    amounts = {axis: [cost_curves.amount(axis, p) for p in row] for axis, row in points.items()}
    assert amounts["resolution"] == [64, 256]
    assert amounts["workers"] == [1, 2]
    assert amounts["parameters"] == [parameters(epochs.student_of(b)) for b in ("50KB", "100KB")]


def test_an_epoch_takes_time_with_photographs_of_a_folder_too(
    tmp_path: Path, flat_folder: Path
) -> None:
    point = Point(8, 16, "50KB")
    assert epochs.epoch_seconds(point, setting(tmp_path)) > 0
    assert epochs.epoch_seconds(point, setting(tmp_path, str(flat_folder))) > 0
    with pytest.raises(InputError, match="must be at least 12 here, but a split has 11"):
        epochs.epoch_seconds(replace(point, images=12), setting(tmp_path, str(flat_folder)))


def test_it_prints_and_writes_its_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    axes = ["--axes", "images,resolution,parameters", "--images", "16,32", "--sizes", "8,16"]
    where = ["--budgets", "50KB,60KB", "--rounds", "1", "--out", str(tmp_path), "--device", "cpu"]
    cost_curves.main.main([*SMALL, *axes, *where], standalone_mode=False)
    printed = capsys.readouterr().out
    assert "16 images of 8 pixels, 50KB; batch 8" in printed
    assert "exponent" in printed
    (file,) = tmp_path.glob("*-cost-curves-torch*-cpu-1.csv")
    rows = list(csv.DictReader(file.read_text().splitlines()))
    assert [row["axis"] for row in rows] == ["images"] * 2 + ["resolution"] * 2 + ["parameters"] * 2
    assert [row["amount"] for row in rows[:4]] == ["16", "32", "64", "256"]
    assert all(float(row["seconds"]) > 0 for row in rows)


@pytest.mark.slow
def test_workers_train_side_by_side(tmp_path: Path) -> None:
    for workers in (1, 2):
        point = Point(40, 16, "50KB", workers=workers)
        assert epochs.crew_seconds(point, setting(tmp_path)) > 0


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ("--axes nope", "axes must be one of images, resolution, parameters, workers"),
        ("--images 8,x", "must be different numbers of at least 8"),
        ("--sizes 32,32", "must be different numbers of at least 8"),
        ("--sizes 32", "resolution must be two different values or more"),
        ("--budgets 1KB,50KB", "the smallest student of this shape takes 1.8 KB"),
        ("--budgets 50KB,50KB", "parameters must be two different values or more"),
        ("--middle-budget 50", "budget must have a unit"),
        ("--rounds 0", "rounds must be 1 to 1,000"),
        ("--batch 1", "batch must be at least 2 images"),
    ],
)
def test_wrong_input_is_one_line_and_status_2(
    wrong: str,
    told: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "argv", ["cost_curves.py", *wrong.split()])
    refused_benchmark(cost_curves.main, "cost_curves.py: ", told, capsys)


def test_made_photographs_can_be_read(tmp_path: Path) -> None:
    synthetic.write_folder(tmp_path / "made", 20, 10, 24)
    layout = read_layout(tmp_path / "made")
    assert layout.validation is not None
    assert (len(layout.train.photographs), len(layout.validation.photographs)) == (20, 10)
    assert len(layout.classes) == synthetic.CLASSES
