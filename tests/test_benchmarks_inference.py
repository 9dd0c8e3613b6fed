"""The benchmark of an ablation's statistics counts what it says, and refuses what it must."""

import csv
import sys
from pathlib import Path

import numpy as np
import pytest
from commands import refused_benchmark

from benchmarks import inference
from benchmarks.inference import World


def test_effects_are_planted_and_seeds_are_shared() -> None:
    world, rng = World(arms=3, sd=0.01, step=1e-6), np.random.default_rng(0)
    draws = [world.differences(rng, 10, [0.02, 0.0]) for _ in range(300)]
    means = np.mean(draws, axis=(0, 2))
    assert means == pytest.approx([0.02, 0], abs=0.002)
    assert np.std(draws, axis=(0, 2)) == pytest.approx([0.0141, 0.0141], rel=0.1)


def test_it_prints_and_writes_its_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--seeds", "2,4", "--arms", "3", "--repetitions", "4", "--effect", "0.5"]
    inference.main.main([*flags, "--out", str(tmp_path)], standalone_mode=False)
    assert "3 arms, sd 0.01, 359 validation images" in capsys.readouterr().out
    (file,) = tmp_path.glob("*-inference-torch*-cpu-*.csv")
    rows = list(csv.DictReader(file.read_text().splitlines()))
    assert [row["seeds"] for row in rows] == ["2", "4"]
    found = [rows[1][name] for name in ("effect_alone", "power_alone", "power_among")]
    assert found == ["0.5", "1", "1"]
    shares = ("false_alarms", "t", "percentile", "BCa", "expanded")
    assert all(0 <= float(row[name]) <= 1 for row in rows for name in shares)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ("--arms 1", "arms must be 2 to 1,000, but got 1"),
        ("--seeds 1,5", "must be different numbers of at least 2"),
        ("--sd 0", "sd must be above 0 and below 1"),
        ("--repetitions 0", "repetitions must be 1 to 1,000,000"),
        ("--validation 0", "validation must be 1 to"),
    ],
)
def test_wrong_input_is_one_line_and_status_2(
    wrong: str,
    told: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "argv", ["inference.py", *wrong.split()])
    refused_benchmark(inference.main, "inference.py: ", told, capsys)
