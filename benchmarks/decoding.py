"""Decoding photographs: threads against processes, and JPEG's draft sizes.

    python benchmarks/decoding.py FOLDER

FOLDER holds JPEG files, at any depth. Medians of five interleaved rounds; the error of a draft is
against decoding in full, in grey levels (root mean square).
"""

import io
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import numpy.typing as npt
from PIL import Image

from trainers.data.photographs import decode

SIZE, ROUNDS, FILES, WORKERS = 64, 5, 1000, 2


def drafted(content: bytes, scale: int) -> npt.NDArray[np.float32]:
    """Decode with libjpeg asked for `scale` times the target size; 0: in full."""
    image: Image.Image = Image.open(io.BytesIO(content))
    if scale:
        image.draft("RGB", (scale * SIZE, scale * SIZE))
    small = image.convert("RGB").resize((SIZE, SIZE), Image.Resampling.BILINEAR)
    return np.asarray(small, dtype=np.float32)


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def main(folder: Path) -> None:
    paths = sorted(folder.rglob("*.jpg"))[:FILES]
    contents = [path.read_bytes() for path in paths]
    with ThreadPoolExecutor(WORKERS) as threads, ProcessPoolExecutor(WORKERS) as processes:
        one = partial(decode, size=SIZE)
        runs: dict[str, Callable[[], object]] = {
            f"{WORKERS} threads": lambda: list(threads.map(one, paths, chunksize=50)),
            f"{WORKERS} processes": lambda: list(processes.map(one, paths, chunksize=50)),
            "full": lambda: [drafted(content, 0) for content in contents],
            "draft x2": lambda: [drafted(content, 2) for content in contents],
            "draft x1": lambda: [drafted(content, 1) for content in contents],
        }
        taken: dict[str, list[float]] = {name: [] for name in runs}
        for _ in range(ROUNDS):
            for name, work in runs.items():
                taken[name].append(seconds(work))
    for name, times in taken.items():
        print(f"{name:>12}: {median(times):6.3f} s for {len(paths)} files")
    for scale in (2, 1):
        errors = [drafted(content, scale) - drafted(content, 0) for content in contents[:200]]
        print(f"draft x{scale}: {np.sqrt(np.mean(np.square(errors))):.2f} grey levels RMS")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
