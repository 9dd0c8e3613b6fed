"""Data of random pixels: what a step costs does not hang on what is in the photographs."""

import torch

from trainers.data import Data, Split

CLASSES = 10


def photographs(
    train: int, validation: int, size: int, *, classes: int = CLASSES, channels: int = 3
) -> Data:
    """Random uint8 photographs, every class as often as the others."""
    return data(*(_split(count, size, classes, channels) for count in (train, validation)), classes)


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
