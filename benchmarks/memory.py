"""Peak memory of what a search does with its photographs: training a student, decoding.

    python benchmarks/memory.py                      # 16,643 photographs at 128 and 256 pixels
    python benchmarks/memory.py --sizes 64 --photographs 2000 --steps 10

Each line is a fresh process (`benchmarks/footprint.py`, which says what the columns mean):

- train: photographs of random pixels are written as `trainers.data.cache` would and opened as
  `trainers.data.datasets` does; the course's student is trained for `--steps` steps on photographs
  from all over the file and evaluated on all of the validation photographs. Of N photographs as
  many are training and validation as of Food-11's 16,643 (9,866 and 3,430); its test photographs
  are not written, because a search never opens them.
- bank: the same with a ResNet18 in memory and its logits read from a bank.
- decode: JPEG files of 512 pixels (or `--data FOLDER`) are decoded into an empty cache.

What to look for: `anonymous` is what the machine must have. It must not grow with the number of
photographs, only with their size in pixels (a step's activations; evaluation's batches of 256).
`files` grows with the photographs that are touched, and `files, given back` is what is left when
the kernel is asked to take them (MADV_PAGEOUT), as it does by itself when memory is short: the
libraries, or less. Not measured: swap, page cache outside the process, memory of a GPU.
"""

import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np

from benchmarks import results
from benchmarks.footprint import MADV_PAGEOUT, STATUS, Footprint, Job
from benchmarks.synthetic import write_folder
from space.errors import InputError, require, require_range
from space.references import REFERENCES
from trainers.engine.evaluation import choose_device

FOOD11 = {"train": 9_866, "validation": 3_430}  # of all
FOOD11_ALL = 16_643
JPEG_SIZE = 512  # pixels
CHUNK_BYTES = 1 << 26
SPARE = 1.05  # of the disk: what is written beside the photographs


class Line(NamedTuple):
    """One process."""

    what: str
    size: int  # pixels
    photographs: int
    footprint: Footprint

    def row(self) -> dict[str, object]:
        """Of the CSV file."""
        return {name: getattr(self, name) for name in self._fields[:-1]} | asdict(self.footprint)


def counts(photographs: int) -> dict[str, int]:
    """Photographs of each split that a search opens."""
    return {name: max(2, photographs * part // FOOD11_ALL) for name, part in FOOD11.items()}


def require_room(folder: Path, photographs: int, size: int) -> None:
    """Raise InputError unless the disk has room for the photographs."""
    needed = int(SPARE * sum(counts(photographs).values()) * 3 * size**2)
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise InputError(
            f"{photographs:,} photographs of {size} pixels need {needed / 1e9:.2f} GB, but "
            f"{folder} has {free / 1e9:.2f} GB free; choose another --folder or smaller --sizes"
        )


def write_photographs(path: Path, count: int, size: int) -> None:
    """Random bytes in the cache's format, none of them left in the page cache."""
    shape = (count, 3, size, size)
    images_NCHW = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
    rng = np.random.default_rng(count)
    step = max(1, CHUNK_BYTES // (3 * size**2))
    for begin in range(0, count, step):
        part = images_NCHW[begin : begin + step]
        part[:] = np.frombuffer(rng.bytes(part.size), dtype=np.uint8).reshape(part.shape)
    images_NCHW.flush()
    del images_NCHW
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def run_job(job: Job) -> Footprint:
    """In a fresh process: what the last one left in memory would count too."""
    command = [sys.executable, "-m", "benchmarks.footprint", json.dumps(asdict(job))]
    root = Path(__file__).parent.parent
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1]
        raise InputError(f"the measured process has failed: {last}")
    return Footprint(**json.loads(done.stdout.splitlines()[-1]))


def train_lines(
    place: Path, size: int, photographs: int, settings: dict[str, Any]
) -> Iterator[Line]:
    """Without and with a bank; the photographs are deleted behind it."""
    require_room(place, photographs, size)
    with tempfile.TemporaryDirectory(prefix="distilnas-memory-", dir=place) as folder:
        for name, count in counts(photographs).items():
            write_photographs(Path(folder) / f"{name}.npy", count, size)
        for bank in (False, True):
            job = Job("train", folder, f"{folder}/bank", size, bank=bank, **settings)
            yield Line("train, bank" if bank else "train", size, photographs, run_job(job))


def decode_line(place: Path, size: int, data: str | None, count: int) -> Line:
    with tempfile.TemporaryDirectory(prefix="distilnas-memory-", dir=place) as folder:
        if data is None:
            kept = count // 4  # for validation
            write_folder(Path(folder) / "photographs", count - kept, kept, JPEG_SIZE)
        source = data or f"{folder}/photographs"
        found = run_job(Job("decode", str(Path(source).resolve()), f"{folder}/cache", size))
        return Line("decode", size, found.mapped // (3 * size**2), found)


def cells(line: Line) -> tuple[str, ...]:
    found = line.footprint
    return (
        line.what,
        f"{line.size}",
        f"{line.photographs:,}",
        *(f"{count / 1e6:,.0f}" for count in (found.mapped, found.peak)),
        *(f"{count / 1e6:,.0f}" for count in (found.anonymous_before, found.anonymous_peak)),
        *(f"{count / 1e6:,.0f}" for count in (found.file_before, found.file_peak)),
        f"{found.file_after / 1e6:,.0f}",
    )


def report(lines: Sequence[Line]) -> None:
    columns = ["process", "pixels", "photographs", "opened", "peak", "anonymous before", "peak"]
    columns += ["files before", "peak", "given back"]
    title = f"MB (1e6 bytes); given back: files behind MADV_PAGEOUT ({MADV_PAGEOUT})"
    results.console().print(results.table(title, columns, [cells(line) for line in lines]))


@click.command()
@click.option("--sizes", default="128,256", show_default=True, callback=results.numbers(4))
@click.option(
    "--photographs",
    default=f"{FOOD11_ALL // 4},{FOOD11_ALL}",
    show_default=True,
    callback=results.numbers(10),
    help="Of all splits, the test split's (not written) included.",
)
@click.option("--steps", default=40, show_default=True, help="Of a training; 0: a whole epoch.")
@click.option("--batch", default=64, show_default=True)
@click.option(
    "--student", type=click.Choice(list(REFERENCES)), default="ntu-ml2020", show_default=True
)
@click.option("--decode", default=400, show_default=True, help="JPEG files to decode; 0: none.")
@click.option("--data", type=click.Path(exists=True), help="Folder of photographs to decode.")
@click.option(
    "--folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=Path(tempfile.gettempdir()),
    help="For what is written and deleted again.  [default: the system's]",
)
@results.DEVICE
@results.OUT
def main(
    sizes: tuple[int, ...], photographs: tuple[int, ...], folder: Path, out: Path, **flags: Any
) -> None:
    """Peak memory of training and decoding, anonymous and file-backed apart."""
    require("this system", sys.platform, STATUS.exists(), "Linux, which has /proc/self/status")
    require_range("steps", flags["steps"], 0, 10**6)
    require_range("batch", flags["batch"], 2, 10**4)
    if flags["decode"]:
        require_range("decode", flags["decode"], 40, 10**6)  # every class in every split
    device = choose_device(flags["device"])
    require_room(folder, max(photographs), max(sizes))
    settings = {name: flags[name] for name in ("steps", "batch", "student", "device")}
    lines: list[Line] = []
    for size, count in itertools.product(sizes, photographs):
        lines += train_lines(folder, size, count, settings)
    if flags["decode"] or flags["data"]:
        lines += [decode_line(folder, size, flags["data"], flags["decode"]) for size in sizes]
    report(lines)
    path = results.csv_path(out, "memory", device)
    results.write_csv(path, [line.row() for line in lines])
    results.console().print(f"\n{path}")


if __name__ == "__main__":
    results.run(main)
