"""No student ends its process, and none learns from wrong gradients: layers and students on a CPU.

In processes of their own, whose exit status is looked at: oneDNN's faults are memory that is
written beside its place.
"""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import ROOT, distilnas, environment
from PIL import Image

from space.families import FAMILIES

SIZES = (64, 128, 256, 384)  # pixels


def wrong(work: str, settings: Any) -> list[str]:
    """What `tests/convolutions.py` finds wrong."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests/convolutions.py"), work, json.dumps(settings)],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"exit status {done.returncode}: {done.stderr[-2000:]}"
    found: list[str] = json.loads(done.stdout)
    return found


# Pixels, kernels, images: the fault that was found needs 1 x 1 kernels on 64 pixels.
QUICK = [(9, (1, 3, 5), 8), (64, (1,), 16)]
WHOLE = [(5, (1, 3, 5, 7), 33), (17, (1, 3, 5, 7), 16), (32, (1, 3, 5), 16), (96, (1, 3, 5), 4)]


@pytest.mark.parametrize(
    ("side", "kernels", "batch"),
    [*QUICK, *(pytest.param(*w, marks=pytest.mark.slow) for w in WHOLE)],
)
def test_gradients_are_those_of_float64(side: int, kernels: tuple[int, ...], batch: int) -> None:
    assert wrong("layers", {"side": side, "kernels": kernels, "batch": batch}) == []


@pytest.mark.parametrize("space", ["mixed", "plain"])
def test_students_of_large_photographs_train(space: str) -> None:
    settings = {"space": space, "size": 256, "budget": "20KB", "seed": 1, "count": 1, "batch": 2}
    assert wrong("students", settings) == []


@pytest.mark.slow
@pytest.mark.parametrize("space", FAMILIES)
@pytest.mark.parametrize("size", SIZES)
def test_students_of_every_size_train(space: str, size: int) -> None:
    batch = max(2, 64 * 64 * 32 // size**2)
    for budget, seed in (("20KB", 2), ("300KB", 3)):
        settings = {"space": space, "size": size, "budget": budget, "seed": seed}
        assert wrong("students", {**settings, "count": 2, "batch": batch}) == []


def test_a_search_of_large_photographs_is_planned(
    tmp_path: Path, make_folder: Callable[..., Path]
) -> None:
    rng = np.random.default_rng(0)
    for split, name in ((s, n) for s in ("train", "val") for n in ("a", "b")):
        folder = tmp_path / "photos" / split / name
        folder.mkdir(parents=True)
        for number in range(6):
            pixels = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{number}.jpg")
    flags = ("--size", "256", "--trials", "1", "--epochs", "1", "--teacher", "none", "--dry-run")
    answer = distilnas(tmp_path, "search", "--data", "photos", "--cache", "cache", *flags)
    assert answer.status == 0, answer
