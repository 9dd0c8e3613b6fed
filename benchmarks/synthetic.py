"""Data of random pixels: what a step costs does not depend on what is in the photographs."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from trainers.data.datasets import Data, Split

CLASSES = 10


def photographs(
    train: int, validation: int, size: int, *, classes: int = CLASSES, channels: int = 3
) -> Data:
    """Random uint8 photographs, every class as often as the others."""
    splits = [_split(count, size, classes, channels) for count in (train, validation)]
    return data(splits[0], splits[1], classes)


def data(train: Split, validation: Split, classes: int = CLASSES) -> Data:
    """Two splits as the data of a search."""
    channels, size = train.images_NCHW.shape[1], train.images_NCHW.shape[-1]
    names = tuple(f"class {index}" for index in range(classes))
    return Data("random", names, channels, size, train, validation, "0" * 12)


def _split(count: int, size: int, classes: int, channels: int) -> Split:
    generator = torch.Generator().manual_seed(count)
    shape = (count, channels, size, size)
    images_NCHW = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    return Split(images_NCHW, torch.arange(count) % classes)


def write_folder(folder: Path, train: int, validation: int, size: int) -> None:
    """JPEG files in Food-11's layout; smooth noise, so that they are as large as photographs."""
    rng, side = np.random.default_rng(0), -(-size // 8)
    for split, count in (("training", train), ("validation", validation)):
        (folder / split).mkdir(parents=True)
        for number in range(count):
            coarse = rng.integers(0, 256, (side, side, 3), dtype=np.uint8)
            picture = Image.fromarray(coarse).resize((size, size))
            picture.save(folder / split / f"{number % CLASSES}_{number}.jpg")
