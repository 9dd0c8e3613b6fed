"""What the tests of data and of its cache share."""

from pathlib import Path

import pytest
import torch

from space.errors import InputError
from trainers.data import Data, load

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
    return tuple(torch.bincount(s.labels_N).tolist() for s in (data.train, data.validation))


def images_of(images_NCHW: torch.Tensor) -> list[bytes]:
    return [image.tobytes() for image in images_NCHW.numpy()]
