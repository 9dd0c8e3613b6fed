"""The folder data set of the plain loop: decoding, torchvision's v2 transforms, loaders.

Shape suffixes: N images, C channels, H x W pixels.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, Subset
from torchvision.transforms import InterpolationMode, v2

from benchmarks.task import Files, Task
from space.file_format import IMAGENET_MEAN
from trainers.data.photographs import DRAFT_SCALE
from trainers.engine.evaluation import BATCH
from trainers.policies import Augment

TUNING_BATCHES = 8

Loader = DataLoader[tuple[torch.Tensor, int]]


class Loaders(NamedTuple):
    train: Loader
    validation: Loader
    sample: Loader  # a few training batches, to try choices on


class Photographs(Dataset[tuple[torch.Tensor, int]]):
    """Files, decoded each time that they are asked for."""

    def __init__(self, files: Files, transform: Callable[[Image.Image], Any], size: int) -> None:
        self.files, self.transform, self.size = files, transform, size

    def __len__(self) -> int:
        return len(self.files.paths)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        with Image.open(self.files.paths[index]) as image:
            # As our cache: of large photographs a JPEG decoder need not decode every pixel.
            image.draft("RGB", (DRAFT_SCALE * self.size, DRAFT_SCALE * self.size))
            return self.transform(image.convert("RGB")), self.files.labels[index]


def training_transform(augment: Augment, size: int, kind: str) -> Callable[[Image.Image], Any]:
    """torchvision's v2 for our policy: PIL image -> uint8 tensor (C, size, size).

    Differences, all in the peers' favour as to time: rotation fills with ImageNet's mean grey,
    where our views mirror (v2 would have to pad, rotate and crop); a rotation resamples what the
    crop has already resampled, but on size x size pixels only.
    """
    ratio, jitter = augment.ratio_max, (augment.brightness, augment.contrast, augment.saturation)
    grey = [round(255 * mean) for mean in IMAGENET_MEAN]
    views = [
        v2.RandomResizedCrop(size, scale=(augment.scale_min, 1), ratio=(1 / ratio, ratio)),
        v2.RandomHorizontalFlip(augment.flip),
        v2.RandomRotation(augment.rotation, InterpolationMode.BILINEAR, fill=grey),
        v2.ColorJitter(*jitter),
    ]
    resize, to_tensor = v2.Resize((size, size)), v2.PILToTensor()
    steps = [resize, to_tensor, *views] if kind == "tensor" else [resize, *views, to_tensor]
    return v2.Compose(steps)  # type: ignore[no-any-return]


def scaled(images_NCHW: torch.Tensor, device: torch.device) -> torch.Tensor:
    """uint8 on the CPU -> float32 in [0, 1] on the device: a quarter of the bytes to move."""
    return images_NCHW.to(device, non_blocking=True).float().div_(255)


def make_loaders(task: Task, kind: str) -> Loaders:
    size, batch = task.data.size, task.recipe.batch
    train = Photographs(task.train, training_transform(task.recipe.augment, size, kind), size)
    plain = v2.Compose([v2.Resize((size, size)), v2.PILToTensor()])
    validation = Photographs(task.validation, plain, size)
    few = Subset(train, range(min(len(train), TUNING_BATCHES * batch)))
    settings: dict[str, Any] = {
        "num_workers": task.cores,
        "persistent_workers": True,
        "pin_memory": task.device.type == "cuda",
    }

    def shuffled(part: Dataset[tuple[torch.Tensor, int]], count: int) -> Loader:
        lonely = count % batch == 1  # useless to batch norm, and left out by our engine too
        return DataLoader(part, batch, shuffle=True, drop_last=lonely, **settings)

    return Loaders(
        shuffled(train, len(train)),
        DataLoader(validation, BATCH, **settings),
        shuffled(few, len(few)),
    )
