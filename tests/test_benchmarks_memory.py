"""The memory benchmark measures what it says, and takes back what it wrote."""

import csv
import mmap
import shutil
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from tiny import one_thread  # noqa: F401

from benchmarks import footprint, memory, results
from benchmarks.footprint import Job
from space.errors import InputError

pytestmark = pytest.mark.skipif(
    not footprint.STATUS.exists(), reason="needs Linux, which has /proc/self/status"
)


class Disk(NamedTuple):
    free: int


def test_photographs_lie_on_the_disk_as_the_cache_keeps_them(tmp_path: Path) -> None:
    path = tmp_path / "train.npy"
    memory.write_photographs(path, 50, 16)
    images_NCHW = np.load(path, mmap_mode="c")
    assert (images_NCHW.shape, images_NCHW.dtype) == ((50, 3, 16, 16), np.uint8)
    assert len(np.unique(images_NCHW)) == 256


def test_pages_of_a_file_are_told_from_what_is_allocated(tmp_path: Path) -> None:
    """20 MB are read from a file and 40 MB allocated; the file's are given back."""
    memory.write_photographs(tmp_path / "train.npy", 100, 256)
    with footprint.Watch() as watch:
        images_NCHW = np.load(tmp_path / "train.npy", mmap_mode="c")
        total = int(images_NCHW.sum(dtype=np.int64))
        # New pages, whatever the process has freed before and kept.
        private = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        allocated = np.frombuffer(mmap.mmap(-1, 40_000_000, flags=private), dtype=np.uint8)
        allocated[:] = 1
        found = watch.footprint({"train": images_NCHW})
    assert found.mapped == 100 * 3 * 256**2
    assert found.anonymous_peak - found.anonymous_before >= 0.9 * allocated.nbytes
    assert found.file_peak - found.file_before >= 0.9 * found.mapped
    assert found.file_peak - found.file_after >= 0.9 * found.mapped
    assert int(images_NCHW.sum(dtype=np.int64)) == total


@pytest.mark.parametrize("bank", [False, True])
def test_a_search_s_training_with_200_photographs_of_32_pixels(tmp_path: Path, bank: bool) -> None:
    for name, count in memory.counts(200).items():
        memory.write_photographs(tmp_path / f"{name}.npy", count, 32)
    job = Job("train", str(tmp_path), str(tmp_path / "bank"), 32, steps=1, bank=bank)
    found = footprint.train_job(job)
    assert found.mapped == (118 + 41) * 3 * 32**2
    assert found.peak >= found.anonymous_peak >= found.anonymous_before > 0
    files = list((tmp_path / "bank").rglob("*.bin"))
    assert len(files) == bank
    for file in files:  # still the one that was put there: 59 photographs of 11 classes
        assert file.stat().st_size == 32 + 2 * 11 * 59


def test_too_small_a_disk_is_said_before_anything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _folder: Disk(10**9))
    arguments = ["memory.py", "--folder", str(tmp_path), "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit) as ended:
        results.run(memory.main)
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("memory.py: 16,643 photographs of 256 pixels need 2.74 GB, but")
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_process_that_fails_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"the measured process has failed: .*No such file"):
        memory.run_job(Job("train", str(tmp_path / "nothing"), str(tmp_path), 32))


@pytest.mark.slow
def test_it_prints_writes_its_file_and_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "place"
    place.mkdir()
    where = ["--folder", str(place), "--out", str(tmp_path), "--device", "cpu"]
    tiny = ["--sizes", "32", "--photographs", "200", "--steps", "1", "--decode", "40"]
    memory.main.main([*tiny, *where], standalone_mode=False)
    assert "train, bank" in capsys.readouterr().out
    assert not list(place.iterdir())
    (file,) = tmp_path.glob("*.csv")
    rows = list(csv.DictReader(file.read_text().splitlines()))
    assert [row["what"] for row in rows] == ["train", "train, bank", "decode"]
    assert [row["photographs"] for row in rows] == ["200", "200", "40"]
