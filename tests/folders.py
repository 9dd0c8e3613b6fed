"""What the tests of data and of its cache share."""

import struct
from collections.abc import Iterable
from pathlib import Path

import pytest
import torch

from space.errors import InputError
from trainers.data.datasets import Data, load

SIZE = 12


def quietly(source: Path, cache: Path, size: int = SIZE, seed: int = 0) -> Data:
    return load(str(source), size, cache=cache, seed=seed, progress=False)


def refused(source: Path | str, cache: Path) -> str:
    """The one line that `load` refuses with."""
    with pytest.raises(InputError) as error:
        load(str(source), SIZE, cache=cache, progress=False)
    message = str(error.value)
    assert "\n" not in message
    return message


def counts(data: Data) -> tuple[list[int], list[int]]:
    train, validation = data.train.labels_N, data.validation.labels_N
    return torch.bincount(train).tolist(), torch.bincount(validation).tolist()


def images_of(images_NCHW: torch.Tensor) -> list[bytes]:
    return [image.tobytes() for image in images_NCHW.numpy()]


def bitmap(seed: int) -> bytes:
    """A photograph of 4 x 4 pixels whose bytes depend on no library."""
    pixels = bytes((7 * seed + 5 * y + 3 * x) % 256 for y in range(4) for x in range(12))
    header = struct.pack("<IiiHHIIiiII", 40, 4, 4, 1, 24, 0, len(pixels), 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54 + len(pixels), 0, 0, 54) + header + pixels


def bitmaps(root: Path, names: Iterable[str]) -> Path:
    """A folder of such photographs, all of them different."""
    for seed, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bitmap(seed))
    return root
